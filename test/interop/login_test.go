package interop

import (
	"bufio"
	"bytes"
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

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/peer"
	"gatepost/test/postfix"
	"gatepost/test/slapd"
	"gatepost/test/wire"
)

// asking are settings whose users are known to these blocks; more are the tables that
// the blocks name.
func asking(blocks, more string) gatepost.Settings {
	return gatepost.Settings{
		Listener: "auth = [\"PLAIN\", \"LOGIN\"]\nflows = { auth = \"people\" }",
		More: `
[users]
send_as = "own"
guard = { free = 1000, account_failures = 1000, network_failures = 2000 }
[[flow]]
name = "people"
stage = "auth"
blocks = [` + blocks + "]\n" + more,
	}
}

// login is the code with which a login is answered. Each has a session of its own.
func login(t *testing.T, g *gatepost.Instance, user, password string) (*wire.Conn, int) {
	t.Helper()
	c := g.Hello("")
	if r, err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil || r.Code != 220 {
		t.Fatalf("STARTTLS: %v, %v", r, err)
	}
	if r, err := c.Cmd("EHLO client.example"); err != nil || !r.Has("AUTH") {
		t.Fatalf("EHLO: %v, %v", r, err)
	}
	r, err := c.Cmd("AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	if err != nil {
		t.Fatal(err)
	}
	return c, r.Code
}

// wants tries logins and wants these codes.
func wants(t *testing.T, g *gatepost.Instance, tries ...any) {
	t.Helper()
	for i := 0; i < len(tries); i += 3 {
		user, password, want := tries[i].(string), tries[i+1].(string), tries[i+2].(int)
		c, code := login(t, g, user, password)
		c.Close()
		if code != want {
			t.Errorf("%s with %q: %d, want %d", user, password, code, want)
		}
	}
}

// sendsAs wants the code for MAIL with the sender.
func sendsAs(t *testing.T, c *wire.Conn, sender string, want int) {
	t.Helper()
	if r, err := c.Cmd("MAIL FROM:<%s>", sender); err != nil || r.Code != want {
		t.Errorf("MAIL FROM:<%s>: %v, %v, want %d", sender, r, err, want)
	}
	if r, err := c.Cmd("RSET"); err != nil || r.Code != 250 {
		t.Errorf("RSET: %v, %v", r, err)
	}
}

// byAnn is a message that ann wrote.
func byAnn(id string) ledger.Message {
	m := ledger.Wrap(id, []byte("text\r\n"))
	m.Data = bytes.Replace(m.Data, []byte("From: <sender@out.example>"), []byte("From: Ann <ann@in.example>"), 1)
	return m
}

// saslServer is what Postfix asks about passwords: the server's side of Dovecot's
// authentication protocol 1.2, with PLAIN. At ben it breaks down.
type saslServer struct {
	addr string

	mu    sync.Mutex
	asked int
}

// count is how many passwords it was asked about.
func (s *saslServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func startSASL(t *testing.T) *saslServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &saslServer{addr: ln.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go s.serve(c)
		}
	})
	return s
}

func (s *saslServer) serve(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00112233445566778899aabbccddeeff\nDONE\n")
	for lines := bufio.NewScanner(c); lines.Scan(); {
		words := strings.Split(lines.Text(), "\t")
		_, response, initial := strings.Cut(lines.Text(), "\tresp=")
		switch {
		case words[0] == "CONT" && len(words) == 3:
			response = words[2]
		case words[0] != "AUTH":
			continue
		case !initial:
			fmt.Fprintf(c, "CONT\t%s\t\n", words[1])
			continue
		}
		raw, _ := base64.StdEncoding.DecodeString(response)
		s.mu.Lock()
		s.asked++
		s.mu.Unlock()
		switch string(raw) {
		case "\x00ann@in.example\x00ann's s\u00e9cret":
			fmt.Fprintf(c, "OK\t%s\tuser=ann@in.example\n", words[1])
		case "\x00ben\x00any":
			return
		default:
			fmt.Fprintf(c, "FAIL\t%s\tuser=x\n", words[1])
		}
	}
}

