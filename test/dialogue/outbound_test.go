package dialogue

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"gatepost/test/gatepost"
	"gatepost/test/peer"
	"gatepost/test/sink"
)

// TLS-07: what each policy makes of what the next hop offers.
func TestTLSToTheNextHop(t *testing.T) {
	t.Parallel()
	good := peer.NewCertificate(t, "sink.example")
	other, twin := peer.NewCertificate(t, "other.example"), peer.NewCertificate(t, "sink.example")
	refuse := sink.Fail(sink.StartTLS, "454 4.7.0 no TLS today")
	trust := fmt.Sprintf("tls_name = \"sink.example\"\ntls_ca_file = %q\n", good.CertFile)
	wrongName := fmt.Sprintf("tls_name = \"sink.example\"\ntls_ca_file = %q\n", other.CertFile)
	none := peer.Certificate{}
	expired := expiredCertificate(t, "sink.example")
	stale := fmt.Sprintf("tls_name = \"sink.example\"\ntls_ca_file = %q\n", expired.CertFile)
	tests := []struct {
		name, policy string
		cert         peer.Certificate
		script       sink.Script
		want         string // "TLS", "clear" or the error
	}{
		{"require, not offered", `tls = "require"`, none, nil, "451 4.7.4"},
		{"require, refused", `tls = "require"`, good, refuse, "454 4.7.0"},
		{"require, offered with any certificate", `tls = "require"`, other, nil, "TLS"},
		{"verify, not offered", `tls = "verify"`, none, nil, "451 4.7.4"},
		{"verify, good", "tls = \"verify\"\n" + trust, good, nil, "TLS"},
		{"verify, of an authority that is not trusted", "tls = \"verify\"\n" + trust, twin, nil, "451 4.7.5"},
		{"verify, for another name", "tls = \"verify\"\n" + wrongName, other, nil, "451 4.7.5"},
		{"verify, expired", "tls = \"verify\"\n" + stale, expired, nil, "451 4.7.5"},
		{"opportunistic, expired", `tls = "opportunistic"`, expired, nil, "TLS"},
		{"opportunistic, not offered", `tls = "opportunistic"`, none, nil, "clear"},
		{"opportunistic, refused", `tls = "opportunistic"`, good, refuse, "clear"},
		{"opportunistic, offered", `tls = "opportunistic"`, other, nil, "TLS"},
		{"off", `tls = "off"`, good, nil, "clear"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := sink.Options{Script: tt.script}
			if tt.cert.CertFile != "" {
				o.TLS = &tls.Config{Certificates: []tls.Certificate{tt.cert.TLS}}
			}
			s := next(t, o)
			g := behind(t, s, gatepost.Settings{Transport: tt.policy})
			give(t, g.Hello(""), "ada@out.example", "bob@in.example", message)
			if tt.want == "TLS" || tt.want == "clear" {
				if m := s.WaitMails(t, 1, patience)[0]; m.TLS != (tt.want == "TLS") {
					t.Errorf("delivered with TLS: %v", m.TLS)
				}
				if tt.script != nil {
					gatepost.Eventually(t, "the log says that it went in clear text", patience, func() bool {
						return len(linesWith(g.MailLog(), "TLS failed, going on in clear text")) == 1
					})
				}
				return
			}
			deferred(t, g, tt.want)
			if raw := strings.Join(s.Wire(), ""); strings.Contains(raw, "MAIL") || strings.Contains(raw, "secret") {
				t.Errorf("in clear text: %q", raw)
			}
		})
	}
}

