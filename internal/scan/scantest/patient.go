package scantest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
)

// patient is a message as a module gets it, with a body that is watched.
type patient struct {
	in   *scan.Input
	body *body
	text string
}

// newPatient makes the input; nth is the read at which the body calls onNth.
func newPatient(t testing.TB, m Message, nth int64) *patient {
	t.Helper()
	b := &body{Reader: strings.NewReader(m.Text), nth: nth}
	env := envelope()
	if m.Bounce {
		env = &mail.Envelope{ID: env.ID, Received: env.Received}
	}
	env.Size = b.Size()
	in, err := scan.NewInput(context.WithoutCancel(t.Context()), mail.Message{Envelope: env, Body: b}, scan.Inbound, scan.Options{
		Unpacker: archive.New(archive.Config{Temp: archive.DirTemp(t.TempDir()),
			Limits: archive.Limits{Time: time.Hour}}), // what is found must not depend on how busy the machine is
	})
	if err != nil {
		t.Fatal(err)
	}
	in.Reports = []scan.Report{{Key: "authres", Use: "authres", Findings: []mail.Finding{
		{Module: "authres", Symbol: "spf:pass", Result: mail.Clean, Name: "client.example"},
		{Module: "authres", Symbol: "dkim:pass", Result: mail.Clean, Name: "client.example"},
	}}}
	return &patient{in: in, body: b, text: m.Text}
}

// envelope is one with most of what can stand in it.
func envelope() *mail.Envelope {
	address := func(local, domain string) mail.Address {
		return mail.Address{Local: local, Domain: domain, Raw: local + "@" + domain}
	}
	id := mail.ID{1, 2, 3, 4}
	return &mail.Envelope{
		ID: id, Received: time.Date(2026, time.March, 4, 9, 30, 0, 0, time.UTC),
		Session: mail.Session{
			ID: id, Listener: "inbound", Helo: "mx.client.example", Name: "mx.client.example", ESMTP: true,
			Client:   netip.MustParseAddrPort("198.51.100.7:4711"),
			TLS:      mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
			Findings: []mail.Finding{{Module: "dnsbl", Symbol: "zen.example.org", Result: mail.Match}},
		},
		Sender: address("sender", "client.example"),
		Recipients: []mail.Recipient{
			{Address: address("alice", "here.example"), Original: address("alice", "here.example")},
			{Address: address("moved", "there.example"), Original: address("bob", "here.example")},
		},
		Edits: mail.Edits{Prepend: []byte("Received: from mx.client.example by gw.example; Wed, 4 Mar 2026 09:30:00 +0000\r\n")},
	}
}

// snapshot is all that modules share, written down.
func (p *patient) snapshot(t testing.TB) map[string]string {
	t.Helper()
	text, err := p.in.Text(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files, err := p.in.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var fields strings.Builder
	for _, f := range p.in.Header.Fields() {
		fmt.Fprintf(&fields, "%q %v %q\n", f.Name, f.Span, f.Raw())
	}
	return map[string]string{
		"envelope": encode(p.in.Message.Envelope), "header": fields.String(), "tree": encode(p.in.Tree),
		"text": encode(text), "files": encode(files), "reports": encode(p.in.Reports),
		"direction": string(p.in.Direction),
	}
}

// compare checks that nothing has changed since.
func (p *patient) compare(t testing.TB, before map[string]string) {
	t.Helper()
	for what, now := range p.snapshot(t) {
		if now != before[what] {
			t.Errorf("it changed the %s: %s", what, difference(before[what], now))
		}
	}
	data := make([]byte, p.body.Size())
	if n, err := p.body.Reader.ReadAt(data, 0); string(data[:n]) != p.text {
		t.Errorf("it changed the body: %d bytes, %v", n, err)
	}
}

// difference shows where two texts part.
func difference(a, b string) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	from := max(0, i-40)
	return fmt.Sprintf("%q became %q", message.SafeText(a[from:min(len(a), i+80)], 200), message.SafeText(b[from:min(len(b), i+80)], 200))
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "not JSON: " + err.Error() // it differs from what is
	}
	return string(b)
}

// body watches how a message is read.
type body struct {
	*strings.Reader
	closed atomic.Bool // the module has answered: reads count as late
	armed  atomic.Bool // onNth may be called

	read, reads, late, early, afterEnd atomic.Int64
	// onNth is called at the nth read of an armed body; what is read from then on
	// counts as afterEnd.
	nth   int64
	onNth func()
}

// Size implements mail.Body.
func (b *body) Size() int64 { return b.Reader.Size() }

// ReadAt implements io.ReaderAt.
func (b *body) ReadAt(p []byte, off int64) (int, error) {
	if b.closed.Load() {
		b.late.Add(1)
	}
	if off < 0 || off > b.Size() {
		b.early.Add(1)
	}
	n, err := b.Reader.ReadAt(p, off)
	b.read.Add(int64(n))
	if b.armed.Load() {
		switch at := b.reads.Add(1); {
		case at > b.nth:
			b.afterEnd.Add(int64(n))
		case at == b.nth:
			b.onNth()
		}
	}
	return n, err
}
