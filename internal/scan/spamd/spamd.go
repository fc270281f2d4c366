package spamd

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

const (
	use = "spamd"
	// maxText bounds what spamd says, as reasons show it, in bytes.
	maxText = 300
)

// Config says where spamd is. A zero field takes its default.
type Config struct {
	// Address is "unix:/path" or "tcp:host:port".
	Address string
	// User is whose preferences spamd takes, "" for its default.
	User string
	// Scale is what its score is multiplied by; 1. NoScale is 0.
	Scale float64
	// Timeout bounds the conversation about one message; 30 s.
	Timeout time.Duration
	// MaxSize is the size in bytes up to which messages are given to spamd; 2 MiB,
	// because it takes long over large ones, and spam is small. What is larger is
	// unknown.
	MaxSize int64
	// Sessions is how many conversations may be under way; 5, as many as spamd has
	// children by default.
	Sessions int
	// Failures is after how many failures in a row spamd counts as down; 3. Retry
	// is how long it is left alone then; 5 s.
	Failures int
	Retry    time.Duration

	// dial connects in tests.
	dial scan.Dial
}

// NoScale as Scale makes every score 0.
const NoScale = -1

// Scanner is a client of one spamd. Its methods may be called by many goroutines.
type Scanner struct {
	cfg    Config
	engine *scan.Engine
}

// New returns a Scanner. It connects when there is something to scan.
func New(cfg Config) (*Scanner, error) {
	if cfg.dial == nil {
		dial, err := scan.Dialer(cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("spamd: %w", err)
		}
		cfg.dial = dial
	}
	if strings.ContainsFunc(cfg.User, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, fmt.Errorf("spamd: the user %q has characters that no user has", cfg.User)
	}
	cfg.Scale = max(cmp.Or(cfg.Scale, 1), 0)
	cfg.MaxSize = cmp.Or(cfg.MaxSize, 2<<20)
	cfg.Sessions = cmp.Or(cfg.Sessions, 5)
	return &Scanner{cfg: cfg, engine: scan.NewEngine(scan.EngineConfig{
		Name: "spamd at " + cfg.Address, Timeout: cfg.Timeout, Sessions: cfg.Sessions, Failures: cfg.Failures, Retry: cfg.Retry,
	})}, nil
}

// Health is nil while spamd is well, as far as messages have shown, and otherwise
// says what is wrong.
func (s *Scanner) Health() error { return s.engine.Health() }

// Scan implements scan.Module. There is one finding: "spam" (a match) or "ham"
// (clean) with the score, or "limit:spamd-size" (unknown).
func (s *Scanner) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	content := message.NewContent(in.Message).Prepend(envelopeField(in.Message.Envelope))
	if size := content.Size(); size > s.cfg.MaxSize {
		return []mail.Finding{{Module: use, Symbol: "limit:spamd-size", Result: mail.Unknown,
			Reason: fmt.Sprintf("the message has %d bytes and SpamAssassin is given no more than %d", size, s.cfg.MaxSize)}}, nil
	}
	var got answer
	err := s.engine.Converse(ctx, s.cfg.dial, func(c net.Conn) error {
		sent := make(chan error, 1)
		go func() {
			err := s.send(c, content)
			if err != nil {
				// No answer will be complete; wake the reader.
				_ = c.SetReadDeadline(time.Unix(1, 0))
			}
			sent <- err
		}()
		var err error
		got, err = readAnswer(bufio.NewReaderSize(c, 4<<10))
		if err != nil {
			_ = c.SetWriteDeadline(time.Unix(1, 0)) // it will not read the rest
		}
		return decisive(<-sent, err)
	})
	if err != nil {
		return nil, err
	}
	return []mail.Finding{s.finding(got)}, nil
}

// decisive is the error that says most: ours first, then what spamd said, then
// that it does not listen.
func decisive(sent, read error) error {
	var source *scan.SourceError
	if errors.As(sent, &source) {
		return sent
	}
	return errors.Join(read, sent)
}

// envelopeField tells the rules of SpamAssassin who the envelope sender is.
func envelopeField(env *mail.Envelope) []byte {
	address := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, env.GivenSender().String())
	return []byte("Return-Path: <" + address + ">\r\n")
}

// send writes the request.
func (s *Scanner) send(c net.Conn, content *message.Content) error {
	var head strings.Builder
	fmt.Fprintf(&head, "SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n", content.Size())
	if s.cfg.User != "" {
		fmt.Fprintf(&head, "User: %s\r\n", s.cfg.User)
	}
	head.WriteString("\r\n")
	if _, err := io.WriteString(c, head.String()); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	n, err := io.Copy(c, &source{r: content.Reader()})
	var broken *scan.SourceError
	switch {
	case errors.As(err, &broken):
		return broken
	case err != nil:
		return fmt.Errorf("send: %w", err)
	case n != content.Size():
		return &scan.SourceError{Err: io.ErrUnexpectedEOF}
	}
	return nil
}

// source tells errors of the message from those of the connection.
type source struct{ r io.Reader }

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &scan.SourceError{Err: err}
	}
	return n, err
}

// finding says what an answer means.
func (s *Scanner) finding(a answer) mail.Finding {
	f := mail.Finding{Module: use, Symbol: "ham", Result: mail.Clean, Score: a.score * s.cfg.Scale}
	if a.spam {
		f.Symbol, f.Result = "spam", mail.Match
	}
	f.Reason = fmt.Sprintf("SpamAssassin scores %s of %s", number(a.score), number(a.threshold))
	if len(a.symbols) > 0 {
		f.Reason += ": " + strings.Join(a.symbols, ", ")
	}
	return f
}
