package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// internalTransports are the names of those in package gateway: a transport of the
// same name would get what is on its way to the scanner or the quarantine.
var internalTransports = []string{"quarantine", "scanner"}

func (v *validator) checkTransports() {
	c := v.cfg
	uniqueNames(v, c.Transports, func(t *Transport) *Name { return &t.Name })
	keys := make([]Name, 0, len(c.DKIM))
	for i := range c.DKIM {
		keys = append(keys, c.DKIM[i].Name)
	}
	for i := range c.Transports {
		t := &c.Transports[i]
		if slices.Contains(internalTransports, string(t.Name)) {
			v.report(ruleReservedName, &t.Name, fmt.Sprintf("%q is the name of a transport that Gatepost always has", t.Name), "take another name")
		}
		if t.Kind == "" || !v.ok(&t.Kind) {
			continue
		}
		v.checkKind(t)
		v.checkHosts(t)
		v.checkTLSPolicy(t)
		v.checkAuth(t)
		v.checkRetry(&t.Retry)
		unique(v, ruleDuplicateElement, t.DKIM)
		unique(v, ruleDuplicateElement, t.Lookup.Query)
		for j := range t.DKIM {
			v.named(ruleDanglingDKIM, &t.DKIM[j], "dkim", keys)
		}
		v.checkSeal(t, keys)
	}
}

// checkSeal wants something to say about what is sealed.
func (v *validator) checkSeal(t *Transport, keys []Name) {
	if t.ARC == "" {
		return
	}
	v.named(ruleDanglingDKIM, &t.ARC, "dkim", keys)
	for i := range v.cfg.Flows {
		if slices.ContainsFunc(v.cfg.Flows[i].Blocks, func(b Block) bool { return b.Use == "authres" }) {
			return
		}
	}
	v.warn(ruleWarnNoResults, &t.ARC, "nothing will be sealed: no flow has the block authres, whose results a seal tells", `add { use = "authres" } to the blocks of the content flow`)
}

// checkKind refuses keys that the kind of transport does not look at.
func (v *validator) checkKind(t *Transport) {
	fields := reflect.ValueOf(t).Elem()
	for _, k := range keysOf(fields.Type()) {
		kinds := strings.Split(k.tag.Get("kinds"), ",")
		field := fields.Field(k.index).Addr().Interface()
		if kinds[0] == "" || slices.Contains(kinds, t.Kind) || !v.isSet(field) {
			continue
		}
		v.report(ruleUnusedKey, field, fmt.Sprintf("a transport of kind %q has no use for it", t.Kind), fmt.Sprintf("it is for kind %s; take it out", quotedList(kinds)))
	}
	if t.Kind == "maildir" {
		if t.Path == "" {
			v.report(ruleNoPath, &t.Path, "is missing", `write the directory, such as path = "/var/mail/archive"`)
		}
		v.checkMaildir(&t.Path)
	}
}

func (v *validator) checkMaildir(path *Path) {
	literal := strings.NewReplacer("{user}", "", "{domain}", "", "{address}", "").Replace(string(*path))
	switch {
	case strings.ContainsAny(literal, "{}"):
		v.report(ruleBadPath, path, fmt.Sprintf("%s has a placeholder that nothing fills", *path), "there are {user}, {domain} and {address}")
	case literal == string(*path):
		v.isDirectory(path)
	}
}

