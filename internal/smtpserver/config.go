package smtpserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// TLSMode is how a listener uses TLS.
type TLSMode uint8

// The TLS modes.
const (
	TLSOff      TLSMode = iota
	TLSStart            // STARTTLS is offered
	TLSRequired         // STARTTLS must come before MAIL and AUTH
	TLSImplicit         // TLS from the first byte
)

// LineEndings is what happens to bare CR, bare LF and NUL in mail data.
type LineEndings uint8

// The ways to treat them; smtp.DataDecoder says what Normalize does.
const (
	Normalize LineEndings = iota
	Reject                // the message is read to its end and answered 550 5.6.0
)

// Penalty is what happens to a client that talks out of turn.
type Penalty uint8

// The penalties. Each of them leaves a finding in the session.
const (
	PenaltyScore  Penalty = iota // nothing else
	PenaltyDefer                 // 421 and close
	PenaltyReject                // 554 and close
)

// Config is what a listener's sessions need to know. The zero value of every
// limit stands for its default; there is no way to say "unlimited".
type Config struct {
	// Listener is the name of the listener, Hostname ours for greeting and EHLO.
	Listener, Hostname string

	TLS TLSMode
	// TLSConfig is required unless TLS is TLSOff. With GetCertificate set in it
	// certificates can change under running sessions.
	TLSConfig *tls.Config

	// Auth lists the mechanisms offered, of "PLAIN" and "LOGIN"; none without
	// Hooks.Auth. Only under TLS, unless AuthWithoutTLS.
	Auth           []string
	AuthWithoutTLS bool

	// TrustedNetworks set mail.Session.Trusted. ProxyFrom must send a PROXY
	// header and are believed, XClientFrom may send XCLIENT.
	TrustedNetworks, ProxyFrom, XClientFrom []netip.Prefix

	// Disable lists extensions that are not announced. BinaryMIME adds BINARYMIME,
	// for those whose next hops all take it: such bodies are kept as they are.
	Disable    smtp.Extensions
	BinaryMIME bool

	// Offer, where set, is asked at each EHLO and HELO what may be promised to the
	// client now, of the extensions that this server has itself. It must not wait; the
	// hook for HELO, which is asked before, may.
	Offer func(s *mail.Session, own smtp.Extensions) Offer

	LineEndings LineEndings

	// Pregreet is for bytes before the greeting, which is held back for
	// PregreetDelay after a first line. Pipelining is for bytes that a client
	// must not send before it has seen a reply: those after DATA.
	Pregreet      Penalty
	PregreetDelay time.Duration
	Pipelining    Penalty

	MaxMessageSize int64 // bytes; default 50 MiB
	MaxHeaderSize  int64 // bytes; default 1 MiB
	MaxRecipients  int   // per message; default 1000
	MaxCommandLine int   // bytes with CRLF; default 2048
	// MaxErrors is how many commands may be answered 5xx, and MaxJunk how many
	// may be sent that bring no mail forward, until a message is accepted or the
	// session ends with 421. Default 20 and 100. From half of MaxErrors on, each
	// error is answered only after ErrorDelay, default 1 s.
	MaxErrors, MaxJunk int
	ErrorDelay         time.Duration

	// CommandTimeout is how long a command may take to arrive, and how long mail
	// data may pause; default 5 min. DataTimeout is how long the session may wait
	// for one message in all; default 10 min.
	CommandTimeout, DataTimeout time.Duration
	// MinDataRate is in bytes/s, over a message's time but for RateGrace, default
	// 500 and 2 min.
	MinDataRate int64
	RateGrace   time.Duration
	// After a message was refused or failed, DrainLimit more bytes of it, for
	// DrainTimeout, are read and thrown away in order to answer at its proper end;
	// default MaxMessageSize + 1 MiB and 30 s.
	DrainLimit   int64
	DrainTimeout time.Duration
	// HandshakeTimeout is for TLS handshakes and PROXY headers; default 30 s, at
	// most 60 s. WriteTimeout is for a reply to leave; default 1 min.
	HandshakeTimeout, WriteTimeout time.Duration
}

// Offer is what a server may promise in the name of those behind it.
type Offer struct {
	Extensions smtp.Extensions
	// MessageSize in bytes and Recipients of a message bound what is announced, 0 not
	// at all. A larger SIZE in MAIL is refused; who does not declare it is held to the
	// limits of the Config only.
	MessageSize int64
	Recipients  int
}

// maxAuthLine is RFC 4954 §4's limit for AUTH and its continuation lines.
const maxAuthLine = 12288

// withDefaults returns the configuration with defaults in place of zeros.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxMessageSize, 50<<20)
	setDefault(&c.MaxHeaderSize, 1<<20)
	setDefault(&c.MaxRecipients, 1000)
	setDefault(&c.MaxCommandLine, 2048)
	setDefault(&c.MaxErrors, 20)
	setDefault(&c.MaxJunk, 100)
	setDefault(&c.ErrorDelay, time.Second)
	setDefault(&c.CommandTimeout, 5*time.Minute)
	setDefault(&c.DataTimeout, 10*time.Minute)
	setDefault(&c.MinDataRate, 500)
	setDefault(&c.RateGrace, 2*time.Minute)
	setDefault(&c.DrainLimit, c.MaxMessageSize+1<<20)
	setDefault(&c.DrainTimeout, 30*time.Second)
	setDefault(&c.HandshakeTimeout, 30*time.Second)
	setDefault(&c.WriteTimeout, time.Minute)
	c.HandshakeTimeout = min(c.HandshakeTimeout, time.Minute)
	return c
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// check reports what can't work.
func (c *Config) check(h Hooks) error {
	switch {
	case h.Intake == nil:
		return errors.New("check server: no intake hook")
	case c.Hostname == "":
		return errors.New("check server: no host name")
	case c.TLS != TLSOff && c.TLSConfig == nil:
		return fmt.Errorf("check server %q: TLS without a TLS configuration", c.Listener)
	}
	for _, m := range c.Auth {
		if !strings.EqualFold(m, "PLAIN") && !strings.EqualFold(m, "LOGIN") {
			return fmt.Errorf("check server %q: unknown mechanism %q", c.Listener, m)
		}
	}
	return nil
}

// extensions returns what this configuration offers, whatever the state of the
// session; AUTH, STARTTLS and REQUIRETLS depend on that too.
func (c *Config) extensions(h Hooks) smtp.Extensions {
	e := smtp.ExtPipelining | smtp.ExtSize | smtp.Ext8BitMIME | smtp.ExtSMTPUTF8 | smtp.ExtChunking | smtp.ExtDSN |
		smtp.ExtEnhancedCodes | smtp.ExtLimits | smtp.ExtRequireTLS | smtp.ExtPRDR
	if c.BinaryMIME {
		e |= smtp.ExtBinaryMIME
	}
	if c.TLS == TLSStart || c.TLS == TLSRequired {
		e |= smtp.ExtStartTLS
	}
	if _, passes := h.Auth.(LoginPasser); passes || len(c.Auth) > 0 && h.Auth != nil {
		e |= smtp.ExtAuth
	}
	return e &^ c.Disable
}
