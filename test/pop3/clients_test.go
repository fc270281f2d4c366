package pop3

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/test/clamd"
	"gatepost/test/dovecot"
	"gatepost/test/gatepost"
	"gatepost/test/peer"
)

// A program that people fetch mail with: it is run in a directory of its own, and
// prints or leaves there what it fetched.
type program struct {
	name string
	// needs is what must be installed.
	needs string
	// files are written first, run is the command line; both with HOST, PORT, USER,
	// PASSWORD, DIR and CERT in them.
	files map[string]string
	run   []string
	stdin string
	tls   bool
}

var programs = []program{
	{name: "curl", needs: "curl", run: []string{"sh", "-c", "for i in 1 2 3; do curl -sS --max-time 30 -u 'USER:PASSWORD' pop3://HOST:PORT/$i || exit 1; done"}},
	{name: "curl with STLS", needs: "curl", tls: true, run: []string{"sh", "-c", "for i in 1 2 3; do curl -sS --max-time 30 --ssl-reqd --cacert CERT -u 'USER:PASSWORD' pop3://HOST:PORT/$i || exit 1; done"}},
	{name: "Python's poplib", needs: "python3", run: []string{"python3", "-c", `
import poplib, sys
p = poplib.POP3("HOST", PORT, timeout=30)
p.capa(); p.user("USER"); p.pass_("PASSWORD")
n, _ = p.stat()
for i in range(1, n + 1):
    sys.stdout.buffer.write(b"\n".join(p.retr(i)[1]) + b"\n"); p.top(i, 3); p.uidl(i)
p.quit()
`}},
	{name: "Python's poplib with STLS and APOP", needs: "python3", tls: true, run: []string{"python3", "-c", `
import poplib, ssl, sys
p = poplib.POP3("HOST", PORT, timeout=30)
p.stls(ssl.create_default_context(cafile="CERT"))
p.apop("USER", "PASSWORD")
for i in range(1, p.stat()[0] + 1):
    sys.stdout.buffer.write(b"\n".join(p.retr(i)[1]) + b"\n")
p.quit()
`}},
	{name: "Perl's Net::POP3", needs: "perl", run: []string{"perl", "-MNet::POP3", "-e", `
my $p = Net::POP3->new("HOST", Port => PORT, Timeout => 30) or die "connect";
my $n = $p->login("USER", "PASSWORD"); defined $n or die "login";
for my $i (sort { $a <=> $b } keys %{$p->list}) { print @{$p->get($i)}; $p->top($i, 2) }
$p->quit;
`}},
	{name: "mpop", needs: "mpop", files: map[string]string{"mpoprc": "account a\nhost HOST\nport PORT\nuser USER\npassword PASSWORD\nauth user\ntls off\nkeep on\ndelivery mbox DIR/out\nuidls_file DIR/uidls\n"},
		run: []string{"mpop", "-C", "DIR/mpoprc", "a"}},
	{name: "mpop with CRAM-MD5 and pipelining", needs: "mpop", files: map[string]string{"mpoprc": "account a\nhost HOST\nport PORT\nuser USER\npassword PASSWORD\nauth cram-md5\ntls off\npipelining on\nkeep on\ndelivery mbox DIR/out\nuidls_file DIR/uidls\n"},
		run: []string{"mpop", "-C", "DIR/mpoprc", "a"}},
	{name: "fetchmail", needs: "fetchmail", files: map[string]string{"rc": "poll HOST service PORT proto pop3 user \"USER\" password \"PASSWORD\" keep fetchall sslproto '' mda \"cat >> DIR/out\"\n"},
		run: []string{"fetchmail", "-f", "DIR/rc", "--pidfile", "DIR/pid", "-i", "DIR/ids", "--nodetach", "--nosyslog"}},
	{name: "getmail", needs: "getmail", files: map[string]string{"getmailrc": "[retriever]\ntype = SimplePOP3Retriever\nserver = HOST\nport = PORT\nusername = USER\npassword = PASSWORD\n[destination]\ntype = MDA_external\npath = /bin/sh\narguments = (\"-c\", \"cat >> DIR/out\")\nallow_root_commands = true\n[options]\ndelete = false\n"},
		run: []string{"getmail", "--getmaildir", "DIR", "--rcfile", "getmailrc"}},
	{name: "openssl", needs: "openssl", tls: true, stdin: "USER USER\r\nPASS PASSWORD\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\nQUIT\r\n",
		run: []string{"sh", "-c", "openssl s_client -quiet -starttls pop3 -CAfile CERT -verify_return_error -connect HOST:PORT"}},
}

