package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"gatepost/internal/smtp"
)

// The values of `upstream` that are no server.
const (
	UpstreamLogin    = "login"
	UpstreamOriginal = "original"
)

// POP3 reports whether the listener speaks POP3.
func (l *Listener) POP3() bool { return l.Protocol == "pop3" }

// UpstreamAddress is the server behind a POP3 listener as "host:port"; "" where there is
// none for all.
func (l *Listener) UpstreamAddress() string {
	if l.Upstream == "" || l.Upstream == UpstreamLogin || l.Upstream == UpstreamOriginal {
		return ""
	}
	h, f := parseHostPort(l.Upstream, l.upstreamPort(), "")
	if f != nil {
		return ""
	}
	return net.JoinHostPort(h.Host, strconv.Itoa(h.Port))
}

// upstreamPort is where servers listen.
func (l *Listener) upstreamPort() int {
	if l.UpstreamTLS == "implicit" {
		return 995
	}
	return 110
}

// checkPOP looks at a listener for POP3.
func (v *validator) checkPOP(l *Listener) {
	for _, field := range []any{
		&l.LineEndings, &l.Auth, &l.AuthUpstream, &l.AuthWithoutTLS, &l.XClientFrom, &l.Pregreet, &l.PregreetDelay, &l.Pipelining, &l.Processing, &l.Mixed,
		&l.Flows.Connect, &l.Flows.Auth, &l.Flows.Recipient,
	} {
		if v.isSet(field) {
			v.report(ruleUnusedKey, field, `is for SMTP, but protocol = "pop3"`, "take it out")
		}
	}
	if !v.ok(&l.Upstream) {
		return
	}
	switch l.Upstream {
	case "":
		at := any(&l.Upstream)
		if !v.isSet(at) {
			at = l
		}
		v.report(ruleUpstream, at, `with protocol = "pop3" there must be a server behind`, `write upstream = "pop.example.com:110"`)
	case UpstreamLogin:
		if len(l.UpstreamHosts) == 0 && v.ok(&l.UpstreamHosts) {
			v.report(ruleUpstream, &l.Upstream, "clients could connect to any host through this one: upstream_hosts is empty", `write which they may name: upstream_hosts = ["pop.example.com", "*.example.net"]`)
		}
	case UpstreamOriginal:
		if !l.Intercepts() && v.ok(&l.Interception) {
			v.report(ruleUpstream, &l.Upstream, "leads to where a diverted connection wanted to go, but the listener gets none", `write interception = "redirect" or "tproxy"`)
		}
	default:
		v.checkUpstreamAddress(l)
	}
	if l.Upstream != UpstreamLogin && v.isSet(&l.UpstreamHosts) {
		v.report(ruleUnusedKey, &l.UpstreamHosts, `is set, but clients name no server: upstream is not "login"`, "take it out")
	}
	v.checkUpstreamHosts(l)
	if l.UpstreamTLSCAFile == "" {
		return
	}
	if l.UpstreamTLS == "off" {
		v.report(ruleUnusedKey, &l.UpstreamTLSCAFile, `is set, but upstream_tls = "off"`, `write upstream_tls = "starttls" or "implicit", or take it out`)
	}
	v.authorities(&l.UpstreamTLSCAFile)
}

// checkUpstreamAddress wants a server that is another host than this.
func (v *validator) checkUpstreamAddress(l *Listener) {
	h, f := parseHostPort(l.Upstream, l.upstreamPort(), "")
	if f != nil || h.Unix != "" {
		v.report(ruleUpstream, &l.Upstream, fmt.Sprintf("%q is no server", shorten(l.Upstream)), `write "host" or "host:port", "login", or "original"`)
		return
	}
	if own := v.listens(h); own != nil {
		v.report(ruleLoop, &l.Upstream, fmt.Sprintf("%s is this host's own listener %q: sessions would go round in circles", h, own.Name), "write the address of the POP3 server behind this host")
	}
}

// checkUpstreamHosts wants hosts, and names below a domain, with or without a port.
func (v *validator) checkUpstreamHosts(l *Listener) {
	unique(v, ruleDuplicateElement, l.UpstreamHosts)
	for i := range l.UpstreamHosts {
		if !upstreamHost(l.UpstreamHosts[i]) {
			v.report(ruleUpstream, &l.UpstreamHosts[i], fmt.Sprintf("%q is no host", shorten(l.UpstreamHosts[i])), `write "host", "host:port", "*.example.com" or "*.example.com:port"`)
		}
	}
}

func upstreamHost(s string) bool {
	below, wild := strings.CutPrefix(s, "*.")
	h, f := parseHostPort(below, 110, "")
	if f != nil || h.Unix != "" || h.Host == "" {
		return false
	}
	if !wild {
		return true
	}
	// "*.com" would be a good part of the Internet.
	_, err := smtp.CanonicalDomain(h.Host)
	return err == nil && !h.IP().IsValid() && strings.Contains(h.Host, ".")
}

// checkNotPOP refuses what only listeners for POP3 have.
func (v *validator) checkNotPOP(l *Listener) {
	for _, field := range []any{
		&l.Upstream, &l.UpstreamHosts, &l.UpstreamTLS, &l.UpstreamTLSCAFile, &l.UpstreamTimeout, &l.ConnectTimeout, &l.IdleTimeout,
		&l.WaitAfter, &l.WaitInterval, &l.TooLarge, &l.DeleteReplaced,
	} {
		if v.isSet(field) && !v.harmless(l, field) {
			v.report(ruleUnusedKey, field, `is for POP3, but protocol = "smtp"`, `write protocol = "pop3", or take it out`)
		}
	}
}

// harmless reports whether a key asks for nothing.
func (v *validator) harmless(l *Listener, field any) bool {
	switch field {
	case any(&l.Upstream):
		return l.Upstream == ""
	case any(&l.UpstreamTLS):
		return l.UpstreamTLS == "off"
	case any(&l.UpstreamTLSCAFile):
		return l.UpstreamTLSCAFile == ""
	case any(&l.UpstreamHosts):
		return len(l.UpstreamHosts) == 0
	}
	return false
}

// checkPOPDomains finds domains for listeners by which no mail comes in.
func (v *validator) checkPOPDomains() {
	for i := range v.cfg.Domains {
		d := &v.cfg.Domains[i]
		for j := range v.cfg.Listeners {
			if l := &v.cfg.Listeners[j]; l.POP3() && l.Name == d.Listener && l.Name != "" {
				v.report(ruleUpstream, &d.Listener, fmt.Sprintf("the listener %q speaks POP3: no mail for a domain comes in by it", l.Name), "name one for SMTP")
			}
		}
	}
}
