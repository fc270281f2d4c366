package mimetree

import (
	"strings"
)

// The names of encodings, as Content.Encoding has them.
const (
	Identity        = "identity"
	Base64          = "base64"
	QuotedPrintable = "quoted-printable"
	Uuencode        = "uuencode"
	YEnc            = "yenc"
	BinHex          = "binhex"
)

// encodingNames says what the values of Content-Transfer-Encoding mean. Only the
// first five are standard (RFC 2045 §6.1); the others are old or invented, and
// some programs know them.
var encodingNames = map[string]string{
	"7bit": Identity, "8bit": Identity, "binary": Identity,
	"base64": Base64, "quoted-printable": QuotedPrintable,
	"x-uuencode": Uuencode, "x-uue": Uuencode, "uuencode": Uuencode, "x-uu": Uuencode, "uue": Uuencode,
	"x-yenc": YEnc, "x-yencode": YEnc, "yenc": YEnc,
	"x-binhex": BinHex, "x-binhex40": BinHex, "binhex": BinHex, "mac-binhex40": BinHex, "mac-binhex": BinHex, "binhex40": BinHex,
	"x-gzip64": Base64, "gzip64": Base64,
}

// standardEncodings are the ones that need no second thought.
var standardEncodings = map[string]bool{"7bit": true, "8bit": true, "binary": true, "base64": true, "quoted-printable": true}

// encodings is what the fields of one header say about the encoding.
type encodings struct {
	list []string // never empty
	// unclear says that programs could differ; unknown that a value means nothing.
	unclear, unknown bool
	said             string // the first odd value, for the finding
}

// readEncodings gathers every encoding that some program could take from the
// fields, the likeliest first.
func readEncodings(fields []field) encodings {
	var e encodings
	seen, hidden := 0, true
	for _, f := range fields {
		if f.name != fieldEncoding {
			continue
		}
		seen++
		hidden = hidden && !f.clean
		value := strings.ToLower(strings.Trim(f.value, " \t"))
		if name, ok := encodingNames[value]; ok {
			e.add(name)
			if !standardEncodings[value] {
				e.odd(f.value)
			}
			continue
		}
		list := encodingsIn(f.value)
		for _, name := range list {
			e.add(name)
		}
		if len(list) == 0 {
			e.unknown = true
			e.say(f.value)
			continue
		}
		e.odd(f.value)
	}
	if len(e.list) > 1 || len(e.list) == 1 && e.unknown && seen > 1 {
		e.unclear = true
	}
	if e.unclear || e.unknown || hidden { // some programs see no such field
		e.add(Identity)
	}
	return e
}

func (e *encodings) add(name string) {
	for _, have := range e.list {
		if have == name {
			return
		}
	}
	e.list = append(e.list, name)
}

func (e *encodings) odd(value string) {
	e.unclear = true
	e.say(value)
}

func (e *encodings) say(value string) {
	if e.said == "" {
		e.said = value
	}
}

// encodingsIn finds the encodings that a careless reader could find in a value:
// "base64 (c)", "64qp", `"base64"`, "=?utf-8?q?base64?=", bas()e64.
func encodingsIn(value string) []string {
	var list []string
	for _, v := range [...]string{value, decodeWords(value), stripComments(value)} {
		v = strings.Map(keepAlnum, strings.ToLower(v))
		for _, hint := range encodingHints {
			if strings.Contains(v, hint.part) {
				list = addString(list, hint.encoding)
			}
		}
	}
	return list
}

var encodingHints = []struct{ part, encoding string }{
	{"64", Base64},
	{"quoted", QuotedPrintable}, {"printable", QuotedPrintable}, {"qp", QuotedPrintable},
	{"uue", Uuencode}, {"xuu", Uuencode},
	{"yenc", YEnc},
	{"binhex", BinHex}, {"hqx", BinHex},
}

func keepAlnum(r rune) rune {
	if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
		return r
	}
	return -1
}

func addString(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}
