package transport

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient/sinktest"
)

const eight = "Subject: hi\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n"

func TestEightBitContent(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		extensions []string
		want       string
		param      string
		contains   string
	}{
		{"goes as it is", eight, []string{"8BITMIME"}, "delivered eod 250", " BODY=8BITMIME", "gr\xc3\xbc\xc3\x9fe"},
		{"is converted", eight, nil, "delivered eod 250", "", "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe\r\n"},
		{"is not converted where it is signed", "DKIM-Signature: v=1; d=x\r\n" + eight, nil, "failed ehlo own 554", "", ""},
		{"that needs no 8 bit says nothing", short, []string{"8BITMIME"}, "delivered eod 250", "", "hello"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			s := n.host("192.0.2.1:25", sinktest.Config{Extensions: tc.extensions})
			tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
			d := delivery(t, tc.body, "r@out.example")
			d.Message.Envelope.Body = mail.Body8Bit
			d.Message.Envelope.Has8Bit = !mail.IsASCII(tc.body)
			out := tr.Deliver(t.Context(), d)
			if briefs(out) != tc.want {
				t.Fatalf("%s (%s), want %s", briefs(out), out[0].Cause, tc.want)
			}
			if out[0].Status == mail.Failed {
				if out[0].Reply.Enhanced != "5.6.3" || len(s.Messages()) > 0 {
					t.Errorf("reply %s, %d messages", out[0].Reply, len(s.Messages()))
				}
				return
			}
			m := s.Messages()[0]
			if m.From != "MAIL FROM:<a@in.example>"+tc.param || !strings.Contains(m.Wire, tc.contains) {
				t.Errorf("%s\n%q", m.From, m.Wire)
			}
		})
	}
}

func TestBinaryContent(t *testing.T) {
	binary := "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\na\nb\x00\r.\r\n\xff"
	for _, tc := range []struct {
		extensions []string
		want       string
	}{
		{[]string{"CHUNKING", "BINARYMIME", "8BITMIME"}, binary},
		{[]string{"CHUNKING", "8BITMIME"}, "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nYQpiAA0uDQr/\r\n"},
		{nil, "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nYQpiAA0uDQr/\r\n"},
	} {
		n := newNetwork(t)
		s := n.host("192.0.2.1:25", sinktest.Config{Extensions: tc.extensions})
		tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
		d := delivery(t, binary, "r@out.example")
		d.Message.Envelope.Body, d.Message.Envelope.Has8Bit = mail.BodyBinary, true
		out := tr.Deliver(t.Context(), d)
		if briefs(out) != "delivered eod 250" {
			t.Fatalf("%s: %s (%s)", tc.extensions, briefs(out), out[0].Cause)
		}
		if got := s.Messages()[0].Body(); got != tc.want {
			t.Errorf("%s: %q", tc.extensions, got)
		}
	}
}

