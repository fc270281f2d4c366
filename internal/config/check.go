package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// validator checks what single values can't show: names, files, contradictions.
// Its methods report under a pointer to the field that is wrong.
type validator struct {
	*binder
	cfg  *Config
	host host
}

// report adds an error at the field; nothing where the field's own value was
// already reported.
func (v *validator) report(r rule, field any, message, hint string) {
	v.add(Error, r, field, message, hint)
}

// warn adds a warning at the field.
func (v *validator) warn(r rule, field any, message, hint string) {
	v.add(Warning, r, field, message, hint)
}

func (v *validator) add(severity Severity, r rule, field any, message, hint string) {
	p := v.places[field]
	if p == nil {
		p = &place{pos: pos{1, 1}}
	}
	if p.bad {
		return
	}
	v.problems = append(v.problems, Problem{
		Severity: severity, Rule: string(r), File: v.file, Line: p.line, Column: p.col,
		Path: p.path, Message: message, Hint: hint,
	})
}

// ok reports whether the values of all fields could be read, so that they can
// be held against each other.
func (v *validator) ok(fields ...any) bool {
	return !slices.ContainsFunc(fields, func(f any) bool {
		p := v.places[f]
		return p != nil && p.bad
	})
}

// isSet reports whether the file has the key of the field.
func (v *validator) isSet(field any) bool {
	p := v.places[field]
	return p != nil && p.set
}

func (v *validator) check() {
	v.checkGlobal()
	v.checkListeners()
	v.checkDomains()
	v.checkTransports()
	v.checkPOPDomains()
	v.checkProxy()
	v.checkInterception()
	v.checkOriginal()
	v.checkDKIM()
	v.checkLoops()
	v.checkStore()
	v.checkQuarantine()
	v.checkLearning()
	v.checkDisclaimers()
	v.checkFilters()
	v.checkFlows()
	v.checkDirectories()
	v.checkServices()
	v.checkRewrite()
	v.checkSRS()
	v.checkUsers()
}

func (v *validator) checkGlobal() {
	c := v.cfg
	if c.Hostname != "" && v.isSet(&c.Hostname) && !slices.Contains([]byte(c.Hostname), '.') {
		v.warn(ruleWarnShortName, &c.Hostname, fmt.Sprintf("%q has no domain", c.Hostname), "other servers may refuse a host of this name; write the full name")
	}
	v.isDirectory(&c.DataDir)
	v.isDirectory(&c.LogDir)
	v.isDirectory(&c.Limits.ScanTemp)
	v.certificate(&c.TLS.CertFile, &c.TLS.KeyFile)
	v.certificate(&c.Admin.TLSCertFile, &c.Admin.TLSKeyFile)
	v.checkAdmin()
	l := &c.Limits
	if v.ok(&l.MaxSessionsPerIP, &l.MaxSessions) && l.MaxSessionsPerIP > l.MaxSessions {
		at := &l.MaxSessionsPerIP
		if !v.isSet(at) {
			at = &l.MaxSessions
		}
		v.report(ruleLimits, at, fmt.Sprintf("max_sessions_per_ip is %d, max_sessions is %d: one client could take all sessions", l.MaxSessionsPerIP, l.MaxSessions), "make max_sessions_per_ip the smaller one")
	}
	if v.ok(&l.MaxHeaderSize, &l.MaxMessageSize) && l.MaxHeaderSize > l.MaxMessageSize {
		v.report(ruleLimits, &l.MaxHeaderSize, fmt.Sprintf("is larger than max_message_size, %s", l.MaxMessageSize), "")
	}
	if len(c.Domains) > 0 && c.Postmaster.Domain == string(c.Hostname) && !v.isOurs(c.Hostname) {
		v.report(rulePostmasterLoop, &c.Postmaster, fmt.Sprintf("%s is this host's own name, and no [[domain]]: the mail would come back", c.Hostname), "write an address that somebody reads")
	}
	unique(v, ruleDuplicateElement, c.DNS.Servers)
}

