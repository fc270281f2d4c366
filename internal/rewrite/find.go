package rewrite

import (
	"context"
	"errors"
	"strings"

	"gatepost/internal/mail"
)

// found is the entry for an address.
type found struct {
	entry
	// extension is what the address has and the pattern has not: "+news".
	extension string
}

// find looks an address up: user+ext@domain, user@domain, user+ext, user,
// @domain. An address that is in no table and whose domain is an alias is looked
// up in the parent, too.
func (e *Engine) find(ctx context.Context, tables []table, a mail.Address) (found, bool, error) {
	if len(tables) == 0 || a.Domain == "" || a.Local == "" {
		return found{}, false, nil
	}
	f, ok, err := e.findIn(ctx, tables, a)
	if ok || err != nil || e.cfg.Parent == nil {
		return f, ok, err
	}
	parent := e.cfg.Parent(a.Domain)
	if parent == "" || parent == a.Domain {
		return f, false, nil
	}
	a.Domain = parent
	return e.findIn(ctx, tables, a)
}

func (e *Engine) findIn(ctx context.Context, tables []table, a mail.Address) (found, bool, error) {
	local := strings.ToLower(a.Local)
	user, extension := e.cutExtension(local)
	at := "@" + a.Domain
	type form struct {
		key
		extension string
	}
	forms := append(make([]form, 0, 5), form{key{text: local + at, whole: &a}, ""})
	if extension != "" {
		// The extension goes on in the case in which it was written.
		extension = a.Local[len(a.Local)-len(extension):]
		forms = append(forms, form{key{text: user + at}, extension})
	}
	if e.cfg.Ours != nil && e.cfg.Ours(a.Domain) {
		forms = append(forms, form{key{text: local}, ""})
		if extension != "" {
			forms = append(forms, form{key{text: user}, extension})
		}
	}
	// Postfix hands no extension on from an entry for everyone.
	forms = append(forms, form{key{text: at}, ""})
	for _, f := range forms {
		entry, ok, err := findKey(ctx, tables, f.key)
		if ok || err != nil {
			return found{entry, f.extension}, ok, err
		}
	}
	return found{}, false, nil
}

// findKey asks the tables in their order.
func findKey(ctx context.Context, tables []table, k key) (entry, bool, error) {
	for _, t := range tables {
		if e, ok, err := t.find(ctx, k); ok || err != nil {
			return e, ok, err
		}
	}
	return entry{}, false, nil
}

// cutExtension splits a local part, in lower case, before the first delimiter. As
// in Postfix, some local parts have no extension whatever they look like.
func (e *Engine) cutExtension(local string) (user, extension string) {
	i := strings.IndexAny(local, e.cfg.Delimiters)
	if e.cfg.Delimiters == "" || i <= 0 || local == "mailer-daemon" || local == "double-bounce" {
		return local, ""
	}
	if strings.Contains(e.cfg.Delimiters, "-") && (strings.HasPrefix(local, "owner-") || strings.HasSuffix(local, "-request")) {
		return local, ""
	}
	return local[:i], local[i:]
}

// apply makes the results of an entry into addresses: "@domain" keeps the local
// part, a result without domain gets the origin, and the extension that the
// pattern left over is put to each.
func (e *Engine) apply(a mail.Address, f found) ([]mail.Address, error) {
	origin := e.cfg.Origin
	if origin == "" {
		origin = a.Domain
	}
	out := make([]mail.Address, 0, len(f.results))
	for _, text := range f.results {
		if domain, ok := strings.CutPrefix(text, "@"); ok {
			to, err := makeAddress(a.Local, domain)
			if err != nil {
				return nil, err
			}
			out = append(out, to)
			continue
		}
		to, err := parseResult(text, origin)
		if err == nil && f.extension != "" {
			to, err = makeAddress(to.Local+f.extension, to.Domain)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, to)
	}
	return out, nil
}

// Hop is where the transport map sends mail.
type Hop struct {
	Transport string
	// Domain is the domain whose MX is asked, "" for what the transport says.
	Domain string
}

// Transport looks an address up in the transport map: user+ext@domain,
// user@domain, domain, .parent domains, *.
func (e *Engine) Transport(ctx context.Context, a mail.Address, t *Trace) (Hop, bool, error) {
	tables := e.tables[role{TransportMap, 0}]
	if len(tables) == 0 || a.Domain == "" {
		return Hop{}, false, nil
	}
	for _, domain := range e.withParent(a.Domain) {
		whole := a
		whole.Domain = domain
		for _, k := range e.transportKeys(&whole) {
			entry, ok, err := findKey(ctx, tables, k)
			if err != nil {
				return Hop{}, false, err
			}
			if !ok || k.text == "*" && domain == a.Domain && e.parent(domain) != "" {
				continue
			}
			hop, err := e.hop(entry)
			if err == nil {
				t.add(TransportMap, a, entry, entry.results)
			}
			return hop, err == nil, err
		}
	}
	return Hop{}, false, nil
}

func (e *Engine) transportKeys(a *mail.Address) []key {
	local := strings.ToLower(a.Local)
	keys := []key{{text: local + "@" + a.Domain, whole: a}}
	if user, extension := e.cutExtension(local); extension != "" {
		keys = append(keys, key{text: user + "@" + a.Domain})
	}
	keys = append(keys, key{text: a.Domain})
	for rest := a.Domain; !strings.HasPrefix(rest, "["); {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		keys = append(keys, key{text: rest[i:]})
		rest = rest[i+1:]
	}
	return append(keys, key{text: "*"})
}

func (e *Engine) parent(domain string) string {
	if e.cfg.Parent == nil {
		return ""
	}
	if p := e.cfg.Parent(domain); p != domain {
		return p
	}
	return ""
}

func (e *Engine) withParent(domain string) []string {
	if p := e.parent(domain); p != "" {
		return []string{domain, p}
	}
	return []string{domain}
}

// hop reads "name" or "name:domain".
func (e *Engine) hop(found entry) (Hop, error) {
	name, domain, _ := strings.Cut(found.results[0], ":")
	check := rules{hasTransport: e.cfg.HasTransport}
	if message := check.checkHop(found.results[0]); message != "" {
		return Hop{}, &tableError{found, errors.New(message)}
	}
	return Hop{name, strings.ToLower(domain)}, nil
}

// Moved looks an address up among the relocated users and returns where they are
// now.
func (e *Engine) Moved(ctx context.Context, a mail.Address, t *Trace) (text string, moved bool, err error) {
	f, ok, err := e.find(ctx, e.tables[role{Relocated, 0}], a)
	if !ok || err != nil {
		return "", false, err
	}
	t.add(Relocated, a, f.entry, f.results)
	return f.results[0], true, nil
}
