package interop

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/peer"
	"gatepost/test/postfix"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// behind is a Gatepost that relays to a Postfix, which relays to a sink.
func behind(t *testing.T, s gatepost.Settings, c postfix.Config) (*gatepost.Instance, *postfix.Instance, *sink.Sink) {
	t.Helper()
	end := sink.Start(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME", "SMTPUTF8"}})
	c.Next = end.Addr
	p := startPostfix(t, c)
	s.Next = p.Addr
	return gatepost.Start(t, gatepost.Options{Settings: s}), p, end
}

func TestPostfixIsTheNextHop(t *testing.T) {
	g, _, end := behind(t, gatepost.Settings{}, postfix.Config{})
	tests := []struct {
		name, mail string
		to         string
		m          ledger.Message
	}{
		{"plain text with dots at line starts", "<sender@out.example>", "user@in.example", ledger.New(5000)},
		{"8 bits", "<sender@out.example> BODY=8BITMIME", "user@in.example",
			ledger.Wrap("eight", []byte("Grüße\r\n.\r\n..\r\n"), "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit")},
		{"internationalised addresses", "<müller@out.example> SMTPUTF8", "jürgen@in.example",
			ledger.Wrap("utf8", []byte("Grüße\r\n"), "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit")},
		{"a quoted local part", "<\"a b\"@out.example>", "\"c d\"@in.example", ledger.New(100)},
		{"the null sender", "<>", "user@in.example", ledger.New(100)},
		{"3 MB", "<sender@out.example>", "user@in.example", ledger.New(3 << 20)},
		{"no body", "<sender@out.example>", "user@in.example", ledger.Wrap("nobody", nil)},
	}
	c := g.Hello("")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, line := range []string{"MAIL FROM:" + tt.mail, "RCPT TO:<" + tt.to + ">", "DATA"} {
				if r, err := c.Cmd("%s", line); err != nil || r.Code/100 > 3 {
					t.Fatalf("%s: %v, %v", line, r, err)
				}
			}
			if err := c.Send(string(wire.Stuff(tt.m.Data)) + ".\r\n"); err != nil {
				t.Fatal(err)
			}
			if r, err := c.Reply(); err != nil || r.Code != 250 {
				t.Fatalf("final dot: %v, %v", r, err)
			}
			m := arrived(t, end, tt.m.ID)
			from, _, _ := strings.Cut(tt.mail, "> ")
			if !strings.HasPrefix(m.From, strings.TrimSuffix(from, ">")+">") || m.To[0] != "<"+tt.to+">" {
				t.Errorf("arrived from %s to %s", m.From, m.To)
			}
		})
	}
}

func TestTLSToPostfixIsVerified(t *testing.T) {
	addr := gatepost.FreeAddress(t)
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cert := peer.NewCertificate(t, "postfix.example", host)
	params := map[string]string{
		"smtpd_tls_security_level":  "encrypt",
		"smtpd_tls_cert_file":       cert.CertFile,
		"smtpd_tls_key_file":        cert.KeyFile,
		"smtpd_tls_received_header": "yes",
	}
	g, _, end := behind(t, gatepost.Settings{Transport: fmt.Sprintf("tls = \"verify\"\ntls_ca_file = %q", cert.CertFile)}, postfix.Config{Listen: addr, Params: params})
	m := ledger.New(1000)
	if r, err := g.Hello("").Deliver("sender@out.example", []string{"user@in.example"}, m.Data); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	mustContain(t, "trace header of Postfix", header(arrived(t, end, m.ID)), "using TLSv1.3")
}

func TestTLSToPostfixWithAStrangeCertificateDefers(t *testing.T) {
	addr := gatepost.FreeAddress(t)
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cert, other := peer.NewCertificate(t, "postfix.example", host), peer.NewCertificate(t, "postfix.example", host)
	params := map[string]string{"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": cert.CertFile, "smtpd_tls_key_file": cert.KeyFile}
	g, _, end := behind(t, gatepost.Settings{Transport: fmt.Sprintf("tls = \"verify\"\ntls_ca_file = %q", other.CertFile)}, postfix.Config{Listen: addr, Params: params})
	m := ledger.New(1000)
	if r, err := g.Hello("").Deliver("sender@out.example", []string{"user@in.example"}, m.Data); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	gatepost.Eventually(t, "an attempt was deferred", patience, func() bool {
		rows, err := g.Queue()
		return err == nil && len(rows) == 1 && rows[0]["attempts"] != float64(0) && rows[0]["state"] == "deferred"
	})
	if n := len(end.Mails()); n != 0 {
		t.Errorf("%d mails arrived over a connection that cannot be trusted", n)
	}
}

func TestPostfixIsGivenTheSendersWishesForReports(t *testing.T) {
	g, _, end := behind(t, gatepost.Settings{}, postfix.Config{})
	c := g.Hello("")
	for _, line := range []string{
		"MAIL FROM:<sender@out.example> RET=HDRS ENVID=Envelope+2B1",
		"RCPT TO:<user@in.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Original@in.example",
		"DATA",
	} {
		if r, err := c.Cmd("%s", line); err != nil || r.Code/100 > 3 {
			t.Fatalf("%s: %v, %v", line, r, err)
		}
	}
	m := ledger.New(1000)
	if err := c.Send(string(wire.Stuff(m.Data)) + ".\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || r.Code != 250 {
		t.Fatalf("final dot: %v, %v", r, err)
	}
	arrived(t, end, m.ID)
	// The last hop speaks no DSN, so the one before it reports that it relayed
	// (RFC 3461 §5.2.2): that is Postfix, and it was told what to quote.
	text := report(t, end, "sender@out.example")
	mustContain(t, "report of Postfix", text, "Reporting-MTA: dns; postfix.example", "Original-Envelope-Id: Envelope+1",
		"Original-Recipient: rfc822;Original@in.example", "Action: relayed")
}

