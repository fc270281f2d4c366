package footer

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// put applies a footer to a message; the message comes back as it leaves.
func put(t testing.TB, f *Footer, msg string) (string, string) {
	t.Helper()
	body := bytes.NewReader([]byte(msg))
	header, err := message.ReadHeader(body, 1<<20)
	if err != nil {
		t.Skip(err)
	}
	tree, err := mimetree.Read(t.Context(), body, mimetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	edits, why := f.Edits(tree, header, body)
	last := int64(0)
	for _, e := range edits {
		if e.Start < last || e.End < e.Start || e.End > int64(len(msg)) {
			t.Fatalf("edits overlap: %+v", edits)
		}
		last = e.End
	}
	var out strings.Builder
	m := mail.Message{Envelope: &mail.Envelope{Edits: mail.Edits{Replace: edits}}, Body: body}
	if _, err := message.NewContent(m).Reader().WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.String(), why
}

// shown are the texts of a message as a reader sees them, in UTF-8.
func shown(t testing.TB, msg string) []string {
	t.Helper()
	body := bytes.NewReader([]byte(msg))
	tree, err := mimetree.Read(t.Context(), body, mimetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var parts []*mimetree.Part
	texts(tree.Root, &parts)
	var all []string
	for _, p := range parts {
		got, why := readText(p, body)
		if why != "" {
			t.Fatalf("%s in\n%s", why, msg)
		}
		all = append(all, strings.ReplaceAll(got.utf8, "\r\n", "\n"))
	}
	return all
}

const (
	legal     = "Example Ltd. – registered in Köln, 5 € a share"
	legalHTML = "<p>Example Ltd. &#8211; registered in K&#246;ln, 5 &#8364; a share</p>"
	ascii     = "This message is confidential."
)

func qp(s string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

func b64(s string) string {
	return strings.TrimPrefix(string(lineBroken(base64.StdEncoding.EncodeToString([]byte(s)))), "\r\n")
}

const plainHead = "From: a@example.com\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset="

func TestPlainText(t *testing.T) {
	tests := []struct{ name, msg, text, want string }{
		{"no MIME", "From: a@example.com\r\n\r\nhello\r\n", ascii, "hello\n\n" + ascii + "\n"},
		{"no MIME, and the footer is not ASCII", "From: a@example.com\r\n\r\nhello = x\r\n", legal, "hello = x\n\n" + legal + "\n"},
		{"no line end", "From: a@example.com\r\n\r\nhello", ascii, "hello\n\n" + ascii + "\n"},
		{"no body", "From: a@example.com\r\n\r\n", ascii, "\n" + ascii + "\n"},
		{"7bit", plainHead + "us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\nhello\r\n", legal, "hello\n\n" + legal + "\n"},
		{"8bit", plainHead + "utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngrüezi\r\n", legal, "grüezi\n\n" + legal + "\n"},
		{"8bit, but only ASCII", plainHead + "utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nhello\r\n", legal, "hello\n\n" + legal + "\n"},
		{"quoted-printable", plainHead + "utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + qp("grüezi = x\r\n"), legal, "grüezi = x\n\n" + legal + "\n"},
		{"quoted-printable, soft end", plainHead + "utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nhello=\r\n", legal, "hello\n\n" + legal + "\n"},
		{"quoted-printable, cut off", plainHead + "utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nhello=", legal, "hello\n\n" + legal + "\n"},
		{"Latin-1 can't say it", plainHead + "iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ngr=FCezi\r\n", legal, "grüezi\n\n" + legal + "\n"},
		{"Windows can", plainHead + "windows-1252\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ngr=FCezi\r\n", legal, "grüezi\n\n" + legal + "\n"},
		{"base64, 0", plainHead + "utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64("abc\r\n1"), legal, "abc\n1\n\n" + legal + "\n"},
		{"base64, 1", plainHead + "utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64("abc\r\n12"), legal, "abc\n12\n\n" + legal + "\n"},
		{"base64, 2", plainHead + "utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(strings.Repeat("x", 100)+"\r\n"), legal, strings.Repeat("x", 100) + "\n\n" + legal + "\n"},
		{"base64 in Latin-1", plainHead + "iso-8859-1\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64("gr\xfcezi\r\n"), legal, "grüezi\n\n" + legal + "\n"},
		{"flowed", plainHead + "us-ascii; format=flowed\r\n\r\nhello \r\n", "two  \n> quoted\nFrom here", "hello \n\ntwo\n > quoted\n From here\n"},
		{"flowed, and not ASCII", plainHead + "us-ascii; format=flowed; delsp=yes\r\n\r\nhello \r\n", "Köln \nx", "hello \n\nKöln\nx\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, why := put(t, New(Options{Text: tt.text}), tt.msg)
			if s := shown(t, got); why != "" || len(s) != 1 || s[0] != tt.want {
				t.Errorf("%s %q, want %q\n%s", why, s, tt.want, got)
			}
			if !isASCII([]byte(tt.msg)) != !isASCII([]byte(got)) {
				t.Errorf("8 bits where there were none\n%s", got)
			}
			if strings.Contains(tt.msg, "format=flowed") && !strings.Contains(got, "format=flowed") || strings.Contains(tt.msg, "delsp=yes") && !strings.Contains(got, "delsp=yes") {
				t.Errorf("no longer flowed\n%s", got)
			}
			if again, why := put(t, New(Options{Text: tt.text}), got); len(squeeze(tt.text)) >= minShown && (why != WhyShown || again != got) {
				t.Errorf("put twice: %q", why)
			}
			if strings.Contains(tt.msg, "\r\nMIME-Version") != (strings.Count(got, "\r\nMIME-Version") == 1 && !strings.HasPrefix(got, "MIME-Version")) && tt.text == ascii {
				t.Errorf("MIME-Version\n%s", got)
			}
		})
	}
}

func TestHTML(t *testing.T) {
	head := strings.Replace(plainHead, "text/plain", "text/html", 1)
	doc := "<html><body><p>gr\xfcezi</p></body></html>\r\n"
	want := "<html><body><p>grüezi</p>\n" + legalHTML + "\n"
	tests := []struct{ name, msg string }{
		{"8bit", head + "iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + doc},
		{"quoted-printable", head + "iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + qp(doc)},
		{"quoted-printable, the tag is cut", head + "iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body><p>gr=FCezi</p></bo=\r\ndy></html>\r\n"},
		{"base64", head + "iso-8859-1\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(doc)},
	}
	for _, tt := range tests {
		for _, pad := range []string{"", "x", "xx"} {
			msg := tt.msg
			if tt.name == "base64" {
				msg = head + "iso-8859-1\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(pad+doc)
			}
			got, why := put(t, New(Options{Text: legal}), msg)
			s := shown(t, got)
			if why != "" || len(s) != 1 || !strings.HasPrefix(strings.TrimLeft(s[0], "x"), want) || !strings.HasSuffix(strings.TrimRight(s[0], "\n"), "</body></html>") {
				t.Errorf("%s: %s %q\n%s", tt.name, why, s, got)
			}
			if _, why := put(t, New(Options{Text: legal}), got); why != WhyShown {
				t.Errorf("%s: put twice", tt.name)
			}
		}
	}
	for _, doc := range []string{"<p>x</p>", "<p>x</p></html>", "x</BODY>"} {
		got, why := put(t, New(Options{HTML: "<b>footer of ours</b>"}), head+"us-ascii\r\n\r\n"+doc)
		if why != "" || !strings.Contains(got, "\r\n<b>footer of ours</b>\r\n") {
			t.Errorf("%q: %s\n%s", doc, why, got)
		}
	}
}

const alternative = "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n" +
	"--m\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n" +
	"--a\r\nContent-Type: multipart/related; boundary=r\r\n\r\n--r\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<body>hello</body>\r\n--r\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--r--\r\n" +
	"\r\n--a--\r\n--m\r\nContent-Type: text/plain; name=notes.txt\r\nContent-Disposition: attachment\r\n\r\nnotes\r\n--m--\r\n"

func TestEveryAlternativeGetsItAndNoFileDoes(t *testing.T) {
	got, why := put(t, New(Options{Text: ascii, HTML: "<i>" + ascii + "</i>"}), alternative)
	s := shown(t, got)
	if why != "" || len(s) != 2 || !strings.HasSuffix(s[0], "hello\n\n"+ascii+"\n") || s[1] != "<body>hello\n<i>"+ascii+"</i>\n</body>" {
		t.Errorf("%s %q", why, s)
	}
	if strings.Count(got, ascii) != 2 || !strings.Contains(got, "\r\nnotes\r\n--m--\r\n") {
		t.Error(got)
	}
}

func TestWhatIsLeftAlone(t *testing.T) {
	signed := "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=s\r\n\r\n" +
		"--s\r\nContent-Type: text/plain\r\n\r\nhello\r\n--s\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n\r\nx\r\n--s--\r\n"
	list := "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=l\r\n\r\n--l\r\n" + signed[strings.Index(signed, "Content-Type"):] + "\r\n--l--\r\n"
	tests := []struct{ name, msg, want string }{
		{"S/MIME, signed", signed, WhySigned},
		{"S/MIME, signed, within", list, WhySigned},
		{"S/MIME, encrypted", "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\nMIIB\r\n", WhySigned},
		{"PGP/MIME", strings.ReplaceAll(signed, "pkcs7", "pgp"), WhySigned},
		{"PGP in the text", "From: a@example.com\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nhello\r\n", WhySigned},
		{"DKIM", "DKIM-Signature: v=1\r\nFrom: a@example.com\r\n\r\nhello\r\n", WhyDKIM},
		{"a reply", "From: a@example.com\r\n\r\nyes\r\n\r\n> hello\r\n> This message is\r\n> confidential.\r\n", WhyShown},
		{"a file", "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n", WhyNoText},
		{"an invitation", "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\n", WhyNoText},
		{"an unknown character set", plainHead + "x-klingon\r\n\r\nhello\r\n", WhyCharset},
		{"8 bits of no character set", "From: a@example.com\r\n\r\ngr\xfcezi\r\n", WhyCharset},
		{"UTF-16", plainHead + "utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\naABpAA==\r\n", WhyCharset},
	}
	for _, tt := range tests {
		if got, why := put(t, New(Options{Text: ascii}), tt.msg); why != tt.want || got != tt.msg {
			t.Errorf("%s: %q, want %q\n%s", tt.name, why, tt.want, got)
		}
	}
	if got, why := put(t, New(Options{Text: ascii, Signed: true}), tests[5].msg); why != "" || !strings.Contains(got, ascii) {
		t.Errorf("asked to, with DKIM: %q\n%s", why, got)
	}
	if got, why := put(t, New(Options{Text: ascii, Repeat: true}), tests[6].msg); why != "" || !strings.Contains(got, ascii) {
		t.Errorf("asked to, in a reply: %q\n%s", why, got)
	}
	if New(Options{Text: " \n"}) != nil || New(Options{HTML: "<br>"}) != nil {
		t.Error("a footer of nothing")
	}
}

func FuzzEdits(f *testing.F) {
	f.Add(alternative)
	f.Add(plainHead + "utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\nZA==\r\n")
	f.Add(plainHead + "utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=3D=\r\n")
	f.Add("From: x\r\n\r\nhello")
	footer := New(Options{Text: legal})
	f.Fuzz(func(t *testing.T, msg string) {
		got, why := put(t, footer, msg)
		if why != "" {
			if got != msg {
				t.Errorf("changed though %s", why)
			}
			return
		}
		if isASCII([]byte(msg)) && !isASCII([]byte(got)) {
			t.Errorf("8 bits\n%q", got)
		}
	})
}
