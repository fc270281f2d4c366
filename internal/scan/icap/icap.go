package icap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/scan"
)

const (
	use = "icap"
	// maxName bounds names of threats and files, in bytes.
	maxName = 200
)

// Config says where the server is. A zero field takes its default.
type Config struct {
	// URL is "icap://host:port/service"; the port is 1344 where it is left out.
	URL string
	// Timeout bounds one request, from connecting to the end of the answer; 30 s.
	Timeout time.Duration
	// MaxSize is how many bytes one request may carry; 100 MiB. What is larger is
	// unknown.
	MaxSize int64
	// Sessions is how many requests may be under way; 8, or fewer where the server
	// says so (Max-Connections).
	Sessions int
	// Requests is how many one message may take; 200. The rest of it is unknown.
	Requests int
	// Failures is after how many failures in a row the server counts as down; 3.
	// Retry is how long it is left alone then; 5 s.
	Failures int
	Retry    time.Duration
	// Refresh is how often the service is looked at again; 1 m.
	Refresh time.Duration
	// SkipCanary says that the service need not find the EICAR test file, because
	// it looks for other things than viruses.
	SkipCanary bool

	// dial connects in tests.
	dial func(ctx context.Context) (net.Conn, error)
}

// Scanner is a client of one ICAP service. Its methods may be called by many
// goroutines.
type Scanner struct {
	cfg Config
	url *url.URL

	mu       sync.Mutex // guards what follows; not held while waiting
	idle     []*conn
	closed   bool
	service  *service // nil before the first OPTIONS
	asking   chan struct{}
	state    State
	failures int
}

// New returns a Scanner. It connects when there is something to scan.
func New(cfg Config) (*Scanner, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "icap" || u.Hostname() == "" || strings.Trim(u.Path, "/") == "" {
		return nil, fmt.Errorf("url %q: want icap://host:port/service", cfg.URL)
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "1344")
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.MaxSize = cmp.Or(cfg.MaxSize, 100<<20)
	cfg.Sessions = cmp.Or(cfg.Sessions, 8)
	cfg.Requests = cmp.Or(cfg.Requests, 200)
	cfg.Failures = cmp.Or(cfg.Failures, 3)
	cfg.Retry = cmp.Or(cfg.Retry, 5*time.Second)
	cfg.Refresh = cmp.Or(cfg.Refresh, time.Minute)
	if cfg.dial == nil {
		dialer := &net.Dialer{Timeout: 5 * time.Second}
		cfg.dial = func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", address) }
	}
	s := &Scanner{cfg: cfg, url: u, asking: make(chan struct{}, 1)}
	s.state.Since = time.Now()
	return s, nil
}

// Close closes the idle connections; those in use are closed when they become
// idle.
func (s *Scanner) Close() error {
	s.mu.Lock()
	idle := s.idle
	s.idle, s.closed = nil, true
	s.mu.Unlock()
	var errs []error
	for _, c := range idle {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// target is one thing to send.
type target struct {
	part, name, what string
	media            string
	size             int64 // -1 where it is not known
	open             func() io.Reader
}

// errEnough ends a run: no finding could be worse, or no more may be asked.
var errEnough = errors.New("enough is known")

// run is the scan of one message.
type run struct {
	s        *Scanner
	findings []mail.Finding
	requests int
}

// Scan implements scan.Module. It sends the message, every file in it in every
// reading, and the members of archives that programs read differently. The symbol
// of a match is the name of the threat with "_" for ":", or "replaced" where the
// server gives none.
func (s *Scanner) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	r := run{s: s}
	body := in.Message.Body
	err := r.one(ctx, target{what: "the message", media: "message/rfc822", size: body.Size(), open: func() io.Reader {
		return io.NewSectionReader(body, 0, body.Size())
	}})
	for _, p := range in.Tree.Parts {
		for _, c := range p.Contents {
			if err == nil && len(c.Types) > 0 && !shown(p, c) {
				err = r.one(ctx, ofContent(p, c))
			}
		}
	}
	if err == nil {
		err = r.members(ctx, in)
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return r.findings, err
}

// shown reports whether a content is a text that stands in the message as it is.
func shown(p *mimetree.Part, c *mimetree.Content) bool {
	return c.Main && c.Encoding == mimetree.Identity && c.Variant == "" && len(p.Names) == 0 && !slices.ContainsFunc(c.Types, func(t string) bool {
		return t != "text/plain" && t != "text/html"
	})
}

func ofContent(p *mimetree.Part, c *mimetree.Content) target {
	t := target{part: p.Path, what: "part " + p.Path, media: c.Types[0], size: -1, open: c.Open}
	if len(p.Names) > 0 {
		t.name = message.SafeText(p.Names[0].Text, maxName)
		t.what += " (" + t.name + ")"
	}
	return t
}

// dubious are the findings of archives which say that programs take different
// files out of them.
var dubious = map[string]bool{"mismatch": true, "hidden": true, "overlap": true, "ambiguous": true, "prefixed": true, "damaged": true}

func (r *run) members(ctx context.Context, in *scan.Input) error {
	files, err := in.Files(ctx)
	if err != nil {
		return err
	}
	parts := map[string]bool{}
	for _, f := range files.Findings {
		if f.Module == "archive" && dubious[f.Symbol] {
			parts[f.Part] = true
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return in.WalkMembers(ctx, func(f *scan.File, content mail.Body) error {
		if !parts[f.Part] || content.Size() == 0 {
			return nil
		}
		name := message.SafeText(strings.Join(f.Path, " > "), maxName)
		return r.one(ctx, target{part: f.Part, name: name, what: "part " + f.Part + " (" + name + ")", media: "application/octet-stream", size: content.Size(),
			open: func() io.Reader { return io.NewSectionReader(content, 0, content.Size()) }})
	})
}

// one sends one target and takes note of the answer.
func (r *run) one(ctx context.Context, t target) error {
	f := mail.Finding{Module: use, Result: mail.Unknown, Part: t.part, Name: t.name}
	if r.requests++; r.requests > r.s.cfg.Requests {
		f.Part, f.Name, f.Symbol = "", "", "limit:icap-requests"
		f.Reason = fmt.Sprintf("more than %d readings and files: not all of them were scanned", r.s.cfg.Requests)
		r.findings = append(r.findings, f)
		return errEnough
	}
	a, err := r.s.ask(ctx, t)
	switch {
	case errors.Is(err, errOversized):
		f.Symbol = "limit:icap-size"
		f.Reason = fmt.Sprintf("%s is larger than what is given to the ICAP server (%d bytes)", t.what, r.s.cfg.MaxSize)
	case err != nil:
		return fmt.Errorf("%s: %w", t.what, err)
	case a.clean:
		return nil
	case a.container:
		f.Symbol, f.Reason = "limit:icap", fmt.Sprintf("the ICAP server cannot look into %s: %s", t.what, a.threat)
	case a.threat != "":
		f.Result, f.Symbol = mail.Match, strings.ReplaceAll(a.threat, ":", "_")
		f.Reason = fmt.Sprintf("the ICAP server found %s in %s", a.threat, t.what)
	default:
		f.Result, f.Symbol = mail.Match, "replaced"
		f.Reason = fmt.Sprintf("the ICAP server put something else (%s) in the place of %s", a.instead, t.what)
	}
	r.findings = append(r.findings, f)
	if f.Result == mail.Match {
		return errEnough
	}
	return nil
}
