package admin

import (
	"net/http"
	"slices"
	"strings"

	"gatepost/internal/accounts"
)

// Handler answers one request of an actor who may send it. On a route that heeds
// domains or addresses (Route.Scope) it asks the actor what it may see.
type Handler func(w http.ResponseWriter, r *http.Request, a *Actor)

// Route is one path by one method, with what it takes to get there. The router checks
// all of that; handlers check no permissions. What changes something has a method
// other than GET, and a line in the audit log without asking for it.
type Route struct {
	Method string // GET includes HEAD
	// Path is a pattern of http.ServeMux without method: "/api/v1/queue/items/{id}",
	// "/static/". "/{$}" is the first page alone.
	Path string
	// Permission is what the actor needs. A route without one, and without Public, is
	// for the local administrator at the unix socket.
	Permission accounts.Permission
	// Scope is how far the handler heeds what the actor may see. Zero, Everything: it
	// does not, and only actors that see everything get there. Domains: domain
	// administrators, too. Own: end users, too.
	Scope accounts.Scope
	// Public lets everybody in who can connect; the actor may be nobody. A form there
	// still needs its token, but for Capability.
	Public bool
	// Capability says that the path itself has a secret in it that is the permission
	// and the protection against forged requests, or that nothing depends on who
	// asks: sessions are not looked at.
	Capability bool
	// Act is what the audit log calls it: "log in". Default: method and path.
	Act string
	// Do answers.
	Do Handler
	// MaxBody bounds the body in bytes; default 1 MiB.
	MaxBody int64
	// Quiet leaves a request that changes something out of the audit log: it says
	// nothing, or the handler writes a better line.
	Quiet bool
	// Doc describes a route of the API; pages have none.
	Doc *Doc
}

// Doc describes a route of the API for its OpenAPI document.
type Doc struct {
	// Summary is one short sentence without a full stop.
	Summary string
	// Query are the parameters of the query, "name: what it means".
	Query []string
	// In and Out are zero values of the types of the JSON bodies; nil: none, or not
	// JSON, then with InType and OutType.
	In, Out         any
	InType, OutType string
}

// allows reports whether an actor may use the route.
func (r *Route) allows(a *Actor) bool {
	switch {
	case r.Public || a.Local:
		return true
	case r.Permission == "" || a.Name == "":
		return false
	}
	return a.May(r.Permission) && a.Role.Scope() <= r.Scope
}

// changes reports whether the route may change anything.
func (r *Route) changes() bool { return r.Method != http.MethodGet }

// isAPI reports whether the route is one of the JSON API.
func (r *Route) isAPI() bool { return strings.HasPrefix(r.Path, apiPrefix) }

// apiPrefix is where the paths of the API begin.
const apiPrefix = "/api/"

// router collects routes and makes a handler of them.
type router struct {
	routes []*Route
}

func newRouter() *router { return &router{} }

// add adds routes. A path and method is added once.
func (r *router) add(routes ...Route) {
	for _, route := range routes {
		r.routes = append(r.routes, &route)
	}
}

// plain is a handler to whom it is the same who asks.
func plain(h http.HandlerFunc) Handler {
	return func(w http.ResponseWriter, r *http.Request, _ *Actor) { h(w, r) }
}

// handler serves the routes; serve is given the route of a request, or nil with the
// status that stands for it and the text.
func (r *router) handler(serve func(w http.ResponseWriter, req *http.Request, route *Route), refuse func(w http.ResponseWriter, req *http.Request, status int, text string)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		refuse(w, req, http.StatusNotFound, "no such path: "+req.URL.Path)
	})
	byPath := map[string][]*Route{}
	for _, route := range r.routes {
		byPath[route.Path] = append(byPath[route.Path], route)
	}
	for path, routes := range byPath {
		var allow []string
		for _, route := range routes {
			if allow = append(allow, route.Method); route.Method == http.MethodGet {
				allow = append(allow, http.MethodHead)
			}
		}
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			// Only the method of the request line counts: no header and no field of a
			// form overrides it.
			i := slices.IndexFunc(routes, func(r *Route) bool {
				return r.Method == req.Method || r.Method == http.MethodGet && req.Method == http.MethodHead
			})
			if i < 0 {
				w.Header().Set("Allow", strings.Join(allow, ", "))
				refuse(w, req, http.StatusMethodNotAllowed, "use "+strings.Join(allow, " or "))
				return
			}
			serve(w, req, routes[i])
		})
	}
	return mux
}
