package textview

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"
)

// findBare finds the addresses in a text that programs make links of: those with
// a scheme, those that begin with www, names under a known top-level domain, and
// mail addresses.
func (r *reader) findBare(s, from string) {
	for i := 0; i < len(s); {
		if isBreak[s[i]] {
			i++
			continue
		}
		start, worth := i, false
		for i < len(s) && !isBreak[s[i]] {
			c := s[i]
			worth = worth || c == '.' || c == ':' || c == '@' || c >= 0xe3 && i > start && isWideDot(s[i-1:])
			i++
		}
		if worth && i-start > 3 {
			r.bareWord(s[start:i], from)
		}
	}
}

// isBreak are the characters that end an address in a text.
var isBreak = [256]bool{
	' ': true, '\t': true, '\n': true, '\r': true, '\f': true, '\v': true, '<': true, '>': true, '"': true, '`': true, '{': true, '}': true, '|': true, '^': true,
}

// isWideDot reports another dot of UTS #46 between two letters or digits.
func isWideDot(s string) bool {
	if len(s) < 5 || !isLatinByte(s[0]) || !isLatinByte(s[4]) {
		return false
	}
	switch s[1:4] {
	case "。", "．", "｡":
		return true
	}
	return false
}

// isWideBreak reports what ends an address in texts that are written without
// spaces.
func isWideBreak(r rune) bool {
	switch r {
	case '。', '．', '｡':
		return false
	case '“', '”', '‘', '’', '«', '»', '…':
		return true
	}
	return r >= 0x3000 && r < 0x3020 || r >= 0xff00 && r < 0xff0d || r >= 0xff1a && r < 0xff20
}

// bareWord looks at a stretch without spaces.
func (r *reader) bareWord(w, from string) {
	if !plainHost(w) {
		for i := strings.IndexFunc(w, isWideBreak); i >= 0; i = strings.IndexFunc(w, isWideBreak) {
			if i > 3 {
				r.bareWord(w[:i], from)
			}
			_, n := utf8.DecodeRuneInString(w[i:])
			w = w[i+n:]
		}
	}
	// Several may be stuck together, but hardly many.
	for range 8 {
		i := strings.Index(w, "://")
		if i < 0 {
			break
		}
		start := i
		for start > 0 && isSchemeChar(w[start-1]) && i-start < 12 {
			start--
		}
		end := len(w)
		if next := strings.Index(w[i+3:], "://"); next >= 0 && !strings.ContainsAny(w[i+3:i+3+next], "/?=") {
			end = i + 3 + next
			end -= len(knownScheme(strings.ToLower(w[max(0, end-5):end])))
		}
		r.bareURL(w[start:end], i-start, from)
		w = w[end:]
	}
	if strings.Contains(w, "://") {
		return
	}
	if i := strings.IndexFunc(w, isIdeograph); i >= 0 && i < maxURL {
		// Names in texts without spaces: what is ASCII between the others.
		for piece := range strings.FieldsFuncSeq(w, isIdeograph) {
			r.bareName(piece, from)
		}
		return
	}
	r.bareName(w, from)
}

func isIdeograph(r rune) bool { return r >= 0x3000 && r < 0xff00 && r != '。' }

func isSchemeChar(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '*' }

// knownScheme returns the scheme that a word ends with, "" for none.
func knownScheme(s string) string {
	for _, known := range [...]string{"https", "http", "ftp", "hxxps", "hxxp"} {
		if strings.HasSuffix(s, known) {
			return known
		}
	}
	return ""
}

// bareURL adds what has a scheme; n is where the colon stands.
func (r *reader) bareURL(s string, n int, from string) {
	s = trimPunctuation(s)
	// What stands before the scheme may be stuck to it: "Link:http://".
	scheme := strings.ToLower(s[:min(n, len(s))])
	switch scheme {
	case "h**p", "h**ps":
		s = "hxx" + s[3:]
	default:
		if known := knownScheme(scheme); known != "" {
			s = s[len(scheme)-len(known):]
		}
	}
	u, ok := parseURL(s)
	if i := strings.IndexFunc(s, isIdeograph); i > 0 && (!ok || u.Domain == "") {
		u, ok = parseURL(s[:i])
	}
	if !ok || u.Host == "" {
		return
	}
	if u.Domain == "" && !strings.ContainsAny(u.Host, ".:") && u.Host != "localhost" {
		return
	}
	r.addLink(u, from, "")
}

