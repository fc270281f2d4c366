package dsn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
	"time"

	gp "gatepost/internal/mail"
	"gatepost/internal/smtp"
)

type body struct{ *strings.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func newBody(s string) gp.Body { return body{strings.NewReader(s)} }

// brokenBody fails to read behind a number of bytes.
type brokenBody struct {
	gp.Body
	after int64
}

func (b brokenBody) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.after {
		return 0, errors.New("damaged")
	}
	return b.Body.ReadAt(p, off)
}

func addr(s string) gp.Address {
	a, err := smtp.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

const message = "From: a@out.example\r\nSubject: hello\r\n\r\nthe body\r\n"

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// base is a plain report on one failed recipient.
func base() Report {
	return Report{
		Hostname: "gw.example", Date: at, To: addr("a@out.example"), Body: newBody(message), MaxReturn: 1000,
		Envelope: &gp.Envelope{ID: gp.FirstID(at), Received: at.Add(-time.Hour), Sender: addr("a@out.example"),
			HeaderSize: int64(strings.Index(message, "\r\n\r\n") + 4), Size: int64(len(message)), MessageID: "<1@out.example>"},
		Recipients: []Recipient{failed("x@in.example")},
	}
}

func failed(to string) Recipient {
	return Recipient{Action: Failed, Recipient: gp.Recipient{Address: addr(to), Original: addr(to)},
		Outcome: gp.Outcome{Status: gp.Failed, Remote: true, Host: "mx.in.example [192.0.2.1]:25", Time: at.Add(-time.Minute),
			Reply: gp.Reply{Code: 550, Enhanced: "5.1.1", Lines: []string{"no such user"}}}}
}

// parsed is a report as a mail program sees it.
type parsed struct {
	raw    string
	header mail.Header
	parts  []part
	fields []textproto.MIMEHeader // of the machine's part: message, then recipients
}

type part struct {
	mediaType string
	text      string // decoded
}

// parse reads a report and checks what must hold for every one.
func parse(raw []byte) (*parsed, error) {
	if err := checkLines(raw); err != nil {
		return nil, err
	}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	p := &parsed{raw: string(raw), header: m.Header}
	mt, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || mt != "multipart/report" || params["report-type"] != "delivery-status" {
		return nil, fmt.Errorf("content type %q: %v", m.Header.Get("Content-Type"), err)
	}
	for _, name := range []string{"Date", "From", "To", "Subject", "Message-Id", "Auto-Submitted", "Mime-Version"} {
		if len(m.Header[name]) != 1 {
			return nil, fmt.Errorf("%d fields %s", len(m.Header[name]), name)
		}
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		next, err := r.NextPart() // decodes quoted-printable
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", len(p.parts)+1, err)
		}
		text, err := io.ReadAll(next)
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", len(p.parts)+1, err)
		}
		mt, _, err := mime.ParseMediaType(next.Header.Get("Content-Type"))
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", len(p.parts)+1, err)
		}
		p.parts = append(p.parts, part{mt, string(text)})
	}
	if len(p.parts) != 3 || p.parts[0].mediaType != "text/plain" || !strings.HasSuffix(p.parts[1].mediaType, "delivery-status") {
		return nil, fmt.Errorf("parts: %+v", p.parts)
	}
	tp := textproto.NewReader(bufio.NewReader(strings.NewReader(p.parts[1].text)))
	for {
		h, err := tp.ReadMIMEHeader()
		if len(h) > 0 {
			p.fields = append(p.fields, h)
		}
		if err == io.EOF {
			return p, nil
		}
		if err != nil {
			return nil, fmt.Errorf("status fields: %w", err)
		}
	}
}

func checkLines(raw []byte) error {
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		return errors.New("the last line has no end")
	}
	for i, line := range bytes.Split(raw, []byte("\r\n")) {
		if len(line) > 998 {
			return fmt.Errorf("line %d has %d bytes", i+1, len(line))
		}
		if bytes.ContainsAny(line, "\r\n\x00") {
			return fmt.Errorf("line %d holds a bare CR, LF or NUL: %q", i+1, line)
		}
	}
	return nil
}

func build(t *testing.T, r Report) *parsed {
	t.Helper()
	reader, size, err := Build(r)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(raw)) != size {
		t.Errorf("%d bytes, announced were %d", len(raw), size)
	}
	p, err := parse(raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	return p
}

