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

// Content is what the API does with single messages, which come in the body of a
// request as they are, with CRLF line ends.
type Content interface {
	// Explain runs the content flow on a message. Nothing is kept and nothing sent.
	Explain(ctx context.Context, q ExplainQuery, body io.Reader) (any, error)
	// Train learns a message, or unlearns it, and reports whether that changed
	// anything.
	Train(ctx context.Context, q TrainQuery, body io.Reader) (bool, error)
	// BayesStatus tells what was learned.
	BayesStatus(ctx context.Context) (any, error)
}

// ExplainQuery is the envelope to scan a message under. Flow comes before the
// recipient's; without both the flow of the first listener that has one is taken.
type ExplainQuery struct {
	Flow      string
	Sender    mail.Address
	Recipient mail.Address
	Client    netip.Addr
}

// The kinds of training.
const (
	TrainSpam   = "spam"
	TrainHam    = "ham"
	TrainForget = "forget"
)

// TrainQuery says what a message is.
type TrainQuery struct {
	Kind string
	// Domain is whose statistics learn it, where they are kept per domain; "" for all.
	Domain string
}

// Trained is the answer to a training.
type Trained struct {
	// Changed is false where the message was learned before in the same way, or, to
	// forget it, was not learned.
	Changed bool `json:"changed"`
}

func (s *Server) routeContent(r *router) {
	if s.cfg.Content == nil {
		return
	}
	r.add(Route{Method: "POST", Path: "/api/v1/scan", Permission: accounts.Explain, MaxBody: maxMessage, Quiet: true, Do: plain(s.explain), Doc: &Doc{
		Summary: "Run a content flow on a message and say what it sees, and why", InType: "message/rfc822", Out: map[string]any{},
		Query: []string{"flow: its name", "sender: of the envelope", "recipient: of the envelope", "client: address of the client"}}})
	r.add(Route{Method: "POST", Path: "/api/v1/bayes/train", Permission: accounts.Train, MaxBody: maxMessage, Do: plain(s.train), Doc: &Doc{
		Summary: "Teach the Bayesian filter a message", InType: "message/rfc822", Out: Trained{},
		Query: []string{"kind: spam, ham or forget", "domain: whose statistics"}}})
	r.add(Route{Method: "GET", Path: "/api/v1/bayes", Permission: accounts.StatusRead, Do: plain(s.bayesStatus),
		Doc: &Doc{Summary: "Show what the Bayesian filter has learned", Out: map[string]any{}}})
}

// maxMessage bounds a message in a request, in bytes.
const maxMessage = 2 << 30

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	if !isMessage(w, r) {
		return
	}
	q, err := explainQuery(r)
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	x, err := s.cfg.Content.Explain(r.Context(), q, r.Body)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, x)
}

func explainQuery(r *http.Request) (q ExplainQuery, err error) {
	v := r.URL.Query()
	q.Flow = v.Get("flow")
	if s := v.Get("sender"); s != "" && s != "<>" {
		if q.Sender, err = smtp.ParseAddress(s); err != nil {
			return q, err
		}
	}
	if s := v.Get("recipient"); s != "" {
		if q.Recipient, err = smtp.ParseAddress(s); err != nil {
			return q, err
		}
	}
	if s := v.Get("client"); s != "" {
		q.Client, err = netip.ParseAddr(s)
	}
	return q, err
}

// isMessage asks for the type that a web page cannot send to another origin
// without being asked first.
func isMessage(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Content-Type") == "message/rfc822" {
		return true
	}
	fail(w, http.StatusUnsupportedMediaType, "Content-Type must be message/rfc822")
	return false
}

func (s *Server) train(w http.ResponseWriter, r *http.Request) {
	if !isMessage(w, r) {
		return
	}
	q := TrainQuery{Kind: r.URL.Query().Get("kind"), Domain: r.URL.Query().Get("domain")}
	if q.Kind != TrainSpam && q.Kind != TrainHam && q.Kind != TrainForget {
		fail(w, http.StatusBadRequest, "kind must be spam, ham or forget")
		return
	}
	changed, err := s.cfg.Content.Train(r.Context(), q, r.Body)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, Trained{Changed: changed})
}

func (s *Server) bayesStatus(w http.ResponseWriter, r *http.Request) {
	status, err := s.cfg.Content.BayesStatus(r.Context())
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, status)
}
