package textview

import (
	"bytes"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode/utf32"
)

// hint is what is known about a text before it is decoded.
type hint struct {
	charset string
	html    bool
	cut     bool // the last character may be incomplete
}

// decoded is a text in UTF-8.
type decoded struct {
	text    string
	charset string // what was used
	// declared is the name that the header or the document gives.
	declared string
	// trouble says what was wrong with what was declared.
	trouble trouble
	// other is another reading, in UTF-7 that was not declared.
	other string
}

type trouble uint8

const (
	noTrouble      trouble = iota
	unknownCharset         // nobody knows the name
	wrongCharset           // the text is not in it
	hidden16               // UTF-16 that was not declared
)

// decode converts a text to UTF-8 the way that browsers choose: a byte order
// mark, what is declared, what the document says of itself, and then what the
// bytes look like.
func decode(b []byte, h hint) decoded {
	name := h.charset
	if name == "" && h.html {
		name = metaCharset(b)
	}
	name = strings.Trim(strings.ToLower(name), " \t\"'")
	d, marked := decodeMarked(b, h)
	if !marked {
		d = decodeUnmarked(b, name, h)
	}
	d.declared = name
	return d
}

// decodeUnmarked decodes what has no byte order mark.
func decodeUnmarked(b []byte, name string, h hint) decoded {
	if little, ok := looks16(b); ok && !isWide(name) {
		return decoded{text: decode16(b, little), charset: utf16Name(little), trouble: hidden16}
	}
	switch name {
	case "", "us-ascii", "ascii", "utf-8", "utf8", "ansi_x3.4-1968", "unicode-1-1-utf-8", "utf-8mb4":
		return decode8(b, name, h)
	}
	d, ok := decodeAs(name, b)
	if !ok {
		d = decode8(b, "", h)
		d.trouble = unknownCharset
	}
	return d
}

// decodeMarked decodes what begins with a byte order mark.
func decodeMarked(b []byte, h hint) (decoded, bool) {
	switch {
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		d := decode8(b[3:], "utf-8", h)
		return d, d.charset == "utf-8"
	case bytes.HasPrefix(b, []byte("\xff\xfe\x00\x00")):
		return decodeAs("utf-32le", b)
	case bytes.HasPrefix(b, []byte("\xff\xfe")), bytes.HasPrefix(b, []byte("\xfe\xff")):
		little := b[0] == 0xff
		d := decoded{text: decode16(b[2:], little), charset: utf16Name(little)}
		if h.charset != "" && !isWide(h.charset) {
			d.trouble = hidden16
		}
		return d, true
	}
	return decoded{}, false
}

func utf16Name(little bool) string {
	if little {
		return "utf-16le"
	}
	return "utf-16be"
}

// isWide reports the charsets whose ASCII characters are not single bytes.
func isWide(name string) bool {
	return strings.HasPrefix(name, "utf-16") || strings.HasPrefix(name, "utf16") || strings.HasPrefix(name, "utf-32") ||
		strings.HasPrefix(name, "utf32") || strings.HasPrefix(name, "ucs-") || strings.HasPrefix(name, "iso-10646-ucs") || name == "unicode"
}

// looks16 recognises UTF-16 in mostly Western text by its zero bytes.
func looks16(b []byte) (little, ok bool) {
	b = b[:min(len(b), 512)&^1]
	if len(b) < 8 {
		return false, false
	}
	var zero [2]int
	for i, c := range b {
		if c == 0 {
			zero[i&1]++
		}
	}
	half := len(b) / 2
	switch {
	case zero[1]*10 >= half*7 && zero[0]*10 <= half:
		return true, true
	case zero[0]*10 >= half*7 && zero[1]*10 <= half:
		return false, true
	}
	return false, false
}

// decode8 decodes a text that is declared, or taken, to be ASCII or UTF-8.
func decode8(b []byte, name string, h hint) decoded {
	d := decoded{charset: "utf-8"}
	if isASCII(b) {
		if bytes.IndexByte(b, '+') >= 0 && (bytes.Contains(b, []byte("+ADw")) || bytes.Contains(b, []byte("+AHw"))) {
			d.other = decodeUTF7(string(b))
		}
		d.text, d.charset = string(b), "us-ascii"
		return d
	}
	if utf8.Valid(b) {
		if strings.Contains(name, "ascii") {
			d.trouble = wrongCharset
		}
		d.text = string(b)
		return d
	}
	good, bad := countUTF8(b)
	if h.cut && bad > 0 && bad <= 3 && good > 0 || good > 2*bad {
		if !h.cut {
			d.trouble = wrongCharset
		}
		d.text = strings.ToValidUTF8(string(b), "\ufffd")
		return d
	}
	if name != "" {
		d.trouble = wrongCharset
	}
	d.charset = "windows-1252"
	d.text = convert(charmap.Windows1252, b)
	return d
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// countUTF8 counts the characters beyond ASCII that are whole, and the bytes
// that belong to none.
func countUTF8(b []byte) (good, bad int) {
	for len(b) > 0 {
		if b[0] < 0x80 {
			b = b[1:]
			continue
		}
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			bad++
		} else {
			good++
		}
		b = b[n:]
	}
	return good, bad
}

