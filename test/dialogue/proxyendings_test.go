package dialogue

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// ending is one of the ways in which servers were made to see an end of data that is
// none.
type ending struct {
	ID     string `json:"id"`
	Hex    string `json:"hex"`
	Strict bool   `json:"contains_strict_eod"`
}

// endings are the variants that the server's own tests have.
func endings(t *testing.T) (all []ending) {
	t.Helper()
	text, err := os.ReadFile("../../internal/smtpserver/testdata/eod_variants.json")
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil || len(all) != 109 {
		t.Fatal(len(all), err)
	}
	return all
}

// upstreamWire is what a client of an upstream sent, read by a server of the strict
// kind: only CRLF ends a line, and only CRLF.CRLF ends data.
type upstreamWire struct{ commands, bodies []string }

// read takes the bytes of one session.
func (u *upstreamWire) read(t *testing.T, raw string) {
	t.Helper()
	chunks := ""
	for raw != "" {
		line, rest, ok := strings.Cut(raw, "\r\n")
		if !ok {
			t.Fatalf("a command without its end: %q", raw)
		}
		raw = rest
		u.commands = append(u.commands, line)
		switch words := strings.Fields(line); words[0] {
		case "DATA":
			data, rest, ok := strings.Cut("\r\n"+raw, "\r\n.\r\n")
			if !ok {
				t.Fatalf("data without its end: %q", raw)
			}
			// The first CRLF is that of the command.
			data = strings.ReplaceAll(data+"\r\n", "\r\n..", "\r\n.")[2:]
			raw = rest
			u.bodies = append(u.bodies, data)
		case "BDAT":
			n, err := strconv.Atoi(words[1])
			if err != nil || n > len(raw) {
				t.Fatalf("%q before %d bytes", line, len(raw))
			}
			chunks += raw[:n]
			raw = raw[n:]
			if len(words) == 3 {
				u.bodies = append(u.bodies, chunks)
				chunks = ""
			}
		}
	}
}

// count is how many of the commands begin so.
func (u *upstreamWire) count(prefix string) (n int) {
	for _, c := range u.commands {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

// lawful is what a gateway may say to an upstream in these tests. The addresses of evil
// are in commands only where a client really said them.
var (
	lawful    = regexp.MustCompile(`^(EHLO \S+|STARTTLS|AUTH PLAIN \S+|MAIL FROM:<(joe|evil)@live\.example>( [A-Z]+(=[0-9A-Z]+)?)*|RCPT TO:<(bob|v)@live\.example>( [A-Z]+=[A-Z]+)*|DATA|BDAT \d+( LAST)?|RSET|NOOP|QUIT)$`)
	lineBreak = regexp.MustCompile("\r\r\n|\r\n|\r|\n|\x00")
)

// smuggler is a kind of client, and what it is behind.
type smuggler struct {
	name       string
	settings   gatepost.Settings
	extensions []string
	connect    func(*testing.T, *gatepost.Instance) *wire.Conn
	// chunked: it sends by BDAT. padded: the message is so large that it goes to the
	// upstream by BDAT. reject: bare line ends are refused.
	chunked, padded, reject bool
}

// smugglers are all kinds of clients.
func smugglers(t *testing.T) []smuggler {
	stranger := func(_ *testing.T, g *gatepost.Instance) *wire.Conn { return g.Hello("") }
	own := func(t *testing.T, g *gatepost.Instance) *wire.Conn {
		return loggedIn(t, g, "ada@in.example", "ada-secret")
	}
	theirs := func(t *testing.T, g *gatepost.Instance) *wire.Conn {
		c := g.Hello("")
		say(t, c, "AUTH PLAIN "+b64("\x00joe\x00open sesame"), "235 2.7.0 welcome to the upstream")
		return c
	}
	withChunks := []string{"PIPELINING", "8BITMIME", "SIZE", "CHUNKING"}
	slow := "error_delay = \"1ms\""
	return []smuggler{
		{name: "untrusted", connect: stranger},
		{name: "untrusted, bare line ends refused", connect: stranger, reject: true, settings: gatepost.Settings{Listener: `line_endings = "reject"`, Limits: slow}},
		{name: "untrusted, by BDAT", connect: stranger, chunked: true},
		{name: "untrusted, to an upstream with CHUNKING", connect: stranger, padded: true, extensions: withChunks},
		{name: "trusted", connect: func(_ *testing.T, g *gatepost.Instance) *wire.Conn { return g.Hello(gatepost.Trusted) }},
		{name: "logged in here", connect: own, settings: logins(someUsers(t), `send_as = "any"`)},
		{name: "logged in at the upstream", connect: theirs, extensions: []string{"8BITMIME", "SIZE", "AUTH PLAIN LOGIN"},
			settings: gatepost.Settings{Listener: "auth_upstream = \"live\"\nauth_without_tls = true\n", More: "[users]\nsend_as = \"any\"\n"}},
	}
}

// SMG-01, SMG-03, BDT-05: whoever the client is, what it hides behind an end of data
// that is none stays in the message, and the upstream gets messages that every server
// reads in one way.
func TestNoEndOfDataIsSmuggledThroughTheProxy(t *testing.T) {
	t.Parallel()
	for _, k := range smugglers(t) {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			l := &upstreamLogins{asked: make(map[int]string), in: make(map[int]string)}
			s := next(t, sink.Options{Extensions: k.extensions, Script: func(step sink.Step) sink.Reaction {
				if step.Stage == sink.EOD {
					return sink.Reaction{Reply: "250 2.6.0 taken"}
				}
				return l.script(step)
			}})
			g, _ := through(t, s, k.settings)
			c := k.connect(t, g)
			var want []string
			evil := 0
			for _, v := range endings(t) {
				if k.reject {
					c.Quit() // refusals end a session in the end
					c = k.connect(t, g)
				}
				bodies, second := k.smuggle(t, c, v)
				want = append(want, bodies...)
				if second {
					evil++
				}
			}
			c.Quit()
			noneQueued(t, g)
			g.Stop() // which says QUIT to the upstream
			k.check(t, s, want, evil)
		})
	}
}

