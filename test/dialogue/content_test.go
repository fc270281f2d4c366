package dialogue

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"os"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// without returns a message as it was received from Gatepost without the field
// that Gatepost puts in front; it must be there, and only once.
func without(t *testing.T, data []byte) string {
	t.Helper()
	rest := string(data)
	if !strings.HasPrefix(rest, "Received: from ") {
		t.Fatalf("no Received field in front: %.200q", rest)
	}
	for {
		line, after, ok := strings.Cut(rest, "\r\n")
		if !ok {
			t.Fatalf("the Received field does not end: %.200q", line)
		}
		rest = after
		if !strings.HasPrefix(rest, "\t") {
			break
		}
	}
	if strings.Count(string(data), "by gw.example.com with ") != 1 {
		t.Errorf("not exactly one Received field of ours: %.600q", data)
	}
	return rest
}

// SMG-03, SMG-05, SMG-07: whatever the next hop can do, it gets the bytes that the
// client sent.
func TestTheMessageComesOutAsItWentIn(t *testing.T) {
	t.Parallel()
	hops := map[string][]string{
		"plain":      {},
		"pipelining": {"PIPELINING", "SIZE 104857600", "8BITMIME"},
		"chunking":   {"CHUNKING", "8BITMIME", "PIPELINING"},
	}
	dots := ".\r\n..\r\n...\r\n.a\r\n..a\r\na.\r\n"
	for name, extensions := range hops {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := next(t, sink.Options{Extensions: extensions})
			c := behind(t, s, gatepost.Settings{}).Hello("")
			sent := map[string]ledger.Message{}
			bodies := []string{"", "\r\n", ".\r\n", dots, dots + strings.Repeat("x", 998) + "\r\n" + dots, "no tabs\t, \x01 but \x7f\r\n"}
			header := len(ledger.Wrap("m00", nil).Data)
			for _, edge := range []int{4 << 10, 8 << 10, 64 << 10, 256 << 10} {
				for off := -3; off <= 3; off++ {
					// The dots of the last lines stand around the edge of a buffer.
					bodies = append(bodies, lines(edge-header+off)+dots)
				}
			}
			for shift := range 3 {
				// Wherever there is another edge, a dot begins a line at it.
				bodies = append(bodies, strings.Repeat("x", shift)+"\r\n"+strings.Repeat(".\r\n", 300<<10))
			}
			bodies = append(bodies, lines(3<<20))
			for i, body := range bodies {
				m := ledger.Wrap(fmt.Sprintf("m%02d", i), []byte(body))
				sent[m.ID] = m
				if r, err := c.Deliver("ada@out.example", []string{"bob@in.example"}, m.Data); err != nil || r.Code != 250 {
					t.Fatalf("message %d: %v, %v", i, r, err)
				}
			}
			raw := ""
			for _, m := range s.WaitMails(t, len(sent), patience) {
				id, why := ledger.Check(m.Data)
				if got := without(t, m.Data); why != "" || got != string(sent[id].Data) {
					t.Errorf("message %s of %d bytes came out as %d bytes: %s", id, len(sent[id].Data), len(got), why)
				}
				if raw == "" {
					raw = strings.Join(s.Wire(), "")
				}
				if !m.Chunked && !strings.Contains(raw, string(wire.Stuff(m.Data))+".\r\n") {
					t.Errorf("message %s is not stuffed as RFC 5321 §4.5.2 has it", id)
				}
				delete(sent, id)
			}
			if len(sent) != 0 {
				t.Errorf("%d messages did not arrive", len(sent))
			}
		})
	}
}

// lines is text of exactly n bytes in lines.
func lines(n int) string {
	const line = "0123456789012345678901234567890123456789012345678901234567890123456789012345\r\n"
	s := strings.Repeat(line, n/len(line)+1)[:n-2] + "\r\n"
	return strings.ReplaceAll(s, "\r\r\n", "x\r\n")
}

