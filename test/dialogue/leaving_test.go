package dialogue

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/dkim"
	"gatepost/internal/dns/dnstest"
	"gatepost/test/gatepost"
	"gatepost/test/peer"
	"gatepost/test/sink"
)

// A disclaimer is in what leaves before it is signed, in each of its forms, and not in
// what stays within.
func TestDisclaimersStandUnderTheSignature(t *testing.T) {
	t.Parallel()
	k := newSealing(t)
	text := filepath.Join(t.TempDir(), "legal.txt")
	if err := os.WriteFile(text, []byte("Example Ltd., Köln – all rights reserved\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := next(t, sink.Options{})
	settings := k.settings(`dkim = ["key"]`)
	settings.More = fmt.Sprintf("[[disclaimer]]\nname = \"legal\"\ntext_file = %q\n", text) +
		filter("legal", `sender = "@in.example"`, `then = "disclaimer:legal"`, `direction = "outbound"`) +
		strings.Replace(settings.More, `{ use = "authres" }`, `{ use = "authres" }, { use = "filters" }`, 1)
	g := behind(t, s, settings)
	c := g.Hello(gatepost.Trusted)
	html := base64.StdEncoding.EncodeToString([]byte("<html><body>hello</body></html>"))
	mixed := "From: boss@in.example\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n" +
		"--b\nContent-Type: text/plain; charset=us-ascii\n\nhello\n--b\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n" + html + "\n--b--\n"
	give(t, c, "boss@in.example", "far@elsewhere.example", mixed)
	m := s.WaitMails(t, 1, patience)[0]
	data := string(m.Data)
	if v := k.verify(t, m.Data); len(v.Signatures) != 1 || v.Signatures[0].Status != dkim.Pass {
		t.Errorf("%+v", v)
	}
	for _, want := range []string{"Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n\r\nExample Ltd., K=C3=B6ln", "--b--\r\n"} {
		if !strings.Contains(data, want) {
			t.Errorf("no %q in\n%s", want, data)
		}
	}
	_, encoded, _ := strings.Cut(data, "Content-Transfer-Encoding: base64\r\n\r\n")
	encoded, _, _ = strings.Cut(encoded, "--b--")
	doc, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(strings.TrimSpace(encoded), "\r\n", ""))
	if err != nil || !strings.Contains(string(doc), "hello\r\n<p>Example Ltd., K&#246;ln &#8211; all rights reserved</p>") || !strings.HasSuffix(string(doc), "</body></html>") {
		t.Errorf("%v, %s", err, doc)
	}
	// A reply that quotes it, mail that stays, and what is signed already.
	for i, text := range []string{
		"From: boss@in.example\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\nyes\n\n> Example Ltd., Köln – all\n> rights reserved\n",
		"DKIM-Signature: v=1; a=rsa-sha256; d=in.example; s=x; h=from; bh=; b=\nFrom: boss@in.example\n\nhello\n",
	} {
		give(t, c, "boss@in.example", "far@elsewhere.example", text)
		if got := string(s.WaitMails(t, i+2, patience)[i+1].Data); !strings.HasSuffix(got, crlf(text)) {
			t.Errorf("changed:\n%s", got)
		}
	}
	give(t, c, "boss@in.example", "anna@in.example", mixed)
	if got := string(s.WaitMails(t, 4, patience)[3].Data); strings.Contains(got, "Example Ltd.") {
		t.Errorf("within:\n%s", got)
	}
}

// Spam of one's own people is held, and their good mail leaves.
func TestSpamFromInsideIsHeld(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("spam", `subject = "cheap pills"`, `then = "score:20"`, `direction = "outbound"`) +
		flowOf(`{ use = "filters" }, { use = "score", quarantine = 8 }`)})
	c := g.Hello(gatepost.Trusted)
	give(t, c, "boss@in.example", "far@elsewhere.example", "Subject: cheap pills\n\nx\n")
	give(t, c, "boss@in.example", "far@elsewhere.example", "Subject: invoice\n\nx\n")
	quarantine(t, g, 1)
	if m := s.WaitMails(t, 1, patience)[0]; !strings.Contains(string(m.Data), "Subject: invoice") {
		t.Errorf("%s", m.Data)
	}
}

// A retry line makes the sender know within minutes; here, seconds.
func TestAShortRetryTellsTheSenderSoon(t *testing.T) {
	t.Parallel()
	reports := next(t, sink.Options{})
	dead := gatepost.FreeAddress(t)
	g := behind(t, reports, gatepost.Settings{More: fmt.Sprintf("[[domain]]\nname = \"dead.example\"\ntransport = \"dead\"\n\n"+
		"[[transport]]\nname = \"dead\"\nkind = \"smtp\"\nhosts = [%q]\nretry = { delays = [\"1s\"], give_up_after = \"2s\" }\n", dead)})
	give(t, g.Hello(""), "ada@in.example", "bob@dead.example", message)
	theReport(t, reports, "bob@dead.example", "failed", "4.4.1")
	drained(t, g)
}

// policyHost serves the MTA-STS policy of sts.example behind a proxy for HTTPS, as the
// port 443 is not ours to listen on.
type policyHost struct {
	mu     sync.Mutex
	policy string
	proxy  *httptest.Server
}