func TestAFailureReportHasEverythingThatMachinesLookFor(t *testing.T) {
	r := base()
	r.Envelope.EnvID = "QQ314159"
	r.Recipients[0].Recipient.ORcpt = "rfc822;alias@in.example"
	p := build(t, r)
	want := []map[string]string{
		{"Reporting-Mta": "dns; gw.example", "Original-Envelope-Id": "QQ314159", "Arrival-Date": "Sun, 01 Mar 2026 11:00:00 +0000"},
		{"Original-Recipient": "rfc822; alias@in.example", "Final-Recipient": "rfc822; x@in.example", "Action": "failed", "Status": "5.1.1",
			"Remote-Mta": "dns; mx.in.example", "Diagnostic-Code": "smtp; 550 5.1.1 no such user", "Last-Attempt-Date": "Sun, 01 Mar 2026 11:59:00 +0000"},
	}
	if len(p.fields) != len(want) {
		t.Fatalf("%d groups of fields: %v", len(p.fields), p.fields)
	}
	for i, fields := range want {
		for name, value := range fields {
			if got := p.fields[i].Get(name); got != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}
	}
	head := map[string]string{
		"From": "Mail Delivery System <MAILER-DAEMON@gw.example>", "To": "<a@out.example>", "Auto-Submitted": "auto-replied",
		"Subject": "Your message could not be delivered", "In-Reply-To": "<1@out.example>", "References": "<1@out.example>",
		"Content-Transfer-Encoding": "",
	}
	for name, value := range head {
		if got := p.header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	for _, words := range []string{"could not be delivered", "<x@in.example>", "no such mailbox", "Check how the address is written", "550 5.1.1 no such user"} {
		if !strings.Contains(p.parts[0].text, words) {
			t.Errorf("the text lacks %q:\n%s", words, p.parts[0].text)
		}
	}
	if p.parts[2].mediaType != "text/rfc822-headers" || p.parts[2].text != "From: a@out.example\r\nSubject: hello\r\n" {
		t.Errorf("third part: %+v", p.parts[2])
	}
}

func TestActionsStatusAndDiagnostics(t *testing.T) {
	local := gp.Outcome{Reply: gp.Reply{Code: 550, Enhanced: "5.1.2", Lines: []string{"No such domain"}}}
	cases := []struct {
		name                   string
		action                 Action
		expired                bool
		outcome                gp.Outcome
		status, code, remoteMX string
	}{
		{"our own finding is not said to be a server's", Failed, false, local, "5.1.2", "x-gatepost; 550 5.1.2 No such domain", ""},
		{"a reply without enhanced code", Failed, false, gp.Outcome{Remote: true, Host: "mx.example", Reply: gp.Reply{Code: 554}}, "5.0.0", "smtp; 554", "dns; mx.example"},
		{"an enhanced code of the wrong class", Failed, false, gp.Outcome{Remote: true, Reply: gp.Reply{Code: 554, Enhanced: "4.2.2"}}, "5.0.0", "smtp; 554 4.2.2", ""},
		{"an enhanced code that is none", Failed, false, gp.Outcome{Remote: true, Reply: gp.Reply{Code: 554, Enhanced: "5.x\r\ny"}}, "5.0.0", "smtp; 554 5.x??y", ""},
		{"given up after refusals for now", Failed, true, gp.Outcome{Remote: true, Reply: gp.Reply{Code: 452, Enhanced: "4.2.2"}}, "4.2.2", "smtp; 452 4.2.2", ""},
		{"given up without any reply", Failed, true, gp.Outcome{}, "4.4.7", "", ""},
		{"delayed", Delayed, false, gp.Outcome{Reply: gp.Reply{Code: 451, Enhanced: "4.4.1"}}, "4.4.1", "x-gatepost; 451 4.4.1", ""},
		{"relayed", Relayed, false, gp.Outcome{Remote: true, Host: "[2001:db8::1]:25", Reply: gp.Reply{Code: 250, Enhanced: "2.0.0"}}, "2.0.0", "smtp; 250 2.0.0", "dns; [2001:db8::1]"},
		{"delivered", Delivered, false, gp.Outcome{Reply: gp.Reply{Code: 250}}, "2.0.0", "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := base()
			r.RetryUntil = at.Add(time.Hour)
			r.Recipients[0].Action, r.Recipients[0].Expired, r.Recipients[0].Outcome = c.action, c.expired, c.outcome
			f := build(t, r).fields[1]
			if f.Get("Action") != string(c.action) || f.Get("Status") != c.status || f.Get("Diagnostic-Code") != c.code || f.Get("Remote-Mta") != c.remoteMX {
				t.Errorf("%v", f)
			}
			if got := f.Get("Will-Retry-Until"); (got != "") != (c.action == Delayed) {
				t.Errorf("Will-Retry-Until: %q", got)
			}
		})
	}
}

