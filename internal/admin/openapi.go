package admin

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// openAPI serves the description of the API, made from the table of routes: what is
// not in the table is not served, and what is served is described.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request, _ *Actor) {
	r := newRouter()
	s.routeAPI(r)
	answer(w, http.StatusOK, describe(r.routes))
}

type object = map[string]any

// describe makes an OpenAPI 3.1 document of routes.
func describe(routes []*Route) object {
	d := describer{schemas: object{}, names: map[reflect.Type]string{}}
	paths := object{}
	for _, route := range routes {
		if route.Doc == nil {
			continue
		}
		path, _ := paths[route.Path].(object)
		if path == nil {
			path = object{}
			paths[route.Path] = path
		}
		path[strings.ToLower(route.Method)] = d.operation(route)
	}
	d.schema(reflect.TypeFor[Failure]())
	return object{
		"openapi": "3.1.0",
		"info":    object{"title": "Gatepost", "version": "1", "description": "The operations of the mail security gateway. Send a token as \"Authorization: Bearer gatepost_…\"; its scopes are the permissions in x-permission."},
		"servers": []object{{"url": "/"}},
		"paths":   paths,
		"components": object{
			"schemas":         d.schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
		},
		"security": []object{{"token": []string{}}},
	}
}

type describer struct {
	schemas object
	names   map[reflect.Type]string
}

func (d *describer) operation(route *Route) object {
	name := strings.NewReplacer("/api/v1/", "", "/", "_", "{", "", "}", "", ".", "_").Replace(route.Path)
	op := object{
		"operationId":  strings.ToLower(route.Method) + "_" + name,
		"summary":      route.Doc.Summary,
		"x-permission": string(route.Permission),
		"responses": object{
			"200":     object{"description": "Done", "content": d.content(route.Doc.Out, route.Doc.OutType)},
			"default": object{"description": "What went wrong", "content": d.content(Failure{}, "")},
		},
	}
	var parameters []object
	for part := range strings.SplitSeq(route.Path, "/") {
		if strings.HasPrefix(part, "{") {
			parameters = append(parameters, object{"name": strings.Trim(part, "{}"), "in": "path", "required": true, "schema": object{"type": "string"}})
		}
	}
	for _, q := range route.Doc.Query {
		key, text, _ := strings.Cut(q, ": ")
		parameters = append(parameters, object{"name": key, "in": "query", "description": text, "schema": object{"type": "string"}})
	}
	if parameters != nil {
		op["parameters"] = parameters
	}
	if route.Doc.In != nil || route.Doc.InType != "" {
		op["requestBody"] = object{"required": true, "content": d.content(route.Doc.In, route.Doc.InType)}
	}
	return op
}

func (d *describer) content(v any, kind string) object {
	if v == nil {
		if kind == "" {
			return object{}
		}
		return object{kind: object{"schema": object{"type": "string", "format": "binary"}}}
	}
	return object{"application/json": object{"schema": d.schema(reflect.TypeOf(v))}}
}

// schema describes a type as encoding/json writes it. Structs are described once.
func (d *describer) schema(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[time.Duration]():
		return object{"type": "integer", "description": "nanoseconds"}
	case t == reflect.TypeFor[json.RawMessage]():
		return object{}
	case t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && (t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(textMarshaler)):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "contentEncoding": "base64"}
		}
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.Struct:
		return d.structure(t)
	}
	return object{}
}

var textMarshaler = reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()

func (d *describer) structure(t reflect.Type) object {
	if t.Name() == "" {
		return object{"type": "object", "properties": d.fields(t)}
	}
	name, ok := d.names[t]
	if !ok {
		name = t.Name()
		if _, taken := d.schemas[name]; taken {
			name = strings.ReplaceAll(t.String(), ".", "_")
		}
		d.names[t] = name
		d.schemas[name] = object{} // before its fields: types may hold themselves
		d.schemas[name] = object{"type": "object", "properties": d.fields(t)}
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (d *describer) fields(t reflect.Type) object {
	properties := object{}
	for _, f := range reflect.VisibleFields(t) {
		tag := strings.Split(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || tag[0] == "-":
			continue
		case f.Anonymous && tag[0] == "":
			continue // its fields are visible by themselves
		case tag[0] == "":
			tag[0] = f.Name
		}
		properties[tag[0]] = d.schema(f.Type)
	}
	return properties
}
