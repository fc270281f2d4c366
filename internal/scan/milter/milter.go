package milter

import (
	"context"
	"fmt"
	"net"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

const (
	use = "milter"
	// maxText bounds what the milter says, as reasons show it, in bytes.
	maxText = 300
)

// Config says where the milter is. A zero field takes its default.
type Config struct {
	// Address is "unix:/path" or "tcp:host:port".
	Address string
	// Hostname is what Gatepost is called: the macro j, and the name under which no
	// milter may add an Authentication-Results field.
	Hostname string
	// Timeout bounds the conversation about one message; 30 s.
	Timeout time.Duration
	// Sessions is how many conversations may be under way; 8.
	Sessions int
	// Failures is after how many failures in a row the milter counts as down; 3.
	// Retry is how long it is left alone then; 5 s.
	Failures int
	Retry    time.Duration
	// MaxEdits bounds how many edits of a message are reported, MaxEditBytes how
	// long their values may be together; 50 and 64 KiB.
	MaxEdits     int
	MaxEditBytes int

	// dial connects in tests.
	dial scan.Dial
}

// Scanner is a client of one milter. Its methods may be called by many goroutines.
type Scanner struct {
	cfg    Config
	engine *scan.Engine
}

// New returns a Scanner. It connects when there is something to scan.
func New(cfg Config) (*Scanner, error) {
	if cfg.dial == nil {
		dial, err := scan.Dialer(cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("milter: %w", err)
		}
		cfg.dial = dial
	}
	if cfg.MaxEdits <= 0 {
		cfg.MaxEdits = 50
	}
	if cfg.MaxEditBytes <= 0 {
		cfg.MaxEditBytes = 64 << 10
	}
	return &Scanner{cfg: cfg, engine: scan.NewEngine(scan.EngineConfig{
		Name: "the milter at " + cfg.Address, Timeout: cfg.Timeout, Sessions: cfg.Sessions, Failures: cfg.Failures, Retry: cfg.Retry,
	})}, nil
}

// Health is nil while the milter is well, as far as messages have shown, and
// otherwise says what is wrong.
func (s *Scanner) Health() error { return s.engine.Health() }

// Scan implements scan.Module. The symbols of what the milter wants are "reject",
// "discard", "quarantine", "replace-body" and "delete-recipient" (matches),
// "tempfail" (unknown), and for notes "add-recipient", "change-sender",
// "refused-edit" and those that Edits reads.
func (s *Scanner) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	var findings []mail.Finding
	err := s.engine.Converse(ctx, s.cfg.dial, func(c net.Conn) error {
		t := newTalk(s, in, c)
		err := t.run()
		findings = t.findings
		return err
	})
	if err != nil {
		return nil, err // half a conversation means nothing
	}
	return findings, nil
}

// saw makes a finding of what the milter wants.
func saw(symbol string, result mail.Result, what, text string) mail.Finding {
	f := mail.Finding{Module: use, Symbol: symbol, Result: result, Reason: "the milter " + what}
	if text = message.SafeText(text, maxText); text != "" {
		f.Reason += ": " + text
	}
	return f
}