func TestSeveralActionsShareAReportNamedForTheWorst(t *testing.T) {
	r := base()
	for i, a := range []Action{Delivered, Relayed, Delayed} {
		other := failed(fmt.Sprintf("y%d@in.example", i))
		other.Action = a
		r.Recipients = append(r.Recipients, other)
	}
	p := build(t, r)
	if p.header.Get("Subject") != "Your message could not be delivered" || len(p.fields) != 5 {
		t.Errorf("%q, %d groups", p.header.Get("Subject"), len(p.fields))
	}
	r.Recipients = r.Recipients[1:]
	if s := build(t, r).header.Get("Subject"); s != "Your message is delayed" {
		t.Errorf("without the failure: %q", s)
	}
}

func TestHowMuchOfTheMessageComesBack(t *testing.T) {
	eight := "Subject: x\r\n\r\nf\xc3\xbcr dich\r\n"
	cases := []struct {
		name    string
		message string
		change  func(*Report)
		kind    string
		want    string
	}{
		{"headers by default", message, func(*Report) {}, "text/rfc822-headers", "From: a@out.example\r\nSubject: hello"},
		{"RET=HDRS", message, func(r *Report) { r.Envelope.Ret = gp.RetHdrs }, "text/rfc822-headers", "From: a@out.example\r\nSubject: hello"},
		{"RET=FULL", message, func(r *Report) { r.Envelope.Ret = gp.RetFull }, "message/rfc822", message},
		{"RET=FULL of 8-bit text", eight, func(r *Report) { r.Envelope.Ret = gp.RetFull }, "message/rfc822", eight},
		{"RET=FULL holds for failures only", message, func(r *Report) {
			r.Envelope.Ret, r.Recipients[0].Action = gp.RetFull, Delayed
		}, "text/rfc822-headers", "From: a@out.example\r\nSubject: hello"},
		{"RET=FULL of a large message", message, func(r *Report) { r.Envelope.Ret, r.MaxReturn = gp.RetFull, 10 }, "text/rfc822-headers", "From: a@out.example\r\nSubject: hello"},
		{"RET=FULL of a protected message", message, func(r *Report) { r.Envelope.Ret, r.Envelope.RequireTLS = gp.RetFull, true }, "text/rfc822-headers", "From: a@out.example\r\nSubject: hello"},
		{"a double bounce comes back whole", message, func(r *Report) { r.DoubleBounce = true }, "message/rfc822", message},
		{"RET=FULL of what cannot stand in a message", "A: b\r\n\r\nx\ry\r\n", func(r *Report) { r.Envelope.Ret = gp.RetFull }, "text/rfc822-headers", "A: b"},
		{"RET=FULL with a long line", "A: b\r\n\r\n" + strings.Repeat("x", 999) + "\r\n", func(r *Report) { r.Envelope.Ret, r.MaxReturn = gp.RetFull, 1<<20 }, "text/rfc822-headers", "A: b"},
		{"8-bit headers are encoded", "Subject: f\xfcr\r\n\r\n", func(*Report) {}, "text/rfc822-headers", "Subject: f\xfcr"},
		{"bare line ends in headers are not repeated", "A: b\nc\r\n\r\n", func(*Report) {}, "text/rfc822-headers", "A: b\r\nc"},
		{"no headers at all", "\r\nx\r\n", func(*Report) {}, "text/rfc822-headers", ""},
		{"an empty message", "", func(*Report) {}, "text/rfc822-headers", ""},
		{"long headers are cut at a line", strings.Repeat("X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 5000), func(*Report) {}, "text/rfc822-headers",
			strings.TrimSuffix(strings.Repeat("X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", maxHeaders/70), "\r\n")},
		{"a damaged message does not keep the sender from being told", message, func(r *Report) { r.Body = brokenBody{r.Body, 5} }, "text/rfc822-headers", "Message-ID: <1@out.example>\r\nSubject: "},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := base()
			r.Body = newBody(c.message)
			r.Envelope.HeaderSize = 0
			if i := strings.Index(c.message, "\r\n\r\n"); i >= 0 {
				r.Envelope.HeaderSize = int64(i + 4)
			}
			c.change(&r)
			p := build(t, r)
			if p.parts[2].mediaType != c.kind || strings.TrimSuffix(p.parts[2].text, "\r\n") != strings.TrimSuffix(c.want, "\r\n") {
				t.Errorf("%s: %.200q, want %s: %.200q", p.parts[2].mediaType, p.parts[2].text, c.kind, c.want)
			}
			if strings.Contains(p.raw, "8bit") != !gp.IsASCII(p.raw) {
				t.Errorf("8bit is said and not so, or the other way round:\n%s", p.raw)
			}
		})
	}
}

