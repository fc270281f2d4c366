package script

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"

	"go.starlark.net/starlark"
)

// maxJSON bounds a text to decode, in bytes.
const maxJSON = 256 << 10

// decodeJSON makes values of a JSON text.
func decodeJSON(text string) (starlark.Value, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("it is no JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the JSON value")
	}
	return fromJSON(v, 0)
}

func fromJSON(v any, depth int) (starlark.Value, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	switch v := v.(type) {
	case nil:
		return starlark.None, nil
	case bool:
		return starlark.Bool(v), nil
	case string:
		return starlark.String(v), nil
	case json.Number:
		return number(v)
	case []any:
		list := make([]starlark.Value, len(v))
		for i := range v {
			var err error
			if list[i], err = fromJSON(v[i], depth+1); err != nil {
				return nil, err
			}
		}
		return starlark.NewList(list), nil
	case map[string]any:
		d := starlark.NewDict(len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			e, err := fromJSON(v[k], depth+1)
			if err == nil {
				err = d.SetKey(starlark.String(k), e)
			}
			if err != nil {
				return nil, err
			}
		}
		return d, nil
	}
	return nil, fmt.Errorf("unknown kind of value %T", v)
}

func number(n json.Number) (starlark.Value, error) {
	if len(n) > 1000 {
		return nil, errBigInt
	}
	if i, err := n.Int64(); err == nil {
		return starlark.MakeInt64(i), nil
	}
	if !strings.ContainsAny(string(n), ".eE") {
		if i, ok := new(big.Int).SetString(string(n), 10); ok {
			return starlark.MakeBigInt(i), nil
		}
	}
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("%s is no number that can be kept", short(string(n)))
	}
	return starlark.Float(f), nil
}

// encodeJSON is the way back. The value was weighed before.
func encodeJSON(v starlark.Value) (string, error) {
	plain, err := toJSON(v, 0)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(plain); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func toJSON(v starlark.Value, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	switch v := v.(type) {
	case starlark.NoneType:
		return nil, nil
	case starlark.Bool:
		return bool(v), nil
	case starlark.String:
		return string(v), nil
	case starlark.Int:
		return json.Number(v.String()), nil
	case starlark.Float:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, errors.New("JSON has no such number")
		}
		return float64(v), nil
	case *starlark.Dict:
		m := make(map[string]any, v.Len())
		for k, e := range v.Entries() {
			name, ok := starlark.AsString(k)
			if !ok {
				return nil, fmt.Errorf("the keys of JSON are strings, not %s", k.Type())
			}
			var err error
			if m[name], err = toJSON(e, depth+1); err != nil {
				return nil, err
			}
		}
		return m, nil
	case *starlark.List:
		return listToJSON(v.Len(), v.Index, depth)
	case starlark.Tuple:
		return listToJSON(v.Len(), v.Index, depth)
	}
	return nil, fmt.Errorf("a %s cannot be written as JSON", v.Type())
}

func listToJSON(n int, at func(int) starlark.Value, depth int) (any, error) {
	list := make([]any, n)
	for i := range list {
		var err error
		if list[i], err = toJSON(at(i), depth+1); err != nil {
			return nil, err
		}
	}
	return list, nil
}
