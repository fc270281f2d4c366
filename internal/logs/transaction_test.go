package logs

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

func transaction() (*mail.Envelope, mail.Decision, mail.Reply) {
	env := &mail.Envelope{
		ID: mail.NewID(), Received: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Size: 4096,
		Session: mail.Session{Listener: "inbound", Client: netip.MustParseAddrPort("192.0.2.1:4711"), Helo: "x\r\ny"},
		Sender:  mail.Address{Raw: "a@b.example"}, Subject: "hello\nworld",
	}
	for i := range 25 {
		env.Recipients = append(env.Recipients, mail.Recipient{
			Address: mail.Address{Raw: fmt.Sprintf("r%d@c.example", i)}, Route: mail.Route{Transport: "exchange"}})
	}
	env.Recipients[1].Route = mail.Route{Transport: "internet", NextHop: "c.example"}
	return env, mail.Decision{Act: mail.Reject, Reason: "virus found"}, mail.ReplyContentRejected.Reply().WithID(env.ID)
}

func TestATransactionIsOneLineInBothFiles(t *testing.T) {
	for _, format := range []Format{FormatText, FormatJSON} {
		dir := t.TempDir()
		l := open(t, Config{Dir: dir, Format: format, Level: slog.LevelError})
		env, d, r := transaction()
		l.SMTPTransaction(env, d, r, 12*time.Millisecond)
		must(t, l.Close())
		line := read(t, dir, smtpProxyFile)
		if line != read(t, dir, MailFile) || strings.Count(line, "\n") != 1 {
			t.Errorf("%q", line)
		}
		if format == FormatJSON {
			var m map[string]any
			must(t, json.Unmarshal([]byte(line), &m))
			if m["id"] != env.ID.String() || m["verdict"] != "reject" || m["size"] != 4096.0 || m["component"] != "SMTP-Proxy" {
				t.Errorf("%v", m)
			}
			continue
		}
		for _, want := range []string{
			" info SMTP-Proxy mail id=" + env.ID.String(), " client=192.0.2.1:4711 ", ` helo="x\r\ny" `, " sender=<a@b.example> ",
			" recipients=<r0@c.example>,", ",<r19@c.example>,+5 ", " size=4096 ", " verdict=reject ", ` reason="virus found" `,
			" destination=exchange,internet:c.example ", ` reply="554 5.7.1 Content refused by policy (` + env.ID.String() + `)" `,
			" received=2026-01-02T03:04:05.000Z ", " took=12ms\n",
		} {
			if !strings.Contains(line, want) {
				t.Errorf("no %q in %q", want, line)
			}
		}
	}
}

func TestWithoutADirectoryATransactionIsWrittenOnce(t *testing.T) {
	var out buffer
	l := open(t, Config{Stderr: &out})
	env, d, r := transaction()
	l.SMTPTransaction(env, d, r, time.Second)
	must(t, l.Close())
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%q", out.String())
	}
}
