package rspamd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

const (
	use = "rspamd"
	// maxText bounds what rspamd says, as reasons show it, in bytes.
	maxText = 300
	// maxAnswer bounds its JSON, maxHead the head of the response.
	maxAnswer = 1 << 20
	maxHead   = 64 << 10
	// maxRecipients is how many recipients it is told.
	maxRecipients = 100
)

// Config says where rspamd is. A zero field takes its default.
type Config struct {
	// URL is that of the normal worker: "http://127.0.0.1:11333".
	URL string
	// Password is sent with each message where it is not empty.
	Password string
	// Hostname is what Gatepost is called.
	Hostname string
	// Scale is what its score is multiplied by; 1. NoScale is 0.
	Scale float64
	// Timeout bounds one request; 30 s.
	Timeout time.Duration
	// MaxSize is the size in bytes up to which messages are given to rspamd; 50 MiB,
	// which is what it takes by default. What is larger is unknown.
	MaxSize int64
	// Sessions is how many requests may be under way; 16.
	Sessions int
	// Failures is after how many failures in a row rspamd counts as down; 3. Retry
	// is how long it is left alone then; 5 s.
	Failures int
	Retry    time.Duration

	// dial connects in tests.
	dial scan.Dial
}

// NoScale as Scale makes every score 0.
const NoScale = -1

// Scanner is a client of one rspamd. Its methods may be called by many goroutines.
type Scanner struct {
	cfg    Config
	url    string
	client *http.Client
	engine *scan.Engine
}

// New returns a Scanner. It connects when there is something to scan.
func New(cfg Config) (*Scanner, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("rspamd: url %q: want http://host:port", cfg.URL)
	}
	if strings.ContainsFunc(cfg.Password, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, errors.New("rspamd: the password has control characters")
	}
	cfg.Scale = max(cmp.Or(cfg.Scale, 1), 0)
	cfg.MaxSize = cmp.Or(cfg.MaxSize, 50<<20)
	cfg.Sessions = cmp.Or(cfg.Sessions, 16)
	dial := (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	if cfg.dial != nil {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return cfg.dial(ctx) }
	}
	transport := &http.Transport{
		DialContext:            dial,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    cfg.Sessions,
		MaxConnsPerHost:        cfg.Sessions,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxResponseHeaderBytes: maxHead,
	}
	return &Scanner{
		cfg: cfg, url: u.JoinPath("checkv2").String(),
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		engine: scan.NewEngine(scan.EngineConfig{
			Name: "rspamd at " + u.Host, Timeout: cfg.Timeout, Sessions: cfg.Sessions, Failures: cfg.Failures, Retry: cfg.Retry,
		}),
	}, nil
}

// Close closes the idle connections.
func (s *Scanner) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// Health is nil while rspamd is well, as far as messages have shown, and otherwise
// says what is wrong.
func (s *Scanner) Health() error { return s.engine.Health() }

// Scan implements scan.Module. The first finding has the score and, as its symbol,
// the action that rspamd would take: "reject", "discard" and "quarantine" are
// matches, "soft-reject" is unknown, "no-action", "greylist", "add-header" and
// "rewrite-subject" are clean. Clean findings for its strongest symbols follow,
// without a score of their own. A message that is too large is
// "limit:rspamd-size", unknown.
func (s *Scanner) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	if size := in.Message.Body.Size(); size > s.cfg.MaxSize {
		return []mail.Finding{{Module: use, Symbol: "limit:rspamd-size", Result: mail.Unknown,
			Reason: fmt.Sprintf("the message has %d bytes and rspamd is given no more than %d", size, s.cfg.MaxSize)}}, nil
	}
	var got *answer
	err := s.engine.Do(ctx, func(ctx context.Context) (err error) {
		got, err = s.ask(ctx, &in.Message)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.findings(got), nil
}

// ask sends the message and reads the answer.
func (s *Scanner) ask(ctx context.Context, m *mail.Message) (*answer, error) {
	g := &gate{}
	defer g.shut()
	open := func() (io.ReadCloser, error) { return upload{g, io.NewSectionReader(m.Body, 0, m.Body.Size())}, nil }
	body, _ := open()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = m.Body.Size()
	// A connection that went while it was idle costs no message.
	req.GetBody = open
	if req.ContentLength == 0 {
		req.Body, req.GetBody = http.NoBody, nil
	}
	s.describe(req.Header, m.Envelope)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, g.blame(unwrapped(err))
	}
	defer func() { _ = resp.Body.Close() }() // it was read, or is of no use
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, g.blame(fmt.Errorf("read answer: %w", err))
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %q%s", message.SafeText(resp.Status, maxText), complaint(text))
	}
	return parse(text)
}

// unwrapped takes off what http.Client says about the request: the URL is known.
func unwrapped(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// describe sets the fields in which rspamd wants the envelope.
func (s *Scanner) describe(h http.Header, env *mail.Envelope) {
	set := func(name, value string) {
		if value != "" {
			h.Add(name, line(value))
		}
	}
	set("User-Agent", "Gatepost")
	set("Password", s.cfg.Password)
	set("Queue-Id", env.ID.String())
	set("MTA-Name", s.cfg.Hostname)
	// The client of a POP3 session is the one who reads: he has sent nothing.
	if env.Session.Protocol != mail.POP3 {
		if addr := env.Session.Client.Addr().Unmap(); addr.IsValid() {
			set("IP", addr.WithZone("").String())
		}
		set("Helo", env.Session.Helo)
		set("Hostname", env.Session.Name)
		set("User", env.Session.User)
		set("TLS-Version", env.Session.TLS.Version)
		set("TLS-Cipher", env.Session.TLS.Cipher)
	}
	h.Set("From", "<"+line(env.GivenSender().String())+">")
	for i := range env.Recipients[:min(len(env.Recipients), maxRecipients)] {
		r := &env.Recipients[i]
		a := r.Original
		if a.IsNull() {
			a = r.Address
		}
		h.Add("Rcpt", "<"+line(a.String())+">")
	}
	if len(env.Recipients) == 1 {
		set("Deliver-To", env.Recipients[0].Address.String())
	}
}

// line makes one line of what a client said.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// gate is between a message and net/http, which may go on reading in a goroutine
// of its own when the request is over.
type gate struct {
	mu   sync.Mutex
	over bool
	err  error // of the message
}

// upload is one reading of the message.
type upload struct {
	*gate
	r io.Reader
}

var errOver = errors.New("the request is over")

func (u upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return 0, errOver
	}
	n, err := u.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = err
	}
	return n, err
}

func (u upload) Close() error { return nil }

// shut ends all reading.
func (g *gate) shut() {
	g.mu.Lock()
	g.over = true
	g.mu.Unlock()
}

// blame says whether err is the message's.
func (g *gate) blame(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return &scan.SourceError{Err: g.err}
	}
	return err
}