// nameEnds are characters that no name of a host has.
const nameEnds = "/?#:,;()[]'\\*=&!$~%+@"

// bareName adds a name without a scheme, or a mail address.
func (r *reader) bareName(w, from string) {
	w = strings.TrimLeft(trimPunctuation(w), "([*_'=~-,;.:!")
	if len(w) < 4 || len(w) > maxURL || strings.IndexByte(w, '.') < 0 && plainHost(w) {
		return
	}
	if rest, ok := cutFold(w, "mailto:"); ok {
		w = rest
	}
	if i := strings.IndexByte(w, '@'); i > 0 && !strings.ContainsAny(w[:i], "/?:,;()[]\\") {
		domain := w[i+1:]
		if end := strings.IndexAny(domain, nameEnds); end >= 0 {
			domain = domain[:end]
		}
		r.bareMail(w[:i], domain)
		return
	}
	end := strings.IndexAny(w, nameEnds)
	name, rest := w, ""
	if end >= 0 {
		name, rest = w[:end], w[end:]
	}
	if end == 0 || !linkable(name, rest) {
		return
	}
	if rest != "" && rest[0] != '/' && rest[0] != '?' && rest[0] != ':' {
		rest = ""
	}
	u, ok := parseURL("http://" + name + rest)
	if !ok || u.Domain == "" {
		return
	}
	u.Raw = name + rest
	r.addLink(u, from, "")
}

func (r *reader) bareMail(local, domain string) {
	u, ok := parseMailto(URL{Raw: local + "@" + domain, Scheme: "mailto"}, local+"@"+domain)
	if ok && u.Domain != "" {
		r.addLink(u, "text", "")
	}
}

// linkable reports that a name without scheme is one that programs make a link
// of. A sentence without a space after its dot, or the name of a file, is none.
func linkable(name, rest string) bool {
	if strings.IndexByte(name, '_') == 0 || strings.Contains(name, "..") {
		return false
	}
	if _, ok := cutFold(name, "www."); ok {
		return true
	}
	i := strings.LastIndexByte(name, '.')
	if i <= 0 {
		// The other dots of UTS #46.
		return !plainHost(name) && strings.ContainsAny(name, "。．｡")
	}
	top := name[i+1:]
	if len(top) < 2 {
		return false
	}
	if suffix, icann := publicsuffix.PublicSuffix(strings.ToLower(top)); plainHost(top) && (!icann || suffix == "") {
		return false
	}
	if strings.HasPrefix(rest, "/") {
		return true
	}
	if len(top) == 2 && (top[0] < 'a' || top[1] < 'a') || top[0] < 'a' && top[1] >= 'a' {
		return false
	}
	return !ambiguousTops[strings.ToLower(top)]
}

// ambiguousTops are top-level domains that are more often words or the ends of
// file names.
var ambiguousTops = map[string]bool{
	"am": true, "as": true, "at": true, "be": true, "by": true, "do": true, "in": true, "is": true, "it": true, "me": true, "mine": true, "my": true, "no": true,
	"so": true, "to": true, "us": true, "we": true, "are": true, "can": true, "or": true, "and": true, "he": true, "you": true, "now": true, "here": true,
	"ai": true, "app": true, "bat": true, "bz": true, "cc": true, "gz": true, "md": true, "mo": true, "mov": true, "mp": true, "pl": true, "pm": true, "ps": true,
	"py": true, "rs": true, "sh": true, "st": true, "tk": true, "zip": true, "la": true, "lc": true, "ms": true, "ph": true, "ml": true, "mk": true, "ac": true,
}

// cutFold is strings.CutPrefix without regard to case.
func cutFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// trimPunctuation drops what ends the sentence and not the address.
func trimPunctuation(s string) string {
	for range 64 {
		if s == "" {
			break
		}
		switch c := s[len(s)-1]; c {
		case '.', ',', ';', ':', '!', '?', '\'', '*', '_', '~', ']':
		case ')':
			if strings.Count(s[max(0, len(s)-1024):], "(") >= strings.Count(s[max(0, len(s)-1024):], ")") {
				return s
			}
		default:
			return s
		}
		s = s[:len(s)-1]
	}
	return s
}
