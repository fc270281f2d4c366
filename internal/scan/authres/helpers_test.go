package authres_test

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/dkim"
	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
	"gatepost/internal/scan/authres"
	"gatepost/internal/smtp"
)

const (
	goodClient = "198.51.100.7"
	badClient  = "203.0.113.9"
)

// zone is the world that the tests live in; signer adds keys to it.
const zone = `
	example.org.              IN TXT "v=spf1 ip4:198.51.100.0/24 -all"
	_dmarc.example.org.       IN TXT "v=DMARC1; p=reject; sp=quarantine"
	soft.example.             IN TXT "v=spf1 ~all"
	watching.example.         IN TXT "v=spf1 -all"
	_dmarc.watching.example.  IN TXT "v=DMARC1; p=none"
	nopolicy.example.         IN TXT "v=spf1 -all"
	helo.example.             IN TXT "v=spf1 ip4:198.51.100.7 -all"
	bad.example.              IN TXT "v=spf1 foo"
	list.example.             IN TXT "v=spf1 ip4:203.0.113.9 -all"
	_dmarc.list.example.      IN TXT "v=DMARC1; p=none"
`

const plain = "From: Ann <ann@example.org>\r\nTo: bob@gw.example\r\nSubject: hello\r\nDate: Mon, 6 Jul 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nGood morning.\r\n"

// world is a name server with a zone and a resolver that asks it.
type world struct {
	server   *dnstest.Server
	resolver *dns.Resolver
}

func newWorld(t testing.TB) *world {
	t.Helper()
	s := dnstest.Start(t, zone)
	r, err := dns.New(dns.Config{Servers: []string{s.Addr()}, HostsFile: t.TempDir() + "/none", Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return &world{s, r}
}

// signer makes a key and publishes it.
func (w *world) signer(t testing.TB, domain, selector string) *dkim.Signer {
	t.Helper()
	key, err := dkim.GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	record, err := dkim.DNSRecord(selector, domain, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	w.server.Add(t, record.Name+`. IN TXT "`+record.Value()+`"`)
	s, err := dkim.NewSigner(domain, selector, key, dkim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type body struct{ *strings.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func content(text string) *message.Content {
	return message.NewContent(mail.Message{Envelope: &mail.Envelope{}, Body: body{strings.NewReader(text)}})
}

func sign(t testing.TB, s *dkim.Signer, text string) string {
	t.Helper()
	field, err := s.Sign(t.Context(), content(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(field) + text
}

// seal adds an ARC set.
func (w *world) seal(t testing.TB, s *dkim.Signer, results, text string) string {
	t.Helper()
	v, err := dkim.NewVerifier(dkim.VerifierConfig{Resolver: w.resolver}).Verify(t.Context(), dkim.Input{Body: body{strings.NewReader(text)}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := s.Seal(t.Context(), content(text), v.ARC.Status, results)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.Write(set)
	if _, err := io.WriteString(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// envelope is a message of a stranger.
func envelope(t testing.TB, client, sender string) *mail.Envelope {
	t.Helper()
	env := &mail.Envelope{ID: mail.NewID(), Received: time.Now(), Session: mail.Session{Helo: "helo.example"}}
	if client != "" {
		env.Session.Client = netip.AddrPortFrom(netip.MustParseAddr(client), 25000)
	}
	if sender != "" {
		a, err := smtp.ParseAddress(sender)
		if err != nil {
			t.Fatal(err)
		}
		env.Sender = a
	}
	return env
}

func (w *world) scan(t testing.TB, env *mail.Envelope, text string, trusted ...string) []mail.Finding {
	t.Helper()
	return w.scanAs(t, scan.Inbound, env, text, trusted...)
}

func (w *world) scanAs(t testing.TB, d scan.Direction, env *mail.Envelope, text string, trusted ...string) []mail.Finding {
	t.Helper()
	in, err := scan.NewInput(t.Context(), mail.Message{Envelope: env, Body: body{strings.NewReader(text)}}, d, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := authres.New(authres.Config{Resolver: w.resolver, ARCTrusted: trusted})
	findings, err := m.Scan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// symbols are the symbols with names, for comparison.
func symbols(list []mail.Finding) string {
	var words []string
	for _, f := range list {
		word := f.Symbol
		if f.Symbol == "dmarc:fail" {
			word += "=" + f.Name
		}
		if f.Result == mail.Unknown {
			word += "?"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func score(list []mail.Finding) float64 {
	sum := 0.0
	for _, f := range list {
		sum += f.Score
	}
	return sum
}
