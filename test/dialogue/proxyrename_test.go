package dialogue

import (
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// What is passed through leaves with the names that the outside knows: generic in
// envelope and header, SRS for strangers' mail to strangers only.
func TestAddressesChangeInWhatIsPassedThrough(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME", "SIZE"}})
	g := behind(t, s, gatepost.Settings{Internet: `delivery = "proxy"`, More: `
[[domain]]
name = "live.example"
transport = "next"
delivery = "proxy"

[rewrite]
generic = ["ada@in.example ada.l@www.example"]

[srs]
secret_file = "` + file(t, "0123456789abcdef0123456789") + "\"\n"})
	c := g.Hello(gatepost.Trusted)
	send := func(from string, to ...string) {
		t.Helper()
		say(t, c, "MAIL FROM:<"+from+">", "250")
		for _, a := range to {
			say(t, c, "RCPT TO:<"+a+">", "250")
		}
		say(t, c, "DATA", "354")
		if err := c.Send(crlf("From: ada@in.example\nSubject: x\n\nx\n") + ".\r\n"); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Reply(); err != nil || r.Code != 250 {
			t.Fatalf("from %s: %v %v", from, r, err)
		}
	}
	send("ada@in.example", "far@away.example")
	send("x@stranger.example", "bob@live.example", "near@away.example", "next@away.example")
	send("x@stranger.example", "joe@live.example")
	mails := s.WaitMails(t, 4, patience)
	for to, want := range map[string]string{
		"far@away.example": "ada.l@www.example", "bob@live.example": "x@stranger.example", "joe@live.example": "x@stranger.example",
		"near@away.example": "=stranger.example=x@", "next@away.example": "=stranger.example=x@",
	} {
		m := theMail(t, s, to)
		if !strings.Contains(m.From, want) || strings.HasPrefix(want, "=") != strings.HasPrefix(m.From, "<SRS0=") && !strings.HasPrefix(m.From, "SRS0=") {
			t.Errorf("to %s from %s, want %s", to, m.From, want)
		}
		if !strings.Contains(string(m.Data), "\r\nFrom: ada.l@www.example\r\n") && !strings.HasPrefix(string(m.Data), "From: ada.l@www.example\r\n") {
			t.Errorf("header:\n%s", m.Data)
		}
	}
	if len(mails) != 4 {
		t.Errorf("%d transactions, want 4", len(mails))
	}
	noneQueued(t, g)
}
