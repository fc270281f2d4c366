package scantest

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Message is one to try a module with.
type Message struct {
	Name string
	Text string
	// Bounce says that its envelope is as empty as one can be.
	Bounce bool
}

// repeat is n times what f makes.
func repeat(n int, f func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i))
	}
	return b.String()
}

// crlf makes the line ends of a literal those of mail.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// attached is a message with a file.
func attached(name, content string) string {
	return crlf("From: a@client.example\nSubject: a file\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nsee https://shop.com/x\n" +
		"--b\nContent-Type: application/octet-stream; name=\"" + name + "\"\nContent-Transfer-Encoding: base64\n\n" +
		base64.StdEncoding.EncodeToString([]byte(content)) + "\n--b--\n")
}

// Shared are the messages of which modules are asked by many at once.
func Shared() []Message {
	return []Message{
		{Name: "a letter", Text: crlf("From: Ann <ann@client.example>\nTo: alice@here.example\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nMessage-ID: <1@client.example>\nDate: Wed, 4 Mar 2026 09:30:00 +0000\n" +
			"Content-Type: text/html; charset=utf-8\n\n<p>Hello, <a href=\"https://evil.com/x\">https://bank.com</a> <a href=\"http://192.0.2.1/\">go</a></p>\n")},
		{Name: "archives in a letter", Text: attached("a.zip", zipBytes("a.txt", strings.Repeat("hello ", 1000)))},
		{Name: "a large file", Text: attached("a.bin", repeat(100_000, func(i int) string { return fmt.Sprintf("%x,", i*i) }))},
	}
}

// Hostile are messages that are made to break whoever reads them.
func Hostile() []Message {
	return append(append(append(brokenHeaders(), brokenStructure()...), brokenFiles()...), Shared()...)
}

func brokenHeaders() []Message {
	return []Message{
		{Name: "nothing at all", Text: ""},
		{Name: "nothing at all from nobody", Text: "", Bounce: true},
		{Name: "one byte", Text: "x"},
		{Name: "an empty line", Text: "\r\n"},
		{Name: "a header only", Text: "From: a@b.example\r\nSubject: x\r\n"},
		{Name: "a header without an end", Text: "From: a@b.example\r\nSubject: x"},
		{Name: "a body without a header", Text: "\r\nhello\r\n"},
		{Name: "no header and from nobody", Text: "\r\nhello https://evil.example/\r\n", Bounce: true},
		{Name: "NUL everywhere", Text: "From: a\x00@b.example\r\nSub\x00ject: \x00\r\nContent-Type: text/\x00plain\r\n\r\n\x00\x00\r\n"},
		{Name: "bare line ends", Text: "From: a@b.example\nSubject: x\rContent-Type: text/html\n\r\n\rbody\n.\n\r.\r"},
		{Name: "a header line of 900 kB", Text: "From: a@b.example\r\nSubject: " + strings.Repeat("long ", 180_000) + "\r\n\r\nbody\r\n"},
		{Name: "a boundary of 200 kB", Text: "Content-Type: multipart/mixed; boundary=\"" + strings.Repeat("b", 200_000) + "\"\r\n\r\n--b\r\n\r\nx\r\n"},
		{Name: "20,000 fields", Text: repeat(20_000, func(i int) string { return fmt.Sprintf("X-%d: y\r\n", i) }) + "\r\nbody\r\n"},
		{Name: "10,000 authors", Text: "From: " + repeat(10_000, func(i int) string { return fmt.Sprintf("\"N %d\" <a@d%d.example>,\r\n ", i, i) }) + "z@z.example\r\n\r\nbody\r\n"},
		{Name: "nested comments in From", Text: "From: " + strings.Repeat("(", 50_000) + " a@b.example\r\n\r\nbody\r\n"},
		{Name: "2,000 signatures", Text: repeat(2000, func(i int) string {
			return fmt.Sprintf("DKIM-Signature: v=1; a=rsa-sha256; d=d%d.example; s=s; h=from; bh=AAAA; b=BBBB\r\n", i)
		}) + "From: a@b.example\r\n\r\nbody\r\n"},
		{Name: "a chain of 60 seals", Text: repeat(60, func(i int) string {
			return fmt.Sprintf("ARC-Seal: i=%d; a=rsa-sha256; d=d.example; s=s; cv=none; b=A\r\nARC-Message-Signature: i=%d; b=A\r\nARC-Authentication-Results: i=%d; x\r\n", i, i, i)
		}) + "From: a@b.example\r\n\r\nbody\r\n"},
		{Name: "encoded words in encoded words", Text: "Subject: " + strings.Repeat("=?utf-8?q?=3D=3Futf-8=3Fq=3F", 5000) + "\r\nFrom: =?utf-8?b?/////w==?= <a@b.example>\r\n\r\nbody\r\n"},
		{Name: "directions and control characters", Text: "From: \u202ea@b.example\r\nSubject: \u202egpj.exe\u0007\x1b[2J\r\nContent-Type: text/plain; name=\"\u202efdp.exe\x01\"\r\n\r\nhttps://\u202eevil.example/\x01\u200b\r\n"},
	}
}

