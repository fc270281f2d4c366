package interop

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/peer"
	"gatepost/test/postfix"
	"gatepost/test/sink"
)

func TestMain(m *testing.M) {
	// Those that may run at the same time wait more than they work.
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := gatepost.Main(m)
	if err := databases.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = max(status, 1)
	}
	os.Exit(status)
}

// patience is how long tests wait for mail that is to come.
const patience = 30 * time.Second

// pair is a Gatepost with a recording next hop behind it.
func pair(t *testing.T, s gatepost.Settings) (*gatepost.Instance, *sink.Sink) {
	t.Helper()
	next := sink.Start(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 104857600"}})
	s.Next = next.Addr
	return gatepost.Start(t, gatepost.Options{Settings: s}), next
}

// startPostfix starts a Postfix in a directory of its own, on a free address
// unless the configuration names one.
func startPostfix(t *testing.T, c postfix.Config) *postfix.Instance {
	t.Helper()
	peer.RequireRoot(t)
	peer.Require(t, "postfix")
	c.Dir = t.TempDir()
	if c.Listen == "" {
		c.Listen = gatepost.FreeAddress(t)
	}
	p, err := postfix.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of Postfix:\n%s", p.Log())
		}
	})
	return p
}

// arrived finds the mail of that identifier at the sink, waits for it, and
// fails the test if its body is not what was sent.
func arrived(t *testing.T, next *sink.Sink, id string) sink.Mail {
	t.Helper()
	var found *sink.Mail
	next.Wait(patience, func() bool {
		for _, m := range next.Mails() {
			if got, _ := ledger.Check(m.Data); got == id {
				found = &m
				return true
			}
		}
		return false
	})
	if found == nil {
		t.Fatalf("message %s did not arrive", id)
	}
	if _, why := ledger.Check(found.Data); why != "" {
		t.Errorf("message %s: %s", id, why)
	}
	return *found
}

// report finds a delivery status notification to the address at the sink.
func report(t *testing.T, next *sink.Sink, to string) string {
	t.Helper()
	var text string
	ok := next.Wait(patience, func() bool {
		for _, m := range next.Mails() {
			if strings.HasPrefix(m.From, "<>") && strings.HasPrefix(m.To[0], "<"+to+">") {
				text = string(m.Data)
				return true
			}
		}
		return false
	})
	if !ok {
		t.Fatalf("no report to %s arrived", to)
	}
	return text
}

// mustContain fails the test for each of the texts that is missing.
func mustContain(t *testing.T, what, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(w)) {
			t.Errorf("%s lacks %q:\n%s", what, w, text)
		}
	}
}

// header is the header section of a mail.
func header(m sink.Mail) string {
	head, _, _ := bytes.Cut(m.Data, []byte("\r\n\r\n"))
	return string(head)
}
