package dialogue

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

const message = "Subject: hello\nMessage-ID: <1@out.example>\n\nsecret body\n"

// send hands in a message with parameters of MAIL and RCPT.
func send(t *testing.T, c *wire.Conn, mail, rcpt, data string) string {
	t.Helper()
	say(t, c, "MAIL FROM:"+mail, "250", "RCPT TO:"+rcpt, "250", "DATA", "354")
	if err := c.Send(crlf(data) + ".\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := c.Reply()
	if err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	return idOf(t, r)
}

// DUR-27: a message that is given up by age makes one report, and tried it was.
func TestExpiryMakesOneReport(t *testing.T) {
	t.Parallel()
	h := []*hop{{name: "busy", script: sink.Fail(sink.RcptTo, "450 4.2.1 not now")}}
	g, reports := hops(t, h, `delays = ["1s"], give_up_after = "2s", warn_after = "0s"`)
	c := g.Hello("")
	give(t, c, "ada@out.example", "bob@busy.example", message)
	r := theReport(t, reports, "bob@busy.example", "failed", "4.2.1")
	if got := r.recipients[0].Get("Diagnostic-Code"); got != "smtp; 450 4.2.1 not now" {
		t.Errorf("diagnostic code %q", got)
	}
	drained(t, g)
	if n := len(reports.Mails()); n != 1 {
		t.Errorf("%d reports", n)
	}
	if n := len(linesWith(g.MailLog(), "status=deferred")); n < 2 {
		t.Errorf("%d attempts before the last", n)
	}
}

// DUR-27: nobody can be told of a message from the null sender: the postmaster
// gets a copy, once, and nothing comes of a copy that fails.
func TestTheNullSenderGetsNoReport(t *testing.T) {
	t.Parallel()
	h := []*hop{
		{name: "busy", script: sink.Fail(sink.RcptTo, "450 4.2.1 not now")},
		{name: "full", script: sink.Fail(sink.EOD, "552 5.2.2 full")},
	}
	g, reports := hops(t, h, `delays = ["1s"], give_up_after = "2s", warn_after = "1s"`)
	c := g.Hello("")
	for _, to := range h {
		give(t, c, "", "bob@"+to.domain(), message)
	}
	for _, m := range reports.WaitMails(t, 2, patience) {
		if m.To[0] != "<postmaster@in.example>" {
			t.Errorf("report to %s", m.To)
		}
	}
	theReport(t, reports, "bob@busy.example", "failed", "4.2.1")
	theReport(t, reports, "bob@full.example", "failed", "5.2.2")
	drained(t, g)
	if n := len(reports.Mails()); n != 2 {
		t.Errorf("%d reports", n)
	}

	reports.SetScript(sink.Fail(sink.RcptTo, "550 5.1.1 no postmaster here"))
	give(t, c, "", "bob@full.example", message)
	drained(t, g)
	gatepost.Eventually(t, "the end of it is logged", patience, func() bool {
		return len(linesWith(g.MailLog(), `report is not sent`)) == 1
	})
	if n := len(reports.Mails()); n != 2 {
		t.Errorf("%d reports after the copy for the postmaster failed", n)
	}
}

// DUR-27: the sender is told once that a message is late.
func TestADelayIsReportedOnce(t *testing.T) {
	t.Parallel()
	h := []*hop{{name: "slow", script: sink.Fail(sink.MailFrom, "451 4.3.0 later")}}
	g, reports := hops(t, h, `delays = ["1s"], give_up_after = "1h", warn_after = "1s"`)
	id := give(t, g.Hello(""), "ada@out.example", "bob@slow.example", message)
	r := theReport(t, reports, "bob@slow.example", "delayed", "4.3.0")
	if r.recipients[0].Get("Will-Retry-Until") == "" || !strings.Contains(r.header.Get("Subject"), "delayed") {
		t.Errorf("report %v %v", r.header, r.recipients)
	}
	attempts := func() int { return len(linesWith(g.MailLog(), "delivery attempt id="+id)) }
	warned := attempts()
	gatepost.Eventually(t, "two more attempts", patience, func() bool { return attempts() >= warned+2 })
	h[0].sink.SetScript(nil)
	h[0].sink.WaitMails(t, 1, patience)
	drained(t, g)
	if n := len(reports.Mails()); n != 1 {
		t.Errorf("%d reports", n)
	}
}

func TestNotifyIsObeyed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		notify string
		fails  string // "" or the action that is to be reported of a failure
		passes string // of a delivery by a next hop without DSN
		late   string // of a delay
	}{
		{"", "failed", "", "delayed"},
		{" NOTIFY=FAILURE", "failed", "", ""},
		{" NOTIFY=SUCCESS", "", "relayed", ""},
		{" NOTIFY=DELAY", "", "", "delayed"},
		{" NOTIFY=SUCCESS,FAILURE,DELAY", "failed", "relayed", "delayed"},
		{" NOTIFY=NEVER", "", "", ""},
	}
	list := []*hop{
		{name: "fails", script: sink.Fail(sink.RcptTo, "550 5.1.1 no")},
		{name: "passes"},
		{name: "late", script: sink.Fail(sink.RcptTo, "450 4.2.1 later")},
	}
	g, reports := hops(t, list, `delays = ["1s"], give_up_after = "1h", warn_after = "1s"`)
	c := g.Hello("")
	wanted := 0
	for i, tt := range tests {
		for _, h := range list {
			send(t, c, "<ada@out.example>", fmt.Sprintf("<bob%d@%s>%s", i, h.domain(), tt.notify), message)
		}
		for _, action := range []string{tt.fails, tt.passes, tt.late} {
			if action != "" {
				wanted++
			}
		}
	}
	reports.WaitMails(t, wanted, patience)
	list[2].sink.SetScript(nil)
	drained(t, g)
	for i, tt := range tests {
		for h, action := range map[*hop]string{list[0]: tt.fails, list[1]: tt.passes, list[2]: tt.late} {
			found := about(t, reports, fmt.Sprintf("bob%d@%s", i, h.domain()))
			var actions []string
			for _, r := range found {
				actions = append(actions, r.recipients[0].Get("Action"))
			}
			want := action
			if h == list[2] && tt.passes != "" {
				// It is delivered in the end.
				want = strings.TrimPrefix(action+" "+tt.passes, " ")
			}
			if got := strings.Join(actions, " "); got != want {
				t.Errorf("%s%s: reports %q, want %q", h.name, tt.notify, got, want)
			}
		}
	}
	for _, h := range list[1:] {
		for _, m := range h.sink.Mails() {
			if strings.Contains(strings.Join(m.To, " ")+m.From, "NOTIFY") {
				t.Errorf("%s does not know DSN and was told %s %v", h.name, m.From, m.To)
			}
		}
	}
}