// smuggle sends one message with what is behind it, and returns what of it must have
// come to the upstream, and whether the second message is really one.
func (k smuggler) smuggle(t *testing.T, c *wire.Conn, v ending) (bodies []string, second bool) {
	t.Helper()
	raw, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	hidden := "MAIL FROM:<evil@live.example>\r\nRCPT TO:<v@live.example>\r\nDATA\r\nSubject: evil " + v.ID + "\r\n\r\nsmuggled\r\n.\r\n"
	text := "Subject: " + v.ID + "\r\n\r\n"
	if k.padded {
		text += strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1000)
	}
	text += "line" + string(raw) + hidden
	say(t, c, "MAIL FROM:<joe@live.example>", "250", "RCPT TO:<bob@live.example>", "250")
	if k.chunked {
		text = strings.TrimSuffix(text, ".\r\n")
		err = c.Send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text))
	} else {
		say(t, c, "DATA", "354")
		err = c.Send(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	taken, refused := "250 2.6.0 taken", k.reject && strings.ContainsAny(strings.ReplaceAll(string(raw), "\r\n", ""), "\r\n\x00")
	first := taken
	if refused {
		first = "550 5.6.0"
	}
	replies := []string{first}
	if second = v.Strict && !k.chunked; second {
		// It was really the end, and the second message is pipelined.
		replies = []string{first, "250", "250", "354", taken}
		bodies = append(bodies, "Subject: evil "+v.ID+"\r\n\r\nsmuggled\r\n")
	}
	for _, want := range replies {
		if r, err := c.Reply(); err != nil || !strings.HasPrefix(r.String(), want) {
			t.Fatalf("%s %q: got %v, %v, want %s", v.ID, raw, r, err, want)
		}
	}
	say(t, c, "NOOP", "250 2.0.0 OK") // in step
	if !refused {
		bodies = append(bodies, k.arrives(text))
	}
	return bodies, second
}

// arrives is the message that the octets stand for.
func (k smuggler) arrives(text string) string {
	if !k.chunked {
		text, _, _ = strings.Cut(text, "\r\n.\r\n")
		text = strings.ReplaceAll(text+"\r\n", "\r\n.", "\r\n")
	}
	return lineBreak.ReplaceAllStringFunc(text, func(s string) string {
		if s == "\x00" {
			return ""
		}
		return "\r\n"
	})
}

// check compares the whole wire of the upstream with the messages that must have come.
func (k smuggler) check(t *testing.T, s *sink.Sink, want []string, evil int) {
	t.Helper()
	var u upstreamWire
	for _, raw := range s.Wire() {
		u.read(t, raw)
	}
	for _, c := range u.commands {
		if !lawful.MatchString(c) {
			t.Errorf("the upstream was told %q", c)
		}
	}
	if n := u.count("MAIL FROM:<evil@"); n != evil {
		t.Errorf("%d times MAIL of what was hidden, want %d", n, evil)
	}
	if n, m := u.count("DATA")+u.count("BDAT"), len(s.Mails()); n < len(want) || m != len(want) || len(u.bodies) != len(want) {
		t.Errorf("%d times DATA or BDAT and %d messages on the wire, %d taken; want %d", n, len(u.bodies), m, len(want))
	}
	if chunks := u.count("BDAT") > 0; chunks != k.padded {
		t.Errorf("came by BDAT: %v", chunks)
	}
	for _, body := range want {
		i := slices.IndexFunc(u.bodies, func(got string) bool { return strings.HasSuffix(got, "\r\n"+body) })
		if i < 0 {
			t.Fatalf("no message on the wire ends in %q", body[max(0, len(body)-300):])
		}
		front := strings.TrimSuffix(u.bodies[i], body)
		if !strings.HasPrefix(front, "Received: from ") || strings.Contains(front, "\r\n\r\n") || strings.Contains(front, "Subject") {
			t.Errorf("in front of it stands %q", front)
		}
		u.bodies = slices.Delete(u.bodies, i, i+1)
	}
}
