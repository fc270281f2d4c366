package mimetree

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Name is a file name that some program could show or save under.
type Name struct {
	// Text is the name decoded to UTF-8, as hostile as it came: it may hold
	// control characters and marks that turn the text around.
	Text string `json:"text"`
	// From is the parameter or format that it comes from: "filename", "name",
	// "uuencode", "tnef" and so on.
	From string `json:"from"`
	// Keys are the forms under which a list of names or extensions has to be
	// matched: lower case, without path, marks and trailing dots; see NameKeys.
	Keys []string `json:"-"`
}

// maxNames bounds the names of one part.
const maxNames = 64

// addName gives the part a name in every decoding.
func (p *Part) addName(from, text string) {
	for _, s := range nameReadings(text) {
		if len(p.Names) >= maxNames || s == "" {
			return
		}
		if !slices.ContainsFunc(p.Names, func(n Name) bool { return n.Text == s }) {
			p.Names = append(p.Names, Name{Text: s, From: from, Keys: NameKeys(s)})
		}
	}
}

// nameReadings decodes a name: encoded words (RFC 2047, which forbids them in
// quotes, where they are found all the same), and raw bytes above 0x7f.
func nameReadings(raw string) []string {
	var v values
	text := decodeCharset("", []byte(raw))[0]
	if strings.Contains(raw, "=?") {
		for n := range 2 {
			v.add(decodeWordsAs(text, n))
			v.add(decodeWordsAs(joinWords(text), n))
		}
	}
	v.add(text)
	return v.list
}

// nameFields collects the names that the fields of a header give. It reports
// whether a careful reading of them was not enough.
func (p *Part) nameFields(fields []field) (odd bool) {
	// The pieces of a name may be spread over fields (RFC 2231 knows nothing of
	// it, some programs do it).
	var all []param
	sources := map[string]int{}
	for _, f := range fields {
		if f.name == fieldEncoding {
			continue
		}
		s := parseStructured(f.value)
		all = append(all, s.params...)
		odd = odd || s.odd && strings.Contains(strings.ToLower(f.value), "name")
		sources[f.name]++
	}
	for _, key := range [...]string{"filename", "name"} {
		for _, s := range paramReadings(all, key) {
			p.addName(key, s)
		}
	}
	if odd {
		p.nameSoup(fields)
	}
	return odd
}

// nameSoup adds what careless readers find.
func (p *Part) nameSoup(fields []field) {
	for _, f := range fields {
		if f.name == fieldEncoding {
			continue
		}
		for _, key := range [...]string{"filename", "name"} {
			var v values
			v.soup(f.value, key)
			for _, s := range v.list {
				p.addName(key, s)
				if strings.Contains(s, "''") {
					_, after, _ := strings.Cut(s, "''")
					p.addName(key, unpercent(after))
				}
			}
		}
	}
}

// piece is one part of a parameter that was split by RFC 2231.
type piece struct {
	number   int
	extended bool
	value    string
}

// maxPieces bounds the pieces of one parameter.
const maxPieces = 200

// paramReadings returns the values that a key has to some reader: plain ones,
// extended ones, and continued ones in the order of their numbers and in the
// order in which they stand (RFC 2231 §3, §4).
func paramReadings(params []param, key string) []string {
	var v values
	var pieces []piece
	for _, p := range params {
		rest, ok := strings.CutPrefix(p.key, key)
		switch {
		case !ok || rest != "" && rest[0] != '*':
		case rest == "":
			v.add(p.value)
		case rest == "*":
			for _, s := range decodeExtended(p.value) {
				v.add(s)
			}
		case len(pieces) < maxPieces:
			number, extended := strings.CutSuffix(rest[1:], "*")
			n, err := strconv.Atoi(number)
			if err != nil {
				n = len(pieces)
			}
			pieces = append(pieces, piece{n, extended, p.value})
		}
	}
	if len(pieces) > 0 {
		v.joins(pieces)
	}
	return v.list
}

// joins adds the ways to put pieces together.
func (v *values) joins(pieces []piece) {
	byNumber := slices.Clone(pieces)
	slices.SortStableFunc(byNumber, func(a, b piece) int { return cmp.Compare(a.number, b.number) })
	sameNumber := func(a, b piece) bool { return a.number == b.number }
	first := slices.CompactFunc(slices.Clone(byNumber), sameNumber)
	last := slices.Clone(byNumber)
	slices.Reverse(last)
	last = slices.CompactFunc(last, sameNumber)
	slices.Reverse(last)
	for _, order := range [...][]piece{first, last, pieces, byNumber} {
		var asMarked, decoded, raw strings.Builder
		extended := false
		for _, p := range order {
			raw.WriteString(p.value)
			decoded.WriteString(unpercent(p.value))
			if p.extended {
				extended = true
				asMarked.WriteString(unpercent(p.value))
			} else {
				asMarked.WriteString(p.value)
			}
		}
		for _, s := range [...]string{asMarked.String(), decoded.String()} {
			if extended || strings.Contains(s, "''") {
				for _, s := range convertExtended(s) {
					v.add(s)
				}
			}
			v.add(s)
		}
		v.add(raw.String())
	}
}

// decodeExtended decodes charset'language'%41%42, RFC 2231 §4.
func decodeExtended(s string) []string { return append(convertExtended(unpercent(s)), s) }

// convertExtended converts what was percent-decoded by the charset in front.
func convertExtended(s string) []string {
	charset, rest, ok := strings.Cut(s, "'")
	if !ok {
		return decodeCharset("", []byte(s))
	}
	_, text, ok := strings.Cut(rest, "'")
	if !ok {
		return decodeCharset("", []byte(s))
	}
	return decodeCharset(charset, []byte(text))
}

// unpercent undoes %41.
func unpercent(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0 {
			out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}
