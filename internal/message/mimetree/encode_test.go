package mimetree

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"unicode/utf16"
)

// payload is what the crafted messages hide: it has every byte once, so that a
// decoder that loses or changes one is found out, and length 3n+1.
func payload() []byte {
	b := []byte("MZ\x90\x00hidden payload ")
	for i := range 256 {
		b = append(b, byte(i*7+3))
	}
	for len(b)%3 != 1 {
		b = append(b, '.')
	}
	return b
}

func wrap(s string, width int) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + "\r\n")
		s = s[width:]
	}
	return b.String() + s
}

func b64(b []byte) string { return wrap(base64.StdEncoding.EncodeToString(b), 76) }

// mapLines changes every line of a text.
func mapLines(s string, fn func(i int, line string) string) string {
	lines := strings.Split(s, "\r\n")
	for i := range lines {
		lines[i] = fn(i, lines[i])
	}
	return strings.Join(lines, "\r\n")
}

func qp(b []byte) string {
	var out strings.Builder
	w := quotedprintable.NewWriter(&out)
	w.Binary = true
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.String()
}

func uu(b []byte) string {
	var out strings.Builder
	char := func(v byte) byte {
		if v == 0 {
			return '`'
		}
		return v + ' '
	}
	for len(b) > 0 {
		n := min(45, len(b))
		line := append([]byte{}, b[:n]...)
		b = b[n:]
		out.WriteByte(char(byte(n)))
		for len(line)%3 != 0 {
			line = append(line, 0)
		}
		for i := 0; i < len(line); i += 3 {
			x, y, z := line[i], line[i+1], line[i+2]
			out.Write([]byte{char(x >> 2), char(x<<4&0x3f | y>>4), char(y<<2&0x3f | z>>6), char(z & 0x3f)})
		}
		out.WriteString("\r\n")
	}
	return out.String()
}

func yenc(b []byte) string {
	var out bytes.Buffer
	for i, c := range b {
		if i > 0 && i%128 == 0 {
			out.WriteString("\r\n")
		}
		switch v := c + 42; v {
		case 0, '\r', '\n', '=', '.', '\t', ' ', '-':
			out.Write([]byte{'=', v + 64})
		default:
			out.WriteByte(v)
		}
	}
	return out.String()
}

const binhexAlphabet = "!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"

// binhex encodes a file; check sums are zero, nobody looks at them.
func binhex(name string, data, resource []byte) string {
	file := append([]byte{byte(len(name))}, name...)
	file = append(file, 0)
	file = append(file, "APPL????\x00\x00"...)
	file = binary.BigEndian.AppendUint32(file, uint32(len(data)))
	file = binary.BigEndian.AppendUint32(file, uint32(len(resource)))
	file = append(file, 0, 0)
	file = append(append(file, data...), 0, 0)
	file = append(append(file, resource...), 0, 0)
	var runs []byte
	for i := 0; i < len(file); {
		n := 1
		for i+n < len(file) && file[i+n] == file[i] && n < 255 {
			n++
		}
		runs = append(runs, file[i])
		if file[i] == 0x90 {
			runs = append(runs, 0)
		}
		if n > 3 && file[i] != 0x90 {
			runs = append(runs, 0x90, byte(n))
			i += n
		} else {
			i++
		}
	}
	var out strings.Builder
	acc, bits := uint32(0), 0
	for _, c := range runs {
		acc, bits = acc<<8|uint32(c), bits+8
		for bits >= 6 {
			bits -= 6
			out.WriteByte(binhexAlphabet[acc>>bits&0x3f])
		}
	}
	if bits > 0 {
		out.WriteByte(binhexAlphabet[acc<<(6-bits)&0x3f])
	}
	return "(This file must be converted with BinHex 4.0)\r\n\r\n" + wrap(":"+out.String()+":", 64)
}

// tnef makes a winmail.dat with one attachment that has the name both ways.
func tnef(name string, data []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, 0x223e9f78)
	out = append(out, 1, 0)
	attribute := func(level byte, id uint32, b []byte) {
		out = append(out, level)
		out = binary.LittleEndian.AppendUint32(out, id)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(b)))
		out = append(append(out, b...), 0, 0)
	}
	attribute(1, 0x00089006, []byte{0, 0, 1, 0})
	attribute(2, tnefRendData, make([]byte, 14))
	attribute(2, tnefTitle, []byte("SHORT~1.TXT\x00"))
	attribute(2, tnefData, data)
	attribute(2, tnefAttachment, mapiProps(name, data))
	return out
}

// mapiProps is a named property, a long name in UTF-16, and the data as an object.
func mapiProps(name string, data []byte) []byte {
	le := binary.LittleEndian
	pad := func(b []byte) []byte {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b
	}
	b := le.AppendUint32(nil, 3)
	b = le.AppendUint16(b, 0x0003)
	b = le.AppendUint16(b, 0x8001)
	b = append(b, make([]byte, 16)...)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, 6)
	b = pad(append(b, "a\x00b\x00\x00\x00"...))
	b = le.AppendUint32(b, 42)
	b = le.AppendUint16(b, mapiUnicode)
	b = le.AppendUint16(b, propAttachLongName)
	b = le.AppendUint32(b, 1)
	wide := []byte{}
	for _, u := range utf16.Encode([]rune(name + "\x00")) {
		wide = le.AppendUint16(wide, u)
	}
	b = le.AppendUint32(b, uint32(len(wide)))
	b = pad(append(b, wide...))
	b = le.AppendUint16(b, mapiObject)
	b = le.AppendUint16(b, propAttachData)
	b = le.AppendUint32(b, 1)
	object := append(make([]byte, 16), data...)
	b = le.AppendUint32(b, uint32(len(object)))
	return pad(append(b, object...))
}

