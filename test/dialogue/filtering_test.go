package dialogue

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// scanning is a listener whose content flow is called "inbound".
const scanning = `flows = { content = "inbound" }`

// flowOf is the flow "inbound" with these blocks.
func flowOf(blocks string) string {
	return "[[flow]]\nname = \"inbound\"\nstage = \"content\"\nblocks = [" + blocks + "]\n"
}

// filter is the table of a filter.
func filter(name, when string, more ...string) string {
	return fmt.Sprintf("[[filter]]\nname = %q\nwhen = { %s }\n%s\n", name, when, strings.Join(more, "\n"))
}

// held is a message in the quarantine.
type held = gatepost.Held

// quarantine waits until the quarantine has n messages, the latest first.
func quarantine(t *testing.T, g *gatepost.Instance, n int, args ...string) []held {
	t.Helper()
	var list []held
	ok := gatepost.Holds(patience, func() bool {
		var err error
		if list, err = g.Quarantine(args...); err != nil {
			t.Fatal(err)
		}
		return len(list) == n
	})
	if !ok {
		t.Fatalf("%d messages in the quarantine, want %d: %+v", len(list), n, list)
	}
	return list
}

// ask runs a command and decodes what it prints.
func ask(t *testing.T, g *gatepost.Instance, v any, args ...string) {
	t.Helper()
	if err := g.Ask(v, args...); err != nil {
		t.Fatal(err)
	}
}

