package smtpclient_test

import (
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

var allExtensions = []string{"SIZE", "8BITMIME", "SMTPUTF8", "DSN", "REQUIRETLS", "BINARYMIME", "CHUNKING"}

func TestParametersAreSentOnlyWhereTheyAreKnown(t *testing.T) {
	full := func(t *testing.T) *smtpclient.Request {
		return &smtpclient.Request{
			Sender:     address(t, "ä@in.example"),
			Recipients: []mail.Recipient{{Address: address(t, "b@out.example"), Notify: mail.NotifySuccess | mail.NotifyDelay, ORcpt: "rfc822;Orig+x@in.example"}},
			Content:    short,
			Body:       mail.Body8Bit, SMTPUTF8: true, RequireTLS: true, Ret: mail.RetHdrs, EnvID: "QQ 1+2=3",
		}
	}
	for _, tc := range []struct {
		name       string
		extensions []string
		want       string
	}{
		{"all known", allExtensions,
			"MAIL FROM:<ä@in.example> SIZE=22 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=QQ+201+2B2+3D3|" +
				"RCPT TO:<b@out.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Orig+2Bx@in.example"},
		{"none known", nil, "MAIL FROM:<ä@in.example>|RCPT TO:<b@out.example>"},
		{"DSN only", []string{"DSN"},
			"MAIL FROM:<ä@in.example> RET=HDRS ENVID=QQ+201+2B2+3D3|RCPT TO:<b@out.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Orig+2Bx@in.example"},
		{"SIZE only", []string{"SIZE 100000"}, "MAIL FROM:<ä@in.example> SIZE=22|RCPT TO:<b@out.example>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Extensions: tc.extensions}, smtpclient.Config{})
			out, err := k.mustDial(t).Send(t.Context(), full(t))
			if err != nil || briefs(out) != "delivered eod 250" {
				t.Fatalf("%s, %v", briefs(out), err)
			}
			m := k.sink.Messages()[0]
			if got := m.From + "|" + m.To[0]; got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if dsn := strings.Contains(tc.want, "NOTIFY"); out[0].DSNPassed != dsn {
				t.Errorf("DSNPassed = %v", out[0].DSNPassed)
			}
		})
	}
}