// RFC 3461 §5.2.2: a next hop that knows DSN gets all parameters, and reports
// success itself; failure at it is still ours to report.
func TestDSNParametersArePassedOn(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"PIPELINING", "DSN"}})
	g := behind(t, s, gatepost.Settings{})
	send(t, g.Hello(""), "<ada@in.example> RET=HDRS ENVID=a+2Bb+3Dc", "<bob@in.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@other.example", message)
	m := s.WaitMails(t, 1, patience)[0]
	if m.From != "<ada@in.example> RET=HDRS ENVID=a+2Bb+3Dc" || m.To[0] != "<bob@in.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@other.example" {
		t.Errorf("passed on as %s, %s", m.From, m.To)
	}
	s.SetScript(func(st sink.Step) sink.Reaction {
		if st.Stage == sink.RcptTo && strings.Contains(st.Line, "<bob@") {
			return sink.Reaction{Reply: "550 5.1.1 no"}
		}
		return sink.Reaction{}
	})
	send(t, g.Hello(""), "<ada@in.example>", "<bob@in.example> NOTIFY=FAILURE", message)
	mails := s.WaitMails(t, 2, patience)
	if got := mails[1]; got.From != "<>" && got.From != "<> RET=HDRS" || got.To[0] != "<ada@in.example> NOTIFY=NEVER" {
		t.Errorf("report sent as %s, %s", got.From, got.To)
	}
	drained(t, g)
	if n := len(s.Mails()); n != 2 {
		t.Errorf("%d mails, want the message and the report on the failure", n)
	}
}

