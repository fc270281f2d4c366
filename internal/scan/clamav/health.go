package clamav

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// Status is how clamd is.
type Status string

// The states of clamd.
const (
	Starting Status = "starting" // not asked yet
	OK       Status = "ok"
	Down     Status = "down"
	// NotDetecting says that clamd answers and does not find the test file: it has
	// no signatures, or is something else.
	NotDetecting Status = "not detecting"
	// FalseAlarm says that it finds something in a harmless text.
	FalseAlarm Status = "false alarm"
)

// State is what is known of clamd.
type State struct {
	OK     bool      `json:"ok"`
	Status Status    `json:"status"`
	Since  time.Time `json:"since"`
	// Error is why it is not well; "" where it is.
	Error string `json:"error,omitempty"`
	// Version is that of the program, "ClamAV 1.4.6"; Database that of the
	// signatures with their date, which clamd only has for official ones.
	Version  string    `json:"version,omitempty"`
	Database string    `json:"database,omitempty"`
	Signed   time.Time `json:"signed,omitzero"`
}

// health is the state and the circuit breaker.
type health struct {
	mu       sync.Mutex
	state    State
	failures int // in a row

	checked chan struct{} // closed when the first check is done
	once    sync.Once
	kick    chan struct{} // asks for a check now
}

func (h *health) begin() {
	h.state = State{Status: Starting, Since: time.Now()}
	h.checked = make(chan struct{})
	h.kick = make(chan struct{}, 1)
}

// State returns what is known of clamd. It answers at once.
func (s *Scanner) State() State {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	return s.health.state
}

// Health is nil while clamd is well, and otherwise says what is wrong.
func (s *Scanner) Health() error {
	st := s.State()
	if st.OK {
		return nil
	}
	if st.Error == "" {
		return fmt.Errorf("clamd is %s", st.Status)
	}
	return fmt.Errorf("clamd is %s since %s: %s", st.Status, st.Since.Format(time.RFC3339), st.Error)
}

// usable returns why clamd must not be asked. It waits for the first check.
func (s *Scanner) usable(ctx context.Context) error {
	select {
	case <-s.health.checked:
		return s.Health()
	case <-ctx.Done():
		return fmt.Errorf("clamd was not checked yet: %w", context.Cause(ctx))
	}
}

// watch checks clamd until ctx ends.
func (s *Scanner) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.health.kick:
		}
		well := s.check(ctx)
		if ctx.Err() != nil {
			return
		}
		s.health.once.Do(func() { close(s.health.checked) })
		if well {
			timer.Reset(s.cfg.Canary)
		} else {
			timer.Reset(s.cfg.Retry)
		}
	}
}

// probeTime bounds one check, so that a connection that is dead without a word does
// not keep us from seeing that clamd is back.
const probeTime = 10 * time.Second

// check asks clamd who it is and whether it finds what it must find. It reports
// whether all is well.
func (s *Scanner) check(ctx context.Context) bool {
	within, cancel := context.WithTimeout(ctx, min(probeTime, s.cfg.Timeout))
	next, err := s.probe(within)
	cancel()
	if ctx.Err() != nil {
		return false
	}
	if err != nil && next.Status == Down && s.State().OK && !s.tripped() {
		// One lost connection is no outage; it is asked again soon.
		return false
	}
	if err != nil {
		next.Error = safe(err.Error())
	}
	s.become(next)
	return next.OK
}

// probe makes one check.
func (s *Scanner) probe(ctx context.Context) (State, error) {
	st := State{Status: Down}
	if pong, err := s.client.command(ctx, "PING"); err != nil {
		return st, err
	} else if pong != "PONG" {
		return st, fmt.Errorf("clamd answers %q to PING", safe(pong))
	}
	version, err := s.client.command(ctx, "VERSION")
	if err != nil {
		return st, err
	}
	st.setVersion(version)
	a, _, err := s.client.scan(ctx, strings.NewReader(testFile()))
	switch {
	case err != nil:
		return st, err
	case a.verdict != infected:
		st.Status = NotDetecting
		return st, errors.New("it does not find the EICAR test file: are there signatures?")
	}
	a, _, err = s.client.scan(ctx, strings.NewReader(harmless))
	switch {
	case err != nil:
		return st, err
	case a.verdict != clean:
		st.Status = FalseAlarm
		return st, fmt.Errorf("it finds %q in a harmless text", safe(a.name))
	}
	st.Status, st.OK = OK, true
	return st, nil
}

// setVersion understands "ClamAV 1.4.6/27449/Sun Nov 10 09:35:20 2024". The date
// is in the time zone of clamd, which is taken for ours.
func (st *State) setVersion(text string) {
	program, rest, _ := strings.Cut(safe(text), "/")
	number, date, _ := strings.Cut(rest, "/")
	st.Version, st.Database = program, number
	if t, err := time.ParseInLocation(time.ANSIC, date, time.Local); err == nil {
		st.Signed = t
	}
}

// become makes next the state and tells who wants to know.
func (s *Scanner) become(next State) {
	h := &s.health
	h.mu.Lock()
	last := h.state
	next.Since = last.Since
	if next.Status != last.Status {
		next.Since = time.Now()
	}
	if next.Version == "" {
		next.Version, next.Database, next.Signed = last.Version, last.Database, last.Signed
	}
	h.state = next
	if next.OK {
		h.failures = 0
	}
	h.mu.Unlock()
	if next.Status == last.Status && next.Version == last.Version && next.Database == last.Database {
		return
	}
	switch {
	case next.OK:
		s.cfg.Log.Info("clamd is well", "version", next.Version, "database", next.Database)
	case next.Status != last.Status:
		s.cfg.Log.Error("clamd cannot be relied on", "status", string(next.Status), "error", next.Error)
	}
	if s.cfg.Observer != nil {
		s.cfg.Observer.StateChanged(next)
	}
}

// tripped counts a failure and reports whether clamd counts as down now.
func (s *Scanner) tripped() bool {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	s.health.failures++
	return s.health.failures >= s.cfg.Failures
}

// outcome takes note of how a stream went, for the circuit breaker. A message that
// had little time left says nothing of clamd.
func (s *Scanner) outcome(ctx context.Context, err error, took time.Duration) {
	var src *sourceError
	hasty := ctx.Err() != nil && took < min(s.cfg.ConnectTimeout, s.cfg.Timeout)
	switch {
	case err == nil:
		s.health.mu.Lock()
		s.health.failures = 0
		s.health.mu.Unlock()
	case errors.As(err, &src), hasty, errors.Is(ctx.Err(), context.Canceled):
		// Nothing that clamd did.
	case s.tripped() && s.State().OK:
		s.become(State{Status: Down, Error: safe(err.Error())})
		select {
		case s.health.kick <- struct{}{}:
		default:
		}
	}
}

// streamed tells the observer of a stream.
func (s *Scanner) streamed(result mail.Result, bytes int64, took time.Duration) {
	if s.cfg.Observer != nil {
		s.cfg.Observer.Streamed(result, bytes, took)
	}
}

// harmless must be clean.
const harmless = "Gatepost asks whether clamd lets a harmless text pass.\r\n"

// testFile is the EICAR test file, which every scanner must find. It stands here
// backwards, so that neither this file nor the program is taken for it.
func testFile() string {
	b := []byte("*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\\4[PA@%P!O5X")
	slices.Reverse(b)
	return string(b)
}
