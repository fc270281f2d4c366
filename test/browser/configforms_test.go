package browser_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/test/browser"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// TestAWebhookIsMadeAndTestedInTheBrowser gives a webhook its secret, sends a test event
// and saves it.
func TestAWebhookIsMadeAndTestedInTheBrowser(t *testing.T) {
	got := make(chan string, 1)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Header.Get("Webhook-Signature") + " " + string(body)
	}))
	defer hook.Close()
	g, b := configured(t)
	b.Go("/config")
	b.See("Recipients")
	b.Shot("config")
	b.Go("/config/admin#rows-webhook")
	// The gateway of the tests has an [admin] already.
	b.Fill("#new-webhook", "chat")
	b.Press("button[value='row-add:webhook']")
	b.Fill("[name='webhook.0.url']", hook.URL+"/told")
	b.Fill("[name='webhook.0.secret_file']", "chat.secret")
	open(b, "[name='webhook.0.secret_file']")
	b.Fill("[name='content.webhook.0.secret_file']", "0123456789 abcdef 0123456789")
	b.Expect("status of 422")
	if status := b.Press("button[formaction='/config/test-webhook']"); status != 422 {
		t.Errorf("what the configuration forbids is tested: %d", status)
	}
	b.See("is not https")
	open(b, "[name='webhook.0.allow_private']")
	browser.Eval[string](b, "document.querySelector(\"[name='webhook.0.allow_private']\").value = 'true'")
	b.Press("button[formaction='/config/test-webhook']")
	b.See("has taken a test event")
	b.Shot("config-webhook")
	select {
	case told := <-got:
		if !strings.HasPrefix(told, "v1,") || !strings.Contains(told, `"type":"test"`) {
			t.Errorf("told %s", told)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing was told")
	}
	b.Press(next)
	b.Fill("#why", "tell the chat")
	b.Click("input[name=later]")
	b.Press(apply)
	b.See("with the next start")
	if text := read(t, g.ConfigFile); !strings.Contains(text, "[[admin.webhook]]\nname = \"chat\"") {
		t.Errorf("the file is\n%s", text)
	}
	if secret := read(t, filepath.Join(g.Dir, "chat.secret")); secret != "0123456789 abcdef 0123456789\n" {
		t.Errorf("the secret is %q", secret)
	}
	b.Phone(true)
	b.Go("/config/admin")
	b.Shot("config-webhook-phone")
}

// open opens the closed parts of a page around an element.
func open(b *browser.Browser, selector string) {
	browser.Eval[bool](b, fmt.Sprintf(`(() => { const el = document.querySelector(%q); for (let d = el; d; d = d.parentElement) if (d.tagName === "DETAILS") d.open = true;
		el.closest(".field")?.querySelectorAll("details").forEach((d) => { d.open = true }); return true })()`, selector))
}

// TestAScriptHasLinesAndTestsInTheBrowser breaks a test of a script, is led to the line,
// and takes a script from a file.
func TestAScriptHasLinesAndTestsInTheBrowser(t *testing.T) {
	_, b := configured(t)
	b.Go("/config/files?kind=scripts")
	b.See("rules.star")
	b.Go("/config/file?path=rules.star")
	b.Fill("#raw", "def content(m):\n    return None\n\ndef test_nothing():\n    assert_eq(run(\"content\"), None)\n\ndef test_wrong():\n    assert_eq(1, 2)\n")
	if got := browser.Eval[string](b, "document.querySelector('.numbered pre').textContent.split('\\n').length + ''"); got != "9" {
		t.Errorf("the editor has %s numbers", got)
	}
	b.Press("button[value=test]")
	b.See("passed, ")
	b.See("test_wrong")
	b.Shot("config-script")
	b.Fill("#raw", "def content(m):\n    return nothing\n")
	b.Expect("status of 422")
	b.Press("button[value=test]")
	b.See("line 2")
	if got := browser.Eval[string](b, "(() => { document.querySelector('.problems button').click(); const a = document.querySelector('#raw'); return a.value.slice(a.selectionStart, a.selectionEnd) })()"); got != "    return nothing" {
		t.Errorf("led to %q", got)
	}
	if hidden := browser.Eval[bool](b, "document.querySelector('label.upload').hidden"); hidden {
		t.Error("a file cannot be taken")
	}
}