// SMG-01, SMG-03: none of the 109 ends of data that some server or other has
// believed in ends a message, or goes on to the next hop as it came.
func TestFalseEndsOfDataSmuggleNothing(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../internal/smtpserver/testdata/eod_variants.json")
	if err != nil {
		t.Fatal(err)
	}
	var variants []struct {
		ID, Hex, Repr string
		Strict        bool `json:"contains_strict_eod"`
	}
	if err := json.Unmarshal(b, &variants); err != nil || len(variants) != 109 {
		t.Fatalf("%d variants, %v", len(variants), err)
	}
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Limits: "max_sessions_per_ip = 200"})
	real := 0
	for _, v := range variants {
		raw, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		c := g.Hello("")
		if err := c.Open("ada@out.example", "bob@in.example"); err != nil {
			t.Fatal(err)
		}
		err = c.Send("Subject: " + v.ID + "\r\n\r\nline" + string(raw) +
			"MAIL FROM:<evil@out.example>\r\nRCPT TO:<v@in.example>\r\nDATA\r\nSubject: evil\r\n\r\nsmuggled\r\n.\r\n")
		if err != nil {
			t.Fatal(err)
		}
		want := 1
		if v.Strict { // it is an end of data, and what follows is a second message
			want, real = 5, real+1
		}
		for range want {
			if r, err := c.Reply(); err != nil || r.Code/100 > 3 {
				t.Errorf("%s %s: %v, %v", v.ID, v.Repr, r, err)
			}
		}
		say(t, c, "NOOP", "250", "QUIT", "221")
	}
	evil := 0
	for _, m := range s.WaitMails(t, len(variants)+real, patience) {
		if strings.HasPrefix(m.From, "<evil@") {
			evil++
		}
	}
	if evil != real || real != 2 {
		t.Errorf("%d messages of evil, %d ends of data that are real", evil, real)
	}
	drained(t, g)
}

// DUR-10: what would go into the reserve of the disk is refused at MAIL.
func TestWhatDoesNotFitOnTheDiskIsRefusedAtMail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const gib = 1 << 30
	free := freeSpace(t, dir)
	if free < 3*gib {
		t.Skipf("only %d bytes are free in %s", free, dir)
	}
	s := next(t, sink.Options{})
	g := gatepost.Start(t, gatepost.Options{Dir: dir, Settings: gatepost.Settings{
		Next: s.Addr, Limits: fmt.Sprintf("max_message_size = \"2GiB\"\nfree_disk = \"%dMiB\"", (free-gib)>>20)}})
	say(t, g.Hello(""),
		"MAIL FROM:<a@out.example> SIZE=2000000000", "452 4.3.1",
		"MAIL FROM:<a@out.example> SIZE=2147483649", "552 5.3.4",
		"MAIL FROM:<a@out.example> SIZE=1000", "250",
		"RSET", "250",
		"MAIL FROM:<a@out.example>", "250")
}

// ADR-02: what RFC 5321 §4.5.3.1 allows is taken, what is longer is refused, and
// neither disturbs the session.
func TestLongAddresses(t *testing.T) {
	t.Parallel()
	eachWay(t, longAddresses)
}