func brokenStructure() []Message {
	deep := repeat(10_000, func(i int) string {
		return fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	})
	return []Message{
		{Name: "10,000 multiparts in each other", Text: "MIME-Version: 1.0\r\n" + deep + "\r\nx\r\n"},
		{Name: "1,000 messages in each other", Text: strings.Repeat("Subject: x\r\nContent-Type: message/rfc822\r\n\r\n", 1000)},
		{Name: "100,000 parts", Text: "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 100_000) + "--b--\r\n"},
		{Name: "parts without an end", Text: "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain"},
		{Name: "one boundary twice", Text: crlf("Content-Type: multipart/mixed; boundary=b; boundary=c\nContent-Type: multipart/alternative; boundary=\"\"\n\n--b\n\none\n--c\n\ntwo\n--\n\nthree\n--b--\n--c--\n")},
		{Name: "bad base64", Text: crlf("Content-Type: application/zip; name=a.zip\nContent-Transfer-Encoding: base64\n\nUEsDB===BQ!!@@=\n=\n\x00AAAA\n----\nTVqQ\n")},
		{Name: "bad quoted-printable", Text: crlf("Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n=\n==3=3D=ZZ<a href=3D=\n\"http://x.example/=\x01\">=")},
		{Name: "an unknown encoding and charset", Text: crlf("Content-Type: text/plain; charset=\"x-\x01y\"\nContent-Transfer-Encoding: rot13\n\nuggc://k.rknzcyr\n")},
		{Name: "UTF-7 and broken UTF-16", Text: crlf("Content-Type: text/html; charset=utf-16\n\n\xff\xfe<\x00a\x00\xd8\xd8\xd8\n")},
		{Name: "1 MB of words", Text: "Subject: words\r\n\r\n" + repeat(130_000, func(i int) string { return fmt.Sprintf("w%06x\n", i*7919%130_003) })},
		{Name: "1 MB in one line", Text: "Subject: line\r\n\r\n" + strings.Repeat("x", 1<<20)},
		{Name: "20,000 links", Text: "Content-Type: text/html\r\n\r\n" + repeat(20_000, func(i int) string {
			return fmt.Sprintf("<a href=\"http://u@h%d.example\x01/%d?u=http://n%d.example/\">https://b%d.example</a>\r\n", i, i, i, i)
		})},
		{Name: "100,000 elements in each other", Text: "Content-Type: text/html\r\n\r\n" + strings.Repeat("<div style=\"display:none\">", 40_000) + "deep" + strings.Repeat("<b>", 60_000)},
		{Name: "a tag without an end", Text: "Content-Type: text/html\r\n\r\n<a href=\"" + strings.Repeat("http://x.example/", 30_000)},
		{Name: "uuencoded without an end", Text: "Subject: x\r\n\r\n" + strings.Repeat("begin 644 a.exe\r\nM````\r\n", 5000)},
	}
}

func brokenFiles() []Message {
	whole := zipBytes("evil.exe", "MZ a program")
	return []Message{
		{Name: "a zip that is cut off", Text: attached("a.zip", whole[:len(whole)-10])},
		{Name: "a zip with bytes changed", Text: attached("a.zip", strings.Map(func(r rune) rune {
			if r == 'e' {
				return 'E'
			}
			return r
		}, whole))},
		{Name: "a zip whose names deceive", Text: attached("a.zip", zipBytes("../../\x1b[2J\u202egpj.exe\r\nX: y", "MZ"))},
		{Name: "a name of 5 kB", Text: attached(strings.Repeat("n", 5000)+".zip", zipBytes(strings.Repeat("m/", 2000)+"x.exe", "MZ"))},
		{Name: "5,000 members", Text: attached("a.zip", repeat(5000, func(i int) string { return zipBytes(fmt.Sprintf("f%d.exe", i), "MZ") }))},
		{Name: "a damaged gzip", Text: attached("a.gz", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03garbage garbage")},
		{Name: "a damaged 7z", Text: attached("a.7z", "7z\xbc\xaf\x27\x1c\x00\x04"+strings.Repeat("\xff", 24))},
		{Name: "a damaged rar", Text: attached("a.rar", "Rar!\x1a\x07\x01\x00"+strings.Repeat("\xff\x01", 60))},
		{Name: "a damaged document", Text: attached("a.doc", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"+strings.Repeat("\xfe\xff\x00\x01", 400))},
		{Name: "a damaged PDF", Text: attached("a.pdf", "%PDF-1.7\n1 0 obj <</OpenAction 1 0 R /JS "+strings.Repeat("<<[(", 20_000)+"\nstream\n")},
		{Name: "a damaged RTF", Text: attached("a.rtf", "{\\rtf1"+strings.Repeat("{\\object\\objdata 0105", 20_000))},
		{Name: "a damaged TNEF", Text: attached("winmail.dat", "\x78\x9f\x3e\x22\x01\x00\x02\x90\x06\x00\xff\xff\xff\x7f")},
	}
}

// zipBytes is a zip with one stored member; its checksum is wrong, as in a damaged
// one, which no reader may mind.
func zipBytes(name, content string) string {
	le := func(n, v int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(v >> (8 * i))
		}
		return string(b)
	}
	facts := le(2, 0) + le(2, 0) + le(2, 0) + le(2, 0) + le(4, 0x12345678) + le(4, len(content)) + le(4, len(content)) + le(2, len(name)) + le(2, 0)
	local := "PK\x03\x04" + le(2, 20) + facts + name + content
	central := "PK\x01\x02" + le(2, 20) + le(2, 20) + facts + le(2, 0) + le(2, 0) + le(2, 0) + le(4, 0) + le(4, 0) + name
	return local + central + "PK\x05\x06" + le(2, 0) + le(2, 0) + le(2, 1) + le(2, 1) + le(4, len(central)) + le(4, len(local)) + le(2, 0)
}

// corpus is what the folder that GATEPOST_CORPORA names has of messages that were
// made to deceive scanners; none where it is not set.
func corpus(t *testing.T) []Message {
	root := os.Getenv("GATEPOST_CORPORA")
	if root == "" {
		return nil
	}
	names, err := filepath.Glob(filepath.Join(root, "noxxi", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []Message
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Message{Name: "noxxi " + filepath.Base(name), Text: string(data)})
	}
	return all
}
