package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"gatepost/internal/ldap"
	"gatepost/internal/message"
	"gatepost/internal/policy/auth/authhttp"
	"gatepost/internal/weblookup"
)

// use is what a directory or a web service is asked for.
type use uint8

const (
	useAuth use = 1 << iota
	useRecipients
	useRewrite
)

// usesOf returns what the [[ldap]] or [[http]] of that name is asked for.
func (v *validator) usesOf(kind string, name Name) (uses use) {
	for i := range v.cfg.Domains {
		if slices.Contains(v.cfg.Domains[i].Recipients, Source{Kind: kind, Arg: string(name)}) {
			uses |= useRecipients
		}
	}
	for _, t := range v.cfg.Rewrite.tables() {
		if slices.Contains(*t.parts, TableSource{Kind: kind, Arg: string(name)}) {
			uses |= useRewrite
		}
	}
	for i := range v.cfg.Flows {
		for j := range v.cfg.Flows[i].Blocks {
			switch p := v.cfg.Flows[i].Blocks[j].Params.(type) {
			case *AuthLDAPBlock:
				if kind == "ldap" && p.LDAP == name {
					uses |= useAuth
				}
			case *AuthHTTPBlock:
				if kind == "http" && p.HTTP == name {
					uses |= useAuth
				}
			case *ScriptBlock, *ContentScriptBlock:
				uses |= useScript // a script may ask any of them
			}
		}
	}
	return uses
}

// useScript says that a script may ask; what, only the script knows.
const useScript use = 1 << 7

func (v *validator) ldapNames() []Name {
	names := make([]Name, 0, len(v.cfg.LDAP))
	for i := range v.cfg.LDAP {
		names = append(names, v.cfg.LDAP[i].Name)
	}
	return names
}

func (v *validator) httpNames() []Name {
	names := make([]Name, 0, len(v.cfg.HTTP))
	for i := range v.cfg.HTTP {
		names = append(names, v.cfg.HTTP[i].Name)
	}
	return names
}

// sourceNamed wants that an "ldap:NAME" or "http:NAME" exists. field is where it
// stands.
func (v *validator) sourceNamed(kind, name string, field any) {
	at := Name(name)
	v.places[&at] = v.places[field]
	switch kind {
	case "ldap":
		v.named(ruleDanglingLDAP, &at, "ldap", v.ldapNames())
	case "http":
		v.named(ruleDanglingHTTP, &at, "http", v.httpNames())
	}
}

func (v *validator) checkDirectories() {
	uniqueNames(v, v.cfg.LDAP, func(l *LDAP) *Name { return &l.Name })
	for i := range v.cfg.LDAP {
		l := &v.cfg.LDAP[i]
		uses := v.usesOf("ldap", l.Name)
		v.checkDirectory(l, uses)
		if uses == 0 && l.Name != "" {
			v.warn(ruleWarnUnusedLook, l, "nothing looks anything up in it", fmt.Sprintf("write recipients = [%q] in a [[domain]], or { use = \"auth-ldap\", ldap = %q } in a flow", "ldap:"+string(l.Name), l.Name))
		}
	}
}

func (v *validator) checkDirectory(l *LDAP, uses use) {
	unique(v, ruleDuplicateElement, l.URL)
	v.checkBind(l)
	encrypted := l.StartTLS
	for i := range l.URL {
		v.checkDirectoryURL(l, &l.URL[i], uses)
		encrypted = encrypted || strings.HasPrefix(l.URL[i], "ldaps:")
	}
	for _, at := range []any{&l.TLSCAFile, &l.TLSName} {
		if v.isSet(at) && !encrypted && v.ok(&l.URL) {
			v.report(ruleUnusedKey, at, "is set, but there is no encryption", `write starttls = true, or take it out`)
		}
	}
	if l.TLSCAFile != "" {
		v.authorities(&l.TLSCAFile)
	}
	if l.Filter != "" {
		if _, err := ldap.ParseFilter(l.Filter); err != nil {
			v.badTemplate(&l.Filter, err, `such as "(proxyAddresses=smtp:%s)"`)
		}
	} else if uses&(useRecipients|useRewrite) != 0 {
		v.report(ruleRequired, &l.Filter, "is missing: nothing says what an address is searched by", `such as filter = "(proxyAddresses=smtp:%s)"`)
	}
	if len(l.Attributes) == 0 && uses&useRewrite != 0 {
		v.report(ruleRequired, &l.Attributes, "is missing: nothing says which attributes are the result", `such as attributes = ["mail"]`)
	}
	unique(v, ruleDuplicateElement, l.Attributes)
}

