package dialogue

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// Recipients whose flows, or whose filters, come to different ends: whoever may
// have the message gets it, and it is kept for the others, without a word to the
// client about them.
func TestRecipientsWithDifferentVerdicts(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: split})
	c := g.Hello("")
	data := crlf("Subject: for many\n\nbody\n")
	to := []string{"ok@in.example", "held@in.example", "no@in.example", "gone@in.example", "free@free.example", "strict@strict.example"}
	r, err := c.Deliver("ada@out.example", to, []byte(data))
	if err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	for _, who := range []string{"ok@in.example", "free@free.example"} {
		added(t, theMail(t, s, who), data)
	}
	q := quarantine(t, g, 1)[0]
	reasons := map[string]string{}
	for _, e := range q.Entries {
		reasons[e.Recipient] = e.Threat + ": " + e.Reason
	}
	if len(reasons) != 3 || !strings.HasPrefix(reasons["held@in.example"], "filter: recipient matched ") ||
		!strings.HasSuffix(reasons["no@in.example"], "(would have been refused)") || !strings.HasSuffix(reasons["strict@strict.example"], "(would have been refused)") {
		t.Errorf("kept for %v", reasons)
	}
	if got := original(t, g, q.ID); got != data || q.ID != idOf(t, r) {
		t.Errorf("the quarantine has %s %q", q.ID, got)
	}
	drained(t, g)
	if n := len(s.Mails()); n != 1 {
		t.Errorf("%d mails, want one for two", n)
	}

	// All refuse, or one wants it again later: then nobody gets it.
	for _, tt := range []struct{ to, want string }{
		{"no@in.example,strict@strict.example", "554 5.7.1 Not for him ("},
		{"ok@in.example,later@in.example,no@in.example", "451 4.7.1 Try again later ("},
		{"gone@in.example", "250 2.0.0 OK: queued ("},
	} {
		if r, err := c.Deliver("ada@out.example", strings.Split(tt.to, ","), []byte(data)); err != nil || !strings.HasPrefix(r.String(), tt.want) {
			t.Errorf("to %s: %v, %v, want %s", tt.to, r, err, tt.want)
		}
	}
	drained(t, g)
	if n := len(s.Mails()); n != 1 {
		t.Errorf("%d mails at the end, want no more", n)
	}
	quarantine(t, g, 1)
}

// split are flows and filters that treat recipients differently.
var split = filter("held", "recipient = 'held@in.example'", `then = "quarantine"`) +
	filter("refused", "recipient = 'no@in.example'", `then = "reject"`, `reply = "Not for him"`) +
	filter("gone", "recipient = 'gone@in.example'", `then = "discard"`) +
	filter("later", "recipient = 'later@in.example'", `then = "defer"`) +
	filter("everything", "size_over = 0", `then = "reject"`) +
	flowOf(`{ use = "filters", names = ["held", "refused", "gone", "later"] }`) + `
[[flow]]
name = "strict"
stage = "content"
blocks = [{ use = "filters", names = ["everything"] }]
[[flow]]
name = "nothing"
stage = "content"
blocks = [{ use = "structure" }]
[[domain]]
name = "free.example"
transport = "next"
flows = { content = "nothing" }
[[domain]]
name = "strict.example"
transport = "next"
flows = { content = "strict" }
`

// A client that speaks PRDR hears what each recipient's flow says.
func TestAClientWithPRDRHearsOfEachRecipient(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: split})
	c, hello, err := wire.Hello(g.SMTP, wire.Options{})
	if err != nil || !hello.Has("PRDR") {
		t.Fatalf("EHLO says %v, %v", hello, err)
	}
	defer c.Close()
	data := crlf("Subject: for many\n\nbody\n")
	transaction := func(to ...string) (answers []string) {
		t.Helper()
		say(t, c, "MAIL FROM:<ada@out.example> PRDR", "250")
		for _, rcpt := range to {
			say(t, c, "RCPT TO:<"+rcpt+">", "250")
		}
		say(t, c, "DATA", "354")
		if err := c.Send(data + ".\r\n"); err != nil {
			t.Fatal(err)
		}
		for {
			r, err := c.Reply()
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, r.String()[:9])
			if len(answers) == 1 && r.Code != 353 || len(answers) == len(to)+2 {
				return answers
			}
		}
	}
	got := transaction("ok@in.example", "no@in.example", "later@in.example", "held@in.example", "strict@strict.example", "gone@in.example")
	if fmt.Sprint(got) != "[353 An an 250 2.1.5 554 5.7.1 451 4.7.1 250 2.1.5 554 5.7.1 250 2.1.5 250 2.0.0]" {
		t.Errorf("answers %q", got)
	}
	added(t, theMail(t, s, "ok@in.example"), data)
	if q := quarantine(t, g, 1)[0]; strings.Join(q.Recipients, ",") != "held@in.example" {
		t.Errorf("kept for %v", q.Recipients)
	}
	if got := transaction("no@in.example", "later@in.example"); !strings.HasPrefix(got[len(got)-1], "451 4.7.1") {
		t.Errorf("nobody takes it now: %q", got)
	}
	if got := transaction("no@in.example", "strict@strict.example"); !strings.HasPrefix(got[len(got)-1], "554 5.7.1") {
		t.Errorf("nobody takes it: %q", got)
	}
	say(t, c, "NOOP", "250")
	drained(t, g)
	if n := len(s.Mails()); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// Which flow decides: the domain's, else the listener's, else none.
