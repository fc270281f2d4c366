package textview

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// Parse reads an absolute address as it may stand in a document; ok is false
// where it is none. From, Text and Part are left empty.
func Parse(raw string) (u URL, ok bool) { return parseURL(raw) }

// parseURL reads an absolute address the way that browsers do (WHATWG URL), which
// take much that no standard for addresses allows. ok is false where it is none,
// or relative.
func parseURL(raw string) (u URL, ok bool) {
	raw = raw[:min(len(raw), maxURL)]
	u.Raw = strings.ToValidUTF8(raw, "\ufffd")
	s, controls := stripControls(strings.TrimFunc(u.Raw, func(r rune) bool { return r <= ' ' || r == '\u00a0' || isInvisible(r) }))
	n := schemeEnd(s)
	if n < 0 {
		return u, false
	}
	u.Scheme = strings.ToLower(s[:n])
	rest := s[n+1:]
	if name, hidden := defanged(u.Scheme); hidden {
		u.Scheme, u.Tricks = name, TrickDefanged
	}
	switch u.Scheme {
	case "http", "https", "ftp", "ws", "wss":
		return parseAuthority(u, rest, controls)
	case "mailto":
		return parseMailto(u, rest)
	}
	u.Clean = u.Scheme + ":" + rest
	if strings.HasPrefix(rest, "//") && u.Scheme != "data" && u.Scheme != "javascript" && u.Scheme != "vbscript" {
		return parseAuthority(u, rest, controls)
	}
	return u, true
}

// schemeEnd returns where the colon behind the scheme stands, -1 for none.
func schemeEnd(s string) int {
	for i := range min(len(s), 40) {
		c := s[i]
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		case i > 0 && c == ':':
			return i
		default:
			return -1
		}
	}
	return -1
}

// defanged returns the scheme that people write so that nobody can click it.
func defanged(scheme string) (string, bool) {
	switch scheme {
	case "hxxp", "hxtp", "htxp", "hppt", "hzzp":
		return "http", true
	case "hxxps", "hxtps", "htxps", "hzzps":
		return "https", true
	case "fxp":
		return "ftp", true
	}
	return scheme, false
}

// stripControls removes what browsers remove: tabs and line ends anywhere, with
// the spaces of the folded line.
func stripControls(s string) (string, bool) {
	if !strings.ContainsAny(s, "\t\r\n") {
		return s, false
	}
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, s), true
}

