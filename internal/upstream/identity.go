package upstream

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// attribute is one of XCLIENT or XFORWARD.
type attribute struct{ name, value string }

// unavailable is what both call a value that we do not know. It also keeps a value
// of an earlier client from holding on.
const unavailable = "[UNAVAILABLE]"

// maxAttribute is how long a value may be; a longer one is not a name.
const maxAttribute = 255

// attributes are what is known of a client.
func attributes(c *mail.Session) []attribute {
	proto := "SMTP"
	if c.ESMTP {
		proto = "ESMTP"
	}
	list := []attribute{{"NAME", c.Name}, {"ADDR", wireAddr(c.Client)}, {"PORT", wirePort(c.Client)}, {"PROTO", proto}, {"HELO", c.Helo}}
	for i := range list {
		list[i].value = encode(list[i].value)
	}
	return list
}

// encode is the value in xtext.
func encode(v string) string {
	if v == "" || len(v) > maxAttribute {
		return unavailable
	}
	return smtp.EncodeXText(v)
}

// wireAddr is how XCLIENT writes an address.
func wireAddr(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	ip := a.Addr().Unmap().WithZone("")
	if ip.Is6() {
		return "IPV6:" + ip.String()
	}
	return ip.String()
}

func wirePort(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return strconv.Itoa(int(a.Port()))
}

// xclient are the attributes for XCLIENT.
func xclient(c *mail.Session) []attribute {
	to := meantFor(c)
	return append(attributes(c), attribute{"LOGIN", encode(c.User)},
		attribute{"DESTADDR", encode(wireAddr(to))}, attribute{"DESTPORT", encode(wirePort(to))})
}

// meantFor is the address that the client connected to, as it knows it.
func meantFor(c *mail.Session) netip.AddrPort {
	if c.Original.IsValid() {
		return c.Original
	}
	return c.Local
}

// xforward are the attributes for XFORWARD.
func xforward(c *mail.Session, id mail.ID) []attribute {
	source := "REMOTE"
	if c.MayRelay() {
		source = "LOCAL"
	}
	return append(attributes(c), attribute{"IDENT", id.String()}, attribute{"SOURCE", source})
}

// maxAttributeLine keeps a command within RFC 5321 §4.5.3.1.4's 512 octets.
const maxAttributeLine = 480

// lines are the attributes that the upstream offered to take, in as few commands
// as may be.
func lines(list []attribute, offered []string) []string {
	var out []string
	line := ""
	for _, a := range list {
		if !slices.Contains(offered, a.name) {
			continue
		}
		word := a.name + "=" + a.value
		if line != "" && len(line)+1+len(word) > maxAttributeLine {
			out = append(out, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		out = append(out, line)
	}
	return out
}

// identityOf says in whose name a session for the client is: sessions with the same
// identity can be used for each other's transactions.
func (s *Server) identityOf(c *mail.Session) string {
	if s.cfg.Spoof {
		return c.Client.Addr().String()
	}
	switch s.cfg.Identity {
	case IdentityXClient:
		return fmt.Sprint(xclient(c))
	case IdentityProxyV1, IdentityProxyV2:
		return c.Client.String() + " " + meantFor(c).String()
	}
	return ""
}

// rename gives a session the identity of w by XCLIENT, where that is configured and
// offered.
func (s *Server) rename(ctx context.Context, sess *session, w *want) error {
	if s.cfg.Identity != IdentityXClient {
		return nil
	}
	sess.renames = true
	offered := sess.conn.Extensions().XClient
	if len(offered) == 0 || w.client == nil {
		sess.identity = w.identity
		return nil
	}
	helo := w.client.Helo
	if helo == "" || len(helo) > maxAttribute || strings.ContainsFunc(helo, func(r rune) bool { return r <= ' ' || r > '~' }) {
		helo = ""
	}
	if err := sess.conn.XClient(ctx, lines(xclient(w.client), offered), helo); err != nil {
		return err
	}
	sess.identity = w.identity
	// XCLIENT undoes a login, and an upstream may believe only the first one.
	sess.renames = s.cfg.Auth == nil && len(sess.conn.Extensions().XClient) > 0
	return nil
}

// identify tells an open session who the next transaction is from.
func (s *Server) identify(ctx context.Context, sess *session, w *want) error {
	// XCLIENT would undo the login of a client's own session.
	if sess.login == nil && sess.identity != w.identity {
		if err := s.rename(ctx, sess, w); err != nil {
			return err
		}
	}
	if s.cfg.Identity != IdentityXForward {
		return nil
	}
	offered := sess.conn.Extensions().XForward
	if len(offered) == 0 {
		return nil
	}
	// An upstream forgets the attributes with the transaction.
	err := sess.conn.Reset(ctx)
	if err == nil {
		err = sess.conn.XForward(ctx, lines(xforward(w.client, w.id), offered))
	}
	if err != nil && sess.conn.Usable() {
		// It is for a log only: the mail may go without.
		s.log.WarnContext(ctx, "XFORWARD refused", "host", sess.conn.Host(), "error", err)
		return nil
	}
	return err
}

// preface is the PROXY protocol header for a new connection to ep.
func (s *Server) preface(ep *endpoint, c *mail.Session) []byte {
	var to netip.AddrPort
	if c != nil {
		to = meantFor(c)
	}
	if !to.IsValid() {
		// Where the client connected to is not known: to whom we pass it on, then.
		to, _ = netip.ParseAddrPort(ep.target.Address)
	}
	from := netip.AddrPort{}
	if c != nil {
		from = c.Client
	}
	switch s.cfg.Identity {
	case IdentityProxyV1:
		return proxyV1(from, to)
	case IdentityProxyV2:
		return proxyV2(from, to)
	}
	return nil
}

// family brings both addresses to one family, IPv6 where they differ.
func family(from, to netip.AddrPort) (a, b netip.AddrPort, four bool) {
	x, y := from.Addr().Unmap().WithZone(""), to.Addr().Unmap().WithZone("")
	if four = x.Is4() && y.Is4(); !four {
		x, y = netip.AddrFrom16(x.As16()), netip.AddrFrom16(y.As16())
	}
	return netip.AddrPortFrom(x, from.Port()), netip.AddrPortFrom(y, to.Port()), four
}

// proxyV1 is a header of the PROXY protocol, version 1.
func proxyV1(from, to netip.AddrPort) []byte {
	if !from.IsValid() || !to.IsValid() {
		return []byte("PROXY UNKNOWN\r\n")
	}
	a, b, four := family(from, to)
	proto := "TCP6"
	if four {
		proto = "TCP4"
	}
	return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", proto, a.Addr(), b.Addr(), a.Port(), b.Port())
}

// proxyV2 is a header of the PROXY protocol, version 2.
func proxyV2(from, to netip.AddrPort) []byte {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n")
	if !from.IsValid() || !to.IsValid() {
		return append(b, 0x20, 0x00, 0, 0) // LOCAL: a connection of our own
	}
	from, to, four := family(from, to)
	proto := byte(0x21) // STREAM over IPv6
	if four {
		proto = 0x11
	}
	src, dst := from.Addr().AsSlice(), to.Addr().AsSlice()
	b = append(b, 0x21, proto)
	b = binary.BigEndian.AppendUint16(b, uint16(len(src)+len(dst)+4))
	b = append(append(b, src...), dst...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return binary.BigEndian.AppendUint16(b, to.Port())
}