func TestRefusalByPostfixIsReported(t *testing.T) {
	g, _, end := behind(t, gatepost.Settings{}, postfix.Config{Params: map[string]string{
		"smtpd_recipient_restrictions": "check_recipient_access inline:{ {nobody@in.example=550 5.1.1 Nobody of that name} }, permit_mynetworks, reject",
	}})
	m := ledger.New(1000)
	if r, err := g.Hello("").Deliver("sender@out.example", []string{"user@in.example", "nobody@in.example"}, m.Data); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	if mail := arrived(t, end, m.ID); len(mail.To) != 1 || mail.To[0] != "<user@in.example>" {
		t.Errorf("arrived for %s, want the one who exists", mail.To)
	}
	text := report(t, end, "sender@out.example")
	mustContain(t, "report", text, "multipart/report", "Reporting-MTA: dns; gw.example.com", "Final-Recipient: rfc822; nobody@in.example",
		"Action: failed", "Status: 5.1.1", "Nobody of that name", "X-Ledger-Id: "+m.ID)
	if strings.Contains(text, "user@in.example\r\nAction") {
		t.Errorf("report names the recipient who has the mail:\n%s", text)
	}
}

func TestPostfixIsTheClient(t *testing.T) {
	for _, level := range []string{"none", "encrypt"} {
		t.Run("TLS level "+level, func(t *testing.T) {
			g, next := pair(t, gatepost.Settings{})
			p := startPostfix(t, postfix.Config{Next: g.SMTP, Params: map[string]string{
				"smtp_tls_security_level": level, "smtp_bind_address": gatepost.Trusted,
			}})
			c, _, err := wire.Hello(p.Addr, wire.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Quit()
			for range 20 {
				m := ledger.New(2000)
				if r, err := c.Deliver("sender@out.example", []string{"user@in.example", "other@elsewhere.example"}, m.Data); err != nil || r.Code != 250 {
					t.Fatalf("%v, %v", r, err)
				}
				mail := arrived(t, next, m.ID)
				if level == "encrypt" {
					mustContain(t, "trace header of Gatepost", header(mail), "ESMTPS", "TLSv1.3")
				}
			}
		})
	}
}

func TestPostfixClientUsesWhatIsAnnounced(t *testing.T) {
	g, next := pair(t, gatepost.Settings{})
	p := startPostfix(t, postfix.Config{Next: g.SMTP})
	c, _, err := wire.Hello(p.Addr, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	m := ledger.Wrap("utf8-client", []byte("Grüße\r\n"), "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit")
	for _, line := range []string{
		"MAIL FROM:<müller@out.example> SMTPUTF8 BODY=8BITMIME ENVID=e1",
		"RCPT TO:<jürgen@in.example> NOTIFY=SUCCESS",
		"DATA",
	} {
		if r, err := c.Cmd("%s", line); err != nil || r.Code/100 > 3 {
			t.Fatalf("%s: %v, %v", line, r, err)
		}
	}
	if err := c.Send(string(wire.Stuff(m.Data)) + ".\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || r.Code != 250 {
		t.Fatalf("final dot: %v, %v", r, err)
	}
	mail := arrived(t, next, m.ID)
	mustContain(t, "MAIL to the last hop", mail.From, "<müller@out.example>", "SMTPUTF8")
	// The last hop speaks no DSN: Gatepost relayed, so Gatepost reports.
	text := report(t, next, "müller@out.example")
	mustContain(t, "report of Gatepost", text, "Reporting-MTA: dns; gw.example.com", "Original-Envelope-Id: e1", "Action: relayed")
}

func TestPostfixClientComesAgainAfterARestart(t *testing.T) {
	g, next := pair(t, gatepost.Settings{})
	p := startPostfix(t, postfix.Config{Next: g.SMTP})
	g.Stop()
	c, _, err := wire.Hello(p.Addr, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	m := ledger.New(1000)
	if r, err := c.Deliver("sender@out.example", []string{"user@in.example"}, m.Data); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	gatepost.Eventually(t, "Postfix tried in vain", patience, func() bool { return strings.Contains(p.Log(), "Connection refused") })
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	arrived(t, next, m.ID)
}

func TestGatepostKeepsMailWhilePostfixIsDown(t *testing.T) {
	g, p, end := behind(t, gatepost.Settings{}, postfix.Config{})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	// Its smtpd processes hold the socket for a moment longer than the master.
	gatepost.Eventually(t, "Postfix is down", patience, func() bool {
		conn, err := net.DialTimeout("tcp", p.Addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	m := ledger.New(1000)
	if r, err := g.Hello("").Deliver("sender@out.example", []string{"user@in.example"}, m.Data); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	gatepost.Eventually(t, "the item is deferred", patience, func() bool {
		rows, err := g.Queue()
		return err == nil && len(rows) == 1 && rows[0]["state"] == "deferred"
	})
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	arrived(t, end, m.ID)
}