func TestRcptParameters(t *testing.T) {
	for _, tc := range []struct {
		name string
		rcpt mail.Recipient
		utf8 bool
		want string
	}{
		{"none", mail.Recipient{}, false, ""},
		{"NEVER stands alone", mail.Recipient{Notify: mail.NotifyNever | mail.NotifyFailure}, false, " NOTIFY=NEVER"},
		{"FAILURE", mail.Recipient{Notify: mail.NotifyFailure}, false, " NOTIFY=FAILURE"},
		{"an address that was rewritten keeps its first form", mail.Recipient{Original: mail.Address{Raw: "old+x@in.example"}}, false, " ORCPT=rfc822;old+2Bx@in.example"},
		{"an address that was not", mail.Recipient{Original: mail.Address{Raw: "b@out.example"}}, false, ""},
		{"ORCPT with a line end", mail.Recipient{ORcpt: "rfc822;x\r\nBcc: y"}, false, ""},
		{"ORCPT with NUL", mail.Recipient{ORcpt: "rfc822;x\x00"}, false, ""},
		{"ORCPT with a space", mail.Recipient{ORcpt: "rfc822;a b@c.example"}, false, " ORCPT=rfc822;a+20b@c.example"},
		{"ORCPT of a strange type", mail.Recipient{ORcpt: "x y>;a@b.example"}, false, ""},
		{"ORCPT without a type", mail.Recipient{ORcpt: "a@b.example"}, false, ""},
		{"ORCPT of 8-bit rfc822", mail.Recipient{ORcpt: "rfc822;ä@b.example"}, false, ""},
		{"ORCPT over the limit", mail.Recipient{ORcpt: "rfc822;" + strings.Repeat("x", 500)}, false, ""},
		{"utf-8 ORCPT", mail.Recipient{ORcpt: "utf-8;ä+\\@b.example"}, false, ` ORCPT=utf-8;\x{E4}\x{2B}\x{5C}@b.example`},
		{"utf-8 ORCPT under SMTPUTF8", mail.Recipient{ORcpt: "utf-8;ä=@b.example"}, true, ` ORCPT=utf-8;ä\x{3D}@b.example`},
		{"utf-8 ORCPT with a line end", mail.Recipient{ORcpt: "utf-8;x\r\nBcc:"}, false, ""},
		{"utf-8 ORCPT with a C1 control", mail.Recipient{ORcpt: "utf-8;x\u0085y"}, false, ""},
		{"utf-8 ORCPT that is not UTF-8", mail.Recipient{ORcpt: "utf-8;\xff"}, false, ""},
		{"an original address that is not ASCII", mail.Recipient{Original: mail.Address{Raw: "ü@in.example"}}, false, ` ORCPT=utf-8;\x{FC}@in.example`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Extensions: allExtensions}, smtpclient.Config{})
			tc.rcpt.Address = address(t, "b@out.example")
			req := &smtpclient.Request{Recipients: []mail.Recipient{tc.rcpt}, Content: short, SMTPUTF8: tc.utf8}
			if out, err := k.mustDial(t).Send(t.Context(), req); err != nil || briefs(out) != "delivered eod 250" {
				t.Fatalf("%s, %v", briefs(out), err)
			}
			if got, want := k.sink.Messages()[0].To[0], "RCPT TO:<b@out.example>"+tc.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestHostileEnvelopeIDIsLeftOut(t *testing.T) {
	for _, id := range []string{"x\nRCPT TO:<v@x>", "\x00", "ä", strings.Repeat("x", 101)} {
		k := newTalk(t, sinktest.Config{Extensions: allExtensions}, smtpclient.Config{})
		req := request(t, 1, short)
		req.EnvID = id
		if _, err := k.mustDial(t).Send(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if got := k.sink.Messages()[0].From; got != "MAIL FROM:<a@in.example> SIZE=22" {
			t.Errorf("ENVID %q: %s", id, got)
		}
	}
}

func TestAddressWithALineEndDoesNotReachTheWire(t *testing.T) {
	bad := mail.Address{Local: "x", Domain: "out.example", Raw: "x>\r\nRCPT TO:<evil@out.example"}
	k := newTalk(t, sinktest.Config{Extensions: []string{"PIPELINING"}}, smtpclient.Config{})
	c := k.mustDial(t)
	req := request(t, 2, short)
	req.Recipients[0].Address = bad
	out, err := c.Send(t.Context(), req)
	if err != nil || briefs(out) != "failed rcpt own 501, delivered eod 250" {
		t.Errorf("%s, %v", briefs(out), err)
	}
	req = request(t, 2, short)
	req.Sender = bad
	out, err = c.Send(t.Context(), req)
	if err != nil || briefs(out) != "failed mail own 501, failed mail own 501" {
		t.Errorf("%s, %v", briefs(out), err)
	}
	if strings.Contains(k.sink.Raw(), "evil") {
		t.Errorf("on the wire: %q", k.sink.Raw())
	}
}

func TestQuotedLocalPartStaysAsItIs(t *testing.T) {
	for _, raw := range []string{`"a b\"c@d"@in.example`, `"a@evil.example>x y"@good.example`, `a+b=c'd@x.example`, `"plain"@x.example`} {
		k := newTalk(t, sinktest.Config{Extensions: []string{"DSN"}}, smtpclient.Config{})
		req := &smtpclient.Request{Sender: address(t, raw), Recipients: []mail.Recipient{{Address: address(t, raw), Notify: mail.NotifyNever}}, Content: short}
		if out, err := k.mustDial(t).Send(t.Context(), req); err != nil || briefs(out) != "delivered eod 250" {
			t.Fatalf("%s, %v", briefs(out), err)
		}
		m := k.sink.Messages()[0]
		if m.From != "MAIL FROM:<"+raw+">" || m.To[0] != "RCPT TO:<"+raw+"> NOTIFY=NEVER" {
			t.Errorf("%s: %s, %s", raw, m.From, m.To)
		}
	}
}

func TestBinaryGoesByBDATOnly(t *testing.T) {
	const body text = "a\nb\x00\r.\r\nc"
	k := newTalk(t, sinktest.Config{Extensions: []string{"PIPELINING", "CHUNKING", "BINARYMIME"}}, smtpclient.Config{})
	c := k.mustDial(t)
	req := request(t, 1, body)
	req.Body = mail.BodyBinary
	out, err := c.Send(t.Context(), req)
	if err != nil || briefs(out) != "delivered eod 250" {
		t.Fatalf("%s, %v", briefs(out), err)
	}
	m := k.sink.Messages()[0]
	if m.Wire != string(body) || !m.Bdat || !strings.HasSuffix(m.From, "BODY=BINARYMIME") {
		t.Errorf("message %+v", m)
	}
}

// liar says another size than it has.
type liar struct{ text }

func (liar) Size() int64 { return 30 }

func TestContentThatIsNotAsLongAsItSaysIsNotDelivered(t *testing.T) {
	for _, extension := range []string{"PIPELINING", "CHUNKING"} {
		k := newTalk(t, sinktest.Config{Extensions: []string{extension}}, smtpclient.Config{ChunkFrom: 1})
		out, err := k.mustDial(t).Send(t.Context(), request(t, 1, liar{short}))
		if err == nil || briefs(out) != "deferred data own 451" {
			t.Errorf("%s: %s, %v", extension, briefs(out), err)
		}
		k.sink.Close()
		if n := len(k.sink.Messages()); n != 0 {
			t.Errorf("%s: %d messages", extension, n)
		}
	}
}