// encoders are what stands between {{ and }} in testdata/tricks.txtar.
func encoders() map[string]string {
	p := payload()
	plain := b64(p)
	attached := "Content-Type: application/octet-stream; name=evil.exe\r\nContent-Transfer-Encoding: base64\r\n\r\n" + plain + "\r\n"
	mixed := "From: a@b.example\r\nSubject: x\r\nDate: today\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n" + attached + "--inner--\r\n"
	half := len(p) / 2
	m := map[string]string{
		"base64":       plain,
		"base64-lower": strings.ToLower(plain),
		"base64-long":  base64.StdEncoding.EncodeToString(p),
		"base64-url":   wrap(base64.URLEncoding.EncodeToString(p), 76),
		"base64-61":    wrap(base64.StdEncoding.EncodeToString(p), 61),
		"base64-dots": mapLines(plain, func(_ int, l string) string {
			return strings.Join(strings.Split(l, ""), ".")
		}),
		"base64-comments": mapLines(plain, func(i int, l string) string {
			if i < 2 {
				return l + "#not the payload"
			}
			return l
		}),
		"base64-tails": mapLines(plain, func(i int, l string) string {
			if i < 2 {
				return l + "A"
			}
			return l
		}),
		"base64-signs": mapLines(plain, func(_ int, l string) string {
			return wrapWith(l, 5, "=")
		}),
		"base64-two":             b64(p[:half-half%3+1]) + "\r\n" + b64(p[half-half%3+1:]),
		"base64-decoy":           plain + "\r\n" + b64([]byte("nothing to see here, move along please")),
		"base64-header":          "begin-base64 644 evil.exe\r\n" + plain + "\r\n====",
		"base64-text":            "This is the file that you asked for!\r\n\r\n" + plain,
		"base64-space":           mapLines(plain, func(_ int, l string) string { return " " + wrapWith(l, 7, " \t") }),
		"base64-zero":            base64Zeroed(p),
		"base64-of-mail":         b64([]byte(mixed)),
		"base64-of-mail-lf":      b64([]byte(strings.ReplaceAll(mixed, "\r\n", "\n"))),
		"base64-of-uu":           b64([]byte("Hello,\r\nlook at this:\r\n\r\nbegin 644 evil.exe\r\n" + uu(p) + "`\r\nend\r\n")),
		"base64-of-tnef":         b64(tnef("evil.exe", p)),
		"base64-of-tnef-of-mail": b64(tnef("forwarded.eml", []byte(mixed))),
		"attached":               attached,
		"mail":                   mixed,
		"qp":                     qp(p),
		"qp-lower":               strings.NewReplacer("=0A", "=0a", "=0B", "=0b", "=FF", "=ff", "=EE", "=ee").Replace(qp(p)),
		"qp-space":               strings.ReplaceAll(qp(p), "=\r\n", "= \t \r\n"),
		"qp-cr":                  strings.ReplaceAll(qp(p), "=\r\n", "=\r\r\n"),
		"qp-long":                strings.ReplaceAll(qp(p), "=\r\n", ""),
		"qp-broken":              strings.ReplaceAll(qp(p), "=0", "=4x=0"),
		"qp-of-mail":             encodeQP(mixed),
		"uu":                     "begin 644 evil.exe\r\n" + uu(p) + "`\r\nend\r\n",
		"uu-lines":               uu(p),
		"uu-spaces":              "begin 644 evil.exe\r\n" + strings.ReplaceAll(uu(p), "`", " ") + " \r\nend\r\n",
		"uu-trimmed":             "begin 644 evil.exe\r\n" + mapLines(strings.ReplaceAll(uu(p), "`", " "), func(_ int, l string) string { return strings.TrimRight(l, " ") }),
		"yenc":                   fmt.Sprintf("=ybegin line=128 size=%d name=evil.exe\r\n%s\r\n=yend size=%d\r\n", len(p), yenc(p), len(p)),
		"yenc-part":              fmt.Sprintf("=ybegin part=1 total=1 line=128 size=%d name=evil.exe\r\n=ypart begin=1 end=%d\r\n%s\r\n=yend size=%d\r\n", len(p), len(p), yenc(p), len(p)),
		"binhex":                 binhex("evil.exe", p, nil),
		"binhex-fork":            binhex("evil.exe", []byte("innocent"), p),
		"CR":                     "\r",
		"LF":                     "\n",
		"NUL":                    "\x00",
		"VT":                     "\v",
		"SP":                     " ",
		"TAB":                    "\t",
		"BOM":                    "\xef\xbb\xbf",
		"dash":                   "--",
		"RLO":                    "\u202e",
		"fullwidth":              "evil．ｅｘｅ",
		"latin1":                 "evil\xe4.exe",
		"300":                    strings.Repeat("n", 300),
		"spaces":                 strings.Repeat(" ", 3000),
		"70000":                  strings.Repeat("x", 70_000),
		"lines":                  strings.Repeat("X-Some-Field: value\r\n", 60),
	}
	return m
}

// wrapWith puts a separator between pieces of a line.
func wrapWith(l string, width int, sep string) string {
	return strings.ReplaceAll(wrap(l, width), "\r\n", sep)
}

// base64Zeroed writes zero bits at the end of a group as padding, in the middle.
func base64Zeroed(p []byte) string {
	s := base64.StdEncoding.EncodeToString(p)
	return wrap(strings.ReplaceAll(s[:len(s)-4], "A", "=")+s[len(s)-4:], 76)
}

func encodeQP(s string) string {
	var out strings.Builder
	w := quotedprintable.NewWriter(&out)
	if _, err := io.WriteString(w, s); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.String()
}
