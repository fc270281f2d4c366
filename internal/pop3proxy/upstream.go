package pop3proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/pop3"
)

// Why a conversation with a server ends.
var (
	errOutOfStep = errors.New("the server said more than it was asked")
	errNoReply   = errors.New("the server did not answer in POP3")
	errNoTLS     = errors.New("the server does not offer TLS")
	errKilled    = errors.New("the session must stop")
)

// upstream is the conversation with the server behind. One command is under way at a
// time.
type upstream struct {
	conn         net.Conn
	in           *pop3.Reader
	address      string // host:port
	greeting     []byte // without its line end
	tls          mail.TLS
	timeout      time.Duration // for an answer
	writeTimeout time.Duration
	// used is when the server was last heard of.
	used time.Time
	// dead is why nothing more can be asked, nil while it can.
	dead error
}

// refusal is a server that greeted with -ERR.
type refusal struct{ line []byte }

func (r *refusal) Error() string { return fmt.Sprintf("the server refused: %.200q", r.line) }

// connect opens a conversation with the server at address, whose certificate is for name.
func (s *session) connect(address, name string) (*upstream, error) {
	ctx, cancel := context.WithTimeout(s.srv.ctx, s.set.ConnectTimeout)
	defer cancel()
	mode := s.set.Upstream.TLS
	u, err := s.dial(ctx, address, name, mode)
	var refused *refusal
	if mode == UpstreamOpportunistic && err != nil && u != nil && !errors.As(err, &refused) {
		// A server that offers TLS and cannot do it is spoken to without: whoever could
		// bring that about could hide the offer as well.
		u.conn.Close()
		u, err = s.dial(ctx, address, name, UpstreamOff)
	}
	if err == nil && !s.behind(u.conn) {
		err = errKilled
	}
	if err != nil {
		if u != nil {
			u.conn.Close()
		}
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	u.conn.SetDeadline(time.Time{})
	return u, nil
}

// dial connects, and comes back with the greeting and the TLS that the mode wants. With an
// error the connection is there if it was made.
func (s *session) dial(ctx context.Context, address, name string, mode UpstreamTLS) (*upstream, error) {
	conn, err := s.set.Upstream.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	u := &upstream{conn: conn, address: address, timeout: s.set.UpstreamTimeout, writeTimeout: s.set.WriteTimeout}
	if end, ok := ctx.Deadline(); ok {
		conn.SetDeadline(end)
	}
	if !s.behind(conn) {
		return u, errKilled
	}
	u.in = pop3.NewReader(u, lineBuffer)
	if mode == UpstreamImplicit {
		if err := u.secure(ctx, s.clientTLS(name, mode)); err != nil {
			return u, err
		}
	}
	line, _, err := u.in.ReadLine(maxReply)
	if err != nil {
		return u, fmt.Errorf("read greeting: %w", err)
	}
	switch pop3.ParseStatus(line) {
	case pop3.StatusOK:
		u.greeting = bytes.Clone(pop3.SafeLine(line))
	case pop3.StatusErr:
		return u, &refusal{bytes.Clone(pop3.SafeLine(line))}
	default:
		return u, errNoReply
	}
	if mode == UpstreamStart || mode == UpstreamOpportunistic {
		err = u.startTLS(ctx, s.clientTLS(name, mode), mode)
	}
	return u, err
}

// clientTLS is how TLS is spoken towards the server.
func (s *session) clientTLS(name string, mode UpstreamTLS) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: s.set.Upstream.Roots,
		InsecureSkipVerify: mode == UpstreamOpportunistic,
	}
}