// parseAuthority reads what follows the colon of http and its like.
func parseAuthority(u URL, rest string, controls bool) (URL, bool) {
	trimmed := strings.TrimLeft(rest, `/\`)
	lead := rest[:len(rest)-len(trimmed)]
	end := strings.IndexAny(trimmed, `/\?#`)
	if end < 0 {
		end = len(trimmed)
	}
	authority, path := trimmed[:end], trimmed[end:]
	if strings.Contains(lead, `\`) || strings.HasPrefix(path, `\`) {
		u.Tricks |= TrickBackslash
	}
	if controls && strings.ContainsAny(u.Raw[:min(len(u.Raw), len(u.Scheme)+len(lead)+len(authority)+4)], "\t\r\n") {
		u.Tricks |= TrickControl
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if authority[:i] != "" {
			u.Tricks |= TrickUser
		}
		authority = authority[i+1:]
	}
	host, port := splitPort(authority)
	h := parseHost(host)
	if h.name == "" {
		return u, false
	}
	u.Host, u.Domain, u.Tricks = h.name, h.domain, u.Tricks|h.tricks
	if port != "" && port != defaultPort(u.Scheme) {
		u.Port = port
		port = ":" + port
	} else {
		port = ""
	}
	shown := u.Host
	if strings.Contains(shown, ":") {
		shown = "[" + shown + "]"
	}
	u.Clean = u.Scheme + "://" + shown + port + cleanPath(path)
	return u, true
}

// splitPort cuts ":443" off.
func splitPort(s string) (host, port string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return s, ""
	}
	for j := i + 1; j < len(s); j++ {
		if s[j] < '0' || s[j] > '9' {
			return s[:i], ""
		}
	}
	port = strings.TrimLeft(s[i+1:], "0")
	if len(port) > 5 {
		port = ""
	}
	return s[:i], port
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	case "ftp":
		return "21"
	}
	return ""
}

// cleanPath leaves out the fragment, which no server is asked for, and makes
// slashes of backslashes as far as the query.
func cleanPath(s string) string {
	s, _, _ = strings.Cut(s, "#")
	path, query, found := strings.Cut(s, "?")
	path = strings.ReplaceAll(path, `\`, "/")
	if path == "" {
		path = "/"
	}
	if found {
		path += "?" + query
	}
	return strings.ReplaceAll(path, " ", "%20")
}

// parseMailto keeps the domain of the first address.
func parseMailto(u URL, rest string) (URL, bool) {
	address, _, _ := strings.Cut(rest, "?")
	address, _, _ = strings.Cut(address, ",")
	if strings.Contains(address, "%") {
		address = strings.ToValidUTF8(string(unescape(address, '%')), "\ufffd")
	}
	address = strings.TrimSpace(address)
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return u, false
	}
	h := parseHost(strings.TrimSuffix(address[i+1:], ">"))
	u.Host, u.Domain, u.Tricks = h.name, h.domain, h.tricks
	u.Clean = "mailto:" + address[:i] + "@" + h.name
	return u, h.name != ""
}

// addLink keeps an address with everything that is nested in it.
func (r *reader) addLink(u URL, from, text string) {
	u.From, u.Text, u.Part = from, text, r.part
	r.keep(u)
	r.addNested(u, 0)
}

// keep adds a link that is not known yet.
func (r *reader) keep(u URL) {
	key := linkKey{u.Clean, u.Text}
	if _, known := r.seen[key]; known {
		return
	}
	if r.urls == 0 {
		r.notes.add("links", u.Part, "there are more links than the limit; those beyond were not looked at")
		return
	}
	r.urls--
	r.seen[key] = struct{}{}
	if u.Tricks.Has(TrickMixed) {
		r.notes.add("mixed-script", u.Part, "the host %s is written with letters that look like others: %s", u.Host, Unicode(u.Host))
	}
	r.view.URLs = append(r.view.URLs, u)
}

// addNested looks for addresses in the path and query of another: redirects.
func (r *reader) addNested(u URL, depth int) {
	if u.Host == "" || depth >= maxNested {
		return
	}
	rest := u.Clean[len(u.Scheme):]
	i := strings.Index(rest, u.Host)
	if i < 0 {
		return
	}
	rest = rest[i+len(u.Host):]
	for range 2 {
		if inner, ok := firstNested(rest); ok {
			inner.From, inner.Via, inner.Part = "nested", u.Host, u.Part
			r.keep(inner)
			r.addNested(inner, depth+1)
			return
		}
		if strings.IndexByte(rest, '%') < 0 {
			return
		}
		rest = strings.ToValidUTF8(string(unescape(rest, '%')), "\ufffd")
	}
}

// firstNested finds the first address in the rest of another, plain or in base64.
func firstNested(s string) (URL, bool) {
	for i := 0; ; {
		n := strings.Index(s[i:], "://")
		if n < 0 {
			break
		}
		i += n
		start := i
		for start > 0 && s[start-1]|0x20 >= 'a' && s[start-1]|0x20 <= 'z' && i-start < 6 {
			start--
		}
		switch strings.ToLower(s[start:i]) {
		case "http", "https", "ftp":
			// A nested address ends where the next parameter begins, unless it
			// stands in the path.
			inner := s[start:]
			if start > 0 && s[start-1] == '=' {
				inner, _, _ = strings.Cut(inner, "&")
			}
			if u, ok := parseURL(inner); ok {
				return u, true
			}
		}
		i += 3
	}
	// "http" in base64 begins so.
	if i := strings.Index(s, "aHR0c"); i >= 0 {
		end := i
		for end < len(s) && (value64(s[end]) >= 0 || s[end] == '-') {
			end++
		}
		b, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(s[i:end]))
		if err == nil && utf8.Valid(b) {
			return parseURL(string(b))
		}
	}
	return URL{}, false
}
