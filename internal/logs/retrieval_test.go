package logs

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

func TestAFetchedMessageIsOneLineInBothFiles(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, Level: slog.LevelError})
	env := &mail.Envelope{ID: mail.NewID(), Subject: "hello\nworld", Session: mail.Session{
		ID: mail.NewID(), Listener: "pop", Client: netip.MustParseAddrPort("192.0.2.1:4711"), User: "joe\r\nQUIT", Server: "pop.example.com:110", TLS: mail.TLS{Version: "TLSv1.3"},
	}}
	first := mail.NewID()
	l.POPRetrieval(env, Retrieval{ID: first, Verb: "RETR", Number: 7, UIDL: "u7", Result: "replaced", SizeAtServer: 1234, Reason: "clamav: Eicar", Cached: true,
		Waits: 2, Verdict: &mail.Verdict{Action: mail.ActionQuarantine}, Took: 12 * time.Millisecond})
	l.POPSession(&env.Session, slog.String("reason", "quit"), slog.Int("messages", 3))
	must(t, l.Close())
	text := read(t, dir, popProxyFile)
	if text != read(t, dir, MailFile) || strings.Count(text, "\n") != 2 || read(t, dir, smtpProxyFile) != "" {
		t.Errorf("%q", text)
	}
	for _, want := range []string{
		" info POP-Proxy message id=" + first.String(), " session=" + env.Session.ID.String() + " ", ` user="joe\r\nQUIT" `, " server=pop.example.com:110 ", " verb=RETR number=7 size=1234 result=replaced verdict=quarantine ",
		` reason="clamav: Eicar" `, " uidl=u7 ", ` subject="hello\nworld" `, " cached=true waits=2 ", " took=12ms\n",
		" info POP-Proxy session session=" + env.Session.ID.String(), " reason=quit messages=3\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
}
