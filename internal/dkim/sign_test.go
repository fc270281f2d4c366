package dkim

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// body is a spooled message in memory.
type body struct{ *strings.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func content(s string) *message.Content {
	return message.NewContent(mail.Message{Envelope: &mail.Envelope{}, Body: body{strings.NewReader(s)}})
}

func crlfs(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func rfcFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/rfc8463", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func rfcKey(t testing.TB, name string) crypto.Signer {
	t.Helper()
	key, err := LoadKey(filepath.Join("testdata/rfc8463", name))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSigner(t testing.TB, keyFile string, opts Options) *Signer {
	t.Helper()
	s, err := NewSigner("example.org", strings.TrimSuffix(keyFile, ".pem"), rfcKey(t, keyFile), opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// secondOpinion verifies a message by another implementation.
func secondOpinion(t testing.TB, msg string) []*msgauth.Verification {
	t.Helper()
	lookup := func(name string) ([]string, error) {
		selector, domain, ok := strings.Cut(name, "._domainkey.")
		if !ok {
			return nil, fmt.Errorf("unexpected name %q", name)
		}
		// Not rfcKey: this runs in a goroutine of the verifier.
		key, err := LoadKey(filepath.Join("testdata/rfc8463", selector+".pem"))
		if err != nil {
			return nil, err
		}
		r, err := DNSRecord(selector, domain, key.Public())
		return []string{r.Value()}, err
	}
	list, err := msgauth.VerifyWithOptions(strings.NewReader(msg), &msgauth.VerifyOptions{LookupTXT: lookup})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func sign(t testing.TB, g Group, msg string) string {
	t.Helper()
	field, err := g.Sign(t.Context(), content(msg))
	if err != nil {
		t.Fatal(err)
	}
	return string(field)
}

const plainMail = "From: a@example.org\r\nTo: b@example.net\r\nSubject: x\r\nDate: Mon, 2 Jan 2006 15:04:05 +0000\r\n\r\nHello,  world \r\n\r\n"

func TestSignReproducesTheExampleOfRFC8463(t *testing.T) {
	msg := crlfs(rfcFile(t, "message.txt"))
	section, text, _ := strings.Cut(msg, "\r\n\r\n")
	header := message.ParseHeader([]byte(section + "\r\n"))
	var sum strings.Builder
	w := newBodyWriter(Relaxed, &sum)
	w.Write([]byte(text))
	w.Close()
	for i, keyFile := range []string{"ed25519.pem", "rsa.pem"} {
		t.Run(keyFile, func(t *testing.T) {
			field := strings.TrimSuffix(header.Fields()[i].Raw(), "\r\n")
			unsigned, want, _ := strings.Cut(field, "\r\n b=")
			s := newSigner(t, keyFile, Options{})
			names := strings.Split("from to subject date message-id from subject date", " ")
			got, err := s.sign(indexFields(header), names, unsigned+"\r\n b=")
			if err != nil {
				t.Fatal(err)
			}
			if got := base64.StdEncoding.EncodeToString(got); got != strings.ReplaceAll(want, "\r\n ", "") {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
	r := newReader(t.Context(), Group{newSigner(t, "rsa.pem", Options{})})
	r.Write([]byte(msg))
	if _, err := r.finish(); err != nil {
		t.Fatal(err)
	}
	if got, want := base64.StdEncoding.EncodeToString(r.bodyHash(Relaxed)), "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="; got != want {
		t.Errorf("body hash %s, want %s", got, want)
	}
}

// AUT-06: what another implementation makes of our signatures.
func TestASecondImplementationVerifies(t *testing.T) {
	const head = "From: a@example.org\r\nSubject: x\r\n"
	messages := map[string]string{
		"plain":                       plainMail,
		"no body":                     head + "\r\n",
		"body of empty lines":         head + "\r\n\r\n\r\n\r\n",
		"trailing empty lines":        head + "\r\ntext\r\n\r\n\r\n",
		"runs of white space":         head + "\r\na  b\t\tc \t\r\n \r\n\td\r\n",
		"no last line end":            head + "\r\ntext",
		"empty values":                "From: a@example.org\r\nSubject:\r\nTo: \r\nCc:\t\r\n\r\nx\r\n",
		"folded fields":               "From: a@example.org\r\nSubject: x\r\n\ty\r\n  z \r\nReferences: <a>\r\n <b>\r\n\r\nx\r\n",
		"the same field many times":   "From: a@example.org\r\nTo: 1@x\r\nTo: 2@x\r\nto: 3@x\r\nCc: 4@x\r\nTO: 5@x\r\n\r\nx\r\n",
		"two From":                    "From: a@example.org\r\nFrom: b@example.org\r\n\r\nx\r\n",
		"8-bit header and body":       "From: ä <a@example.org>\r\nSubject: ö\r\n\r\nü\r\n",
		"every field that is signed":  strings.Join(defaultFields(), ": x\r\n") + ": x\r\n\r\nx\r\n",
		"a signature that is there":   "DKIM-Signature: v=1; a=rsa-sha256; d=x; s=y; h=from; bh=; b=\r\n" + plainMail,
		"a body above many buffers":   head + "\r\n" + strings.Repeat("A line  of text \r\n", 20_000),
		"a header above many buffers": head + strings.Repeat("X-Long: "+strings.Repeat("y", 900)+"\r\n", 200) + "\r\nx\r\n",
	}
	for name, msg := range messages {
		t.Run(name, func(t *testing.T) {
			for _, opts := range []Options{{}, {Body: Simple}, {Header: Simple}, {Header: Simple, Body: Simple}} {
				g := Group{newSigner(t, "rsa.pem", opts), newSigner(t, "ed25519.pem", opts)}
				for i, v := range secondOpinion(t, sign(t, g, msg)+msg)[:2] {
					if v.Err != nil {
						t.Errorf("%s of %v/%v: %v", []string{"rsa", "ed25519"}[i], opts.Header, opts.Body, v.Err)
					}
				}
			}
		})
	}
}

func TestSignaturesBreakWhenTheMessageIsChanged(t *testing.T) {
	g := Group{newSigner(t, "rsa.pem", Options{}), newSigner(t, "ed25519.pem", Options{})}
	signed := sign(t, g, plainMail) + plainMail
	tests := []struct{ name, old, replacement string }{
		{"a byte of the body", "Hello", "Hallo"},
		{"text after the body", "world \r\n", "world \r\nmore\r\n"},
		{"a byte of a signed field", "Subject: x", "Subject: y"},
		{"a second From on top", "From: a@", "From: e@evil.example\r\nFrom: a@"},
		{"a second From below", "\r\n\r\nHello", "\r\nFrom: e@evil.example\r\n\r\nHello"},
		{"a second Subject", "Subject: x", "Subject: free money\r\nSubject: x"},
		{"a second Date", "Date: ", "Date: Tue, 3 Jan 2006 15:04:05 +0000\r\nDate: "},
		{"a Reply-To where none was", "Subject: x", "Reply-To: e@evil.example\r\nSubject: x"},
		{"a Cc where none was", "Subject: x", "Cc: e@evil.example\r\nSubject: x"},
		{"a tag of the signature", "d=example.org", "d=example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.ReplaceAll(signed, tt.old, tt.replacement)
			if changed == signed {
				t.Fatal("nothing was changed")
			}
			for _, v := range secondOpinion(t, changed) {
				if v.Err == nil {
					t.Errorf("still verifies:\n%s", changed)
				}
			}
		})
	}
}

func TestSignaturesSurviveWhatServersDo(t *testing.T) {
	g := Group{newSigner(t, "rsa.pem", Options{})}
	signed := sign(t, g, plainMail) + plainMail
	for name, changed := range map[string]string{
		"a Received on top":       "Received: from x by y; Mon, 2 Jan 2006 15:04:05 +0000\r\n" + signed,
		"a Message-ID added":      strings.Replace(signed, "Subject:", "Message-ID: <x@y>\r\nSubject:", 1),
		"MIME fields added":       strings.Replace(signed, "Subject:", "MIME-Version: 1.0\r\nSubject:", 1),
		"trailing space stripped": strings.Replace(signed, "world \r\n", "world\r\n", 1),
		"a field folded":          strings.Replace(signed, "Subject: x", "subject:\r\n x", 1),
	} {
		for _, v := range secondOpinion(t, changed) {
			if v.Err != nil {
				t.Errorf("%s: %v", name, v.Err)
			}
		}
	}
}

func TestSignatureField(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		s := newSigner(t, "rsa.pem", Options{Expiry: 90 * time.Second, Identity: "list@news.example.org"})
		field := sign(t, Group{s}, plainMail)
		if strings.Count(field, "DKIM-Signature:") != 1 || !strings.HasSuffix(field, "\r\n") || strings.HasSuffix(field, "\r\n\r\n") {
			t.Errorf("not one field: %q", field)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(field, "\r\n"), "\r\n") {
			if len(line) > lineWidth+2 {
				t.Errorf("line of %d characters: %q", len(line), line)
			}
			if !regexp.MustCompile(`^(DKIM-Signature: |\t)[!-~]`).MatchString(line) && !strings.HasPrefix(line, "\t\t") {
				t.Errorf("line %q", line)
			}
		}
		flat := strings.NewReplacer("\r\n", "", "\t", "").Replace(field)
		for _, want := range []string{
			"v=1;", "a=rsa-sha256;", "c=relaxed/relaxed;", "d=example.org;", "s=rsa;", "i=list@news.example.org;",
			fmt.Sprintf("t=%d; x=%d;", now, now+90), "h=from:from:reply-to:subject:subject:date:date:to:to:cc;",
		} {
			if !strings.Contains(flat, want) {
				t.Errorf("%q is missing in %q", want, flat)
			}
		}
		if strings.Contains(flat, "l=") {
			t.Errorf("there is an l= in %q", flat)
		}
	})
}

func TestFieldsAreChosenByOptions(t *testing.T) {
	tests := []struct {
		name string
		opts Options
		in   string
		want string
	}{
		{"only the given ones", Options{Fields: []string{"Subject", "From"}, Oversign: []string{}}, "From: a\r\nSubject: b\r\nTo: c\r\n", "subject:from"},
		{"From in any case", Options{Fields: []string{"Subject"}, Oversign: []string{}}, "From: a\r\nFrom: b\r\n", "from:from"},
		{"oversigned without occurring", Options{Fields: []string{"From"}, Oversign: []string{"X-A", "x-a"}}, "From: a\r\n", "from:x-a"},
		{"each name once", Options{Fields: []string{"From", "from", "FROM"}, Oversign: []string{}}, "From: a\r\n", "from"},
		{"a field with space before its colon", Options{Fields: []string{"From"}, Oversign: []string{}}, "From : a\r\n", "from"},
		{"no more than a bound of one name", Options{Fields: []string{"From", "To"}, Oversign: []string{"to"}}, "From: a\r\n" + strings.Repeat("To: b\r\n", 1000),
			"from:" + strings.Join(slices.Repeat([]string{"to"}, maxInstances), ":")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSigner(t, "ed25519.pem", tt.opts)
			got := strings.Join(s.fieldNames(indexFields(message.ParseHeader([]byte(tt.in)))), ":")
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			msg := tt.in + "\r\nx\r\n"
			for _, v := range secondOpinion(t, sign(t, Group{s}, msg)+msg) {
				if v.Err != nil {
					t.Error(v.Err)
				}
			}
		})
	}
}

func TestSignCoversTheEdits(t *testing.T) {
	spooled := "X-Forged: x\r\n" + plainMail
	c := message.NewContent(mail.Message{
		Envelope: &mail.Envelope{Edits: mail.Edits{
			Prepend: []byte("Message-ID: <x@y>\r\n"), Cut: []mail.Span{{Start: 0, End: 13}},
		}},
		Body: body{strings.NewReader(spooled)},
	})
	field, err := newSigner(t, "rsa.pem", Options{}).Sign(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if _, err := c.Prepend(field).Reader().WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), ":message-id:") {
		t.Errorf("Message-ID is not signed: %s", field)
	}
	if v := secondOpinion(t, out.String()); len(v) != 1 || v[0].Err != nil {
		t.Errorf("%+v", v)
	}
}

func TestSignRefuses(t *testing.T) {
	s := newSigner(t, "rsa.pem", Options{MaxHeader: 1000})
	big := "From: a\r\nX: " + strings.Repeat("y", 1000) + "\r\n\r\nx"
	if _, err := s.Sign(t.Context(), content(big)); !errors.Is(err, errHeaderTooBig) {
		t.Errorf("a header above the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Sign(ctx, content(plainMail)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: %v", err)
	}
	if field, err := (Group{}).Sign(t.Context(), content(plainMail)); err != nil || len(field) != 0 {
		t.Errorf("nobody signs: %q, %v", field, err)
	}
}

func TestNewSignerRefuses(t *testing.T) {
	key := rfcKey(t, "ed25519.pem")
	tests := []struct {
		name, domain, selector, identity string
	}{
		{"an empty domain", "", "s1", ""},
		{"an empty selector", "example.org", "", ""},
		{"a domain with a line end", "example.org\r\nX: y", "s1", ""},
		{"a selector with a semicolon", "example.org", "s1; x", ""},
		{"an identity elsewhere", "example.org", "s1", "@example.com"},
		{"an identity that only ends alike", "example.org", "s1", "@notexample.org"},
		{"an identity without @", "example.org", "s1", "example.org"},
		{"an identity with a semicolon", "example.org", "s1", "a;b@example.org"},
	}
	for _, tt := range tests {
		if _, err := NewSigner(tt.domain, tt.selector, key, Options{Identity: tt.identity}); err == nil {
			t.Errorf("%s is taken", tt.name)
		}
	}
}

func BenchmarkSign4kB(b *testing.B) {
	msg := "From: a@example.org\r\nSubject: x\r\n\r\n" + strings.Repeat("A line of text as it is found in mail.\r\n", 100)
	for _, key := range []string{"rsa.pem", "ed25519.pem"} {
		b.Run(key, func(b *testing.B) {
			s := newSigner(b, key, Options{})
			c := content(msg)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Sign(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