func TestInternationalMail(t *testing.T) {
	type param = struct {
		utf8, headerUTF8 bool
	}
	for _, tc := range []struct {
		name       string
		from       string
		to         []string
		facts      param
		extensions []string
		want       string
		commands   string
	}{
		{"everything in UTF-8", "ä@in.example", []string{"ö@ü.example"}, param{true, true}, []string{"SMTPUTF8", "8BITMIME"},
			"delivered eod 250", "MAIL FROM:<ä@in.example> BODY=8BITMIME SMTPUTF8|RCPT TO:<ö@ü.example>"},
		{"the parameter is dropped where nothing needs it", "a@in.example", []string{"b@out.example"}, param{true, false}, []string{"SMTPUTF8"},
			"delivered eod 250", "MAIL FROM:<a@in.example>|RCPT TO:<b@out.example>"},
		{"nothing needs it and the next hop lacks it", "a@in.example", []string{"b@out.example"}, param{true, false}, nil,
			"delivered eod 250", "MAIL FROM:<a@in.example>|RCPT TO:<b@out.example>"},
		{"domains become A-labels", "a@ü.example", []string{"b@bücher.example", `"q@x"@ü.example`}, param{true, false}, nil,
			"delivered eod 250, delivered eod 250", `MAIL FROM:<a@xn--tda.example>|RCPT TO:<b@xn--bcher-kva.example>|RCPT TO:<"q@x"@xn--tda.example>`},
		{"sender needs it", "ä@in.example", []string{"b@out.example", "c@out.example"}, param{true, false}, nil, "failed ehlo own 553, failed ehlo own 553", ""},
		{"one recipient needs it", "a@in.example", []string{"ö@out.example", "c@out.example"}, param{true, false}, nil,
			"failed ehlo own 553, delivered eod 250", "MAIL FROM:<a@in.example>|RCPT TO:<c@out.example>"},
		{"header needs it", "a@in.example", []string{"b@out.example"}, param{true, true}, []string{"8BITMIME"}, "failed ehlo own 553", ""},
		{"an alias made it necessary", "a@in.example", []string{"ö@out.example"}, param{false, false}, []string{"SMTPUTF8"},
			"delivered eod 250", "MAIL FROM:<a@in.example> SMTPUTF8|RCPT TO:<ö@out.example>"},
		{"8-bit header of a client that never heard of it", "a@in.example", []string{"b@out.example"}, param{false, true}, []string{"8BITMIME"},
			"delivered eod 250", "MAIL FROM:<a@in.example> BODY=8BITMIME|RCPT TO:<b@out.example>"},
		{"8-bit header of such a client and a 7-bit next hop", "a@in.example", []string{"b@out.example"}, param{false, true}, nil, "failed ehlo own 554", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			s := n.host("192.0.2.1:25", sinktest.Config{Extensions: tc.extensions})
			tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
			body := short
			if tc.facts.headerUTF8 {
				body = "Subject: h\xc3\xbc\r\n\r\nhello\r\n"
			}
			d := delivery(t, body, tc.to...)
			env := d.Message.Envelope
			env.Sender = address(t, tc.from)
			env.SMTPUTF8, env.HeaderUTF8 = tc.facts.utf8, tc.facts.headerUTF8
			out := tr.Deliver(t.Context(), d)
			if briefs(out) != tc.want {
				t.Errorf("%s (%s), want %s", briefs(out), out[0].Cause, tc.want)
			}
			for _, o := range out {
				if o.Reply.Code == 553 && o.Reply.Enhanced != "5.6.7" {
					t.Errorf("reply %s", o.Reply)
				}
			}
			var commands []string
			for _, m := range s.Messages() {
				commands = append(append(commands, m.From), m.To...)
			}
			if got := strings.Join(commands, "|"); got != tc.commands {
				t.Errorf("got  %s\nwant %s", got, tc.commands)
			}
		})
	}
}

func TestMessageOverTheLimitOfTheNextHop(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"SIZE 20"}})
	tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
	out := tr.Deliver(t.Context(), delivery(t, short, "1@out.example", "2@out.example"))
	if briefs(out) != "failed ehlo own 552, failed ehlo own 552" || out[0].Reply.Enhanced != "5.3.4" {
		t.Errorf("%s", briefs(out))
	}
	if lines := strings.Join(s.Lines(), "|"); strings.Contains(lines, "MAIL") {
		t.Errorf("commands %s", lines)
	}
}

// stamp is a signer that shows what it was given.
type stamp struct {
	name string
	err  error
}

func (s stamp) Sign(_ context.Context, c *message.Content) ([]byte, error) {
	var b strings.Builder
	if _, err := c.Reader().WriteTo(&b); err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(b.String(), ":")
	return []byte("X-Sign-" + s.name + ": " + first + strings.Repeat("!", strings.Count(b.String(), "=C3")) + "\r\n"), s.err
}

