package smtpclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Config is what all conversations of a Dialer have in common.
type Config struct {
	// Hostname is the name in EHLO, HELO and LHLO.
	Hostname string
	// LMTP speaks RFC 2033 instead of SMTP.
	LMTP bool
	// Source is the local address to connect from; the zero Addr leaves it to
	// the system. A target of the other family cannot be reached then.
	Source   netip.Addr
	Timeouts Timeouts
	// ChunkFrom is the size in bytes from which on a message goes by BDAT where
	// the remote takes it; default 64 KiB. Smaller ones go by DATA, which every
	// server has had practice with.
	ChunkFrom int64
	// Dial makes the connection; default net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Timeouts bound the stages of a conversation. The defaults are the minimums of
// RFC 5321 §4.5.3.2 where it names one.
type Timeouts struct {
	Connect   time.Duration // default 30s
	Banner    time.Duration // default 5m
	Hello     time.Duration // EHLO, HELO, LHLO; default 5m
	TLS       time.Duration // STARTTLS with its handshake; default 1m
	Auth      time.Duration // each step; default 5m
	Mail      time.Duration // default 5m
	Rcpt      time.Duration // default 5m
	DataInit  time.Duration // the reply to DATA; default 2m
	DataBlock time.Duration // the remote takes a block of at most 64 KiB; default 3m
	DataDone  time.Duration // the reply to the final dot; default 10m
	Reset     time.Duration // RSET; default 1m
	Quit      time.Duration // QUIT; default 2s
	// MinRate is how many bytes per second the remote must take on average, once
	// DataBlock has passed; default 500, below 0 no minimum.
	MinRate int64
}

func (t Timeouts) withDefaults() Timeouts {
	t.Connect = cmp.Or(t.Connect, 30*time.Second)
	t.Banner = cmp.Or(t.Banner, 5*time.Minute)       // RFC 5321 §4.5.3.2.1
	t.Hello = cmp.Or(t.Hello, 5*time.Minute)         // not named; as for MAIL
	t.TLS = cmp.Or(t.TLS, time.Minute)               //
	t.Auth = cmp.Or(t.Auth, 5*time.Minute)           //
	t.Mail = cmp.Or(t.Mail, 5*time.Minute)           // RFC 5321 §4.5.3.2.2
	t.Rcpt = cmp.Or(t.Rcpt, 5*time.Minute)           // RFC 5321 §4.5.3.2.3
	t.DataInit = cmp.Or(t.DataInit, 2*time.Minute)   // RFC 5321 §4.5.3.2.4
	t.DataBlock = cmp.Or(t.DataBlock, 3*time.Minute) // RFC 5321 §4.5.3.2.5
	t.DataDone = cmp.Or(t.DataDone, 10*time.Minute)  // RFC 5321 §4.5.3.2.6
	t.Reset = cmp.Or(t.Reset, time.Minute)
	t.Quit = cmp.Or(t.Quit, 2*time.Second)
	t.MinRate = cmp.Or(t.MinRate, 500)
	return t
}

const (
	defaultChunkFrom = 64 << 10
	bufferSize       = 64 << 10
)

// Dialer opens conversations. It may be used by any number of goroutines.
type Dialer struct {
	cfg Config
	// buffers lends write buffers for the time of a message, so that an idle
	// session does not hold one.
	buffers sync.Pool
}

// NewDialer returns a Dialer with the defaults filled in.
func NewDialer(cfg Config) *Dialer {
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	cfg.ChunkFrom = cmp.Or(cfg.ChunkFrom, defaultChunkFrom)
	d := &Dialer{cfg: cfg}
	d.buffers.New = func() any {
		b := make([]byte, 0, bufferSize)
		return &b
	}
	return d
}

// Target is where a conversation goes.
type Target struct {
	// Network is "tcp" or "unix", Address "192.0.2.1:25" or a path.
	Network, Address string
	// Name is the host's name, "" where it is only known by address.
	Name string
}

// String is the target as outcomes and logs name it: "mx1.example.org [192.0.2.1]:25".
func (t Target) String() string {
	host, port, err := net.SplitHostPort(t.Address)
	if t.Network == "unix" || err != nil {
		return t.Address
	}
	if t.Name == "" {
		return "[" + host + "]:" + port
	}
	return t.Name + " [" + host + "]:" + port
}

// Dial connects to the target, reads its banner and says EHLO, or HELO where
// EHLO is refused with 5xx (RFC 5321 §3.2). The error is an *Error.
func (d *Dialer) Dial(ctx context.Context, t Target) (*Conn, error) {
	return d.Open(ctx, t, Opening{})
}

// Opening is what is special about how one conversation begins.
type Opening struct {
	// Preface is written before anything else, in clear text: a PROXY protocol
	// header.
	Preface []byte
	// TLS, where set, encrypts before the banner (RFC 8314 §3.3). Verified says that
	// it checks the certificate.
	TLS      *tls.Config
	Verified bool
	// Dial makes the connection; nil: Config.Dial does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Open is Dial for a conversation that begins as o says.
func (d *Dialer) Open(ctx context.Context, t Target, o Opening) (*Conn, error) {
	nc, err := d.connect(ctx, t, o.Dial)
	if err != nil {
		return nil, connectError(ctx, err)
	}
	c := &Conn{d: d, raw: nc, nc: nc, replies: smtp.NewReplyReader(nc), host: t.String()}
	stop := c.watch(ctx)
	err = c.open(o)
	stop()
	if err != nil {
		c.Leave()
		return nil, err
	}
	return c, nil
}

// open is everything up to the answer to EHLO.
func (c *Conn) open(o Opening) error {
	if len(o.Preface) > 0 {
		c.arm(c.d.cfg.Timeouts.Connect)
		if _, err := c.nc.Write(o.Preface); err != nil {
			return c.fail("connect", err)
		}
	}
	if o.TLS != nil {
		if err := c.handshake(o.TLS, o.Verified); err != nil {
			return err
		}
	}
	return c.greet()
}

var errFamily = errors.New("the source address is of the other family")

func (d *Dialer) connect(ctx context.Context, t Target, dial func(ctx context.Context, network, address string) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeouts.Connect)
	defer cancel()
	if dial != nil {
		return dial(ctx, t.Network, t.Address)
	}
	if d.cfg.Dial != nil {
		return d.cfg.Dial(ctx, t.Network, t.Address)
	}
	var dialer net.Dialer
	if d.cfg.Source.IsValid() && t.Network == "tcp" {
		to, err := netip.ParseAddrPort(t.Address)
		if err == nil && to.Addr().Unmap().Is4() != d.cfg.Source.Unmap().Is4() {
			return nil, fmt.Errorf("dial %s from %s: %w", t.Address, d.cfg.Source, errFamily)
		}
		dialer.LocalAddr = &net.TCPAddr{IP: d.cfg.Source.AsSlice(), Zone: d.cfg.Source.Zone()}
	}
	return dialer.DialContext(ctx, t.Network, t.Address)
}

func connectError(ctx context.Context, err error) *Error {
	e := &Error{Stage: "connect", Key: mail.ReplyNextHopDown, Err: err}
	if ctx.Err() != nil {
		e.Key = mail.ReplyInterrupted
	}
	return e
}