func TestTheFlowIsTheDomainsOrTheListeners(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	plain := gatepost.FreeAddress(t)
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: fmt.Sprintf("[[listener]]\nname = \"plain\"\naddress = [%q]\ntls = \"off\"\n", plain) +
		filter("a", "size_over = 0", `then = 'header:"X-Flow: listener"'`) + filter("b", "size_over = 0", `then = 'header:"X-Flow: domain"'`) +
		flowOf(`{ use = "filters", names = ["a"] }`) +
		"[[flow]]\nname = \"own\"\nstage = \"content\"\nblocks = [{ use = \"filters\", names = [\"b\"] }]\n" +
		"[[domain]]\nname = \"own.example\"\naliases = [\"alias.example\"]\ntransport = \"next\"\nflows = { content = \"own\" }\n"})
	other, _, err := wire.Hello(plain, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := g.Hello("")
	tests := []struct {
		c    *wire.Conn
		to   string
		want string
	}{
		{c, "a@in.example", "X-Flow: listener\r\n"},
		{c, "b@own.example", "X-Flow: domain\r\n"},
		{c, "c@alias.example", "X-Flow: domain\r\n"},
		{other, "d@own.example", "X-Flow: domain\r\n"},
		{other, "e@in.example", ""},
	}
	data := "Subject: x\n\nbody\n"
	for _, tt := range tests {
		give(t, tt.c, "ada@out.example", tt.to, data)
		local, _, _ := strings.Cut(tt.to, "@")
		var m sink.Mail
		if !s.Wait(patience, func() bool {
			for _, m = range s.Mails() {
				if strings.HasPrefix(m.To[0], "<"+local+"@") {
					return true
				}
			}
			return false
		}) {
			t.Fatalf("no mail to %s", tt.to)
		}
		fields := strings.Join(added(t, m, crlf(data)), "")
		if !strings.Contains(fields, tt.want) || strings.Contains(fields, "X-Flow") != (tt.want != "") || strings.Contains(fields, "X-Gatepost") != (tt.want != "") {
			t.Errorf("to %s: %s", tt.to, fields)
		}
	}
}

// By BDAT a message is scanned and refused as by DATA.
func TestChunksAreScanned(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("no", "body = 'forbidden'", `then = "reject"`, `reply = "No"`) +
		filter("strip", `attachment_name = '\.exe$'`, `then = "strip"`) + flowOf(`{ use = "filters" }`)})
	c := g.Hello("")
	bdat := func(chunks ...string) wire.Reply {
		t.Helper()
		say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<bob@in.example>", "250")
		for i, chunk := range chunks {
			last := ""
			if i == len(chunks)-1 {
				last = " LAST"
			}
			if err := c.Send(fmt.Sprintf("BDAT %d%s\r\n%s", len(chunk), last, chunk)); err != nil {
				t.Fatal(err)
			}
			if r, err := c.Reply(); err != nil || last != "" {
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
		}
		return wire.Reply{}
	}
	if r := bdat("Subject: x\r\n\r\nfor", "bidden\r\n"); !strings.HasPrefix(r.String(), "554 5.7.1 No (") {
		t.Errorf("in two chunks: %v", r)
	}
	data := crlf(twoParts("chunks", "a.exe", "MZ"))
	if r := bdat(data[:100], data[100:], ""); r.Code != 250 {
		t.Errorf("with an attachment: %v", r)
	}
	m := theMail(t, s, "bob@in.example")
	mustContain(t, "the mail", string(m.Data), `The attachment "a.exe" was removed`)
	if got := original(t, g, quarantine(t, g, 1)[0].ID); got != data {
		t.Errorf("the quarantine has %q", got)
	}
}