// checkBind wants a password with a name, and a name with a password: a server takes
// a name without one for an anonymous user (RFC 4513 §5.1.2).
func (v *validator) checkBind(l *LDAP) {
	switch {
	case l.BindDN != "" && l.PasswordFile == "":
		v.report(ruleRequired, &l.PasswordFile, "is missing: bind_dn needs a password", `such as password_file = "ldap.pw"`)
	case l.BindDN == "" && l.PasswordFile != "":
		v.report(ruleUnusedKey, &l.PasswordFile, "is set, but there is no bind_dn", "write who it is the password of, or take it out")
	}
	v.secret(&l.PasswordFile, "password")
}

func (v *validator) checkDirectoryURL(l *LDAP, at *string, uses use) {
	hint := `such as "ldap://10.0.0.5", "ldaps://dc1.example.com" or "ldapi:///run/slapd/ldapi"`
	if strings.Contains(*at, "@") {
		v.report(ruleBadURL, at, "has a user name or password in it", "write bind_dn and password_file")
		return
	}
	if *at == "" {
		v.report(ruleBadURL, at, "is empty", hint)
		return
	}
	d, err := ldap.New(ldap.Config{URLs: []string{*at}, StartTLS: l.StartTLS})
	if err != nil {
		_, text, _ := strings.Cut(err.Error(), ": ")
		v.report(ruleBadURL, at, fmt.Sprintf("%q can't be asked: %s", shorten(*at), message.SafeText(text, maxMessage)), hint)
		return
	}
	if (uses&useAuth != 0 || l.BindDN != "") && len(d.Cleartext()) > 0 {
		v.warn(ruleWarnClearAuth, at, "passwords travel to it in the clear", "write starttls = true, or ldaps://")
	}
}

// checkAuthLDAP wants one way to find who logs in.
func (v *validator) checkAuthLDAP(b *Block, p *AuthLDAPBlock) {
	v.named(ruleDanglingLDAP, &p.LDAP, "ldap", v.ldapNames())
	unique(v, ruleDuplicateElement, p.SenderAttributes)
	if p.BindAs != "" {
		if _, err := ldap.ParseName(p.BindAs); err != nil {
			v.badTemplate(&p.BindAs, err, `such as "uid=%u,ou=people,dc=example,dc=com" or "%u@ad.example.com"`)
		}
		for _, at := range []any{&p.Filter, &p.UserAttribute, &p.SenderAttributes} {
			if v.isSet(at) {
				v.report(ruleUnusedKey, at, "is set, but with bind_as nothing is searched for", "take one of them out")
			}
		}
		return
	}
	if p.Filter != "" {
		if _, err := ldap.ParseFilter(p.Filter); err != nil {
			v.badTemplate(&p.Filter, err, `such as "(mail=%s)"`)
		}
		return
	}
	i := slices.IndexFunc(v.cfg.LDAP, func(l LDAP) bool { return l.Name == p.LDAP })
	if i >= 0 && p.LDAP != "" && v.cfg.LDAP[i].Filter == "" && v.ok(&v.cfg.LDAP[i].Filter, &p.Filter, &p.BindAs) {
		v.report(ruleBadBlock, &b.Use, "nothing says how a user is found", `write bind_as = "uid=%u,ou=people,dc=example,dc=com" or filter = "(mail=%s)"`)
	}
}

func (v *validator) badTemplate(field any, err error, hint string) {
	v.report(ruleBadTemplate, field, message.SafeText(strings.ReplaceAll(err.Error(), "\n", "; "), maxMessage), hint)
}

func (v *validator) checkServices() {
	uniqueNames(v, v.cfg.HTTP, func(h *HTTP) *Name { return &h.Name })
	for i := range v.cfg.HTTP {
		h := &v.cfg.HTTP[i]
		uses := v.usesOf("http", h.Name)
		v.checkService(h, uses)
		if uses == 0 && h.Name != "" {
			v.warn(ruleWarnUnusedLook, h, "nothing asks it", fmt.Sprintf("write recipients = [%q] in a [[domain]], or { use = \"auth-http\", http = %q } in a flow", "http:"+string(h.Name), h.Name))
		}
	}
}