func longAddresses(t *testing.T, on way) {
	g := behind(t, next(t, sink.Options{}), on(t, gatepost.Settings{Limits: "max_errors = 100"}))
	c := g.Hello(gatepost.Trusted)
	// domain is n bytes long.
	domain := func(n int) string {
		s := strings.Repeat(strings.Repeat("d", 62)+".", n/63+1)[:n]
		return strings.TrimSuffix(s, ".") + strings.Repeat("e", strings.Count(s[len(s)-1:], "."))
	}
	local := func(n int) string { return strings.Repeat("l", n) }
	say(t, c, "MAIL FROM:<"+local(64)+"@out.example>", "250")
	tests := []struct{ address, want string }{
		{local(64) + "@in.example", "250"},
		{local(65) + "@in.example", "501 5.1.3"},
		{local(255) + "@in.example", "501 5.1.3"},
		{`"` + local(64) + `"@in.example`, "250"},
		{`"` + local(65) + `"@in.example`, "501 5.1.3"},
		{local(1) + "@" + domain(252), "250"}, // a path of 256
		{local(2) + "@" + domain(252), "501 5.1.3"},
		{local(1) + "@" + domain(255), "501 5.1.3"},
		{local(1) + "@" + domain(256), "501 5.1.3"},
		{local(1) + "@" + strings.Repeat("d", 63) + ".example", "250"},
		{local(1) + "@" + strings.Repeat("d", 64) + ".example", "501 5.1.3"},
		{local(20 << 10), "500 5.5.2"},
	}
	for _, tt := range tests {
		say(t, c, "RCPT TO:<"+tt.address+">", tt.want)
	}
	say(t, c, "NOOP", "250", "RSET", "250", "MAIL FROM:<"+local(65)+"@out.example>", "501 5.1.7", "NOOP", "250",
		"EHLO "+strings.Repeat("h", 5<<10), "500 5.5.2", "NOOP", "250")
}

const eightBits = "From: ada@out.example\r\nSubject: eight\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße aus Köln.\r\n.\r\nEnde\r\n"

// RFC 6152 §3: to a next hop that takes 7 bits only the message goes converted.
func TestEightBitsAreConvertedForANextHopThatCannotTakeThem(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"PIPELINING"}})
	c := behind(t, s, gatepost.Settings{}).Hello("")
	if r, err := c.Deliver("ada@out.example", []string{"bob@in.example"}, []byte(eightBits)); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	m := s.WaitMails(t, 1, patience)[0]
	head, body, _ := strings.Cut(string(m.Data), "\r\n\r\n")
	for i := range m.Data {
		if m.Data[i] >= 0x80 {
			t.Fatalf("eight bits on the wire: %q", m.Data)
		}
	}
	var decoded []byte
	var err error
	switch {
	case strings.Contains(head, "Content-Transfer-Encoding: quoted-printable"):
		decoded, err = io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	case strings.Contains(head, "Content-Transfer-Encoding: base64"):
		decoded, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, strings.NewReader(body)))
	}
	_, want, _ := strings.Cut(eightBits, "\r\n\r\n")
	if err != nil || string(decoded) != want {
		t.Errorf("converted to %q, %v, which is %q", m.Data, err, decoded)
	}
	if strings.Contains(m.From, "BODY") {
		t.Errorf("MAIL %s", m.From)
	}
}

// What a signature or the message itself forbids to convert comes back with the
// status that says so.
func TestWhatTheNextHopCannotTakeComesBack(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"PIPELINING", "SIZE 100000"}})
	reports := next(t, sink.Options{Extensions: []string{"8BITMIME", "SMTPUTF8"}})
	g := behind(t, s, gatepost.Settings{More: fmt.Sprintf("[[domain]]\nname = \"out.example\"\ntransport = \"reports\"\n[[transport]]\nname = \"reports\"\nkind = \"smtp\"\nhosts = [%q]\n", reports.Addr)})
	signed := "DKIM-Signature: v=1; a=rsa-sha256; d=out.example; s=s1; h=from; bh=x; b=x\r\n"
	tests := []struct{ name, mail, rcpt, data, final, status string }{
		{"eight bits that are signed", "<a1@out.example>", "<bob@in.example>", signed + eightBits, "rfc822; bob@in.example", "5.6.3"},
		{"a recipient who is not ASCII", "<a2@out.example> SMTPUTF8", "<jürgen@in.example>", message, `utf-8; jürgen@in.example`, "5.6.7"},
		{"a header section that is not ASCII", "<a3@out.example> SMTPUTF8", "<bob@in.example>", "Subject: Grüße\r\n\r\n\r\n", "rfc822; bob@in.example", "5.6.7"},
		{"more than it takes", "<a4@out.example>", "<bob@in.example>", "Subject: big\r\n\r\n" + lines(100000), "rfc822; bob@in.example", "5.3.4"},
	}
	for _, tt := range tests {
		send(t, g.Hello(""), tt.mail, tt.rcpt, strings.ReplaceAll(tt.data, "\r\n", "\n"))
	}
	mails := reports.WaitMails(t, len(tests), patience)
	for _, tt := range tests {
		to, _, _ := strings.Cut(tt.mail, " ")
		found := false
		for _, m := range mails {
			if !strings.HasPrefix(m.To[0], to) {
				continue
			}
			found = true
			got := readReport(t, m).recipients[0]
			if got.Get("Final-Recipient") != tt.final || got.Get("Status") != tt.status || got.Get("Action") != "failed" {
				t.Errorf("%s: %v", tt.name, got)
			}
		}
		if !found {
			t.Errorf("%s: no report", tt.name)
		}
	}
	drained(t, g)
	if n := len(s.Mails()); n != 0 {
		t.Errorf("%d mails went out all the same", n)
	}
}