func TestSignaturesCoverWhatLeaves(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{})
	tr, err := New(Config{Name: "t", Kind: SMTP, Hostname: "gw.example", Hosts: []string{"192.0.2.1"}},
		Deps{Dial: n.dial, Signers: []Signer{stamp{name: "A"}, stamp{name: "B"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	d := delivery(t, eight, "r@out.example")
	d.Message.Envelope.Has8Bit = true
	if out := tr.Deliver(t.Context(), d); briefs(out) != "delivered eod 250" {
		t.Fatalf("%s (%s)", briefs(out), out[0].Cause)
	}
	if got := s.Messages()[0].Wire; !strings.HasPrefix(got, "X-Sign-B: Subject!!\r\nX-Sign-A: Subject!!\r\nSubject: hi\r\n") {
		t.Errorf("wire %q", got)
	}
}

func TestWhatCannotBeSignedWaits(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{})
	tr, err := New(Config{Name: "t", Kind: SMTP, Hostname: "gw.example", Hosts: []string{"192.0.2.1"}},
		Deps{Dial: n.dial, Signers: []Signer{stamp{name: "A", err: errors.New("no key")}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
	if briefs(out) != "deferred ehlo own 451" || !strings.Contains(out[0].Cause, "no key") || len(s.Messages()) > 0 {
		t.Errorf("%s (%s)", briefs(out), out[0].Cause)
	}
}

// Whatever got into the spool, these bytes do not get out (SMG-03).
func TestSmugglingFormsNeverLeave(t *testing.T) {
	for _, body := range []string{"A: b\r\n\r\nx\n.\nMAIL FROM:<evil@a.example>\r\n", "A: b\r\n\r\nx\r.\r\n", "A: b\r\n\r\nx\n.\r\ny\r\n", "A: b\nC: d\r\n\r\n"} {
		n := newNetwork(t)
		s := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"PIPELINING", "CHUNKING"}})
		tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
		d := delivery(t, "A: b\r\n\r\n", "r@out.example")
		d.Message.Body = strings.NewReader(body)
		out := tr.Deliver(t.Context(), d)
		tr.Close()
		s.Close()
		if briefs(out) != "failed data own 550" || out[0].Reply.Enhanced != "5.6.0" || len(s.Messages()) > 0 {
			t.Errorf("%q: %s %s", body, briefs(out), out[0].Reply)
		}
		if raw := strings.ReplaceAll(s.Raw(), "\r\n", ""); strings.ContainsAny(raw, "\r\n\x00") {
			t.Errorf("on the wire: %q", s.Raw())
		}
	}
}

func TestDotsAreStuffed(t *testing.T) {
	body := "A: b\r\n\r\n.\r\n..\r\n...\r\n.a\r\n..a\r\nend.\r\n."
	for _, extensions := range [][]string{nil, {"CHUNKING"}} {
		n := newNetwork(t)
		s := n.host("192.0.2.1:25", sinktest.Config{Extensions: extensions})
		tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
		mustDeliverBody(t, tr, body)
		if got := s.Messages()[0].Body(); got != body+"\r\n" {
			t.Errorf("arrived as %q", got)
		}
	}
}

func mustDeliverBody(t *testing.T, tr Transport, body string) {
	t.Helper()
	if out := tr.Deliver(t.Context(), delivery(t, body, "r@out.example")); briefs(out) != "delivered eod 250" {
		t.Fatalf("%s (%s)", briefs(out), out[0].Cause)
	}
}

func TestQuotedLocalPartsGoOnAsTheyCame(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"DSN"}})
	tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
	d := delivery(t, short)
	for _, path := range []string{`<"a b\"c@d"@in.example>`, `<"a@evil.example>x y"@in.example>`} {
		a, _, err := smtp.ParsePath(path, false)
		if err != nil {
			t.Fatal(err)
		}
		d.Recipients = append(d.Recipients, mail.Recipient{Address: a, Notify: mail.NotifyFailure, ORcpt: "rfc822;" + a.Raw})
	}
	if out := tr.Deliver(t.Context(), d); briefs(out) != "delivered eod 250, delivered eod 250" {
		t.Fatal(briefs(out))
	}
	want := `RCPT TO:<"a b\"c@d"@in.example> NOTIFY=FAILURE ORCPT=rfc822;"a+20b\"c@d"@in.example|` +
		`RCPT TO:<"a@evil.example>x y"@in.example> NOTIFY=FAILURE ORCPT=rfc822;"a@evil.example>x+20y"@in.example`
	if got := strings.Join(s.Messages()[0].To, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
