package dialogue

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/dkim"
	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// sealing is a gateway that passes mail for fwd@in.example on to elsewhere, sealed by
// gw.example, with its own mail signed.
type sealing struct {
	key   string // file
	names *dnstest.Server
}

func newSealing(t *testing.T) *sealing {
	t.Helper()
	s := &sealing{key: filepath.Join(t.TempDir(), "arc.pem")}
	record := gatepostCommand(t, "dkim", "new", "--domain", "in.example", "--selector", "arc", "--out", s.key)
	s.names = dnstest.Start(t, strings.Replace(record, " IN TXT", " 60 IN TXT", 1))
	return s
}

// settings are those of the gateway; listener is added.
func (s *sealing) settings(transport string) gatepost.Settings {
	return gatepost.Settings{
		Listener:  "flows = { content = \"in\" }",
		Transport: transport,
		More: fmt.Sprintf("[dns]\nservers = [%q]\n\n[rewrite]\nvirtual = [\"fwd@in.example far@elsewhere.example\"]\n\n"+
			"[[flow]]\nname = \"in\"\nstage = \"content\"\nblocks = [{ use = \"authres\" }]\n\n"+
			"[[dkim]]\nname = \"key\"\ndomain = \"in.example\"\nselector = \"arc\"\nkey_file = %q\n", s.names.Addr(), s.key),
	}
}

// verify checks what arrived with our own validator, which passes the suite of the
// standard's authors; no other one is at hand.
func (s *sealing) verify(t *testing.T, data []byte) *dkim.Verification {
	t.Helper()
	resolver, err := dns.New(dns.Config{Servers: []string{s.names.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := dkim.NewVerifier(dkim.VerifierConfig{Resolver: resolver}).Verify(t.Context(), dkim.Input{Body: bytes.NewReader(data)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const forwarded = "From: Ada <ada@out.example>\nTo: fwd@in.example\nSubject: forwarded\nDate: Mon, 23 Nov 2026 10:00:00 +0000\n\nhello\n"

// AUT-02: what is passed on is sealed, once at each gateway, and the seals hold.
func TestWhatIsPassedOnIsSealed(t *testing.T) {
	t.Parallel()
	k := newSealing(t)
	s := next(t, sink.Options{})
	// The last one takes mail for elsewhere, where the alias of the middle one sends it.
	last := behind(t, s, withDomain(k.settings(`arc = "key"`), "elsewhere.example"))
	middle := gatepost.Start(t, gatepost.Options{Settings: withNext(k.settings(`arc = "key"`), last.SMTP)})
	give(t, middle.Hello(""), "ada@out.example", "fwd@in.example", forwarded)
	m := s.WaitMails(t, 1, patience)[0]
	v := k.verify(t, m.Data)
	if v.ARC.Status != dkim.Pass || len(v.ARC.Sets) != 2 || v.ARC.Oldest != 0 {
		t.Fatalf("%+v\n%s", v.ARC, m.Data)
	}
	first, second := v.ARC.Sets[0], v.ARC.Sets[1]
	if first.CV != dkim.None || first.Sealer != "in.example" || !strings.HasPrefix(first.Results, "gw.example.com;") || !strings.Contains(first.Results, "dkim=none") || strings.Contains(first.Results, "\tarc=") {
		t.Errorf("first set: %+v", first)
	}
	if second.CV != dkim.Pass || !strings.Contains(second.Results, "\tarc=pass") || !strings.Contains(second.Results, "header.oldest-pass=0") {
		t.Errorf("second set: %+v", second)
	}
	if len(v.Signatures) != 0 {
		t.Errorf("a stranger's mail is signed: %+v", v.Signatures)
	}
}

// withNext and withDomain change settings.
func withNext(s gatepost.Settings, addr string) gatepost.Settings {
	s.Next = addr
	return s
}

func withDomain(s gatepost.Settings, domain string) gatepost.Settings {
	s.More = strings.Replace(s.More, "[[flow]]", fmt.Sprintf("[[domain]]\nname = %q\ntransport = \"next\"\n\n[[flow]]", domain), 1)
	return s
}

// RFC 8617 §5.1: a chain that is broken is said to be once, and then left alone; what
// changes a message before it is sealed does not break it.
func TestBrokenChainsAreSealedOnce(t *testing.T) {
	t.Parallel()
	k := newSealing(t)
	s := next(t, sink.Options{})
	g := behind(t, s, k.settings(`arc = "key"`))
	c := g.Hello("")
	give(t, c, "ada@out.example", "fwd@in.example", forwarded)
	sealed := string(s.WaitMails(t, 1, patience)[0].Data)

	broken := strings.Replace(sealed, "hello", "hallo", 1)
	give(t, c, "ada@out.example", "fwd@in.example", strings.ReplaceAll(broken, "\r\n", "\n"))
	again := string(s.WaitMails(t, 2, patience)[1].Data)
	if v := k.verify(t, []byte(again)); v.ARC.Status != dkim.Fail || strings.Count(again, "ARC-Seal:") != 2 || !strings.Contains(again, "cv=fail") {
		t.Errorf("%+v\n%s", v.ARC, again)
	}
	give(t, c, "ada@out.example", "fwd@in.example", strings.ReplaceAll(again, "\r\n", "\n"))
	third := string(s.WaitMails(t, 3, patience)[2].Data)
	if strings.Count(third, "ARC-Seal:") != 2 {
		t.Errorf("sealed once more\n%s", third)
	}
}

// Our key vouches for our people only: a forged author of ours that an alias leads out
// again leaves with a seal that tells, and without a signature. Mail of our own leaves
// with a signature and no seal.
func TestNoKeyOfOursSignsWhatStrangersForge(t *testing.T) {
	t.Parallel()
	k := newSealing(t)
	s := next(t, sink.Options{})
	g := behind(t, s, k.settings("arc = \"key\"\ndkim = [\"key\"]"))
	forged := strings.Replace(forwarded, "ada@out.example", "boss@in.example", 1)
	give(t, g.Hello(""), "ada@out.example", "fwd@in.example", forged)
	v := k.verify(t, s.WaitMails(t, 1, patience)[0].Data)
	if len(v.Signatures) != 0 || v.ARC.Status != dkim.Pass {
		t.Errorf("forged: %+v", v)
	}
	c := g.Hello(gatepost.Trusted)
	give(t, c, "boss@in.example", "far@elsewhere.example", forged)
	v = k.verify(t, s.WaitMails(t, 2, patience)[1].Data)
	if len(v.Signatures) != 1 || v.Signatures[0].Status != dkim.Pass || v.ARC.Status != dkim.None {
		t.Errorf("our own: %+v", v)
	}
	give(t, c, "eve@third.example", "far@elsewhere.example", forwarded)
	if v = k.verify(t, s.WaitMails(t, 3, patience)[2].Data); len(v.Signatures) != 0 {
		t.Errorf("of a domain without a key: %+v", v)
	}
	gatepost.Eventually(t, "the log says that no key fits", patience, func() bool {
		return len(linesWith(g.MailLog(), "leaves without a DKIM signature")) == 1
	})
}