// TestACertificateIsFetchedPinnedAndTrusted pins the certificate that a mail server on
// this host has made itself, under a name that nobody calls it by. Mail goes there then,
// and no more when the server has another certificate.
func TestACertificateIsFetchedPinnedAndTrusted(t *testing.T) {
	cert, leaf := selfSigned(t)
	var now atomic.Pointer[tls.Certificate]
	now.Store(&cert)
	next := sink.Start(t, sink.Options{TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return now.Load(), nil }}})
	g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{Next: next.Addr, Transport: "tls = \"require\""}})
	b := browser.Open(t, g)
	b.SetUp("ada", browser.Password)
	b.Go("/config/certificates")
	browser.Eval[string](b, "document.querySelector('#transport').value = 'next'")
	b.Press("button[value=fetch]")
	b.See("Nobody has verified this")
	sum := sha256.Sum256(leaf.Raw)
	b.See(hex.EncodeToString(sum[:]))
	b.Shot("config-pin")
	b.Press("button[value=pin]")
	b.See("tls_name = \"mail.internal\"")
	b.Fill("#why", "compared on the console")
	b.Press(apply)
	b.See("The change is in use")
	other, _ := selfSigned(t)
	now.Store(&other)
	send(t, g, "pinned")
	gatepost.Eventually(t, "mail for a server with another certificate waits", 30*time.Second, func() bool {
		items, err := g.Queue()
		return err == nil && len(items) == 1 && strings.Contains(fmt.Sprint(items[0]), "certificate")
	})
	if n := len(next.Mails()); n != 0 {
		t.Errorf("%d messages came", n)
	}
	now.Store(&cert)
	if mails := next.WaitMails(t, 1, 30*time.Second); !strings.Contains(string(mails[0].Data), "pinned") || !mails[0].TLS {
		t.Errorf("there came %s", mails[0].Data)
	}
}

// send sends a message through the gateway.
func send(t *testing.T, g *gatepost.Instance, subject string) {
	t.Helper()
	c := g.Hello(gatepost.Trusted)
	defer c.Quit()
	r, err := c.Deliver("ada@example.com", []string{"bob@in.example"}, []byte("Subject: "+subject+"\r\n\r\nhello\r\n"))
	if err != nil || r.Code != 250 {
		t.Fatalf("%s is answered %v (%v)", subject, r, err)
	}
}

// selfSigned is a certificate of a mail server's own making.
func selfSigned(t *testing.T) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "mail.internal"}, DNSNames: []string{"mail.internal"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, cert
}

// TestWhatWaitsForAWebhookOutlivesAStop stops the gateway while a service is down: the
// event comes after the next start, with the same id.
func TestWhatWaitsForAWebhookOutlivesAStop(t *testing.T) {
	var up atomic.Bool
	refused, told := make(chan string, 100), make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !up.Load() {
			refused <- r.Header.Get("Webhook-Id")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		told <- r.Header.Get("Webhook-Id") + " " + string(body)
	}))
	defer hook.Close()
	g := gatepost.New(t, gatepost.Options{})
	text := read(t, g.ConfigFile) + fmt.Sprintf("\n[[admin.webhook]]\nname = \"chat\"\nurl = %q\nevents = [\"message\"]\nsecret_file = \"hook.secret\"\nallow_private = true\n", hook.URL)
	for name, text := range map[string]string{g.ConfigFile: text, filepath.Join(g.Dir, "hook.secret"): "0123456789abcdef0123\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	send(t, g, "wait for me")
	id := within(t, refused)
	g.Stop()
	up.Store(true)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	if got := within(t, told); !strings.HasPrefix(got, id+" ") || !strings.Contains(got, "wait for me") {
		t.Errorf("%s is told as %s", id, got)
	}
}

// within is what comes soon.
func within(t *testing.T, from chan string) string {
	t.Helper()
	select {
	case s := <-from:
		return s
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came")
		return ""
	}
}
