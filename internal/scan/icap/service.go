package icap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/message"
)

// service is what OPTIONS said (RFC 3507 §4.10).
type service struct {
	method  string // RESPMOD or REQMOD
	preview int    // bytes; -1: none wanted
	tag     string // ISTag
	name    string
	until   time.Time
	slots   chan struct{} // one for each request that may be under way
}

// State is what is known of the server.
type State struct {
	OK    bool      `json:"ok"`
	Since time.Time `json:"since"`
	// Error is why it is not well; "" where it is, and before it was asked.
	Error string `json:"error,omitempty"`
	// Service is what it calls itself, Tag the version of the service with its
	// signatures (ISTag).
	Service string `json:"service,omitempty"`
	Tag     string `json:"tag,omitempty"`
}

// State returns what is known of the server. It answers at once.
func (s *Scanner) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Health is nil while the server is well, and otherwise says what is wrong.
func (s *Scanner) Health() error {
	st := s.State()
	switch {
	case st.OK:
		return nil
	case st.Error == "":
		return errors.New("the ICAP server was not asked yet")
	}
	return fmt.Errorf("the ICAP server is down since %s: %s", st.Since.Format(time.RFC3339), st.Error)
}

// Check looks at the service again, for those who want to know before mail comes.
func (s *Scanner) Check(ctx context.Context) error {
	_, err := s.options(ctx, true)
	return err
}

// ask sends a target and returns what the server thinks of it.
func (s *Scanner) ask(ctx context.Context, t target) (answer, error) {
	if t.size > s.cfg.MaxSize {
		return answer{}, errOversized
	}
	svc, err := s.options(ctx, false)
	if err != nil {
		return answer{}, err
	}
	a, err := s.request(ctx, svc, t)
	s.outcome(ctx, err)
	return a, err
}

// options returns the service, asking the server where that was long ago. One
// asks, the others wait.
func (s *Scanner) options(ctx context.Context, now bool) (*service, error) {
	if svc, err := s.known(); !now && (svc != nil || err != nil) {
		return svc, err
	}
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("ask for the options of the ICAP service: %w", context.Cause(ctx))
	}
	if svc, err := s.known(); !now && (svc != nil || err != nil) {
		return svc, err
	}
	svc, err := s.learn(ctx)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, err // nothing that the server did
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := State{OK: err == nil, Since: s.state.Since, Service: s.state.Service, Tag: s.state.Tag}
	if next.OK != s.state.OK {
		next.Since = time.Now()
	}
	if err != nil {
		next.Error = message.SafeText(err.Error(), maxName)
		s.service = &service{until: time.Now().Add(s.cfg.Retry)}
	} else {
		next.Service, next.Tag = svc.name, svc.tag
		if old := s.service; old != nil && cap(old.slots) == cap(svc.slots) {
			svc.slots = old.slots
		}
		s.service, s.failures = svc, 0
	}
	s.state = next
	return svc, err
}

// known returns the service, or why it must not be asked; neither of them where
// it is time to look.
func (s *Scanner) known() (*service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.service == nil || time.Now().After(s.service.until):
		return nil, nil
	case !s.state.OK:
		return nil, fmt.Errorf("the ICAP server is down since %s: %s", s.state.Since.Format(time.RFC3339), s.state.Error)
	}
	return s.service, nil
}

// learn asks for the options and tries the service.
func (s *Scanner) learn(ctx context.Context) (*service, error) {
	head, err := s.optionsOf(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the options of the ICAP service: %w", err)
	}
	if head.code != 200 {
		return nil, fmt.Errorf("the ICAP server answers %q to OPTIONS", head.status)
	}
	svc := &service{preview: -1, until: time.Now().Add(s.cfg.Refresh)}
	methods := strings.FieldsFunc(strings.ToUpper(head.get("Methods")), func(r rune) bool { return r == ',' || r == ' ' })
	for _, m := range []string{"RESPMOD", "REQMOD"} {
		if svc.method == "" && slices.Contains(methods, m) {
			svc.method = m
		}
	}
	if svc.method == "" {
		return nil, fmt.Errorf("the ICAP service has the methods %q, neither RESPMOD nor REQMOD", message.SafeText(head.get("Methods"), maxName))
	}
	if n, err := strconv.Atoi(head.get("Preview")); err == nil && n >= 0 {
		svc.preview = min(n, bufferSize)
	}
	sessions := s.cfg.Sessions
	if n, err := strconv.Atoi(head.get("Max-Connections")); err == nil && n > 0 {
		sessions = min(sessions, n)
	}
	svc.slots = make(chan struct{}, sessions)
	svc.tag = message.SafeText(strings.Trim(head.get("ISTag"), `"`), maxName)
	svc.name = message.SafeText(head.get("Service"), maxName)
	if s.cfg.SkipCanary {
		return svc, nil
	}
	a, err := s.request(ctx, svc, target{media: "application/octet-stream", size: -1, open: func() io.Reader { return strings.NewReader(testFile()) }})
	if err != nil {
		return nil, fmt.Errorf("try the ICAP service: %w", err)
	}
	if a.clean || a.container {
		return nil, errors.New("the ICAP service does not find the EICAR test file")
	}
	return svc, nil
}

// outcome takes note of how a request went, for the circuit breaker.
func (s *Scanner) outcome(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var src *sourceError
	switch {
	case err == nil:
		s.failures = 0
	case errors.As(err, &src), errors.Is(err, errOversized), errors.Is(err, errBusy), errors.Is(ctx.Err(), context.Canceled):
		// Nothing that the server did.
	default:
		if s.failures++; s.failures >= s.cfg.Failures && s.state.OK {
			s.state.OK, s.state.Since, s.state.Error = false, time.Now(), message.SafeText(err.Error(), maxName)
			s.service = &service{until: time.Now().Add(s.cfg.Retry)}
		}
	}
}

// testFile is the EICAR test file. It stands here backwards, so that neither this
// file nor the program is taken for it.
func testFile() string {
	b := []byte("*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\\4[PA@%P!O5X")
	slices.Reverse(b)
	return string(b)
}