func (v *validator) checkHosts(t *Transport) {
	if t.Kind != "smtp" && t.Kind != "lmtp" {
		return
	}
	if len(t.Hosts) == 0 {
		v.report(ruleNoHosts, &t.Hosts, "is missing or empty", `write the next hops, such as hosts = ["10.0.0.5"]`)
	}
	unique(v, ruleDuplicateElement, t.Hosts)
	switch {
	case len(t.Weights) == 0:
	case len(t.Weights) != len(t.Hosts):
		v.report(ruleWeights, &t.Weights, fmt.Sprintf("has %d numbers for %d hosts", len(t.Weights), len(t.Hosts)), "write one for each host, in their order")
	case t.Balance == "failover":
		v.report(ruleUnusedKey, &t.Weights, `is set, but with balance = "failover" all goes to the first host that works`, `write balance = "round-robin" or "least-sessions"`)
	}
	for i := range t.Hosts {
		h := &t.Hosts[i]
		switch ip := h.IP(); {
		case h.Unix != "" && t.Kind != "lmtp":
			v.report(ruleSocket, h, fmt.Sprintf("a socket, unix:%s, can only be the host of a transport of kind \"lmtp\"", h.Unix), "")
		case ip.IsValid() && (ip.IsUnspecified() || ip.IsMulticast()):
			v.report(ruleBadAddress, h, fmt.Sprintf("%s is the address of no host", ip), "")
		case h.Unix != "" && slices.Contains([]string{"require", "verify", "dane"}, t.TLS):
			v.report(ruleTLSPolicy, &t.TLS, fmt.Sprintf("%q can't be met: there is no TLS over the socket %s", t.TLS, h.Unix), `write tls = "off"`)
		case ip.IsValid() && t.TLS == "dane":
			v.report(ruleTLSPolicy, h, fmt.Sprintf("DANE looks up TLSA records by name, and %s is an address", ip), `write the host's name, or use tls = "verify" with tls_ca_file`)
		case ip.IsValid() && t.SourceAddress.IsValid() && ip.Is4() != t.SourceAddress.Is4():
			v.report(ruleUnusedKey, &t.SourceAddress, fmt.Sprintf("%s can't connect to %s: IPv4 and IPv6 do not meet", t.SourceAddress, ip), "")
		}
	}
}

func (v *validator) checkTLSPolicy(t *Transport) {
	if t.TLSCAFile != "" {
		if t.TLS != "verify" {
			v.report(ruleUnusedKey, &t.TLSCAFile, fmt.Sprintf("is set, but tls = %q does not verify certificates", t.TLS), `write tls = "verify", or take it out`)
		}
		v.authorities(&t.TLSCAFile)
	}
	if t.ImplicitTLS && t.TLS == "off" {
		v.report(ruleTLSPolicy, &t.ImplicitTLS, `is set, but tls = "off" never encrypts`, `take one of them out`)
	}
	if t.TLSName != "" && t.TLS != "verify" {
		v.report(ruleUnusedKey, &t.TLSName, fmt.Sprintf("is set, but tls = %q does not look at names", t.TLS), `write tls = "verify", or take it out`)
	}
	if v.isSet(&t.MTASTS) && t.MTASTS && (t.TLS == "off" || t.TLS == "verify") {
		v.report(ruleUnusedKey, &t.MTASTS, fmt.Sprintf("is set, but tls = %q leaves nothing for domains to say", t.TLS), `write tls = "opportunistic", or take it out`)
	}
	local := slices.ContainsFunc(v.cfg.DNS.Servers, func(h HostPort) bool { return h.IP().IsValid() && h.IP().IsLoopback() })
	if t.TLS == "dane" && !local {
		v.warn(ruleWarnResolver, &t.TLS, "no name server on this host is set: what it says about DNSSEC could be forged on the way here", `run a validating resolver here and set [dns] servers = ["127.0.0.1"]`)
	}
}

func (v *validator) checkAuth(t *Transport) {
	if t.Auth == nil {
		return
	}
	v.secret(&t.Auth.PasswordFile, "password")
	clear := t.Auth.Mechanism == "PLAIN" || t.Auth.Mechanism == "LOGIN"
	if clear && (t.TLS == "off" || t.TLS == "opportunistic") {
		v.warn(ruleWarnClearAuth, &t.Auth.Mechanism, fmt.Sprintf("with %s and tls = %q the password may travel in the clear", t.Auth.Mechanism, t.TLS), `write tls = "require" or "verify"`)
	}
}

