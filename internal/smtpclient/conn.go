package smtpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Conn is one conversation. It is used by one goroutine at a time.
type Conn struct {
	d       *Dialer
	raw     net.Conn // the connection, never wrapped: deadlines go here
	nc      net.Conn // what is spoken over: raw, or TLS over raw
	replies *smtp.ReplyReader
	host    string
	ext     Extensions
	tls     mail.TLS
	ctx     context.Context // of the running call, see watch

	over         bool // no further command may be sent
	dirty        bool // the last transaction was left open: RSET before the next
	transactions int
	scratch      scratch
}

// Extensions are what the remote announced, since STARTTLS if there was one.
func (c *Conn) Extensions() Extensions { return c.ext }

// TLS describes the encryption.
func (c *Conn) TLS() mail.TLS { return c.tls }

// Host names the remote as outcomes do.
func (c *Conn) Host() string { return c.host }

// Transactions is how many messages were begun.
func (c *Conn) Transactions() int { return c.transactions }

// Usable reports whether another message may be sent: the session is in step
// and the remote's limit on messages is not reached.
func (c *Conn) Usable() bool {
	return !c.over && (c.ext.MailMax == 0 || c.transactions < c.ext.MailMax)
}

// Close ends the conversation at once. It may be called by any goroutine.
func (c *Conn) Close() error { return c.raw.Close() }

// Quit ends the conversation as RFC 5321 §4.1.1.10 wishes, but waits for the
// remote's goodbye no longer than Timeouts.Quit.
func (c *Conn) Quit() {
	defer c.Close()
	if c.over {
		return
	}
	defer c.watch(context.Background())()
	if c.command("quit", c.d.cfg.Timeouts.Quit, "QUIT\r\n") == nil {
		// Whatever it says, we are leaving.
		_, _ = c.replies.Read()
	}
	c.over = true
}

// Leave says QUIT without waiting for an answer, and closes.
func (c *Conn) Leave() {
	if !c.over {
		c.raw.SetDeadline(time.Now().Add(c.d.cfg.Timeouts.Quit))
		_, _ = c.nc.Write([]byte("QUIT\r\n"))
	}
	c.over = true
	c.Close()
}

// watch ties the connection to ctx until stop is called: when ctx ends, reads
// and writes return at once.
func (c *Conn) watch(ctx context.Context) (stop func()) {
	c.ctx = ctx
	if ctx.Done() == nil {
		return func() {}
	}
	cancelled := context.AfterFunc(ctx, c.interrupt)
	return func() { cancelled() }
}

func (c *Conn) interrupt() { c.raw.SetDeadline(time.Unix(1, 0)) }

// arm gives reads and writes until d from now.
func (c *Conn) arm(d time.Duration) { c.armUntil(time.Now().Add(d)) }

func (c *Conn) armUntil(t time.Time) {
	c.raw.SetDeadline(t)
	// The context may have ended before the line above undid its effect.
	if c.ctx.Err() != nil {
		c.interrupt()
	}
}

// fail ends the session.
func (c *Conn) fail(stage string, err error) *Error {
	c.over = true
	return c.ioError(stage, err)
}

// violation ends the session because of what the remote answered.
func (c *Conn) violation(stage string, reply mail.Reply) *Error {
	return c.fail(stage, fmt.Errorf("%w: %s answered by %q", ErrProtocol, stage, reply))
}

var errUnasked = fmt.Errorf("%w: a reply that nothing asked for", ErrProtocol)

// command writes a command. What the remote has said before it was asked cannot
// be matched with anything and ends the session.
func (c *Conn) command(stage string, limit time.Duration, line string) *Error {
	if c.replies.Buffered() > 0 {
		return c.fail(stage, errUnasked)
	}
	c.arm(limit)
	if _, err := c.nc.Write([]byte(line)); err != nil {
		return c.fail(stage, err)
	}
	return nil
}

// reply reads a reply. 421 ends the session wherever it comes (RFC 5321 §3.8).
func (c *Conn) reply(stage string, limit time.Duration) (mail.Reply, *Error) {
	if c.replies.Buffered() == 0 {
		c.arm(limit)
	}
	r, err := c.replies.Read()
	if err != nil {
		return r, c.fail(stage, err)
	}
	if r.Code == 421 {
		c.over = true
		return r, &Error{Stage: stage, Reply: r}
	}
	return r, nil
}

