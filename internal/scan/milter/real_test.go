package milter

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"gatepost/internal/mail"
	"gatepost/test/engines"
)

func realScanner(t *testing.T, address string) *Scanner {
	t.Helper()
	s, err := New(Config{Address: address, Hostname: "gw.example"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signed makes a message with a DKIM signature, and its key as OpenDKIM reads it.
func signed(t *testing.T, text string) (msg string, keys map[string]string) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	var b bytes.Buffer
	err := dkim.Sign(&b, strings.NewReader(text), &dkim.SignOptions{
		Domain: "client.example", Selector: "test", Signer: key,
		HeaderCanonicalization: dkim.CanonicalizationSimple, BodyCanonicalization: dkim.CanonicalizationSimple,
	})
	if err != nil {
		t.Fatal(err)
	}
	public := base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	return b.String(), map[string]string{"test._domainkey.client.example": "v=DKIM1; k=ed25519; p=" + public}
}

func TestRealOpenDKIM(t *testing.T) {
	long := strings.Repeat("A line of a text that is long enough to need some chunks.\r\n", 5000)
	msg, keys := signed(t, "From: Someone <sender@client.example>\r\nTo: one@here.example\r\nSubject:  two  spaces\r\n\tand a fold\r\n\r\n"+long)
	s := realScanner(t, engines.OpenDKIM(t, "filter.example", keys))

	t.Run("a good signature becomes a field", func(t *testing.T) {
		in := input(t, msg)
		found, err := s.Scan(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		prepend, cut := Edits(found, in.Header)
		all := strings.Join(prepend, "\n")
		if len(cut) > 0 || !strings.Contains(all, "Authentication-Results: filter.example;\r\n\tdkim=pass ") {
			t.Errorf("%q, %v, of %+v", prepend, cut, found)
		}
	})
	t.Run("a forged one is rejected", func(t *testing.T) {
		found, err := s.Scan(t.Context(), input(t, strings.Replace(msg, "long enough", "too long", 1)))
		if err != nil || len(found) != 1 || found[0].Symbol != "reject" || found[0].Result != mail.Match || !strings.Contains(found[0].Reason, "bad DKIM signature") {
			t.Errorf("%+v, %v", found, err)
		}
	})
	t.Run("forged results in its name go", func(t *testing.T) {
		in := input(t, "X-A: b\r\nAuthentication-Results: filter.example; dkim=pass\r\n"+msg)
		found, err := s.Scan(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		_, cut := Edits(found, in.Header)
		if len(cut) != 1 || cut[0] != in.Header.Fields()[1].Span {
			t.Errorf("%v of %+v", cut, found)
		}
	})
	t.Run("its results in our name are not taken", func(t *testing.T) {
		s := realScanner(t, s.cfg.Address)
		s.cfg.Hostname = "filter.example"
		found, err := s.Scan(t.Context(), input(t, msg))
		if err != nil || len(found) == 0 {
			t.Fatalf("%+v, %v", found, err)
		}
		for _, f := range found {
			if f.Name == "Authentication-Results" && f.Symbol != "refused-edit" {
				t.Errorf("%+v", f)
			}
		}
	})
}

func TestRealSpamassMilter(t *testing.T) {
	spamd := engines.Spamd(t)
	msg := "From: sender@client.example\r\nTo: one@here.example\r\nX-Spam-Status: No, forged\r\nSubject: %s\r\n\r\nHello\r\n"
	t.Run("ham gets a field and a forged one is replaced", func(t *testing.T) {
		s := realScanner(t, engines.SpamassMilter(t, spamd, "-m"))
		in := input(t, fmt.Sprintf(msg, "lunch"))
		found, err := s.Scan(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		prepend, cut := Edits(found, in.Header)
		all := strings.Join(prepend, "\n")
		if !strings.Contains(all, "X-Spam-Status: No, score=") || len(cut) != 1 || cut[0] != in.Header.Fields()[2].Span {
			t.Errorf("%q, %v, of %+v", prepend, cut, found)
		}
	})
	t.Run("spam is rejected where it is told to", func(t *testing.T) {
		s := realScanner(t, engines.SpamassMilter(t, spamd, "-m", "-r", "5"))
		found, err := s.Scan(t.Context(), input(t, fmt.Sprintf(msg, engines.Word)))
		if err != nil || len(found) != 1 || found[0].Symbol != "reject" || !strings.Contains(found[0].Reason, "Blocked by SpamAssassin") {
			t.Errorf("%+v, %v", found, err)
		}
	})
	t.Run("another body is a match", func(t *testing.T) {
		s := realScanner(t, engines.SpamassMilter(t, spamd))
		found, err := s.Scan(t.Context(), input(t, fmt.Sprintf(msg, engines.Word)))
		if err != nil {
			t.Fatal(err)
		}
		symbols := map[string]bool{}
		for _, f := range found {
			symbols[f.Symbol] = true
		}
		if !symbols["replace-body"] {
			t.Errorf("%+v", found)
		}
	})
}