func TestAddressesThatAreNotASCII(t *testing.T) {
	r := base()
	to := failed("x@in.example")
	to.Recipient.Address, to.Recipient.Original = addr("jörg+1@in.example"), addr("alias@in.example")
	to.Outcome.Reply.Lines = []string{"kein Postfach für Jörg"}
	r.Recipients = []Recipient{to}
	p := build(t, r)
	if !gp.IsASCII(p.raw) {
		t.Error("a report to somebody who may not know SMTPUTF8 is not ASCII")
	}
	f := p.fields[1]
	if got := f.Get("Final-Recipient"); got != `utf-8; j\x{F6}rg\x{2B}1@in.example` {
		t.Errorf("Final-Recipient: %s", got)
	}
	if got := f.Get("Original-Recipient"); got != "rfc822; alias@in.example" {
		t.Errorf("Original-Recipient: %s", got)
	}
	decoded, err := new(mime.WordDecoder).DecodeHeader(f.Get("Diagnostic-Code"))
	if err != nil || decoded != "smtp; 550 5.1.1 kein Postfach für Jörg" {
		t.Errorf("Diagnostic-Code: %q, %v", f.Get("Diagnostic-Code"), err)
	}
	if p.parts[1].mediaType != "message/delivery-status" || !strings.Contains(p.parts[0].text, "kein Postfach für Jörg") {
		t.Errorf("%s\n%s", p.parts[1].mediaType, p.parts[0].text)
	}

	r.Envelope.SMTPUTF8 = true
	r.To = addr("ä@out.example")
	r.Body = newBody("Subject: für\r\n\r\n")
	r.Envelope.HeaderSize = 0
	p = build(t, r)
	if p.parts[1].mediaType != "message/global-delivery-status" || p.parts[2].mediaType != "message/global-headers" {
		t.Errorf("%s, %s", p.parts[1].mediaType, p.parts[2].mediaType)
	}
	if got := p.fields[1].Get("Final-Recipient"); got != "utf-8; jörg+1@in.example" {
		t.Errorf("Final-Recipient: %s", got)
	}
	r.Body = newBody("Subject: f\xfcr\r\n\r\n")
	if q := build(t, r); q.parts[2].mediaType != "text/rfc822-headers" {
		t.Errorf("headers that are not UTF-8 came back as %s", q.parts[2].mediaType)
	}
	if p.header.Get("To") != "<ä@out.example>" || !strings.Contains(p.parts[2].text, "Subject: für") || p.header.Get("Content-Transfer-Encoding") != "8bit" {
		t.Errorf("%v\n%s", p.header, p.parts[2].text)
	}
}

func TestNothingFromOutsideStartsALineOfItsOwn(t *testing.T) {
	evil := "x\r\nBcc: victim@x.example\r\n\r\n--=_gatepost_\n.\r\nX\x00\x1b[31m\u2028\u0085"
	r := base()
	r.Hostname = "gw.example"
	r.Envelope.EnvID, r.Envelope.MessageID = evil, "<"+evil+">"
	r.Recipients[0].Recipient.ORcpt = "rfc822;" + evil
	r.Recipients[0].Recipient.Address.Raw = evil + "@in.example"
	r.Recipients[0].Recipient.Original = gp.Address{Local: "o", Domain: "o.example", Raw: evil + "@o.example"}
	r.Recipients[0].Outcome.Host = evil
	r.Recipients[0].Outcome.Reply = gp.Reply{Code: 550, Enhanced: evil, Lines: []string{evil, strings.Repeat("y", 5000), "\xff\xfe"}}
	r.To.Raw = evil + "@out.example"
	p := build(t, r)
	for _, name := range []string{"Bcc", "X", "."} {
		if p.header.Get(name) != "" {
			t.Errorf("a field %s appeared", name)
		}
		for _, f := range p.fields {
			if f.Get(name) != "" {
				t.Errorf("a status field %s appeared", name)
			}
		}
	}
	if p.header.Get("In-Reply-To") != "" || p.fields[1].Get("Remote-Mta") != "" {
		t.Error("a name that is none was repeated")
	}
	if strings.Contains(p.raw, "\x1b") || strings.Contains(p.parts[0].text, "\u2028") {
		t.Error("a control character got through")
	}
}

