package history

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatepost/internal/mail"
)

// full is an event in which every field is set.
func full(t testing.TB) *mail.Event {
	t.Helper()
	f := mail.Finding{Module: "clamav", Symbol: `Eicar "x"\`, Result: mail.Match, Score: 1.5, Reason: "line\nbreak\x7f", Part: "1.2", Name: "a.exe",
		Recipients: []string{"a@b.example", "c@d.example"}, Properties: []mail.Property{{Name: "n", Value: "\u2028ü"}}}
	r := mail.Addressee{Address: "bob@example.com", Original: "Bob@alias.example", Domain: "example.com", Item: 2, Transport: "exchange", NextHop: "example.com",
		Flow: "content", Action: mail.ActionQuarantine, Threat: mail.ThreatVirus, Block: "clamav", Rule: "Eicar", Reason: "virus", Score: 3.25,
		Status: mail.Failed, Reply: "550 5.1.1 no", Remote: true, Stage: "rcpt", Host: "mx1.example.com [192.0.2.1]:25", Cause: "cause"}
	e := &mail.Event{ID: mail.NewID(), Time: time.Unix(1700000000, 123456789).UTC(), Node: "gw1", Kind: mail.EventMessage, Result: mail.EventAccepted,
		Session: mail.NewID(), Message: mail.NewID(), Item: 3, Related: mail.NewID(), Protocol: mail.POP3, Listener: "inbound",
		Client: netip.MustParseAddr("2001:db8::1"), Original: netip.MustParseAddrPort("192.0.2.9:110"), Name: "client.example", Helo: "helo",
		TLS: mail.TLS{Version: "TLSv1.3", Cipher: "X", Verified: true}, User: "user@example.com", Server: "pop.example.com:110",
		Sender: "<>", Recipients: []mail.Addressee{r, {Address: "x@y.example"}}, Subject: "Grüße <b>&amp;", MessageID: "<1@x>", Size: 4711,
		Stage: "content", Reply: "250 OK", Remote: true, Host: "h", Reason: "why", Findings: []mail.Finding{f, {Module: "spf", Result: mail.Clean}},
		Action: mail.ActionReject, Threat: mail.ThreatSpam, Score: -7.125, Transport: "t", NextHop: "n", Attempt: 4,
		Next: time.Unix(1700000100, 5).UTC(), Actor: "ada", Took: 12345 * time.Microsecond, Details: []mail.Property{{Name: "d", Value: ""}}}
	v := reflect.ValueOf(*e)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("field %s is not set: this test must know every field", v.Type().Field(i).Name)
		}
	}
	return e
}

// same compares events as they are read back.
var same = []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})}

func TestAnEventIsReadBackAsItWasWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	events := append(fillEvents(rng, 200), full(t), &mail.Event{Kind: mail.EventSession})
	for _, e := range events {
		if e.Time.IsZero() {
			e.Time = time.Unix(1700000000, 0).UTC() // begin sees to that
		}
		line := appendEvent(nil, e)
		var got mail.Event
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if d := cmp.Diff(*e, got, same...); d != "" {
			t.Errorf("event differs: %s", d)
		}
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(want, &b); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(b, a); d != "" {
			t.Errorf("encoding/json writes something else: %s", d)
		}
		if id, ok := lineID(line); !ok || id != e.ID {
			t.Errorf("ID of the line is %v %v", id, ok)
		}
	}
}

func FuzzAStringIsWrittenAsJSON(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\n\x00\x7f", "ü\u2028", "\xff\xfe", "a\xffb\xc3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendString(nil, s)
		var got string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); got != want && len(got) < len(want) {
			t.Errorf("%q became %q", s, got)
		}
		if strings.ContainsAny(string(b), "\n\r") {
			t.Errorf("a line end is left in %q", b)
		}
	})
}

func FuzzASegmentThatIsDamagedIsAnError(f *testing.F) {
	h := &head{events: 3, blocks: []blockInfo{{events: 3, raw: 100, id: mail.NewID()}}, pages: []pageInfo{{first: 7, blob: 1}}}
	f.Add(h.encode())
	f.Add([]byte{headVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Neither may panic, nor take memory without bound.
		if h, err := parseHead(b); err == nil {
			h.page(1)
			h.block(0)
		}
		r := newPageReader(pageInfo{}, b)
		for range 1000 {
			e, ok, err := r.next()
			if err != nil || !ok {
				break
			}
			if _, err := readList(nil, e.list, 0); err != nil {
				break
			}
		}
	})
}
