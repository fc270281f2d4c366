package config

import (
	"fmt"
	"slices"
)

// Intercepts reports whether connections are diverted to the listener.
func (l *Listener) Intercepts() bool {
	return l.Interception == "redirect" || l.Interception == "tproxy"
}

// defaultPorts are the ports whose connections a listener of this kind can serve.
func (l *Listener) defaultPorts() []int {
	switch {
	case l.Protocol == "pop3" && l.TLS == "implicit":
		return []int{995}
	case l.Protocol == "pop3":
		return []int{110}
	case l.TLS == "implicit":
		return []int{465}
	}
	return []int{25}
}

// interceptionDefaults sets the ports that the file leaves out.
func (v *validator) interceptionDefaults() {
	for i := range v.cfg.Listeners {
		l := &v.cfg.Listeners[i]
		if l.Intercepts() && !v.isSet(&l.InterceptPorts) {
			l.InterceptPorts = l.defaultPorts()
		}
	}
}

// checkInterception wants listeners that the firewall can divert connections to.
func (v *validator) checkInterception() {
	var first *Listener
	for i := range v.cfg.Listeners {
		l := &v.cfg.Listeners[i]
		if !v.ok(&l.Interception) {
			continue
		}
		if !l.Intercepts() {
			if v.isSet(&l.InterceptPorts) {
				v.report(ruleUnusedKey, &l.InterceptPorts, `is set, but interception = "none"`, `write interception = "redirect" or "tproxy", or take it out`)
			}
			continue
		}
		if first == nil {
			first = l
		}
		if l.Interception != first.Interception {
			v.report(ruleInterception, &l.Interception, fmt.Sprintf("is %q here and %q at the listener %q: the firewall of a host diverts in one way", l.Interception, first.Interception, first.Name), "choose one for all")
		}
		v.checkIntercepting(l)
	}
	v.checkInterceptPorts()
}

// checkIntercepting looks at one listener with interception.
func (v *validator) checkIntercepting(l *Listener) {
	if len(l.InterceptPorts) == 0 && v.ok(&l.InterceptPorts) {
		v.report(ruleInterception, &l.InterceptPorts, "is empty: nothing would be diverted", "write the ports, such as intercept_ports = [25]")
	}
	unique(v, ruleDuplicateElement, l.InterceptPorts)
	const hint = `take it out, or give what comes through the proxy a listener of its own with interception = "none"`
	if len(l.ProxyProtocolFrom) > 0 {
		v.report(ruleInterception, &l.ProxyProtocolFrom, "a proxy that connects to here does not go with diverted connections", hint)
	}
	if len(l.XClientFrom) > 0 {
		v.report(ruleInterception, &l.XClientFrom, "a proxy that connects to here does not go with diverted connections", hint)
	}
}

// checkInterceptPorts finds ports that are to be diverted to two places.
func (v *validator) checkInterceptPorts() {
	type divert struct {
		port int
		v4   bool
	}
	taken := map[divert]*Listener{}
	for i := range v.cfg.Listeners {
		l := &v.cfg.Listeners[i]
		if !l.Intercepts() {
			continue
		}
		for j := range l.InterceptPorts {
			port := l.InterceptPorts[j]
			var at any = &l.InterceptPorts[j]
			if !v.isSet(&l.InterceptPorts) {
				at = &l.Interception // the ports are the default
			}
			for _, family := range l.families() {
				key := divert{port, family}
				if before := taken[key]; before != nil && before != l {
					v.report(ruleInterception, at, fmt.Sprintf("port %d is diverted to the listener %q already", port, before.Name), "a port can be diverted to one listener: write others in intercept_ports")
					break
				}
				taken[key] = l
			}
		}
	}
}

// families are the IP families that a listener takes: true is IPv4.
func (l *Listener) families() []bool {
	var all []bool
	for _, a := range l.Address {
		ip := a.IP()
		if !ip.IsValid() || ip.Is4() {
			all = append(all, true)
		}
		if !ip.IsValid() || !ip.Is4() {
			all = append(all, false)
		}
	}
	return all
}

// diverting are the listeners with interception.
func (v *validator) diverting() []*Listener {
	var all []*Listener
	for i := range v.cfg.Listeners {
		if l := &v.cfg.Listeners[i]; l.Intercepts() {
			all = append(all, l)
		}
	}
	return all
}

// checkOriginal wants of transports that lead to where connections were meant for
// that there are such connections.
func (v *validator) checkOriginal() {
	diverting := v.diverting()
	for i := range v.cfg.Transports {
		t := &v.cfg.Transports[i]
		if t.Kind != "original" {
			continue
		}
		if len(diverting) == 0 {
			v.report(ruleInterception, &t.Kind, `leads to where a diverted connection wanted to go, but no [[listener]] has interception = "redirect" or "tproxy"`, `give one interception, or use another kind`)
		}
		if t.TLS == "dane" {
			v.report(ruleTLSPolicy, &t.TLS, "DANE looks up TLSA records by name, and an original destination is an address", `write tls = "opportunistic" or "require"`)
		}
		v.checkSpoofing(t, diverting)
	}
	for i := range v.cfg.Domains {
		d := &v.cfg.Domains[i]
		if t := v.transport(d.Transport); t == nil || t.Kind != "original" || len(diverting) == 0 {
			continue
		}
		for j := range v.cfg.Listeners {
			l := &v.cfg.Listeners[j]
			if (d.Listener == "*" || d.Listener == l.Name) && !l.Intercepts() && l.Protocol == "smtp" && v.ok(&l.Interception) {
				v.report(ruleInterception, &d.Transport, fmt.Sprintf("mail that comes by the listener %q has no original destination", l.Name), fmt.Sprintf("write listener = %q here, and a [[domain]] with another transport for %q", diverting[0].Name, l.Name))
				break
			}
		}
	}
}

// checkSpoofing wants that the answers to a client's address come back to here.
func (v *validator) checkSpoofing(t *Transport, diverting []*Listener) {
	if !t.SpoofClient {
		return
	}
	if slices.ContainsFunc(diverting, func(l *Listener) bool { return l.Interception != "tproxy" }) {
		v.report(ruleInterception, &t.SpoofClient, `needs interception = "tproxy": with "redirect" the answers to a client's address do not come back to here`, `write interception = "tproxy" in the [[listener]], or take spoof_client out`)
	}
	if t.SourceAddress.IsValid() {
		v.report(ruleUnusedKey, &t.SourceAddress, "is set, but connections come from the client's address with spoof_client = true", "take one of them out")
	}
	if t.ClientIdentity != "none" && t.ClientIdentity != "" {
		v.report(ruleUnusedKey, &t.ClientIdentity, "is set, but servers see the client itself with spoof_client = true", "take one of them out")
	}
}
