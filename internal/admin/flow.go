package admin

import (
	"context"
	"io"
	"net/http"
	"net/netip"

	"gatepost/internal/accounts"
	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Flows tells what the flows of all stages do.
type Flows interface {
	// ExplainFlows goes through the stages with a client and a recipient, and with a
	// message where body is not nil. Nothing is sent, counted or remembered.
	ExplainFlows(ctx context.Context, q FlowQuery, body io.Reader) (any, error)
}

// FlowQuery is a client, as far as it got. Without To there is no recipient, and
// without Listener the first one is taken.
type FlowQuery struct {
	Listener string
	Client   netip.Addr
	Helo     string
	User     string
	From, To mail.Address
}

func (s *Server) routeFlows(r *router) {
	if s.cfg.Flows == nil {
		return
	}
	query := []string{"listener: on which the client comes", "client: its address", "helo: its name", "user: who has logged in", "from: sender", "to: recipient"}
	r.add(Route{Method: "GET", Path: "/api/v1/flow", Permission: accounts.Explain,
		Do:  func(w http.ResponseWriter, r *http.Request, _ *Actor) { s.explainFlows(w, r, nil) },
		Doc: &Doc{Summary: "Say what the flows before content do", Query: query, Out: map[string]any{}}})
	r.add(Route{Method: "POST", Path: "/api/v1/flow/message", Permission: accounts.Explain, MaxBody: maxMessage, Quiet: true,
		Do: func(w http.ResponseWriter, r *http.Request, _ *Actor) {
			if isMessage(w, r) {
				s.explainFlows(w, r, r.Body)
			}
		},
		Doc: &Doc{Summary: "Say what all flows do with a message", Query: query, InType: "message/rfc822", Out: map[string]any{}}})
}

func (s *Server) explainFlows(w http.ResponseWriter, r *http.Request, body io.Reader) {
	q, err := flowQuery(r)
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	x, err := s.cfg.Flows.ExplainFlows(r.Context(), q, body)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, x)
}

func flowQuery(r *http.Request) (q FlowQuery, err error) {
	v := r.URL.Query()
	return FlowQueryText{v.Get("listener"), v.Get("client"), v.Get("helo"), v.Get("user"), v.Get("from"), v.Get("to")}.Parse()
}

// FlowQueryText is a FlowQuery as somebody writes it.
type FlowQueryText struct {
	Listener string `json:"listener,omitempty"`
	Client   string `json:"client"`
	Helo     string `json:"helo,omitempty"`
	User     string `json:"user,omitempty"`
	From     string `json:"from,omitempty"`
	To       string `json:"to,omitempty"`
}

// Parse reads it. Only Client is required.
func (t FlowQueryText) Parse() (q FlowQuery, err error) {
	q = FlowQuery{Listener: t.Listener, Helo: t.Helo, User: t.User}
	if q.Client, err = netip.ParseAddr(t.Client); err != nil {
		return q, err
	}
	if t.From != "" && t.From != "<>" {
		if q.From, err = smtp.ParseAddress(t.From); err != nil {
			return q, err
		}
	}
	if t.To != "" {
		q.To, err = smtp.ParseAddress(t.To)
	}
	return q, err
}
