package interop

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/test/exim"
	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/wire"
)

// Exim is the server that mail is passed through to: with its own answers, in chunks
// and with dots, for several recipients.
func TestMailIsPassedThroughToExim(t *testing.T) {
	p := exim.Run(t)
	g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{More: fmt.Sprintf("[[domain]]\nname = \"live.example\"\ntransport = \"live\"\ndelivery = \"proxy\"\n"+
		"[[transport]]\nname = \"live\"\nkind = \"smtp\"\nhosts = [%q]\n", p.Addr)}})
	c := g.Hello("127.0.0.9")
	for i, size := range []int{100, 20_000, 1 << 20} {
		m := ledger.New(size)
		for _, step := range [][2]string{
			{"MAIL FROM:<ada@out.example>", "250 2.1.0"}, {"RCPT TO:<nobody@live.example>", "550"},
			{"RCPT TO:<bob@live.example>", "250"}, {"RCPT TO:<\"b o b\"@live.example>", "250"},
		} {
			r, err := c.Cmd("%s", step[0])
			if err != nil || !strings.HasPrefix(r.String(), step[1]) {
				t.Fatalf("%s: %v, %v", step[0], r, err)
			}
			if r.Code == 550 && !strings.Contains(r.Text(), "Exim does not know him") {
				t.Errorf("Exim's own words are missing: %v", r)
			}
		}
		said := fmt.Sprintf("BDAT %d LAST\r\n%s", len(m.Data), m.Data) // in one chunk
		if i != 1 {
			if r, err := c.Cmd("DATA"); err != nil || r.Code != 354 {
				t.Fatalf("%v, %v", r, err)
			}
			said = string(wire.Stuff(m.Data)) + ".\r\n"
		}
		if err := c.Send(said); err != nil {
			t.Fatal(err)
		}
		r, err := c.Reply()
		if end := r.String(); err != nil || !strings.HasPrefix(end, "250 ") || !strings.Contains(end, "OK id=") {
			t.Errorf("message %d: %s, %v", i, end, err)
		}
		gatepost.Eventually(t, "Exim delivers message "+m.ID, patience, func() bool { return strings.Contains(p.Mailbox(), m.ID) })
	}
}