// isOurs reports whether a domain is configured by name, as far as names could
// be read.
func (v *validator) isOurs(domain DomainName) bool {
	return slices.ContainsFunc(v.cfg.Domains, func(d Domain) bool {
		return d.Name == domain || d.Name == "" || slices.Contains(d.Aliases, domain)
	})
}

// unique reports values that stand in a list twice.
func unique[T comparable](v *validator, r rule, list []T) {
	for i := range list {
		if slices.Index(list, list[i]) < i {
			v.report(r, &list[i], fmt.Sprintf("%v stands in the list twice", list[i]), "")
		}
	}
}

// uniqueNames reports a second part of the same kind and name.
func uniqueNames[T any](v *validator, list []T, name func(*T) *Name) {
	first := map[Name]*Name{}
	for i := range list {
		n := name(&list[i])
		switch have := first[*n]; {
		case *n == "":
		case have != nil:
			v.report(ruleDuplicateName, n, fmt.Sprintf("the name %q is taken", *n), fmt.Sprintf("the first stands in line %d", v.places[have].line))
		default:
			first[*n] = n
		}
	}
}

// named reports a name that nothing defines, unless it is empty.
func (v *validator) named(r rule, field *Name, section string, defined []Name) {
	// A name that could not be read is there as "": it may be the one.
	if *field == "" || slices.Contains(defined, *field) || slices.Contains(defined, "") {
		return
	}
	hint := fmt.Sprintf("there is no [[%s]] at all", section)
	if len(defined) > 0 {
		names := make([]string, 0, len(defined))
		for _, d := range defined {
			names = append(names, string(d))
		}
		if meant := closest(string(*field), names); meant != "" {
			hint = fmt.Sprintf("did you mean %q?", meant)
		} else {
			hint = "there are " + shorten(quotedList(names))
		}
	}
	v.report(r, field, fmt.Sprintf("no [[%s]] has the name %q", section, *field), hint)
}

// checkTrust keeps lists of trusted networks from meaning the Internet.
func (v *validator) checkTrust(list []netip.Prefix, power string) {
	unique(v, ruleDuplicateElement, list)
	for i := range list {
		p := list[i]
		if !p.IsValid() || isPrivate(p) {
			continue
		}
		never, seldom := 8, 16
		if p.Addr().Is6() {
			never, seldom = 19, 32
		}
		switch {
		case p.Bits() < never || p.Overlaps(mappedIPv4):
			v.report(ruleOpenRelay, &list[i], fmt.Sprintf("%s is a good part of the Internet: strangers could %s", p, power), "name the networks that are yours")
		case p.Bits() < seldom:
			v.warn(ruleWarnTrust, &list[i], fmt.Sprintf("%s is a very large public network: everyone in it could %s", p, power), "name the networks that are yours")
		}
	}
}

// mappedIPv4 would match every IPv4 client of an IPv6 socket.
var mappedIPv4 = netip.MustParsePrefix("::ffff:0:0/96")

// privateNetworks are not reachable from the Internet, at any length.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),     // private use
	netip.MustParsePrefix("172.16.0.0/12"),  // private use
	netip.MustParsePrefix("192.168.0.0/16"), // private use
	netip.MustParsePrefix("100.64.0.0/10"),  // behind a provider's NAT
	netip.MustParsePrefix("127.0.0.0/8"),    // loopback
	netip.MustParsePrefix("169.254.0.0/16"), // link-local
	netip.MustParsePrefix("fc00::/7"),       // unique local
	netip.MustParsePrefix("fe80::/10"),      // link-local
	netip.MustParsePrefix("::1/128"),        // loopback
}

func isPrivate(p netip.Prefix) bool {
	return slices.ContainsFunc(privateNetworks, func(n netip.Prefix) bool {
		return n.Bits() <= p.Bits() && n.Contains(p.Addr())
	})
}