func newPolicyHost(t *testing.T, cert peer.Certificate) *policyHost {
	t.Helper()
	h := &policyHost{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, h.policy)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
	server.StartTLS()
	t.Cleanup(server.Close)
	h.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "mta-sts.sts.example:443" {
			http.Error(w, r.Host, http.StatusForbidden)
			return
		}
		tunnel(t, w, server.Listener.Addr().String())
	}))
	t.Cleanup(h.proxy.Close)
	return h
}

// tunnel joins a client with a server.
func tunnel(t *testing.T, w http.ResponseWriter, to string) {
	up, err := net.Dial("tcp", to)
	if err != nil {
		t.Error(err)
		return
	}
	defer up.Close()
	client, read, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		t.Error(err)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		// What goes wrong here is what the client sees.
		_, _ = io.Copy(up, read) // what was read ahead, too
		_ = up.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, up)
	_ = client.(*net.TCPConn).CloseWrite()
	wg.Wait()
}

// RFC 8461: a domain that says so gets its mail at its own hosts under verified TLS, or
// not at all, also after a restart while nobody can be asked; and why is in the queue.
func TestThePolicyOfADomainIsKept(t *testing.T) {
	t.Parallel()
	cert := peer.NewCertificate(t, "mta-sts.sts.example", "mx.sts.example")
	host := newPolicyHost(t, cert)
	host.policy = "version: STSv1\nmode: enforce\nmx: mx.sts.example\nmax_age: 86400\n"
	names := dnstest.Start(t, "sts.example. 60 IN MX 10 mx.sts.example.\nmx.sts.example. 60 IN A 127.0.0.1\n_mta-sts.sts.example. 0 IN TXT \"v=STSv1; id=1\"\n")
	good := next(t, sink.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert.TLS}}})
	_, port, err := net.SplitHostPort(good.Addr)
	if err != nil {
		t.Fatal(err)
	}
	more := fmt.Sprintf("[dns]\nservers = [%q]\n[[domain]]\nname = \"sts.example\"\ntransport = \"mx\"\n"+
		"[[transport]]\nname = \"mx\"\nkind = \"mx\"\nport = %s\nretry = { delays = [\"1s\"] }\ntimeouts = { idle = \"100ms\" }\n", names.Addr(), port)
	g := gatepost.Start(t, gatepost.Options{
		Settings: gatepost.Settings{More: more},
		Env:      []string{"HTTPS_PROXY=" + host.proxy.URL, "SSL_CERT_FILE=" + cert.CertFile, "SSL_CERT_DIR=/nonexistent"},
	})
	give(t, g.Hello(""), "ada@out.example", "bob@sts.example", message)
	if m := good.WaitMails(t, 1, patience)[0]; !m.TLS {
		t.Error("delivered without TLS")
	}
	g.Stop()
	host.proxy.Close()
	names.Script("_mta-sts.sts.example", "TXT", dnstest.Behaviour{Rcode: "NXDOMAIN"})
	good.Close()
	next(t, sink.Options{Addr: good.Addr}) // somebody on the way hides STARTTLS
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	give(t, g.Hello(""), "ada@out.example", "bob@sts.example", message)
	deferred(t, g, "451 4.7.4")
	deferred(t, g, "TLS is required by the MTA-STS policy of sts.example (enforce)")
}

// RFC 8460: a day that is over is told to the domain, signed, also when the gateway was
// down when it ended.
func TestTLSReportsAreSent(t *testing.T) {
	t.Parallel()
	k := newSealing(t)
	names := dnstest.Start(t, "_smtp._tls.sts.example. 60 IN TXT \"v=TLSRPTv1; rua=mailto:tls@reports.example\"\n")
	s := next(t, sink.Options{})
	g := gatepost.New(t, gatepost.Options{Settings: gatepost.Settings{Next: s.Addr, Transport: "dkim = [\"key\"]", More: fmt.Sprintf("[dns]\nservers = [%q]\n"+
		"[tls_reports]\nenabled = true\nfrom = \"tls@in.example\"\n[[dkim]]\nname = \"key\"\ndomain = \"in.example\"\nselector = \"arc\"\nkey_file = %q\n"+
		"[[transport]]\nname = \"mx\"\nkind = \"mx\"\n[[domain]]\nname = \"sts.example\"\ntransport = \"mx\"\n", names.Addr(), k.key)}})
	dir := filepath.Join(g.DataDir, "tls-reports")
	day := `{"date":"2026-01-02","domains":{"sts.example":{"policies":[{"policy":{"policy-type":"no-policy-found"},"successes":3}]}}}`
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "2026-01-02.json"), []byte(day), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	m := s.WaitMails(t, 1, patience)[0]
	if !strings.Contains(m.To[0], "<tls@reports.example>") || !strings.Contains(string(m.Data), "TLS-Report-Domain: sts.example\r\n") {
		t.Errorf("%v\n%s", m.To, m.Data)
	}
	if v := k.verify(t, m.Data); len(v.Signatures) != 1 || v.Signatures[0].Status != dkim.Pass {
		t.Errorf("%+v", v)
	}
	gatepost.Eventually(t, "the day is forgotten", patience, func() bool {
		list, err := os.ReadDir(dir)
		return err == nil && len(list) == 0
	})
}