func TestClientsGetTheirMail(t *testing.T) {
	c := clamd.Run(t, clamd.Config{})
	addr := gatepost.FreeAddress(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cert := peer.NewCertificate(t, host)
	mails := clean(2)
	d := startDovecot(t, "joe", mails[0], infected("invoice"), mails[1])
	o := scanning(c)
	o.upstream = d.Addr
	o.listener = fmt.Sprintf("tls = \"starttls\"\ntls_cert_file = %q\ntls_key_file = %q\n", cert.CertFile, cert.KeyFile)
	o.addr = addr
	startProxy(t, o)
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			peer.Require(t, p.needs)
			dir := t.TempDir()
			fill := strings.NewReplacer("HOST", host, "PORT", port, "USER USER", "USER joe", "USER", "joe", "PASSWORD", dovecot.Password, "DIR", dir, "CERT", cert.CertFile)
			for name, text := range p.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(text)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var args []string
			for _, a := range p.run {
				args = append(args, fill.Replace(a))
			}
			r := peer.Run(t, fill.Replace(p.stdin), args[0], args[1:]...)
			out, _ := os.ReadFile(filepath.Join(dir, "out")) // some print it
			got := r.Output + string(out)
			for _, want := range []string{"Subject: mail 0", "Subject: mail 1", "Test.Eicar"} {
				if !strings.Contains(got, want) {
					t.Errorf("status %d, no %q in\n%.4000s", r.Status, want, got)
				}
			}
			if strings.Contains(got, string(clamd.EICAR()[:30])) {
				t.Error("the virus came through")
			}
		})
	}
}

// POP3S on both sides, with certificates that are verified.
func TestTLSOnBothSides(t *testing.T) {
	front, back := peer.NewCertificate(t, "localhost"), peer.NewCertificate(t, "127.0.0.1")
	d := dovecot.Run(t, dovecot.Config{Users: []string{"joe"}, CertFile: back.CertFile, KeyFile: back.KeyFile})
	if err := d.Put("joe", dovecot.Name(1), clean(1)[0]); err != nil {
		t.Fatal(err)
	}
	ours := fmt.Sprintf("tls = \"implicit\"\ntls_cert_file = %q\ntls_key_file = %q\nupstream_tls_ca_file = %q\n", front.CertFile, front.KeyFile, back.CertFile)
	for _, way := range []struct{ upstream, mode string }{{d.Secure, "implicit"}, {d.Addr, "starttls"}, {d.Addr, "opportunistic"}} {
		t.Run(way.mode, func(t *testing.T) {
			g := startProxy(t, options{upstream: way.upstream, listener: ours + fmt.Sprintf("upstream_tls = %q\n", way.mode)})
			conn, err := tls.Dial("tcp", g.Addr, &tls.Config{RootCAs: front.Pool, ServerName: "localhost"})
			if err != nil {
				t.Fatal(err)
			}
			c := over(t, conn)
			c.ok("USER joe")
			c.ok("PASS " + dovecot.Password)
			if got := c.list("RETR 1"); !strings.Contains(string(got), "Subject: mail 0") {
				t.Errorf("%s", got)
			}
			c.ok("QUIT")
		})
	}
	t.Run("a certificate that is not the right one", func(t *testing.T) {
		other := peer.NewCertificate(t, "127.0.0.1")
		g := startProxy(t, options{upstream: d.Secure, listener: fmt.Sprintf("upstream_tls = \"implicit\"\nupstream_tls_ca_file = %q\n", other.CertFile)})
		if c := dial(t, g.Addr); !strings.HasPrefix(c.greeting, "-ERR") {
			t.Errorf("greeted with %s", c.greeting)
		}
	})
}
