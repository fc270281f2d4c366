package admin

import (
	"context"
	"net/http"
	"net/netip"

	"gatepost/internal/accounts"
	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Routing tells where mail goes.
type Routing interface {
	// Route says step by step what happens to an address. It asks tables and sources
	// as mail would, and changes nothing.
	Route(ctx context.Context, q RouteQuery) (any, error)
}

// RouteQuery is the RCPT to explain: on which listener ("": the first one), and who
// sends it. The zero Client is one that may not relay.
type RouteQuery struct {
	Address  mail.Address
	Listener string
	Client   netip.Addr
	User     string
	// Sender is whose mail it is; the zero Address where that is not asked.
	Sender mail.Address
}

func (s *Server) routeRouting(r *router) {
	if s.cfg.Routing != nil {
		r.add(Route{Method: "GET", Path: "/api/v1/route", Permission: accounts.Explain, Do: plain(s.explainRoute), Doc: &Doc{
			Summary: "Say where mail for an address goes, and why",
			Query:   []string{"address: whose mail", "listener: on which it comes", "client: address of the client", "user: who has logged in", "from: the sender"},
			Out:     map[string]any{}}})
	}
}

func (s *Server) explainRoute(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	q := RouteQuery{Listener: v.Get("listener"), User: v.Get("user")}
	var err error
	if q.Address, err = smtp.ParseAddress(v.Get("address")); err == nil && v.Get("client") != "" {
		q.Client, err = netip.ParseAddr(v.Get("client"))
	}
	if err == nil && v.Get("from") != "" {
		q.Sender, err = smtp.ParseAddress(v.Get("from"))
	}
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	x, err := s.cfg.Routing.Route(r.Context(), q)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, x)
}