func TestReportsReturnAsMuchAsTheSenderWants(t *testing.T) {
	t.Parallel()
	list := []*hop{{name: "fails", script: sink.Fail(sink.EOD, "554 5.6.0 no")}}
	g, reports := hops(t, list, `delays = ["1s"], give_up_after = "1h", warn_after = "0s"`)
	c := g.Hello("")
	big := "Subject: hello\n\n" + strings.Repeat("secret body "+strings.Repeat("x", 60)+"\n", 30000) // above queue.max_return
	tests := []struct {
		name, mail, data, kind string
		whole                  bool
	}{
		{"a", "", message, "text/rfc822-headers", false},
		{"b", " RET=HDRS", message, "text/rfc822-headers", false},
		{"c", " RET=FULL ENVID=QQ314159", message, "message/rfc822", true},
		{"d", " RET=FULL", big, "text/rfc822-headers", false},
	}
	for _, tt := range tests {
		send(t, c, "<ada@out.example>"+tt.mail, "<"+tt.name+"@fails.example> ORCPT=rfc822;first@other.example", tt.data)
	}
	for _, tt := range tests {
		r := theReport(t, reports, tt.name+"@fails.example", "failed", "5.6.0")
		mustContain(t, tt.name, r.original, "Subject: hello")
		if strings.Contains(r.original, "secret body") != tt.whole || r.returned != tt.kind {
			t.Errorf("%s%s: came back as %s with %d bytes", tt.name, tt.mail, r.returned, len(r.original))
		}
		if got := r.recipients[0].Get("Original-Recipient"); got != "rfc822; first@other.example" {
			t.Errorf("%s: original recipient %q", tt.name, got)
		}
		want := ""
		if strings.Contains(tt.mail, "ENVID") {
			want = "QQ314159"
		}
		if got := r.status.Get("Original-Envelope-Id"); got != want {
			t.Errorf("%s: envelope identifier %q, want %q", tt.name, got, want)
		}
	}
	drained(t, g)
}

// One message and moment make one report, whatever the number of recipients, and
// those who got the message are not in it.
func TestOneReportForAllRecipientsThatFailed(t *testing.T) {
	t.Parallel()
	list := []*hop{{name: "some", script: func(s sink.Step) sink.Reaction {
		if s.Stage == sink.RcptTo && strings.Contains(s.Line, "<bad") {
			return sink.Reaction{Reply: "550 5.1.1 no"}
		}
		return sink.Reaction{}
	}}}
	g, reports := hops(t, list, `delays = ["1s"], give_up_after = "1h", warn_after = "0s"`)
	give(t, g.Hello(""), "ada@out.example", "good@some.example,bad1@some.example,bad2@some.example", message)
	r := readReport(t, reports.WaitMails(t, 1, patience)[0])
	if len(r.recipients) != 2 || r.recipients[0].Get("Final-Recipient") != "rfc822; bad1@some.example" || r.recipients[1].Get("Final-Recipient") != "rfc822; bad2@some.example" {
		t.Errorf("report about %v", r.recipients)
	}
	drained(t, g)
	if m := list[0].sink.Mails(); len(m) != 1 || len(m[0].To) != 1 || len(reports.Mails()) != 1 {
		t.Errorf("delivered %v, %d reports", m, len(reports.Mails()))
	}
}

// Nobody can be told at an address literal, or at our own name where that is no
// domain of ours. Then the postmaster is, and the queue is done with it.
func TestTheReportThatNobodyCanGetGoesToThePostmaster(t *testing.T) {
	t.Parallel()
	list := []*hop{{name: "fails", script: sink.Fail(sink.RcptTo, "550 5.1.1 no")}}
	g, reports := hops(t, list, `delays = ["1s"], give_up_after = "1h", warn_after = "0s"`)
	c := g.Hello("")
	for _, from := range []string{"ada@[192.0.2.1]", "ada@gw.example.com"} {
		give(t, c, from, "bob@fails.example", message)
	}
	for _, m := range reports.WaitMails(t, 2, patience) {
		if m.From != "<> SIZE="+fmt.Sprint(len(m.Data)) || m.To[0] != "<postmaster@in.example>" {
			t.Errorf("report from %s to %s", m.From, m.To)
		}
		r := readReport(t, m)
		if r.recipients[0].Get("Final-Recipient") != "rfc822; bob@fails.example" || !strings.HasPrefix(r.header.Get("To"), "<ada@") {
			t.Errorf("report to %s about %v", r.header.Get("To"), r.recipients)
		}
	}
	drained(t, g)
}