// LookupPlaces are what may stand in braces in an [[http]] that recipients and
// [rewrite] use; {user} is the address as well.
func LookupPlaces() []string { return []string{"address", "user", "local", "domain"} }

func (v *validator) checkService(h *HTTP, uses use) {
	for name := range h.Headers {
		if strings.EqualFold(name, "authorization") {
			v.warn(ruleWarnPassword, entry{&h.Headers, name}, "is a secret in the configuration, and everybody who reads this file knows it", "put a token into the first line of a file and name that in token_file")
		}
	}
	if h.TLSCAFile != "" {
		v.authorities(&h.TLSCAFile)
	}
	v.secret(&h.TokenFile, "token")
	unique(v, ruleDuplicateElement, h.OKStatus)
	if h.OKPrefix && h.OKBody == "" {
		v.report(ruleUnusedKey, &h.OKPrefix, "is set, but there is no ok_body", "write how the body begins, or take it out")
	}
	if h.Body != "" && h.Method != "POST" && v.ok(&h.Method) {
		v.report(ruleUnusedKey, &h.Body, "is set, but GET has no body", `write method = "POST", or take it out`)
		return
	}
	if !v.ok(&h.URL, &h.Method, &h.ContentType) || h.URL == "" {
		return
	}
	v.checkPlaces(h, uses)
	v.checkReach(h)
}

// checkPlaces wants that what stands in braces is known wherever the service is asked.
func (v *validator) checkPlaces(h *HTTP, uses use) {
	request := weblookup.Request{URL: h.URL, Method: h.Method, Body: h.Body, ContentType: h.ContentType, Header: h.Headers}
	has := func(places ...string) bool {
		return slices.ContainsFunc(places, func(p string) bool { return strings.Contains(h.URL+h.Body, "{"+p+"}") })
	}
	var err error
	switch auth, lookups := authhttp.Places(), LookupPlaces(); {
	case uses&useAuth != 0 && uses&(useRecipients|useRewrite) != 0:
		both := slices.DeleteFunc(auth, func(p string) bool { return !slices.Contains(lookups, p) })
		if _, err = weblookup.Parse(request, both...); err == nil {
			err = errors.New("it is asked about users, without their {password}: write two services")
		}
	case uses&useAuth != 0:
		if _, err = weblookup.Parse(request, auth...); err == nil && (!has("password") || !has("user", "local")) {
			err = errors.New("a block auth-http asks it, but {user} and {password} do not stand in it")
		}
	case uses&(useRecipients|useRewrite) != 0:
		if _, err = weblookup.Parse(request, lookups...); err == nil && !has("address", "user", "local") {
			err = errors.New("it is asked about addresses, but {address} does not stand in it")
		}
	default:
		_, err = weblookup.Parse(request, slices.Concat(auth, lookups)...)
	}
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		text := strings.TrimPrefix(line, "url: ")
		v.badTemplate(&h.URL, errors.New(text), `such as "https://users.example.com/auth?username={user}&password={password}"`)
	}
}

// checkReach finds services that can't be reached, or are told secrets in the clear.
func (v *validator) checkReach(h *HTTP) {
	host, _, _ := strings.Cut(strings.SplitN(h.URL, "/", 4)[min(2, strings.Count(h.URL, "/"))], "?")
	u, err := url.Parse("//" + host)
	if err != nil {
		return
	}
	ip, err := netip.ParseAddr(u.Hostname())
	here := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	switch {
	case (here || err == nil && ip.IsPrivate()) && !h.AllowPrivate:
		v.report(ruleBadURL, &h.URL, fmt.Sprintf("%s is on this host or in a private network, which it may not reach", u.Hostname()), "write allow_private = true")
	case strings.HasPrefix(h.URL, "http://") && !here && (strings.Contains(h.URL+h.Body, "{password}") || h.TokenFile != ""):
		v.warn(ruleWarnClearAuth, &h.URL, "passwords travel to it in the clear", "write https://")
	}
}