func TestRemoteHostNames(t *testing.T) {
	for in, want := range map[string]string{
		"mx.example [192.0.2.1]:25": "mx.example", "mx.example:25": "mx.example", "mx.example": "mx.example",
		"[192.0.2.1]:25": "[192.0.2.1]", "192.0.2.1:25": "192.0.2.1", "[2001:db8::1]:25": "[2001:db8::1]",
		"": "", "a\r\nb [x]": "", "<script> x": "", strings.Repeat("a", 300): "",
	} {
		if got := remoteHost(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAReportNeedsAMessageAndARecipient(t *testing.T) {
	for name, change := range map[string]func(*Report){
		"recipients": func(r *Report) { r.Recipients = nil },
		"envelope":   func(r *Report) { r.Envelope = nil },
		"body":       func(r *Report) { r.Body = nil },
	} {
		r := base()
		change(&r)
		if _, _, err := Build(r); err == nil {
			t.Errorf("no error without %s", name)
		}
	}
}

func FuzzBuild(f *testing.F) {
	f.Add("no such user", "5.1.1", "x@in.example", "rfc822;x@y.example", "QQ31", "mx.example [192.0.2.1]:25", message, "<1@x.example>", uint8(0))
	f.Add("für\r\nx", "4.2.2", "jörg@in.example", "utf-8;j\\x{F6}rg@x", "a b", "[2001:db8::1]:25", "Subject: \xff\r\n\r\n\r\n.\r\n", "<>", uint8(1))
	f.Add(strings.Repeat("x ", 3000), "", strings.Repeat("ü", 400), ";;", "\r\n", " ", strings.Repeat("a", 2000), "", uint8(2))
	f.Add("\r\n\r\n", "5", "\"a b\"@x.example", "x\x00;\x7f", strings.Repeat(" ", 300), "a:b:c", "\r\n\r\r\n\n", "<a b@c>", uint8(3))
	f.Add("=?utf-8?q?x?=", "2.0.0", "a@b", "rfc822; ", "=", "_", "A:b\r\n", "<a@b>", uint8(0xff))
	f.Fuzz(func(t *testing.T, text, enhanced, to, orcpt, envid, host, content, id string, bits uint8) {
		r := base()
		r.Body = newBody(content)
		r.MaxReturn = 1 << 20
		r.Envelope.HeaderSize = int64(len(content)) / 2
		r.Envelope.EnvID, r.Envelope.MessageID, r.Envelope.SMTPUTF8 = envid, id, bits&1 != 0
		if bits&2 != 0 {
			r.Envelope.Ret = gp.RetFull
		}
		r.DoubleBounce = bits&4 != 0
		r.To.Raw = to
		rc := &r.Recipients[0]
		rc.Action = []Action{Failed, Delayed, Relayed, Delivered}[bits>>3&3]
		rc.Expired = bits&32 != 0
		rc.Recipient.ORcpt, rc.Recipient.Original = orcpt, gp.Address{}
		rc.Recipient.Address.Raw = to
		rc.Outcome.Remote, rc.Outcome.Host = bits&64 != 0, host
		rc.Outcome.Reply = gp.Reply{Code: 550, Enhanced: enhanced, Lines: strings.Split(text, "|")}
		reader, size, err := Build(r)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(reader)
		if err != nil || int64(len(raw)) != size {
			t.Fatalf("%d bytes of %d, %v", len(raw), size, err)
		}
		p, err := parse(raw)
		if err != nil {
			t.Fatalf("%v\n%q", err, raw)
		}
		if len(p.fields) != 2 || p.fields[1].Get("Action") != string(rc.Action) {
			t.Fatalf("status fields: %v", p.fields)
		}
		known := "Original-Recipient Final-Recipient Action Status Remote-Mta Diagnostic-Code Last-Attempt-Date Will-Retry-Until"
		for name := range p.fields[1] {
			if !strings.Contains(known, name) {
				t.Fatalf("field %q came from outside", name)
			}
		}
		if p.header.Get("Content-Transfer-Encoding") != "8bit" && !gp.IsASCII(string(raw)) {
			t.Fatal("bytes above 0x7f and no word of it")
		}
	})
}
