package gateway_test

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
)

// originalRig is a gateway whose domain there.example is passed to the server that the
// client's connection was meant for, and there.example's mail without one to its
// exchangers.
func originalRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	up, err := upstream.New(upstream.Config{Name: "there", Hostname: "gw.example.com", Original: true, TLS: upstream.TLSOff},
		upstream.Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := up.Close(); err != nil {
			t.Error(err)
		}
	})
	o.proxies = map[string]gateway.Proxy{"there": {Server: up, Adopt: o.adopt}}
	o.originals = map[string]bool{"there": true}
	return newRig(t, o)
}

// meant is an envelope of a client whose connection was diverted.
func meant(r *rig, original string, to ...string) *mail.Envelope {
	env := r.envelope("ada@out.example")
	if original != "" {
		env.Session.Original = netip.MustParseAddrPort(original)
	}
	r.add(env, to...)
	return env
}

func TestMailGoesLiveToWhereItWasMeantToGo(t *testing.T) {
	s := endsWith(t, "250 2.0.0 taken")
	r := originalRig(t, rigOptions{})
	if reply := r.receive(meant(r, s.Addr(), "bob@there.example"), "Subject: x\r\n\r\nhello\r\n"); reply.String() != "250 2.0.0 taken" {
		t.Errorf("%v", reply)
	}
	if len(s.Messages()) != 1 || len(r.queue.added) != 0 {
		t.Errorf("%d messages, %d queued", len(s.Messages()), len(r.queue.added))
	}
}

func TestMailThatWasMeantForNobodyGoesByMX(t *testing.T) {
	r := originalRig(t, rigOptions{})
	got := r.accept(meant(r, "", "bob@there.example"), "Subject: x\r\n\r\nhello\r\n")
	if len(got.items) != 1 || got.items[0].Transport != "there" || got.items[0].NextHop != "there.example" {
		t.Errorf("items %+v", got.items)
	}
}

// A server that is down: its mail is queued for it alone.
func TestAdoptedMailKeepsWhereItWasMeantToGo(t *testing.T) {
	down := sinktest.Listen(t, sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
		if e.Stage == sinktest.Banner {
			return sinktest.Reply("421 4.3.2 not now")
		}
		return nil
	}})
	r := originalRig(t, rigOptions{adopt: true})
	got := r.accept(meant(r, down.Addr(), "bob@there.example"), "Subject: x\r\n\r\nhello\r\n")
	if len(got.items) != 1 || got.items[0].NextHop != down.Addr() || got.m.Envelope.Session.Original.String() != down.Addr() {
		t.Errorf("items %+v", got.items)
	}
}

func TestReleasedMailGoesToWhereItWasMeantToGo(t *testing.T) {
	s := endsWith(t, "")
	r := originalRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine)})
	held := r.accept(meant(r, s.Addr(), "bob@there.example"), saying("virus"))
	if len(s.Messages()) != 0 {
		t.Fatal("it was passed on")
	}
	id, err := r.gateway.Release(t.Context(), held.m.Envelope, held.m.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := storedIn(t, crash(r.fs, 0))[id]
	if len(m.items) != 1 || m.items[0].Transport != "there" || m.items[0].NextHop != s.Addr() {
		t.Errorf("items %+v", m.items)
	}
	// Our own mail to somebody there was never on such a connection.
	if err := r.gateway.SubmitReport(t.Context(), address(t, "bob@there.example"), strings.NewReader("Subject: report\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	last := r.queue.added[len(r.queue.added)-1]
	if len(last.items) != 1 || last.items[0].NextHop != "there.example" {
		t.Errorf("items %+v", last.items)
	}
}