// decodeAs decodes what is declared, if anybody knows it.
func decodeAs(name string, b []byte) (decoded, bool) {
	switch name {
	case "utf-7", "utf7", "x-utf-7", "unicode-1-1-utf-7", "unicode-2-0-utf-7", "csunicode11utf7":
		return decoded{text: decodeUTF7(string(b)), charset: "utf-7"}, true
	case "iso-2022-kr", "csiso2022kr":
		return decoded{text: decode2022KR(b), charset: "iso-2022-kr"}, true
	case "utf-32", "utf-32be", "ucs-4", "iso-10646-ucs-4":
		return decoded{text: convert(utf32.UTF32(utf32.BigEndian, utf32.UseBOM), b), charset: "utf-32be"}, true
	case "utf-32le":
		return decoded{text: convert(utf32.UTF32(utf32.LittleEndian, utf32.UseBOM), b), charset: "utf-32le"}, true
	}
	if isWide(name) {
		// RFC 2781 §4.3: without a mark big endian; the zero bytes know better.
		little, ok := looks16(b)
		little = ok && little || !ok && strings.HasSuffix(name, "le")
		return decoded{text: decode16(b, little), charset: utf16Name(little)}, true
	}
	enc, known := findCharset(name)
	if enc == nil {
		return decoded{}, false
	}
	d := decoded{charset: known}
	if isASCII(b) && !shifts(known, b) {
		d.text = string(b)
		return d, true
	}
	d.text = convert(enc, b)
	// Programs that know no better declare ISO 8859-1 for whatever they have.
	if known == "windows-1252" && utf8.Valid(b) {
		d = decoded{text: string(b), charset: "utf-8", trouble: wrongCharset}
	}
	return d, true
}

// shifts reports whether ASCII bytes may stand for other characters.
func shifts(charset string, b []byte) bool {
	return bytes.IndexByte(b, 0x1b) >= 0 || charset == "hz-gb-2312" && bytes.IndexByte(b, '~') >= 0 ||
		strings.HasPrefix(charset, "ibm") || strings.Contains(charset, "ebcdic")
}

// findCharset returns the converter for a name and the name by which it is known.
func findCharset(name string) (encoding.Encoding, string) {
	switch name {
	case "hz-gb-2312", "hz":
		return simplifiedchinese.HZGB2312, "hz-gb-2312"
	case "x-user-defined":
		return nil, ""
	}
	if enc, err := htmlindex.Get(name); err == nil && enc != encoding.Replacement {
		if known, err := htmlindex.Name(enc); err == nil {
			return enc, known
		}
	}
	// Code pages that mail has and the web has not.
	for _, try := range [...]string{name, "ibm" + strings.TrimPrefix(strings.TrimPrefix(name, "cp"), "-")} {
		if enc, err := ianaindex.MIME.Encoding(try); err == nil && enc != nil && enc != encoding.Replacement {
			return enc, try
		}
	}
	return nil, ""
}

// convert never fails: what has no meaning in the charset becomes U+FFFD.
func convert(enc encoding.Encoding, b []byte) string {
	out, err := enc.NewDecoder().Bytes(b)
	if err != nil {
		out = append(out, "\ufffd"...)
	}
	return strings.ToValidUTF8(string(out), "\ufffd")
}

func decode16(b []byte, little bool) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		if little {
			units[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
		} else {
			units[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
		}
	}
	return strings.TrimPrefix(string(utf16.Decode(units)), "\ufeff")
}

// decode2022KR decodes RFC 1557: between SO and SI every two bytes are a
// character of EUC-KR without their high bits.
func decode2022KR(b []byte) string {
	out := make([]byte, 0, len(b))
	shifted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == 0x1b && i+3 < len(b) && b[i+1] == '$' && b[i+2] == ')':
			i += 3
		case c == 0x0e:
			shifted = true
		case c == 0x0f, c == '\n':
			shifted = false
			if c == '\n' {
				out = append(out, c)
			}
		case shifted && c > ' ':
			out = append(out, c|0x80)
		default:
			out = append(out, c)
		}
	}
	return convert(korean.EUCKR, out)
}

// metaCharset finds what a document says of its charset in its beginning.
func metaCharset(b []byte) string {
	b = bytes.ToLower(b[:min(len(b), 1024)])
	for {
		i := bytes.Index(b, []byte("charset"))
		if i < 0 {
			return ""
		}
		b = bytes.TrimLeft(b[i+len("charset"):], " \t\r\n")
		if len(b) == 0 || b[0] != '=' {
			continue
		}
		b = bytes.TrimLeft(b[1:], " \t\r\n\"'")
		end := bytes.IndexAny(b, " \t\r\n\"'>/;")
		if end < 0 {
			return ""
		}
		name := string(b[:end])
		if isWide(name) {
			// A document that can be read so far as ASCII is not in UTF-16.
			return "utf-8"
		}
		return name
	}
}