// Users log in at the Postfix that their mailboxes are behind.
func TestUsersOfAPostfixLogIn(t *testing.T) {
	sasl := startSASL(t)
	cert := peer.NewCertificate(t, "postfix.example")
	p := startPostfix(t, postfix.Config{Params: map[string]string{
		"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": cert.CertFile, "smtpd_tls_key_file": cert.KeyFile, "smtpd_tls_auth_only": "yes",
		"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": "inet:" + sasl.addr, "smtpd_sasl_security_options": "noanonymous",
	}})
	transport := func(tls string) string {
		return fmt.Sprintf("[[transport]]\nname = \"mailboxes\"\nkind = \"smtp\"\nhosts = [%q]\ntls = %q\ntls_name = \"postfix.example\"\ntls_ca_file = %q\n", p.Addr, tls, cert.CertFile)
	}
	file := filepath.Join(t.TempDir(), "users.txt")
	if err := os.WriteFile(file, []byte("printer {PLAIN}printer-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	blocks := fmt.Sprintf("{ use = \"auth-file\", file = %q }, { use = \"auth-smtp\", transport = \"mailboxes\", timeout = \"5s\" }", file)
	g, next := pair(t, asking(blocks, transport("verify")))
	wants(t, g, "ann@in.example", "ann's s\u00e9cret", 235, "ann@in.example", "wrong", 535, "nobody", "wrong", 535, "ben", "any", 454,
		"printer", "printer-secret", 235, "printer", "wrong", 535)
	before := sasl.count()
	c, code := login(t, g, "ann@in.example", "ann's s\u00e9cret")
	if n := sasl.count(); code != 235 || n != before {
		t.Errorf("the second login: %d, Postfix was asked %d times more", code, n-before)
	}
	sendsAs(t, c, "ann@in.example", 250)
	sendsAs(t, c, "bob@in.example", 553)
	m := byAnn("from-ann")
	if r, err := c.Deliver("ann@in.example", []string{"eve@out.example"}, m.Data); err != nil || r.Code != 250 {
		t.Fatalf("mail of the user: %v, %v", r, err)
	}
	arrived(t, next, m.ID)

	// A Postfix that is down, or that we may give no password to, has said nothing.
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	wants(t, g, "ann@in.example", "ann's s\u00e9cret", 235, "ann@in.example", "wrong", 454, "printer", "printer-secret", 235)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	clear, _ := pair(t, asking(`{ use = "auth-smtp", transport = "mailboxes" }`, strings.Replace(transport("off"), "tls_name = \"postfix.example\"\ntls_ca_file = \""+cert.CertFile+"\"\n", "", 1)))
	wants(t, clear, "ann@in.example", "ann's s\u00e9cret", 454)
}

// Users log in at another Gatepost, over LOGIN, which is all that it offers, and
// without TLS, because the administrator wants it so.
func TestUsersOfAnotherGatepostLogIn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.txt")
	if err := os.WriteFile(file, []byte("ann {PLAIN}ann-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inner := asking(fmt.Sprintf("{ use = \"auth-file\", file = %q }", file), "")
	inner.TLS, inner.Listener = "off", "auth = [\"LOGIN\"]\nauth_without_tls = true\nflows = { auth = \"people\" }"
	back, _ := pair(t, inner)
	g, _ := pair(t, asking(`{ use = "auth-smtp", transport = "mailboxes", cleartext = true, cache_for = "0s" }`,
		fmt.Sprintf("[[transport]]\nname = \"mailboxes\"\nkind = \"smtp\"\nhosts = [%q]\ntls = \"off\"\n", back.SMTP)))
	wants(t, g, "ann", "ann-secret", 235, "ann", "wrong", 535, "ann", "ann-secret", 235, "nobody", "ann-secret", 535)
}

// people are users of a directory.
const people = `dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: uid=ann,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: ann
cn: Ann
sn: Berg
mail: ann.berg@in.example
mail: sales@in.example
userPassword: ann's secret
`

// Users are entries of a directory: found by name or address, and bound as.
func TestUsersOfADirectoryLogIn(t *testing.T) {
	cert := peer.NewCertificate(t, "ldap.example")
	p := slapd.Run(t, slapd.Config{LDIF: people, CertFile: cert.CertFile, KeyFile: cert.KeyFile})
	secret := filepath.Join(t.TempDir(), "ldap.pw")
	if err := os.WriteFile(secret, []byte(slapd.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	directory := fmt.Sprintf(`[[ldap]]
name = "ad"
url = %q
starttls = true
tls_ca_file = %q
tls_name = "ldap.example"
bind_dn = %q
password_file = %q
base = %q
filter = "(&(objectClass=inetOrgPerson)(|(uid=%%s)(mail=%%s)))"
`, p.URL, cert.CertFile, slapd.Admin, secret, slapd.Base)

	found, _ := pair(t, asking(`{ use = "auth-ldap", ldap = "ad", user_attribute = "uid" }`, directory))
	wants(t, found, "ann", "ann's secret", 235, "ann", "wrong", 535, "ann", "", 535, "nobody", "ann's secret", 535, "*", "ann's secret", 535)
	c, code := login(t, found, "Ann.Berg@in.example", "ann's secret")
	if code != 235 {
		t.Fatalf("by address: %d", code)
	}
	sendsAs(t, c, "sales@in.example", 250)
	sendsAs(t, c, "ann.berg@in.example", 250)
	sendsAs(t, c, "ann@in.example", 553)
	gatepost.Eventually(t, "the log has the name of the entry", patience, func() bool { return strings.Contains(found.MailLog(), " user=ann ") })

	bound, _ := pair(t, asking(`{ use = "auth-ldap", ldap = "ad", bind_as = "uid=%u,ou=people,dc=example,dc=com" }`, directory))
	wants(t, bound, "ann", "ann's secret", 235, "ann@in.example", "ann's secret", 235, "ann", "wrong", 535, "ann", "", 535, "ann,ou=people", "ann's secret", 535)
	p.Stop()
	wants(t, found, "ann", "ann's secret", 454)
	wants(t, bound, "ann", "ann's secret", 454)
}

// Users are those whom a web service says OK to.
func TestUsersOfAWebServiceLogIn(t *testing.T) {
	type request struct{ user, password, client, token string }
	var mu sync.Mutex
	var seen []request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one := request{r.FormValue("user"), r.FormValue("password"), r.FormValue("client"), r.Header.Get("Authorization")}
		mu.Lock()
		seen = append(seen, one)
		mu.Unlock()
		switch {
		case one.user == "broken":
			http.Error(w, "no database", http.StatusInternalServerError)
		case one.user == "stranger":
			w.WriteHeader(http.StatusForbidden)
		case one.user == "a&b=c" && one.password == "pass word&x=1":
			io.WriteString(w, "OK\n")
		default:
			io.WriteString(w, "NO\n")
		}
	}))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "api.token")
	if err := os.WriteFile(token, []byte("t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	service := func(private bool) string {
		return fmt.Sprintf("[[http]]\nname = \"api\"\nurl = %q\nmethod = \"POST\"\nbody = \"user={user}&password={password}&client={client}\"\nok_body = \"OK\"\ntoken_file = %q\nallow_private = %t\n",
			server.URL+"/auth", token, private)
	}
	g, _ := pair(t, asking(`{ use = "auth-http", http = "api" }`, service(true)))
	wants(t, g, "a&b=c", "pass word&x=1", 235, "a&b=c", "x", 535, "stranger", "x", 535, "broken", "x", 454)
	mu.Lock()
	if first := seen[0]; first != (request{"a&b=c", "pass word&x=1", "127.0.0.1", "Bearer t0ken"}) {
		t.Errorf("the service saw %+v", first)
	}
	mu.Unlock()

	// Without leave nothing goes to this host.
	barred := gatepost.New(t, gatepost.Options{Settings: asking(`{ use = "auth-http", http = "api" }`, service(false))})
	if out, err := barred.Run("check"); err == nil || !strings.Contains(err.Error(), "allow_private") {
		t.Errorf("check: %s, %v", out, err)
	}
}

// swaks logs in as mail programs do.
func TestSwaksLogsIn(t *testing.T) {
	peer.Require(t, "swaks")
	file := filepath.Join(t.TempDir(), "users.txt")
	if err := os.WriteFile(file, []byte("ann@in.example {PLAIN}ann-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g, next := pair(t, asking(fmt.Sprintf("{ use = \"auth-file\", file = %q }", file), ""))
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		m := byAnn("swaks-" + mechanism)
		args := []string{"--tls", "--auth", mechanism, "--auth-user", "ann@in.example", "--auth-password", "ann-secret", "--from", "ann@in.example", "--to", "eve@out.example"}
		if r := swaks(t, g, args, "--data", "@"+write(t, m.Data)); r.Status != 0 || !strings.Contains(r.Output, "235 2.7.0") {
			t.Fatalf("%s: status %d\n%s", mechanism, r.Status, r.Output)
		}
		got := arrived(t, next, m.ID)
		if !bytes.Contains(got.Data, []byte("with ESMTPSA")) {
			t.Errorf("%s: %s", mechanism, header(got))
		}
		args[6] = "wrong"
		if r := swaks(t, g, args); r.Status == 0 || !strings.Contains(r.Output, "535 5.7.8") {
			t.Errorf("%s with a wrong password: status %d\n%s", mechanism, r.Status, r.Output)
		}
	}
	if r := swaks(t, g, []string{"--auth", "PLAIN", "--auth-user", "ann@in.example", "--auth-password", "ann-secret"}); r.Status == 0 || strings.Contains(r.Output, "ann-secret") {
		t.Errorf("without TLS: status %d\n%s", r.Status, r.Output)
	}
}
