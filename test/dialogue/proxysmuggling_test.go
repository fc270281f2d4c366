package dialogue

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// SMG-01, SMG-03 through the proxy: whoever the client is, none of the 109 ends of data
// that some server or other has believed in ends a message, makes a command, or stands
// on the wire to the upstream as it came.
func TestFalseEndsOfDataSmuggleNothingThroughTheProxy(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, g *gatepost.Instance) *wire.Conn{
		"an untrusted client": func(_ *testing.T, g *gatepost.Instance) *wire.Conn { return g.Hello("127.0.0.9") },
		"a trusted client":    func(_ *testing.T, g *gatepost.Instance) *wire.Conn { return g.Hello(gatepost.Trusted) },
		"a user who has logged in": func(t *testing.T, g *gatepost.Instance) *wire.Conn {
			c := g.Hello("127.0.0.9")
			say(t, c, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00joe@live.example\x00open-sesame")), "235")
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			users := filepath.Join(t.TempDir(), "users")
			if err := os.WriteFile(users, []byte("joe@live.example open-sesame\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := next(t, sink.Options{})
			g, _ := through(t, s, gatepost.Settings{
				Limits:   "max_sessions_per_ip = 200",
				Listener: "auth = [\"PLAIN\"]\nauth_without_tls = true\nflows = { auth = \"users\" }",
				More:     "[users]\nsend_as = \"any\"\n[[flow]]\nname = \"users\"\nstage = \"auth\"\nblocks = [{ use = \"auth-file\", file = \"" + users + "\" }]\n",
			})
			passFalseEnds(t, s, func() *wire.Conn { return open(t, g) })
		})
	}
}

// passFalseEnds sends each of the false ends and looks at the wire to the upstream.
func passFalseEnds(t *testing.T, s *sink.Sink, open func() *wire.Conn) {
	t.Helper()
	b, err := os.ReadFile("../../internal/smtpserver/testdata/eod_variants.json")
	if err != nil {
		t.Fatal(err)
	}
	var variants []struct {
		ID, Hex, Repr string
		Strict        bool `json:"contains_strict_eod"`
	}
	if err := json.Unmarshal(b, &variants); err != nil || len(variants) != 109 {
		t.Fatalf("%d variants, %v", len(variants), err)
	}
	real := 0
	for _, v := range variants {
		raw, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		c := open()
		if err := c.Open("ada@out.example", "bob@live.example"); err != nil {
			t.Fatal(err)
		}
		if err := c.Send("Subject: " + v.ID + "\r\n\r\nline" + string(raw) +
			"MAIL FROM:<evil@out.example>\r\nRCPT TO:<v@live.example>\r\nDATA\r\nSubject: evil\r\n\r\nsmuggled\r\n.\r\n"); err != nil {
			t.Fatal(err)
		}
		want := 1
		if v.Strict { // it is an end of data, and what follows is a second message
			want, real = 5, real+1
		}
		for range want {
			if r, err := c.Reply(); err != nil || r.Code/100 > 3 {
				t.Errorf("%s %s: %v, %v", v.ID, v.Repr, r, err)
			}
		}
		say(t, c, "NOOP", "250", "QUIT", "221")
	}
	mails := s.WaitMails(t, len(variants)+real, patience)
	if len(mails) != len(variants)+real || real != 2 {
		t.Errorf("%d messages, %d ends of data that are real", len(mails), real)
	}
	evil := 0
	for _, m := range mails {
		if strings.HasPrefix(m.From, "<evil@") {
			evil++
		}
	}
	if evil != real {
		t.Errorf("%d messages of evil, %d ends of data that are real", evil, real)
	}
	for i, text := range s.Wire() {
		rest := strings.ReplaceAll(text, "\r\n", "")
		if at := strings.IndexAny(rest, "\r\n\x00"); at >= 0 {
			t.Errorf("session %d at the upstream: %q", i, rest[max(0, at-40):min(len(rest), at+40)])
		}
	}
}
