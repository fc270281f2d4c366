package interop

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"gatepost/test/clamd"
	"gatepost/test/dovecot"
	"gatepost/test/gatepost"
	"gatepost/test/netns"
	"gatepost/test/peer"
)

// Catalogue POP-14. A real curl fetches mail from a real Dovecot, neither of which
// knows of the gateway.
func TestPOP3GoesThroughTheWire(t *testing.T) {
	for _, mode := range []string{"redirect", "tproxy"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			peer.Require(t, "curl")
			c := clamd.Run(t, clamd.Config{})
			n := netns.Topology(t)
			w := &inTheWire{Net: n, mode: mode}
			w.gate = gatepost.New(t, gatepost.Options{NoWait: true, Wrap: n.Gateway.Enter(), Settings: gatepost.Settings{More: popWire(mode, c.Unix)}})
			w.start(t)
			d := dovecot.Run(t, dovecot.Config{Users: []string{"joe"}, Listen: "*, ::", Port: "110", Enter: n.Server.Enter(), Dial: n.Server.Dial})
			for i, mail := range []string{"Subject: clean\n\nhello\n", "Subject: bad\n\n" + string(clamd.EICAR()) + "\n"} {
				if err := d.Put("joe", dovecot.Name(i), []byte(mail)); err != nil {
					t.Fatal(err)
				}
			}
			w.divert(t)
			for _, server := range []string{"10.9.2.2", "[fd09:2::2]"} {
				w.fetches(t, server)
			}
			held, err := w.gate.Quarantine()
			if err != nil || len(held) != 2 {
				// Two addresses are two servers, as far as anybody can tell.
				t.Errorf("held %+v, %v", held, err)
			}
			// Nobody is there, and the gateway itself: both are told at once.
			for server, want := range map[string]string{"10.9.2.77": "", net.JoinHostPort("10.9.1.1", "110"): ""} {
				out, err := n.Client.Try(t, "", "curl", "-sS", "--max-time", "29", "-u", "joe:"+dovecot.Password, "pop3://"+server+"/1")
				if err == nil || strings.Contains(out, "timed out after 29") || !strings.Contains(out, want) {
					t.Errorf("%s: %v\n%s", server, err, out)
				}
			}
		})
	}
}

// popWire is a listener for what was meant for port 110 anywhere.
func popWire(mode, scanner string) string {
	return fmt.Sprintf("[[listener]]\nname = \"pop\"\nprotocol = \"pop3\"\naddress = [\"0.0.0.0:2110\", \"[::]:2110\"]\ninterception = %q\nupstream = \"original\"\nconnect_timeout = \"5s\"\n"+
		"flows = { content = \"pop\" }\n[[flow]]\nname = \"pop\"\nstage = \"content\"\nblocks = [{ use = \"clamav\" }]\n[clamav]\naddress = %q\n", mode, scanner)
}

// fetches gets both messages from a server.
func (w *inTheWire) fetches(t *testing.T, server string) {
	t.Helper()
	for i, want := range []string{"Subject: clean", "held back"} {
		out, err := w.Client.Try(t, "", "curl", "-sS", "--max-time", "29", "-u", "joe:"+dovecot.Password, fmt.Sprintf("pop3://%s/%d", server, i+1))
		if err != nil || !strings.Contains(out, want) || strings.Contains(out, string(clamd.EICAR()[:30])) {
			t.Errorf("%s: message %d: %v\n%s", server, i+1, err, out)
		}
	}
}
