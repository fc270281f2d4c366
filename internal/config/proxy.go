package config

import (
	"fmt"
	"slices"
)

// checkProxy wants that what is passed through can be.
func (v *validator) checkProxy() {
	proxied := map[Name]bool{}
	for i := range v.cfg.Domains {
		d := &v.cfg.Domains[i]
		if d.Delivery != "proxy" {
			continue
		}
		proxied[d.Transport] = true
		v.checkProxyListeners(d)
		t := v.transport(d.Transport)
		if t != nil && v.ok(&t.Kind) && t.Kind != "smtp" && t.Kind != "original" {
			v.report(ruleProxy, &d.Delivery, fmt.Sprintf("the transport %q is of kind %q, through which nothing can be passed while a client waits", t.Name, t.Kind), `use one of kind "smtp" or "original", or write delivery = "relay"`)
		}
	}
	for i := range v.cfg.Transports {
		t := &v.cfg.Transports[i]
		if t.Kind != "smtp" && t.Kind != "original" || proxied[t.Name] {
			continue
		}
		for _, key := range []struct {
			field *string
			plain string
		}{{&t.IfUnreachable, "defer"}, {&t.ClientIdentity, "none"}} {
			if *key.field != key.plain {
				v.report(ruleUnusedKey, key.field, `is set, but no domain with delivery = "proxy" has this transport`, "take it out")
			}
		}
	}
}

// checkUpstreamLogin wants a server that mail of the listener is passed through to, and
// nobody else to ask.
func (v *validator) checkUpstreamLogin(l *Listener) {
	if len(l.Auth) > 0 || l.Flows.Auth != "" {
		v.report(ruleProxy, &l.AuthUpstream, "is set beside auth or a flow of the stage auth: only one can decide who may log in", "take auth and flows.auth out, or auth_upstream")
		return
	}
	v.checkLoginTLS(l)
	t := v.transport(l.AuthUpstream)
	passes := slices.ContainsFunc(v.cfg.Domains, func(d Domain) bool {
		return d.Delivery == "proxy" && d.Transport == l.AuthUpstream && (d.Listener == "*" || d.Listener == l.Name)
	})
	switch {
	case t == nil:
		v.report(ruleDanglingTransport, &l.AuthUpstream, fmt.Sprintf("no [[transport]] has the name %q", l.AuthUpstream), "write the name of one that mail is passed through to")
	case !passes:
		v.report(ruleProxy, &l.AuthUpstream, fmt.Sprintf("no mail of this listener is passed through the transport %q", l.AuthUpstream), `write a [[domain]] with delivery = "proxy" and this transport`)
	case t.Auth != nil:
		v.report(ruleProxy, &l.AuthUpstream, fmt.Sprintf("the transport %q logs in with a name and password of its own", l.AuthUpstream), "take auth out of the [[transport]], or auth_upstream out of the [[listener]]")
	}
}

// checkProxyListeners finds listeners that answer before there is something to pass
// through.
func (v *validator) checkProxyListeners(d *Domain) {
	for i := range v.cfg.Listeners {
		l := &v.cfg.Listeners[i]
		if l.Processing == "queued" && (d.Listener == "*" || d.Listener == l.Name) {
			v.report(ruleProxy, &d.Delivery, fmt.Sprintf("the listener %q answers before a message is scanned: nothing can be passed through", l.Name), `write processing = "inline" there, or delivery = "relay" here`)
		}
	}
}

// transport finds a transport by name; nil: there is none.
func (v *validator) transport(name Name) *Transport {
	i := slices.IndexFunc(v.cfg.Transports, func(t Transport) bool { return t.Name == name })
	if i < 0 || name == "" {
		return nil
	}
	return &v.cfg.Transports[i]
}