// SCN-11, MIM-08, MIM-20: what cannot be looked into does not get through, and the
// quarantine says why in the words of the finding.
func TestWhatCannotBeScannedIsQuarantined(t *testing.T) {
	t.Parallel()
	eachWay(t, whatCannotBeScanned)
}

func whatCannotBeScanned(t *testing.T, on way) {
	s := next(t, sink.Options{})
	g := behind(t, s, on(t, gatepost.Settings{Listener: scanning, Limits: "max_scan_size = \"200KiB\"\nmime_depth = 10",
		More: filter("big is fine", "size_over = '100KiB'", `then = "deliver"`) + flowOf(`{ use = "filters" }`)}))
	c := g.Hello("")
	nested := "Subject: deep\nMIME-Version: 1.0\n"
	for i := range 14 {
		nested += fmt.Sprintf("Content-Type: multipart/mixed; boundary=%d\n\n--%d\n", i, i)
	}
	tests := []struct{ name, data, rule, reason string }{
		{"larger than is scanned", "Subject: big\n\n" + strings.ReplaceAll(lines(300<<10), "\r", ""), "limit:", "larger"},
		{"two boundaries", "Subject: two\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\nContent-Type: multipart/mixed; boundary=b\n\n--a\n\none\n--b\n\ntwo\n--a--\n--b--\n", "ambiguous:", "content-type is "},
		{"two encodings", "Subject: enc\nMIME-Version: 1.0\nContent-Type: application/zip\nContent-Transfer-Encoding: base64\nContent-Transfer-Encoding: 7bit\n\nUEsDBA==\n", "ambiguous:", "content-transfer-encoding is "},
		{"an encrypted archive", attach("locked.zip", encryptedZip(t)), "encrypted:", "needs a password"},
		{"a damaged archive", attach("broken.zip", encryptedZip(t)[:70]), "damaged:", ""},
		{"deeper than is looked", nested + "Content-Type: text/plain\n\nx\n", "limit:", "deep"},
	}
	for i, tt := range tests {
		id := give(t, c, "ada@out.example", "bob@in.example", tt.data)
		var q held
		for _, q = range quarantine(t, g, i+1) {
			if q.ID == id {
				break
			}
		}
		if q.ID != id || q.Threat != "unscanned" || q.Block != "structure" || !strings.HasPrefix(q.Rule, tt.rule) || !strings.Contains(q.Reason, tt.reason) {
			t.Errorf("%s: %+v", tt.name, q)
		}
		var detail struct {
			Findings []struct{ Symbol, Reason string }
		}
		ask(t, g, &detail, "quarantine", "show", "--json", id)
		b, _ := json.Marshal(detail)
		if !strings.Contains(string(b), `"`+q.Rule) {
			t.Errorf("%s: its findings are %s", tt.name, b)
		}
		if got := original(t, g, id); got != crlf(tt.data) {
			t.Errorf("%s: the quarantine has other bytes", tt.name)
		}
	}
	give(t, c, "ada@out.example", "bob@in.example", attach("fine.zip", plainZip(t)))
	s.WaitMails(t, 1, patience)
	drained(t, g)
	if n := len(s.Mails()); n != 1 {
		t.Errorf("%d mails got through", n)
	}
}

// attach is a message with this file.
func attach(name string, content []byte) string {
	text := base64.StdEncoding.EncodeToString(content)
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	return "From: ada@out.example\nSubject: " + name + "\nMIME-Version: 1.0\nContent-Type: application/zip; name=\"" + name +
		"\"\nContent-Disposition: attachment; filename=\"" + name + "\"\nContent-Transfer-Encoding: base64\n\n" + b.String() + text + "\n"
}

// plainZip is an archive of one file.
func plainZip(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateHeader(&zip.FileHeader{Name: "secret.txt", Method: zip.Store})
	if err == nil {
		_, err = w.Write([]byte(strings.Repeat("twelve bytes", 10)))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// encryptedZip is one whose file is marked as encrypted, in both headers.
func encryptedZip(t *testing.T) []byte {
	b := plainZip(t)
	b[6] |= 1
	b[bytes.Index(b, []byte("PK\x01\x02"))+8] |= 1
	return b
}