// ask sends a command and reads its reply.
func (c *Conn) ask(stage string, limit time.Duration, line string) (mail.Reply, *Error) {
	if err := c.command(stage, limit, line); err != nil {
		return mail.Reply{}, err
	}
	return c.reply(stage, limit)
}

// greet reads the banner and introduces us.
func (c *Conn) greet() error {
	banner, err := c.reply("connect", c.d.cfg.Timeouts.Banner)
	switch {
	case err != nil:
		return err
	case banner.Temporary(), banner.Permanent():
		return &Error{Stage: "connect", Reply: banner}
	case banner.Code != 220:
		return c.violation("connect", banner)
	}
	return c.hello()
}

// hello says EHLO and, if that is refused for good, HELO.
func (c *Conn) hello() error { return c.helloAs(c.d.cfg.Hostname) }

// helloAs is hello under a name.
func (c *Conn) helloAs(name string) error {
	verb := "EHLO"
	if c.d.cfg.LMTP {
		verb = "LHLO" // RFC 2033 §4.1: HELO and EHLO do not exist
	}
	limit := c.d.cfg.Timeouts.Hello
	r, err := c.ask("ehlo", limit, verb+" "+name+"\r\n")
	if err != nil {
		return err
	}
	if r.Permanent() && !c.d.cfg.LMTP {
		if r, err = c.ask("ehlo", limit, "HELO "+name+"\r\n"); err != nil {
			return err
		}
		r.Lines = r.Lines[:1]
	}
	switch {
	case r.Positive():
		c.ext = parseExtensions(r.Lines[1:])
		return nil
	case r.Temporary(), r.Permanent():
		return &Error{Stage: "ehlo", Reply: r}
	}
	return c.violation("ehlo", r)
}

// ErrNoTLS says that the remote does not offer STARTTLS.
var ErrNoTLS = errors.New("STARTTLS is not offered")

// StartTLS encrypts the conversation and says EHLO again. verified says that cfg
// checks the certificate. The error is an *Error; the session goes on in clear
// text after it if Usable still says so.
func (c *Conn) StartTLS(ctx context.Context, cfg *tls.Config, verified bool) error {
	defer c.watch(ctx)()
	if !c.ext.StartTLS {
		return &Error{Stage: "starttls", Key: mail.ReplyNextHopNoTLS, Err: ErrNoTLS}
	}
	limit := c.d.cfg.Timeouts.TLS
	r, err := c.ask("starttls", limit, "STARTTLS\r\n")
	switch {
	case err != nil:
		return err
	case r.Temporary(), r.Permanent():
		return &Error{Stage: "starttls", Reply: r}
	case r.Code != 220:
		return c.violation("starttls", r)
	case c.replies.Buffered() > 0:
		// Somebody on the way put in what must not be taken for an answer under TLS.
		return c.fail("starttls", errUnasked)
	}
	if err := c.handshake(cfg, verified); err != nil {
		return err
	}
	if err := c.hello(); err != nil {
		// Nothing that was announced before the handshake holds any more (RFC 3207 §4.2).
		c.over = true
		return err
	}
	return nil
}

// handshake starts TLS.
func (c *Conn) handshake(cfg *tls.Config, verified bool) *Error {
	tc := tls.Client(c.raw, cfg)
	c.arm(c.d.cfg.Timeouts.TLS)
	if err := tc.HandshakeContext(c.ctx); err != nil {
		e := c.fail("starttls", fmt.Errorf("shake hands: %w", err))
		if e.Key == mail.ReplyNextHopLost {
			e.Key = mail.ReplyNextHopBadTLS
		}
		return e
	}
	state := tc.ConnectionState()
	c.nc = tc
	c.tls = mail.TLS{Version: tlsVersion(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite), Verified: verified}
	c.replies.Reset(tc)
	return nil
}

// tlsVersion is the name that headers and logs use: "TLSv1.3".
func tlsVersion(v uint16) string {
	switch v {
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return fmt.Sprintf("TLS %#04x", v)
}