func (v *validator) checkRetry(r *Retry) {
	if len(r.Delays) == 0 {
		v.report(ruleRetry, &r.Delays, "is empty", `write at least one time, such as delays = ["5m"]`)
		return
	}
	if !v.ok(&r.Delays, &r.GiveUpAfter, &r.WarnAfter) {
		return
	}
	if r.GiveUpAfter <= r.Delays[0] {
		v.report(ruleRetry, &r.GiveUpAfter, fmt.Sprintf("is %s, but the second attempt comes after %s: there would be none", formatDuration(r.GiveUpAfter), formatDuration(r.Delays[0])), "make it longer than the delays")
	}
	if r.WarnAfter >= r.GiveUpAfter {
		v.report(ruleRetry, &r.WarnAfter, fmt.Sprintf("warn_after is %s, but the message is given up after %s: nobody would be warned", formatDuration(r.WarnAfter), formatDuration(r.GiveUpAfter)), `make warn_after shorter, or "0s" for no warning`)
	}
}

func (v *validator) checkDKIM() {
	c := v.cfg
	uniqueNames(v, c.DKIM, func(d *DKIM) *Name { return &d.Name })
	first := map[string]*DKIM{}
	for i := range c.DKIM {
		d := &c.DKIM[i]
		if d.Selector != "" && !isSelector(d.Selector) {
			v.report(ruleBadSelector, &d.Selector, fmt.Sprintf("%q is no selector", d.Selector), `it is a name in DNS, such as "s1"`)
		}
		unique(v, ruleDuplicateElement, d.AlsoFor)
		v.checkRecord(first, d, d.Domain, &d.Selector)
		for j := range d.AlsoFor {
			v.checkRecord(first, d, d.AlsoFor[j], &d.AlsoFor[j])
		}
		if d.KeyFile != "" {
			v.signingKey(&d.KeyFile)
		}
		used := slices.ContainsFunc(c.Transports, func(t Transport) bool { return t.ARC == d.Name || slices.Contains(t.DKIM, d.Name) })
		if !used && d.Name != "" {
			v.warn(ruleWarnUnusedDKIM, d, "no transport signs with this key", fmt.Sprintf("write dkim = [%q] in a [[transport]]", d.Name))
		}
	}
}

// checkRecord wants that each name in DNS belongs to one key.
func (v *validator) checkRecord(first map[string]*DKIM, d *DKIM, domain DomainName, field any) {
	if domain == "" || d.Selector == "" {
		return
	}
	name := strings.ToLower(d.Selector) + "._domainkey." + string(domain)
	if have := first[name]; have != nil && have != d {
		v.report(ruleDuplicateSelector, field, fmt.Sprintf("%s._domainkey.%s is the record of another key", d.Selector, domain), fmt.Sprintf("the first is in line %d", v.places[&have.Selector].line))
		return
	}
	first[name] = d
}

// isSelector is RFC 6376 §3.1: one or more labels.
func isSelector(s string) bool {
	name, f := parseDomain(s + ".example")
	return f == nil && name != "" && !strings.HasPrefix(s, ".")
}

// checkLoops finds next hops that are this very host.
func (v *validator) checkLoops() {
	for i := range v.cfg.Transports {
		t := &v.cfg.Transports[i]
		for j := range t.Hosts {
			h := &t.Hosts[j]
			if l := v.listens(*h); l != nil {
				v.report(ruleLoop, h, fmt.Sprintf("%s is this host's own listener %q: mail would go round in circles", h, l.Name), "write the address of the mail server behind this host")
			}
		}
	}
}

// listens returns the listener that a connection to h would reach.
func (v *validator) listens(h HostPort) *Listener {
	ip := h.IP()
	self := h.Host != "" && (h.Host == string(v.cfg.Hostname) || h.Host == "localhost")
	for i := range v.cfg.Listeners {
		l := &v.cfg.Listeners[i]
		for _, a := range l.Address {
			if h.Unix != "" || a.Port != h.Port || a.Port == 0 {
				continue
			}
			at := a.IP()
			everywhere := !at.IsValid() || at.IsUnspecified()
			switch {
			case self && everywhere, ip.IsValid() && at == ip:
				return l
			case everywhere && ip.IsValid() && (!at.IsValid() || at.Is4() == ip.Is4()) && (ip.IsLoopback() || slices.Contains(v.host.addresses, ip)):
				return l
			}
		}
	}
	return nil
}
