package upstream_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
)

func TestCapabilitiesAreWhatAllCanDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		one := sinktest.Config{Extensions: []string{"8BITMIME", "SMTPUTF8", "DSN", "SIZE 5000", "AUTH PLAIN LOGIN", "LIMITS RCPTMAX=50", "XUNKNOWN"}}
		n.host("192.0.2.1:25", one)
		two := sinktest.Config{Extensions: []string{"8BITMIME", "DSN", "CHUNKING", "BINARYMIME", "SIZE 3000", "AUTH LOGIN CRAM-MD5"}}
		n.host("192.0.2.2:25", two)
		cfg := upstream.Config{Hosts: hosts("192.0.2.1", "192.0.2.2", "192.0.2.3")}
		s := n.server(cfg)
		if c, known := s.Capabilities(); known || c.EightBit {
			t.Errorf("before anything: %+v", c)
		}
		if err := s.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "192.0.2.3") || strings.Contains(err.Error(), "192.0.2.2") {
			t.Errorf("probe: %v", err)
		}
		want := upstream.Capabilities{EightBit: true, DSN: true, SizeLimit: 3000, RcptMax: 50, Auth: []string{"LOGIN"}}
		got, known := s.Capabilities()
		if diff := cmp.Diff(want, got); diff != "" || !known {
			t.Errorf("known: %v, %s", known, diff)
		}
		own := smtp.ExtPipelining | smtp.Ext8BitMIME | smtp.ExtSMTPUTF8 | smtp.ExtDSN | smtp.ExtChunking | smtp.ExtBinaryMIME | smtp.ExtRequireTLS
		if e := got.Restrict(own); e != smtp.ExtPipelining|smtp.Ext8BitMIME|smtp.ExtDSN|smtp.ExtChunking {
			t.Errorf("extensions %b", e)
		}
		mustDeliver(t, s)
		if n.dialed() != "192.0.2.1:25 192.0.2.2:25 192.0.2.3:25" {
			t.Error("the session of the probe was not used")
		}

		kept, err := json.Marshal(s.Known())
		if err != nil {
			t.Fatal(err)
		}
		var list []upstream.Learned
		if err := json.Unmarshal(kept, &list); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		restarted := n.server(upstream.Config{Hosts: hosts("192.0.2.2")})
		restarted.Recall(list)
		if c, known := restarted.Capabilities(); !known || c.SizeLimit != 3000 || !c.Binary {
			t.Errorf("recalled: %v, %+v", known, c)
		}
		// A session that offers something else is believed.
		n.host("192.0.2.2:25", sinktest.Config{Extensions: []string{"SMTPUTF8"}})
		mustDeliver(t, restarted)
		restarted.Recall(list)
		if c, _ := restarted.Capabilities(); !c.SMTPUTF8 || c.Binary || c.SizeLimit != 0 {
			t.Errorf("refreshed: %+v", c)
		}
	})
}

func TestNewNamesAllMistakes(t *testing.T) {
	_, err := upstream.New(upstream.Config{TLS: "maybe", Balance: "luck", Identity: "finger", Port: 70000,
		Hosts: []upstream.Host{{Address: "mx.example"}, {Address: "a b"}, {Address: "192.0.2.1:x"}, {Address: "192.0.2.1", Weight: -1}}}, upstream.Deps{})
	for _, want := range []string{"no hostname", `tls "maybe"`, `balance "luck"`, `identity "finger"`, "port 70000", `"mx.example": no resolver`, `"a b"`, `"192.0.2.1:x"`, "weight"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if _, err := upstream.New(upstream.Config{Hostname: "gw.example"}, upstream.Deps{}); err == nil || !strings.Contains(err.Error(), "no hosts") {
		t.Errorf("without hosts: %v", err)
	}
	if _, err := upstream.New(upstream.Config{Hostname: "gw.example", Hosts: hosts("192.0.2.1"), ImplicitTLS: true, TLS: upstream.TLSOff}, upstream.Deps{}); err == nil {
		t.Error("implicit TLS without TLS is accepted")
	}
	for _, good := range []string{"192.0.2.1", "192.0.2.1:2525", "[2001:db8::1]:25", "2001:db8::1", "[2001:db8::1]"} {
		if _, err := upstream.New(upstream.Config{Hostname: "gw.example", Hosts: hosts(good)}, upstream.Deps{}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}