// RFC 5891: a domain that is not ASCII has a form that every next hop can take.
func TestADomainThatIsNotASCIIGoesInItsOtherForm(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME"}})
	g := behind(t, s, gatepost.Settings{})
	send(t, g.Hello(gatepost.Trusted), "<ada@bücher.example> SMTPUTF8", "<bob@straße.example>", message)
	m := s.WaitMails(t, 1, patience)[0]
	if m.From != "<ada@xn--bcher-kva.example>" || m.To[0] != "<bob@xn--strae-oqa.example>" {
		t.Errorf("from %s to %s", m.From, m.To)
	}
	if bytes.ContainsFunc(m.Data, func(r rune) bool { return r >= 0x80 }) {
		t.Errorf("data %q", m.Data)
	}
}

// A report on a message with eight bits, and in it a remark of the next hop with
// some more, still gets through to who takes seven only.
func TestAReportFitsThroughSevenBits(t *testing.T) {
	t.Parallel()
	list := []*hop{{name: "fails", script: sink.Fail(sink.EOD, "554 5.6.0 n\xc3\xb6")}}
	list[0].sink = next(t, sink.Options{Script: list[0].script, Extensions: []string{"8BITMIME"}})
	seven := next(t, sink.Options{Extensions: []string{"PIPELINING"}})
	g := behind(t, seven, gatepost.Settings{More: fmt.Sprintf("[[domain]]\nname = \"fails.example\"\ntransport = \"fails\"\n[[transport]]\nname = \"fails\"\nkind = \"smtp\"\nhosts = [%q]\n", list[0].sink.Addr)})
	c := g.Hello("")
	whole := "Subject: eight\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGr\u00fc\u00dfe\n"
	send(t, c, "<ada@out.example> RET=FULL BODY=8BITMIME", "<whole@fails.example>", whole)
	send(t, c, "<ada@out.example> RET=HDRS BODY=8BITMIME", "<head@fails.example>", "Subject: gr\u00fcn\n\nx\n")
	for _, m := range seven.WaitMails(t, 2, patience) {
		if i := bytes.IndexFunc(m.Data, func(r rune) bool { return r >= 0x80 }); i >= 0 {
			t.Errorf("eight bits on the wire: %q", m.Data[max(0, i-40):i+10])
		}
		r := readReport(t, m)
		mustContain(t, "the part for people", r.text, "n\u00f6")
		switch r.recipients[0].Get("Final-Recipient") {
		case "rfc822; whole@fails.example":
			mustContain(t, "what comes back", r.original, "Gr=C3=BC=C3=9Fe", "quoted-printable")
		case "rfc822; head@fails.example":
			mustContain(t, "what comes back", r.original, "Subject: gr\u00fcn")
		}
	}
	drained(t, g)
}
