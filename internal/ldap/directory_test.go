package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/test/peer"
	"gatepost/test/slapd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const people = `dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: uid=bob,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Bob
sn: Builder
uid: bob
mail: bob@example.com
mail: robert@example.com
userPassword: bob's secret

dn: uid=eve,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Eve
sn: *(weird)*
uid: eve
mail: eve@example.com

dn: cn=sales,dc=example,dc=com
objectClass: groupOfNames
objectClass: extensibleObject
cn: sales
mail: sales@example.com
member: uid=bob,ou=people,dc=example,dc=com

dn: ou=elsewhere,dc=example,dc=com
objectClass: referral
objectClass: extensibleObject
ou: elsewhere
ref: ldap://192.0.2.1/dc=other
`

func open(t testing.TB, cfg Config) *Directory {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func admin(urls ...string) Config {
	return Config{URLs: urls, Base: slapd.Base, BindDN: slapd.Admin, Password: slapd.Password}
}

func names(entries []Entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.DN)
	}
	return all
}

func TestSearchAgainstSlapd(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people})
	for _, url := range []string{p.URL, p.Socket} {
		d := open(t, admin(url))
		for _, tt := range []struct {
			name, filter, value string
			want                []string
		}{
			{"a person by address", "(mail=%s)", "BOB@example.com", []string{"uid=bob,ou=people,dc=example,dc=com"}},
			{"a group by address", "(&(objectClass=groupOfNames)(mail=%s))", "sales@example.com", []string{"cn=sales,dc=example,dc=com"}},
			{"the groups of a person", "(member=uid=%u,ou=people,dc=example,dc=com)", "bob@example.com", []string{"cn=sales,dc=example,dc=com"}},
			{"nobody", "(mail=%s)", "nobody@example.com", nil},
			{"a wildcard finds only who is called so", "(uid=%s)", "*", nil},
			{"an injection finds nobody", "(uid=%s)", "*)(uid=*))(|(uid=*", nil},
			{"special characters are found", "(sn=%s)", "*(weird)*", []string{"uid=eve,ou=people,dc=example,dc=com"}},
			{"no value", "(mail=%s)", "", nil},
		} {
			got, err := d.Search(t.Context(), tt.filter, tt.value, "mail")
			if err != nil || !slices.Equal(names(got), tt.want) {
				t.Errorf("%s: %v, %v", tt.name, names(got), err)
			}
		}
		got, err := d.Search(t.Context(), "(uid=%s)", "bob", "MAIL")
		if err != nil || len(got) != 1 || !slices.Equal(got[0].Get("Mail"), []string{"bob@example.com", "robert@example.com"}) || got[0].Get("cn") != nil {
			t.Errorf("attributes: %+v, %v", got, err)
		}
	}
}

func TestBindAgainstSlapd(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people})
	d := open(t, Config{URLs: []string{p.URL}, Sessions: 2})
	const bob = "uid=bob,ou=people,dc=example,dc=com"
	for _, tt := range []struct {
		name, user, password string
		want                 error
	}{
		{"right", bob, "bob's secret", nil},
		{"wrong password", bob, "bob's secret ", ErrCredentials},
		{"no password, which slapd here says yes to", bob, "", ErrCredentials},
		{"no name, which slapd here says yes to", "", "x", ErrCredentials},
		{"nobody", "uid=nobody,ou=people,dc=example,dc=com", "x", ErrCredentials},
		{"no password in the entry", "uid=eve,ou=people,dc=example,dc=com", "x", ErrCredentials},
		{"not a distinguished name", "bob", "x", ErrCredentials},
		{"right again, on the same connection", bob, "bob's secret", nil},
	} {
		if err := d.Bind(t.Context(), tt.user, tt.password); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// What was tried as a user's name must not leave its rights to a search, nor the
// other way round.
func TestConnectionsOfUsersAreNotUsedForSearches(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people, Conf: `access to * by dn.base="` + slapd.Admin + `" read by anonymous auth by * none`})
	d := open(t, admin(p.URL))
	for range 3 {
		if err := d.Bind(t.Context(), "uid=bob,ou=people,dc=example,dc=com", "bob's secret"); err != nil {
			t.Fatal(err)
		}
		got, err := d.Search(t.Context(), "(uid=%s)", "bob")
		if err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", names(got), err)
		}
	}
}

func TestEncryption(t *testing.T) {
	cert := peer.NewCertificate(t, "ldap.example")
	p := slapd.Run(t, slapd.Config{LDIF: people, CertFile: cert.CertFile, KeyFile: cert.KeyFile, Conf: "security simple_bind=128"})
	plain := slapd.Run(t, slapd.Config{LDIF: people})
	for _, tt := range []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"StartTLS", Config{URLs: []string{p.URL}, StartTLS: true, CAFile: cert.CertFile}, true},
		{"StartTLS with another name", Config{URLs: []string{p.URL}, StartTLS: true, CAFile: cert.CertFile, TLSName: "ldap.example"}, true},
		{"StartTLS with a name that is not the server's", Config{URLs: []string{p.URL}, StartTLS: true, CAFile: cert.CertFile, TLSName: "other.example"}, false},
		{"StartTLS with a certificate that nobody vouches for", Config{URLs: []string{p.URL}, StartTLS: true}, false},
		{"StartTLS that the server does not have", Config{URLs: []string{plain.URL}, StartTLS: true}, false},
		{"ldaps", Config{URLs: []string{p.Secure}, CAFile: cert.CertFile}, true},
		{"ldaps with a certificate that nobody vouches for", Config{URLs: []string{p.Secure}}, false},
		{"ldaps to a port that speaks ldap", Config{URLs: []string{strings.Replace(plain.URL, "ldap:", "ldaps:", 1)}, ConnectTimeout: time.Second}, false},
		{"no encryption where the server wants it", Config{URLs: []string{p.URL}}, false},
	} {
		err := open(t, tt.cfg).Bind(t.Context(), "uid=bob,ou=people,dc=example,dc=com", "bob's secret")
		if tt.ok != (err == nil) || errors.Is(err, ErrCredentials) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestAnotherServerAnswersWhereOneIsDown(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people})
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	cfg := admin("ldap://"+dead.Addr().String(), p.URL)
	var dials atomic.Int32
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == dead.Addr().String() {
			dials.Add(1)
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	d := open(t, cfg)
	for range 3 {
		if got, err := d.Search(t.Context(), "(uid=%s)", "bob"); err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		// A new connection for a bind.
		if err := d.Bind(t.Context(), "uid=bob,ou=people,dc=example,dc=com", "bob's secret"); err != nil {
			t.Fatal(err)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("the server that is down was tried %d times", n)
	}
	down := open(t, admin("ldap://"+dead.Addr().String()))
	if _, err := down.Search(t.Context(), "(uid=%s)", "bob"); err == nil {
		t.Error("no server, and no error")
	}
	if err := down.Bind(t.Context(), "uid=x,dc=y", "z"); err == nil || errors.Is(err, ErrCredentials) {
		t.Errorf("no server: %v", err)
	}
}

func TestARestartOfTheServerIsSurvived(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people})
	d := open(t, admin(p.URL))
	for range 2 {
		if got, err := d.Search(t.Context(), "(uid=%s)", "bob"); err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		p.Stop()
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestManyAskAtOnce(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people})
	cfg := admin(p.URL)
	cfg.Sessions = 3
	var open3, most atomic.Int32
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
		n := open3.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return &counted{Conn: nc, open: &open3}, err
	}
	d := open(t, cfg)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if i%2 == 0 {
				if got, err := d.Search(t.Context(), "(uid=%s)", "bob"); err != nil || len(got) != 1 {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if err := d.Bind(t.Context(), "uid=bob,ou=people,dc=example,dc=com", "wrong"); !errors.Is(err, ErrCredentials) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// As many may be idle as may be in use.
	if n := most.Load(); n > 6 {
		t.Errorf("%d connections at once", n)
	}
}

type counted struct {
	net.Conn
	open *atomic.Int32
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

func TestAnswersAreBounded(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people + `
dn: cn=big,dc=example,dc=com
objectClass: organizationalRole
cn: big
description: ` + strings.Repeat("x", 200_000) + "\n"})
	cfg := admin(p.URL)
	cfg.MaxEntries = 2
	if got, err := open(t, cfg).Search(t.Context(), "(|(uid=%s)(objectClass=*))", "x"); !errors.Is(err, ErrTooMany) {
		t.Errorf("entries: %v, %v", names(got), err)
	}
	cfg.MaxBytes = 100_000
	d := open(t, cfg)
	if got, err := d.Search(t.Context(), "(cn=%s)", "big"); !errors.Is(err, errTooLarge) {
		t.Errorf("bytes: %v, %v", names(got), err)
	}
	if got, err := d.Search(t.Context(), "(uid=%s)", "bob"); err != nil || len(got) != 1 {
		t.Errorf("after that: %v, %v", names(got), err)
	}
}

func TestAServerThatDoesNotAnswerIsLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- nc
		}
	}()
	for _, cfg := range []Config{
		{},
		{StartTLS: true, ConnectTimeout: 20 * time.Millisecond},
		{BindDN: "cn=x", Password: "y", ConnectTimeout: 20 * time.Millisecond},
	} {
		cfg.Timeout = 20 * time.Millisecond
		cfg.URLs = []string{"ldap://" + l.Addr().String()}
		d := open(t, cfg)
		if _, err := d.Search(t.Context(), "(uid=%s)", "bob"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("search: %v", err)
		}
		if err := d.Bind(t.Context(), "uid=bob,dc=x", "secret"); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "secret") {
			t.Errorf("bind: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	d := open(t, Config{URLs: []string{"ldap://" + l.Addr().String()}})
	go func() {
		// Wait until it was asked, then go away.
		for nc := range accepted {
			nc.Read(make([]byte, 1))
			cancel()
			io.Copy(io.Discard, nc)
			nc.Close()
		}
	}()
	if err := d.Bind(ctx, "uid=bob,dc=x", "secret"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people})
	cfg := admin(p.URL)
	cfg.Idle = time.Millisecond
	closed := make(chan struct{})
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &told{Conn: nc, closed: closed}, err
	}
	d := open(t, cfg)
	if _, err := d.Search(t.Context(), "(uid=%s)", "bob"); err != nil {
		t.Fatal(err)
	}
	<-closed
	d.Close()
	if _, err := d.Search(t.Context(), "(uid=%s)", "bob"); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

type told struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (c *told) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestConfigurationIsChecked(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "url: none"},
		{Config{URLs: []string{"http://x"}}, "want ldap://host"},
		{Config{URLs: []string{"ldap://"}}, "want ldap://host"},
		{Config{URLs: []string{"ldapi://x"}}, "path of a socket"},
		{Config{URLs: []string{"ldap://u:p@x"}}, "keys of their own"},
		{Config{URLs: []string{"ldap://x/dc=y?uid"}}, "keys of their own"},
		{Config{URLs: []string{"ldaps://x"}, StartTLS: true}, "encrypted from the start"},
		{Config{URLs: []string{"ldap://x"}, Scope: "deep"}, "scope:"},
		{Config{URLs: []string{"ldap://x"}, BindDN: "cn=x"}, "bind_dn:"},
		{Config{URLs: []string{"ldap://x"}, CAFile: "/nowhere"}, "tls_ca_file"},
		{Config{URLs: []string{"ldap://x"}, MaxEntries: -1}, "max_entries: below 0"},
	} {
		if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
	d := open(t, Config{URLs: []string{"ldap://192.0.2.1", "ldap://127.0.0.1", "ldapi:///run/x", "ldaps://192.0.2.2"}})
	if got := d.Cleartext(); !slices.Equal(got, []string{"ldap://192.0.2.1"}) {
		t.Errorf("in clear text: %q", got)
	}
	if d.tls.MinVersion != tls.VersionTLS12 {
		t.Error("TLS before 1.2 is taken")
	}
}
