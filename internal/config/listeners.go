package config

import (
	"fmt"
	"slices"
)

func (v *validator) checkListeners() {
	listeners := v.cfg.Listeners
	if len(listeners) == 0 {
		v.report(ruleNoListener, &v.cfg.Listeners, "there is no [[listener]]: nothing would be done", `add one with a name and an address, such as address = ["0.0.0.0:25"]`)
	}
	uniqueNames(v, listeners, func(l *Listener) *Name { return &l.Name })
	for i := range listeners {
		v.checkListener(&listeners[i])
	}
	v.checkAddresses()
}

func (v *validator) checkListener(l *Listener) {
	v.certificate(&l.TLSCertFile, &l.TLSKeyFile)
	if l.TLS == "off" && l.TLSCertFile != "" {
		v.report(ruleUnusedKey, &l.TLSCertFile, `is set, but tls = "off"`, `write tls = "starttls", or take the certificate out`)
	}
	v.checkTrust(l.ProxyProtocolFrom, "pretend to be any client")
	if l.POP3() {
		v.checkTrust(l.TrustedNetworks, "guess passwords as long as they like")
		v.checkPOP(l)
		return
	}
	v.checkNotPOP(l)
	v.checkLogin(l)
	v.checkTrust(l.TrustedNetworks, "send mail to anyone through this host (an open relay)")
	v.checkTrust(l.XClientFrom, "pretend to be any client")
	domains := v.cfg.Domains
	served := slices.ContainsFunc(domains, func(d Domain) bool { return d.Listener == "*" || d.Listener == l.Name })
	if !served && l.Name != "" {
		v.report(ruleNoDomain, l, "no [[domain]] applies to it: it would refuse every mail", "add a [[domain]] with the name of your domain and its transport")
	}
	anywhere := slices.ContainsFunc(domains, func(d Domain) bool {
		return d.Name == "*" && (d.Listener == "*" || d.Listener == l.Name)
	})
	if served && !anywhere && len(l.TrustedNetworks) > 0 {
		v.warn(ruleWarnNoInternet, &l.TrustedNetworks, "these clients may send to any domain, but nothing says where that mail goes", `add a [[domain]] with name = "*" and a transport of kind "mx"`)
	}
}

// checkAddresses finds services that would take the address of another.
func (v *validator) checkAddresses() {
	type service struct {
		address *HostPort
		name    string
	}
	var services []service
	if a := &v.cfg.Admin.Listen; !a.IsZero() {
		services = append(services, service{a, "[admin]"})
	}
	for i := range v.cfg.Listeners {
		l := &v.cfg.Listeners[i]
		for j := range l.Address {
			services = append(services, service{&l.Address[j], fmt.Sprintf("listener %q", l.Name)})
		}
	}
	for i, s := range services {
		for _, before := range services[:i] {
			if collide(*before.address, *s.address) {
				v.report(ruleDuplicateListen, s.address, fmt.Sprintf("%s is taken by %s with %s", s.address, before.name, before.address), "one address and port can be listened on once")
				break
			}
		}
	}
}

// collide reports whether both addresses can't be listened on at once.
func collide(a, b HostPort) bool {
	if a.Port != b.Port || a.Port == 0 {
		return false
	}
	x, y := a.IP(), b.IP()
	switch {
	case !x.IsValid() || !y.IsValid():
		return true // one of them takes both families
	case x.Is4() != y.Is4():
		return false
	}
	return x == y || x.IsUnspecified() || y.IsUnspecified()
}
