package clamav

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// uuencoded is a message that clamd and a program may read differently.
var uuencoded = lines("From: a@b.example", "Subject: file", "", "begin 644 a.txt", "#0V%T", "`", "end")

// payload is what the messages hide: a file of 301 bytes, whose beginning real
// clamd is told to find.
func payload() []byte {
	b := []byte("MZ\x90\x00Gatepost hidden\x01")
	for i := range 301 - len(b) {
		b = append(b, byte(i*7+3))
	}
	return b
}

// hiddenMessage is one message of testdata/hidden.txtar.
type hiddenMessage struct{ name, msg string }

func hiddenMessages(t testing.TB) []hiddenMessage {
	t.Helper()
	b, err := os.ReadFile("testdata/hidden.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for k, v := range encoded() {
		pairs = append(pairs, "{{"+k+"}}", v)
	}
	fill := strings.NewReplacer(pairs...)
	var list []hiddenMessage
	for _, f := range txtar.Parse(b).Files {
		msg := fill.Replace(strings.ReplaceAll(string(f.Data), "\n", "\r\n"))
		if strings.Contains(msg, "{{") {
			t.Fatalf("%s: nothing to fill in", f.Name)
		}
		if !strings.HasPrefix(f.Name, "alone:") {
			msg = "From: a@b.example\r\nTo: c@d.example\r\nMIME-Version: 1.0\r\n" + msg
		}
		list = append(list, hiddenMessage{f.Name, msg})
	}
	return list
}

func wrapped(s string, width int) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + "\r\n")
		s = s[width:]
	}
	return b.String() + s
}

func b64(b []byte) string { return wrapped(base64.StdEncoding.EncodeToString(b), 76) }

func encoded() map[string]string {
	p := payload()
	var qp strings.Builder
	w := quotedprintable.NewWriter(&qp)
	w.Binary = true
	_, _ = w.Write(p)
	_ = w.Close()
	var lower strings.Builder
	for i, c := range p {
		fmt.Fprintf(&lower, "=%02x", c)
		if i%20 == 19 {
			lower.WriteString("=\r\n")
		}
	}
	attached := "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(p) + "\r\n"
	text := base64.StdEncoding.EncodeToString(p)
	return map[string]string{
		"base64":      b64(p),
		"qp":          qp.String(),
		"qplower":     lower.String(),
		"uu":          uu(p),
		"yenc":        yenc(p),
		"junk64":      wrapped(strings.ReplaceAll(text, "A", "!A?"), 70),
		"odd64":       wrapped(text, 61),
		"pieces64":    b64(p[:100]) + "\r\n" + b64(p[100:]),
		"multipart64": b64([]byte("--b\r\n" + attached + "--b--\r\n")),
		"message64":   b64([]byte("From: x@y.example\r\nMIME-Version: 1.0\r\n" + attached)),
		"fields":      strings.TrimSuffix(strings.Repeat("X-Some-Field: "+strings.Repeat("v", 60)+"\r\n", 800), "\r\n"),
		"deep":        deep(20, attached),
		"parts":       many(1200, attached),
	}
}

func uu(b []byte) string {
	var out strings.Builder
	enc := func(c byte) byte {
		if c == 0 {
			return '`'
		}
		return c + ' '
	}
	for len(b) > 0 {
		n := min(45, len(b))
		line := append(bytes.Clone(b[:n]), 0, 0)
		out.WriteByte(enc(byte(n)))
		for i := 0; i < n; i += 3 {
			x, y, z := line[i], line[i+1], line[i+2]
			out.Write([]byte{enc(x >> 2), enc(x&3<<4 | y>>4), enc(y&15<<2 | z>>6), enc(z & 63)})
		}
		out.WriteString("\r\n")
		b = b[n:]
	}
	return out.String()
}

func yenc(b []byte) string {
	var out bytes.Buffer
	for i, c := range b {
		if c += 42; c == 0 || c == '\n' || c == '\r' || c == '=' {
			out.Write([]byte{'=', c + 64})
		} else {
			out.WriteByte(c)
		}
		if i%128 == 127 {
			out.WriteString("\r\n")
		}
	}
	return out.String()
}

// deep nests a part in multiparts.
func deep(levels int, part string) string {
	var open, shut strings.Builder
	for i := range levels {
		fmt.Fprintf(&open, "Content-Type: multipart/mixed; boundary=b%02d\r\n\r\n--b%02d\r\n", i, i)
		fmt.Fprintf(&shut, "--b%02d--\r\n", levels-1-i)
	}
	return open.String() + part + shut.String()
}

// many puts a part behind n others.
func many(n int, part string) string {
	return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n", n) + "--b\r\n" + part + "--b--\r\n"
}

// streamsOf returns what would be streamed of a message, readings and all.
func streamsOf(t testing.TB, msg string) []string {
	t.Helper()
	var list []string
	in := input(t, msg)
	for _, target := range contents(in) {
		list = append(list, target.what)
	}
	err := members(t.Context(), in, 1<<18, func(target target, _ int64) error {
		list = append(list, target.what)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