// startTLS is STLS towards the server (RFC 2595 §4). An opportunistic one asks first
// whether there is any.
func (u *upstream) startTLS(ctx context.Context, cfg *tls.Config, mode UpstreamTLS) error {
	if mode == UpstreamOpportunistic {
		caps, ok, err := u.capabilities()
		if err != nil {
			return err
		}
		if !ok || !caps.Has("STLS") {
			return nil
		}
	}
	line, _, err := u.exchange("STLS")
	switch {
	case err != nil:
		return fmt.Errorf("ask for TLS: %w", err)
	case pop3.ParseStatus(line) != pop3.StatusOK && mode == UpstreamOpportunistic:
		return nil
	case pop3.ParseStatus(line) != pop3.StatusOK:
		return errNoTLS
	case len(u.in.Buffered()) > 0:
		// Somebody on the way may have put these bytes in, to have them taken for what
		// comes through TLS.
		return errOutOfStep
	}
	return u.secure(ctx, cfg)
}

// secure puts TLS on the connection.
func (u *upstream) secure(ctx context.Context, cfg *tls.Config) error {
	conn := tls.Client(u.conn, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("start TLS: %w", err)
	}
	u.conn = conn
	u.tls = tlsState(conn.ConnectionState())
	return nil
}

// Read reads from the server. It is the source of in.
func (u *upstream) Read(p []byte) (int, error) {
	n, err := u.conn.Read(p)
	if n > 0 {
		u.used = time.Now()
	}
	return n, err
}

// exchange sends a line and returns the first one of the reply, valid until the next read.
// The deadlines are those that were set before.
func (u *upstream) exchange(line string) (reply []byte, bare bool, err error) {
	if u.dead != nil {
		return nil, false, u.dead
	}
	if len(u.in.Buffered()) > 0 {
		return nil, false, u.fail(errOutOfStep)
	}
	if _, err := u.conn.Write(append([]byte(line), '\r', '\n')); err != nil {
		return nil, false, u.fail(fmt.Errorf("send command: %w", err))
	}
	return u.status()
}

// status reads the first line of a reply.
func (u *upstream) status() (line []byte, bare bool, err error) {
	line, bare, err = u.in.ReadLine(maxReply)
	if err != nil {
		return nil, false, u.fail(fmt.Errorf("read reply: %w", err))
	}
	if pop3.ParseStatus(line) == pop3.StatusNone {
		return nil, false, u.fail(errNoReply)
	}
	return line, bare, nil
}

// fail remembers why the conversation is over.
func (u *upstream) fail(err error) error {
	if u.dead == nil {
		u.dead = err
	}
	return u.dead
}

// ask is exchange with a deadline of its own.
func (u *upstream) ask(line string) (reply []byte, bare bool, err error) {
	u.patience(u.timeout)
	return u.exchange(line)
}

// patience sets the deadlines for what comes next.
func (u *upstream) patience(d time.Duration) {
	now := time.Now()
	u.conn.SetWriteDeadline(now.Add(u.writeTimeout))
	u.conn.SetReadDeadline(now.Add(d))
}

// lines reads the data of a multi-line reply line by line and gives each to take, which
// may refuse one. The dots are taken off.
func (u *upstream) lines(bare bool, take func(line []byte) error) error {
	for {
		if !u.in.HasLine() {
			u.patience(u.timeout)
		}
		line, lf, err := u.in.ReadLine(maxListLine)
		if err != nil {
			return u.fail(fmt.Errorf("read reply: %w", err))
		}
		if len(line) == 1 && line[0] == '.' && (!lf || bare) {
			return nil
		}
		if err := take(bytes.TrimPrefix(line, []byte{'.'})); err != nil {
			return u.fail(err)
		}
	}
}

// capabilities asks for what the server can do. ok is false where it does not know CAPA.
func (u *upstream) capabilities() (caps pop3.Capabilities, ok bool, err error) {
	line, bare, err := u.exchange("CAPA")
	if err != nil || pop3.ParseStatus(line) != pop3.StatusOK {
		return nil, false, err
	}
	err = u.lines(bare, func(line []byte) error {
		caps.Add(string(line))
		return nil
	})
	return caps, err == nil, err
}