// expiredCertificate is a certificate that was good until an hour ago.
func expiredCertificate(t *testing.T, name string) peer.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := peer.Certificate{CertFile: filepath.Join(t.TempDir(), "expired.pem"), TLS: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	if err := os.WriteFile(c.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// deferred waits until the only item in the queue has that error.
func deferred(t *testing.T, g *gatepost.Instance, want string) {
	t.Helper()
	last := ""
	ok := gatepost.Holds(patience, func() bool {
		rows, err := g.Queue()
		if err != nil || len(rows) != 1 {
			t.Fatalf("queue: %v, %v", rows, err)
		}
		last = orEmpty(rows[0]["last_error"])
		return strings.Contains(last, want)
	})
	if !ok {
		t.Errorf("last error %q, want %q", last, want)
	}
}

// RFC 8689: a message under REQUIRETLS goes on under verified TLS to those who
// know it, or not at all.
func TestRequireTLSIsKept(t *testing.T) {
	t.Parallel()
	cert := peer.NewCertificate(t, "sink.example")
	trust := fmt.Sprintf("tls = \"verify\"\ntls_name = \"sink.example\"\ntls_ca_file = %q\n", cert.CertFile)
	config := &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
	tests := []struct {
		name, transport string
		o               sink.Options
		delivered       bool
	}{
		{"the next hop knows it", trust, sink.Options{TLS: config, Extensions: []string{"REQUIRETLS", "SIZE 1000000"}}, true},
		{"the next hop does not", trust, sink.Options{TLS: config}, false},
		{"the next hop has no TLS", trust, sink.Options{Extensions: []string{"REQUIRETLS"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, reports := next(t, tt.o), next(t, sink.Options{})
			g := behind(t, reports, gatepost.Settings{More: "[[domain]]\nname = \"strict.example\"\ntransport = \"strict\"\n" +
				"[[transport]]\nname = \"strict\"\nkind = \"smtp\"\nhosts = [\"" + s.Addr + "\"]\n" + tt.transport})
			c := g.Hello("")
			say(t, c, "MAIL FROM:<ada@out.example> REQUIRETLS", "530 5.7.10")
			if r, err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
				t.Fatalf("%v, %v", r, err)
			}
			say(t, c, "EHLO client.example", "250")
			send(t, c, "<ada@out.example> REQUIRETLS", "<bob@strict.example>", message)
			if tt.delivered {
				if m := s.WaitMails(t, 1, patience)[0]; !m.TLS || !strings.Contains(m.From, " REQUIRETLS") {
					t.Errorf("TLS %v, MAIL %s", m.TLS, m.From)
				}
				return
			}
			theReport(t, reports, "bob@strict.example", "failed", "5.7.30")
			if raw := strings.Join(s.Wire(), ""); strings.Contains(raw, "secret") || len(s.Mails()) != 0 {
				t.Errorf("went out: %q", raw)
			}
		})
	}
}

// gatepostCommand runs a command that needs no configuration.
func gatepostCommand(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(os.Getenv(gatepost.BinaryVar), args...).Output()
	if err != nil {
		t.Fatalf("gatepost %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// record is the name and the text of a line that "dkim new" prints.
func record(t *testing.T, line string) (name, text string) {
	t.Helper()
	name, rest, ok := strings.Cut(strings.TrimSpace(line), ". IN TXT (")
	if !ok {
		t.Fatalf("not a TXT record: %q", line)
	}
	for i, part := range strings.Split(rest, `"`) {
		if i%2 == 1 {
			text += part
		}
	}
	return name, text
}

// What leaves by a transport with keys is signed, for the authors of the keys'
// domains, over the bytes that the next hop gets; and it is another
// implementation that says so.
func TestDKIMSignaturesAreGood(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	zone := map[string]string{}
	var names []string
	var more strings.Builder
	for _, kind := range []string{"rsa2048", "ed25519"} {
		file := filepath.Join(dir, kind+".pem")
		name, text := record(t, gatepostCommand(t, "dkim", "new", "--domain", "out.example", "--selector", kind, "--type", kind, "--out", file))
		zone[name] = text
		names = append(names, fmt.Sprintf("%q", kind))
		fmt.Fprintf(&more, "[[dkim]]\nname = %q\ndomain = \"out.example\"\nselector = %q\nkey_file = %q\n", kind, kind, file)
	}
	s := next(t, sink.Options{Extensions: []string{"PIPELINING"}}) // seven bits: it signs what it converted
	g := behind(t, s, gatepost.Settings{Transport: "dkim = [" + strings.Join(names, ", ") + "]", More: more.String()})
	c := g.Hello(gatepost.Trusted)
	big := "From: Ada <ada@out.example>\nSubject: a\n b\nTo: bob@in.example\n\n" + strings.ReplaceAll(lines(1<<20), "\r\n", "\n")
	mails := map[string]int{ // text and the number of signatures
		"From: Ada <ada@out.example>\nSubject: hello\n\n.\nbody\n\n\n": 2,
		"From: <ADA@OUT.EXAMPLE>\nSubject: no body\n\n":                2,
		strings.ReplaceAll(eightBits, "\r\n", "\n"):                    2,
		big: 2,
		"From: eve@other.example\nSubject: of another domain\n\nbody\n":          0,
		"From: ada@out.example\nFrom: eve@other.example\nSubject: two\n\nbody\n": 0,
	}
	want := map[string]int{}
	for text, n := range mails {
		want[subjectOf(crlf(text))] = n
		give(t, c, "ada@out.example", "bob@in.example", text)
	}
	for _, m := range s.WaitMails(t, len(mails), patience) {
		subject := subjectOf(string(m.Data))
		verdicts, err := dkim.VerifyWithOptions(bytes.NewReader(m.Data), &dkim.VerifyOptions{
			LookupTXT: func(name string) ([]string, error) { return []string{zone[name]}, nil },
		})
		if err != nil || len(verdicts) != want[subject] {
			t.Errorf("%s: %d signatures, %v, want %d", subject, len(verdicts), err, want[subject])
		}
		for _, v := range verdicts {
			if v.Err != nil || v.Domain != "out.example" {
				t.Errorf("%s: signature of %s: %v\n%.2000s", subject, v.Domain, v.Err, m.Data)
			}
		}
	}
}

func subjectOf(data string) string {
	_, rest, _ := strings.Cut(data, "Subject: ")
	line, _, _ := strings.Cut(rest, "\r\n")
	return line
}

// SMG-03: somebody else's signature is as good behind the gateway as before.
func TestSignaturesSurviveTheGateway(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key.pem")
	name, text := record(t, gatepostCommand(t, "dkim", "new", "--domain", "out.example", "--selector", "s", "--out", file))
	// A first gateway signs, the second one passes on.
	s := next(t, sink.Options{Extensions: []string{"8BITMIME", "CHUNKING"}})
	second := behind(t, s, gatepost.Settings{})
	first := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{Next: second.SMTP, Transport: `dkim = ["s"]`,
		More: fmt.Sprintf("[[dkim]]\nname = \"s\"\ndomain = \"out.example\"\nselector = \"s\"\nkey_file = %q\n", file)}})
	c := first.Hello(gatepost.Trusted)
	for _, data := range []string{eightBits, "From: ada@out.example\r\nX-Gatepost-Verdict: forged\r\nSubject:  odd \t spaces \r\n\r\n..\r\n.\r\n \r\n\r\n\r\n"} {
		give(t, c, "ada@out.example", "bob@in.example", strings.ReplaceAll(data, "\r\n", "\n"))
	}
	for _, m := range s.WaitMails(t, 2, patience) {
		verdicts, err := dkim.VerifyWithOptions(bytes.NewReader(m.Data), &dkim.VerifyOptions{
			LookupTXT: func(n string) ([]string, error) { return map[string][]string{name: {text}}[n], nil },
		})
		if err != nil || len(verdicts) != 1 || verdicts[0].Err != nil {
			t.Errorf("%+v, %v\n%s", verdicts, err, m.Data)
		}
	}
}

// RFC 2033 §4.2: an LMTP server answers the message for each recipient.
func TestLMTPHasAnAnswerForEachRecipient(t *testing.T) {
	t.Parallel()
	answers := "250 2.1.5 <good> kept\r\n550 5.2.2 <full> is full\r\n451 4.3.0 <busy> later"
	tried := 0
	s := next(t, sink.Options{Script: func(st sink.Step) sink.Reaction {
		switch {
		case st.Stage == sink.Other && strings.HasPrefix(st.Line, "LHLO "):
			return sink.Reaction{Reply: "250-lmtp.example\r\n250-PIPELINING\r\n250 8BITMIME"}
		case st.Stage == sink.Ehlo, st.Stage == sink.Helo:
			return sink.Reaction{Reply: "500 5.5.1 this is LMTP", Close: true}
		case st.Stage == sink.RcptTo && strings.Contains(st.Line, "<nobody@"):
			return sink.Reaction{Reply: "550 5.1.1 nobody"}
		case st.Stage == sink.EOD:
			if tried++; tried == 1 {
				return sink.Reaction{Reply: answers}
			}
		}
		return sink.Reaction{}
	}})
	reports := next(t, sink.Options{})
	g := behind(t, reports, gatepost.Settings{More: fmt.Sprintf("[[domain]]\nname = \"boxes.example\"\ntransport = \"boxes\"\n"+
		"[[transport]]\nname = \"boxes\"\nkind = \"lmtp\"\nhosts = [%q]\nretry = { delays = [\"1s\"] }\n", s.Addr)})
	give(t, g.Hello(""), "ada@out.example", "good@boxes.example,nobody@boxes.example,full@boxes.example,busy@boxes.example", message)
	mails := s.WaitMails(t, 2, patience)
	if got := strings.Join(mails[0].To, " "); got != "<good@boxes.example> <full@boxes.example> <busy@boxes.example>" {
		t.Errorf("first to %s", got)
	}
	if got := strings.Join(mails[1].To, " "); got != "<busy@boxes.example>" {
		t.Errorf("then to %s, want the one who was busy", got)
	}
	r := readReport(t, reports.WaitMails(t, 1, patience)[0])
	if len(r.recipients) != 2 || r.recipients[0].Get("Status") != "5.1.1" || r.recipients[1].Get("Diagnostic-Code") != "smtp; 550 5.2.2 <full> is full" {
		t.Errorf("report about %v", r.recipients)
	}
	drained(t, g)
	if len(s.Mails()) != 2 || len(reports.Mails()) != 1 {
		t.Errorf("%d deliveries, %d reports", len(s.Mails()), len(reports.Mails()))
	}
}

func TestMaildirsGetTheMailOfTheirUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reports := next(t, sink.Options{})
	g := behind(t, reports, gatepost.Settings{More: "[[domain]]\nname = \"boxes.example\"\ntransport = \"boxes\"\n" +
		"[[transport]]\nname = \"boxes\"\nkind = \"maildir\"\npath = \"" + dir + "/{domain}/{user}\"\n"})
	c := g.Hello(gatepost.Trusted)
	id := give(t, c, "ada@out.example", `Bob@boxes.example,eve@boxes.example,"../../evil"@boxes.example,"a/b"@boxes.example`, "Subject: x\nDate: x\nMessage-ID: <1@out.example>\n\n.\nbody\n")
	send(t, c, "<ada@out.example>", "<success@boxes.example> NOTIFY=SUCCESS", message)
	var failed, done report
	for _, m := range reports.WaitMails(t, 2, patience) {
		if r := readReport(t, m); r.recipients[0].Get("Action") == "failed" {
			failed = r
		} else {
			done = r
		}
	}
	if len(failed.recipients) != 2 || failed.recipients[0].Get("Status") != "5.1.3" {
		t.Errorf("report about %v", failed.recipients)
	}
	// A maildir is the end of the way: nothing is only "relayed" there.
	if len(done.recipients) != 1 || done.recipients[0].Get("Action") != "delivered" {
		t.Errorf("report about %v", done.recipients)
	}
	drained(t, g)
	for user, to := range map[string]string{"bob": "Bob@boxes.example", "eve": "eve@boxes.example"} {
		files, err := filepath.Glob(filepath.Join(dir, "boxes.example", user, "new", "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s has %v, %v", user, files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		compare(t, user, "Return-Path: <ada@out.example>\nDelivered-To: "+to+"\nReceived: from client.example ([127.0.0.2])\n\tby gw.example.com with ESMTP id "+
			id+";\n\t*\nSubject: x\nDate: x\nMessage-ID: <1@out.example>\n\n.\nbody\n", string(text))
		info, err := os.Stat(files[0])
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	if all, err := filepath.Glob(filepath.Join(dir, "*", "*")); err != nil || len(all) != 3 {
		t.Errorf("maildirs %v, %v", all, err)
	}
	if outside, err := filepath.Glob(filepath.Join(dir, "..", "evil*")); err != nil || len(outside) != 0 {
		t.Errorf("outside of the maildirs: %v", outside)
	}
}

// A transport logs in before it sends, under TLS where it was told to use it, and
// nobody finds the password in a log.
func TestLoginAtTheNextHop(t *testing.T) {
	t.Parallel()
	const password = "correct horse"
	b64 := base64.StdEncoding.EncodeToString
	mac := hmac.New(md5.New, []byte(password))
	mac.Write([]byte("<1@sink>"))
	cert := peer.NewCertificate(t, "sink.example")
	tests := []struct {
		mechanism string
		replies   []string // to AUTH and the lines after it
		lines     []string // what the gateway says
	}{
		{"PLAIN", []string{"334 ", "235 2.7.0 in"}, []string{"AUTH PLAIN", b64([]byte("\x00gw\x00" + password))}},
		{"LOGIN", []string{"334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0 in"}, []string{"AUTH LOGIN", b64([]byte("gw")), b64([]byte(password))}},
		{"CRAM-MD5", []string{"334 " + b64([]byte("<1@sink>")), "235 2.7.0 in"}, []string{"AUTH CRAM-MD5", b64([]byte("gw " + hex.EncodeToString(mac.Sum(nil))))}},
		{"CRAM-MD5", []string{"334 " + b64([]byte("<1@sink>")), "535 5.7.8 no"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.mechanism+" "+tt.replies[len(tt.replies)-1][:3], func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pw")
			if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			said := 0
			s := next(t, sink.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert.TLS}}, Extensions: []string{"AUTH PLAIN LOGIN CRAM-MD5"},
				Script: func(st sink.Step) sink.Reaction {
					if st.Stage == sink.Auth || st.Stage == sink.Other && st.Line != "QUIT" && said > 0 {
						said++
						return sink.Reaction{Reply: tt.replies[(said-1)%len(tt.replies)]}
					}
					return sink.Reaction{}
				}})
			g := behind(t, s, gatepost.Settings{Global: "log_level = \"debug\"", Transport: fmt.Sprintf(
				"tls = \"require\"\nauth = { mechanism = %q, username = \"gw\", password_file = %q }\n", tt.mechanism, file)})
			give(t, g.Hello(""), "ada@out.example", "bob@in.example", message)
			if tt.lines == nil {
				deferred(t, g, "535 5.7.8")
			} else {
				s.WaitMails(t, 1, patience)
				mustContain(t, "the wire", s.Wire()[0], strings.Join(tt.lines, "\r\n")+"\r\nMAIL FROM:")
				drained(t, g)
			}
			g.Stop()
			for _, secret := range []string{password, b64([]byte(password)), b64([]byte("\x00gw\x00" + password))} {
				if strings.Contains(g.MailLog()+g.Output(), secret) {
					t.Errorf("the log holds %q", secret)
				}
			}
		})
	}
}
