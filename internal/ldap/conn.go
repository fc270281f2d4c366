package ldap

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// conn is a connection to a server. It is used by one goroutine at a time.
//
// The library neither knows contexts nor bounds an answer, so both are done below
// it, to the bytes.
type conn struct {
	*ldap.Conn
	raw  *meter
	idle *time.Timer
}

// meter is a network connection that reads so much and no more until it is told
// the next question.
type meter struct {
	net.Conn
	left atomic.Int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if m.left.Add(-int64(n)) < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// ask runs one question. The connection is closed when ctx ends or the time is
// over, which ends the question as well.
func (c *conn) ask(ctx context.Context, limit time.Duration, maxBytes int64, question func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c.raw.left.Store(maxBytes)
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	err := question()
	if !stop() || c.raw.left.Load() < 0 {
		// The library reports a closed connection only; the cause is known here.
		c.shut()
		if ctx.Err() == nil {
			return fmt.Errorf("ask directory: %w", errTooLarge)
		}
		return fmt.Errorf("ask directory: %w", context.Cause(ctx))
	}
	return err
}

// open connects to a server, encrypts, and logs in where admin says so.
func (d *Directory) open(ctx context.Context, s server, admin bool) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout)
	defer cancel()
	nc, err := d.cfg.Dial(ctx, s.network, s.address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	raw := &meter{Conn: nc}
	raw.left.Store(d.cfg.MaxBytes)
	tlsCfg := d.tls.Clone()
	tlsCfg.ServerName = s.host
	if d.cfg.TLSName != "" {
		tlsCfg.ServerName = d.cfg.TLSName
	}
	wire := net.Conn(raw)
	if s.implicit {
		secure := tls.Client(raw, tlsCfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, fmt.Errorf("encrypt: %w", err)
		}
		wire = secure
	}
	c := &conn{Conn: ldap.NewConn(wire, s.implicit), raw: raw}
	c.Start()
	if err := c.prepare(ctx, d, tlsCfg, admin); err != nil {
		c.shut()
		return nil, err
	}
	return c, nil
}

// prepare is StartTLS and the login.
func (c *conn) prepare(ctx context.Context, d *Directory, tlsCfg *tls.Config, admin bool) error {
	if d.cfg.StartTLS {
		err := c.ask(ctx, d.cfg.ConnectTimeout, d.cfg.MaxBytes, func() error { return c.StartTLS(tlsCfg) })
		if err != nil {
			return refused("encrypt", err)
		}
	}
	if !admin || d.cfg.BindDN == "" {
		return nil
	}
	err := c.ask(ctx, d.cfg.ConnectTimeout, d.cfg.MaxBytes, func() error { return c.Conn.Bind(d.cfg.BindDN, d.cfg.Password) })
	if err != nil {
		return refused("log in as bind_dn", err)
	}
	return nil
}

// shut closes without a goodbye, for which a server could let us wait.
func (c *conn) shut() {
	c.raw.Close()
	c.Close()
}