// original is the message in the quarantine, byte for byte.
func original(t *testing.T, g *gatepost.Instance, id string) string {
	t.Helper()
	out, err := g.Run("quarantine", "get", id)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fails runs a command that must end with this status, and returns what it says.
func fails(t *testing.T, g *gatepost.Instance, status int, args ...string) string {
	t.Helper()
	out, err := g.Run(args...)
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != status {
		t.Errorf("%q: %v, want status %d; it prints %s", args, err, status, out)
		return ""
	}
	return err.Error()
}

// mailsTo are the mails at a sink for an address.
func mailsTo(s *sink.Sink, to string) (found []sink.Mail) {
	for _, m := range s.Mails() {
		for _, rcpt := range m.To {
			if strings.HasPrefix(rcpt, "<"+to+">") {
				found = append(found, m)
			}
		}
	}
	return found
}

// theMail waits for the only mail for an address.
func theMail(t *testing.T, s *sink.Sink, to string) sink.Mail {
	t.Helper()
	if !s.Wait(patience, func() bool { return len(mailsTo(s, to)) > 0 }) {
		t.Fatalf("no mail for %s", to)
	}
	found := mailsTo(s, to)
	if len(found) != 1 {
		t.Fatalf("%d mails for %s", len(found), to)
	}
	return found[0]
}

// added splits a mail that arrived into the fields that Gatepost put in front and
// the message as it was sent; fields of another name are no fields of Gatepost.
func added(t *testing.T, m sink.Mail, sent string) []string {
	t.Helper()
	front, ok := bytes.CutSuffix(m.Data, []byte(sent))
	if !ok {
		t.Fatalf("what arrived does not end in what was sent:\n%s", m.Data)
	}
	var fields []string
	for line := range strings.Lines(string(front)) {
		if strings.HasPrefix(line, "\t") || strings.HasPrefix(line, " ") {
			fields[len(fields)-1] += line
			continue
		}
		fields = append(fields, line)
	}
	return fields
}

// twoParts is a message with a text and an attachment.
func twoParts(subject, name, content string) string {
	return "From: ada@out.example\nTo: bob@in.example\nSubject: " + subject + "\nMIME-Version: 1.0\n" +
		"Content-Type: multipart/mixed; boundary=\"=b=\"\n\npreamble\n--=b=\nContent-Type: text/plain\n\nThe text.\n--=b=\n" +
		"Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"" + name + "\"\n\n" +
		content + "\n--=b=--\nepilogue\n"
}

// Each action of a filter is seen from both sides, and the filter that was asked
// for does it. The last filter matches everything and is reached by what no other
// one took.
func TestWhatFiltersDo(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{
		Listener: scanning,
		More: filter("refused", "subject = '^refuse$'", `then = "reject"`, `reply = "No bulk mail, please"`) +
			filter("plain refusal", "subject = '^rejplain$'", `then = "reject"`) +
			filter("later", "subject = '^defer$'", `then = "defer"`, `reply = "Ask again tomorrow"`) +
			filter("gone", "subject = '^discard$'", `then = "discard"`) +
			filter("elsewhere", "subject = '^redirect$'", `then = "redirect:other@in.example"`) +
			filter("both", "subject = '^copy$'", `then = "copy:archive@in.example"`) +
			filter("kept and copied", "subject = '^kcopy$'", `then = ["quarantine", "copy:archive2@in.example"]`) +
			filter("gone and copied", "subject = '^dcopy$'", `then = ["discard", "copy:archive3@in.example"]`) +
			filter("tagged", "subject = '^tag$'", `then = ["mark", 'subject:"[EXT] "', 'header:"X-Note: seen"']`) +
			filter("points", "subject = '^spam$'", `then = "score:6.5"`) +
			filter("many points", "subject = '^worse$'", `then = "score:9"`) +
			filter("no programs", `attachment_name = '\.exe$'`, `then = "strip"`) +
			filter("kept", "subject = '^keep$'", `then = "quarantine"`) +
			flowOf(`{ use = "filters" }, { use = "score", mark = 5, quarantine = 8, subject_tag = "[SPAM] " }`),
	})
	c := g.Hello("")
	for subject, want := range map[string]string{
		"refuse": "554 5.7.1 No bulk mail, please (", "rejplain": "554 5.7.1 Content refused by policy (", "defer": "451 4.7.1 Ask again tomorrow (",
	} {
		r, err := c.Deliver("ada@out.example", []string{subject + "@in.example"}, []byte(crlf("Subject: "+subject+"\n\nbody\n")))
		if err != nil || !strings.HasPrefix(r.String(), want) {
			t.Errorf("%s: %v, %v, want %s", subject, r, err, want)
		}
		idOf(t, r)
	}
	gave := map[string]string{} // data by name
	for _, name := range []string{"discard", "redirect", "kcopy", "dcopy", "tag", "spam", "worse", "keep", "none"} {
		gave[name] = crlf("From: ada@out.example\nSubject: " + name + "\n\nbody\n")
		give(t, c, "ada@out.example", name+"@in.example", "From: ada@out.example\nSubject: "+name+"\n\nbody\n")
	}
	// Of one message for several, whoever gets a copy gets one.
	gave["copy"] = crlf("Subject: copy\n\nbody\n")
	give(t, c, "ada@out.example", "copy@in.example,cop1@in.example,archive@in.example", "Subject: copy\n\nbody\n")
	gave["strip"] = crlf(twoParts("strip", "setup.exe", "MZ program"))
	give(t, c, "ada@out.example", "strip@in.example", twoParts("strip", "setup.exe", "MZ program"))
	drained(t, g)

	for to, name := range map[string]string{"other": "redirect", "copy": "copy", "archive": "copy", "none": "none", "archive2": "kcopy", "archive3": "dcopy"} {
		added(t, theMail(t, s, to+"@in.example"), gave[name])
	}
	for _, to := range []string{"refuse", "rejplain", "defer", "discard", "redirect", "kcopy", "dcopy", "worse", "keep"} {
		if n := len(mailsTo(s, to+"@in.example")); n != 0 {
			t.Errorf("%d mails for %s", n, to)
		}
	}
	tagged := string(theMail(t, s, "tag@in.example").Data)
	mustContain(t, "what was tagged", tagged, "\r\nSubject: [EXT] tag\r\n\r\nbody\r\n", "X-Note: seen\r\n", "X-Gatepost-Verdict: mark (filters, tagged)\r\n")
	spam := string(theMail(t, s, "spam@in.example").Data)
	mustContain(t, "what was marked", spam, "\r\nSubject: [SPAM] spam\r\n\r\nbody\r\n", "X-Gatepost-Verdict: mark (score, mark)\r\n",
		"X-Gatepost-Score: 6.5 (mark 5.0, quarantine 8.0)\r\n", "X-Gatepost-Report: filters:points 6.5\r\n", "X-Gatepost-ID: ")
	stripped := string(theMail(t, s, "strip@in.example").Data)
	mustContain(t, "what was stripped", stripped, "preamble\r\n--=b=\r\n", "The text.\r\n--=b=\r\n", `The attachment "setup.exe" was removed`, "Rule: no programs\r\n", "\r\n--=b=--\r\nepilogue\r\n")
	if strings.Contains(stripped, "MZ program") {
		t.Error("the attachment was delivered")
	}
	wanted := map[string]held{
		"keep@in.example":  {Rule: "kept", Block: "filters", Threat: "filter", Reason: `subject matched "keep"`},
		"kcopy@in.example": {Rule: "kept and copied", Block: "filters", Threat: "filter"},
		"worse@in.example": {Rule: "quarantine", Block: "score", Threat: "spam", Reason: "score 9.0 reaches quarantine at 8.0"},
		"strip@in.example": {Rule: "no programs", Block: "filters", Threat: "filter", Reason: "delivered without an attachment"},
	}
	for _, q := range quarantine(t, g, len(wanted)) {
		to := strings.Join(q.Recipients, ",")
		w, ok := wanted[to]
		if !ok || q.Rule != w.Rule || q.Block != w.Block || q.Threat != w.Threat || !strings.Contains(q.Reason, w.Reason) || q.State != "held" {
			t.Errorf("for %s: %+v, want %+v", to, q, w)
		}
		name, _, _ := strings.Cut(to, "@")
		if got := original(t, g, q.ID); got != gave[name] {
			t.Errorf("%s: the quarantine has %q, sent was %q", to, got, gave[name])
		}
	}
}
