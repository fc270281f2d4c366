package bayes

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

func TestWords(t *testing.T) {
	cases := []struct {
		name, text string
		want       []string
	}{
		{"words and numbers", "Buy 2 now, only $9.95!", []string{"Buy", "now", "only", "$9.95!"}},
		{"marks that join", "e-mail don't a.b@c.example -- 'quoted'", []string{"e-mail", "don't", "a.b@c.example", "quoted"}},
		{"accents", "Größe été Ελλάδα", []string{"Größe", "été", "Ελλάδα"}},
		{"scripts without spaces", "免费发票 ok", []string{"免费", "费发", "发票", "ok"}},
		{"one character of such a script", "票", []string{"票"}},
		{"a script that changes", "abc免费", []string{"abc", "免费"}},
		{"a long run", strings.Repeat("x", 100), []string{strings.Repeat("x", maxWord)}},
		{"a cut within a character", strings.Repeat("é", 100), []string{strings.Repeat("é", maxWord/2)}},
		{"nothing", " \t.,-- \x00\xff", nil},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			if got := slices.Collect(words(tt.text)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// tokensOf returns the tokens of a message as people see them.
func tokensOf(t testing.TB, limit int, text string) (shown []string, hashes []uint64) {
	t.Helper()
	in, err := scan.NewInput(context.Background(), mail.Message{Body: bytes.NewReader([]byte(text))}, scan.Inbound, scan.Options{})
	if err != nil {
		return nil, nil
	}
	c := New(Config{MessageTokens: limit})
	ts, err := c.tokenize(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer ts.release()
	for i := range ts.list {
		shown = append(shown, ts.list[i].String())
		hashes = append(hashes, ts.list[i].hash)
	}
	return shown, hashes
}

func TestTokensOfAMessage(t *testing.T) {
	const message = "Received: from mx.bad.example ([192.0.2.77]) by us; Mon, 1 Jan 2024 10:11:12 +0900\r\n" +
		"Date: Mon, 1 Jan 2024 10:11:12 +0900\r\n" +
		"From: =?utf-8?q?Gro=C3=9Fe?= Bank <info@mail.bank.example>\r\n" +
		"X-Mailer: MassSender 2.0\r\nX-Spam-Status: No\r\nX-Gatepost-Score: 1\r\n" +
		"Message-ID: <20240101.ABC@host.example>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
		"<p>vi<!-- x -->agra fr&#101;e =E5=85=8D=E8=B4=B9 <a href=3D\"http://user@www.shop.co.uk:8080/buy/now\">CLICK here</a></p>\r\n" +
		"--b\r\nContent-Type: application/pdf; name=\"Invoice.pdf.exe\"\r\n\r\nMZ\r\n--b--\r\n"
	shown, _ := tokensOf(t, 3000, message)
	for _, want := range []string{
		"viagra", "free", "viagra free", "免费", "caps:click", "host:www.shop.co.uk", "site:shop.co.uk", "path:buy", "url:(user)", "url:href",
		"from:info@mail.bank.example", "from:bank.example", "from:große", "from:utf-8 q", "received:192.0.2.77", "received:192.0.2", "received:mx.bad.example", "received:bad.example",
		"x-mailer:masssender", "has:x-mailer", "message-id:9.a", "message-id:host.example", "date:+0900",
		"file:invoice.pdf.exe", "file:.exe", "mime:multipart/mixed application/pdf", "mime:text/html quoted-printable",
	} {
		if !slices.Contains(shown, want) {
			t.Errorf("no token %q", want)
		}
	}
	for _, got := range shown {
		if strings.Contains(got, "spam-status") || strings.Contains(got, "gatepost") || strings.Contains(got, "10:11") || got == "vi" {
			t.Errorf("token %q", got)
		}
	}
	if t.Failed() {
		t.Logf("tokens: %q", shown)
	}
}

func TestTheSameWordsGiveTheSameTokens(t *testing.T) {
	_, lower := tokensOf(t, 3000, "Subject: cheap pills\r\n\r\nbuy größe\r\n")
	_, upper := tokensOf(t, 3000, "SUBJECT: Cheap Pills\r\n\r\nBuy GRÖSSE\r\n")
	_, mixed := tokensOf(t, 3000, "Subject: Cheap Pills\r\n\r\nBuy GRÖßE\r\n")
	if diff := cmp.Diff(lower, mixed); diff != "" {
		t.Error("case changes tokens: ", diff)
	}
	if slices.Equal(lower, upper) {
		t.Error("other words give the same tokens")
	}
}

// The hashes are in databases: a change of the function loses what was learned.
func TestHashesAreStable(t *testing.T) {
	ts := newTokens(10)
	defer ts.release()
	ts.add(kindWord, "Viagra")
	ts.add("subject:", "größe")
	ts.addPair(kindWord, "click", "here", 0)
	want := []uint64{0x133f6799f5817800, 0xc73904bc19a4b6e9, 0x10518bbd2cd55236}
	for i := range ts.list {
		if ts.list[i].hash != want[i] {
			t.Errorf("%s has the hash %#x, want %#x", &ts.list[i], ts.list[i].hash, want[i])
		}
	}
}

func FuzzTokens(f *testing.F) {
	f.Add("Subject: =?utf-8?b?4oKs?=\r\nFrom: a@b <\r\nReceived: from [1.2.3.4] id 7; x\r\n\r\nhttp://a.b/c?d 免费 \xff\xfe\r\n", 100)
	f.Add("Content-Type: text/html\r\nMessage-ID: <@>\r\nReferences: <\r\nDKIM-Signature: d=;s\r\nDate: \r\n\r\n<a href=//@:>x</a>\r\n", 5)
	f.Add("Subject:\r\n\r\n"+strings.Repeat("免", 50), 1)
	f.Fuzz(func(t *testing.T, message string, limit int) {
		limit = 1 + max(limit, -limit-1)%3000
		shown, hashes := tokensOf(t, limit, message)
		if len(shown) > limit {
			t.Errorf("%d tokens of %d", len(shown), limit)
		}
		seen := map[uint64]bool{}
		for i, h := range hashes {
			if seen[h] {
				t.Errorf("%q twice", shown[i])
			}
			seen[h] = true
			if len(shown[i]) > maxShown+len("…") {
				t.Errorf("%q is too long", shown[i])
			}
		}
		if _, again := tokensOf(t, limit, message); !slices.Equal(hashes, again) {
			t.Error("the same message has other tokens")
		}
		for w := range words(message) {
			if w == "" || !strings.Contains(message, w) || utf8.ValidString(message) && !utf8.ValidString(w) {
				t.Errorf("word %q", w)
			}
		}
	})
}
