package dialogue

import (
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// What one recipient's list says is done for that recipient: blocked mail is held for
// ann and delivered to bob, and bob's friend is not taken for spam. The lists are asked
// at each message: nothing is reloaded.
func TestSendersAreAllowedAndBlockedByTheirRecipients(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{
		Listener: scanning,
		More: filter("spam", "subject = 'spam'", `then = "quarantine"`) +
			flowOf(`{ use = "senders", require_auth = false }, { use = "filters" }`),
	})
	run := func(args ...string) string {
		t.Helper()
		out, err := g.Run(append([]string{"senders"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	mustContain(t, "block", run("block", "@Out.example", "--for", "ann@in.example", "--note", "no more"), "blocked for ann@in.example: @out.example")
	run("allow", "eve@friend.example", "--for", "bob@in.example")
	mustContain(t, "list", run("list"), "no more", "allowed", "eve@friend.example")

	c := g.Hello("")
	deliver := func(from, subject string, want string, to ...string) {
		t.Helper()
		r, err := c.Deliver(from, to, []byte(crlf("From: "+from+"\nSubject: "+subject+"\n\nbody\n")))
		if err != nil || !strings.HasPrefix(r.String(), want) {
			t.Fatalf("%v, %v, want %s", r, err, want)
		}
	}
	deliver("ada@mail.out.example", "hello", "250", "ann@in.example", "bob@in.example")
	theMail(t, s, "bob@in.example")
	q := quarantine(t, g, 1)[0]
	if len(q.Entries) != 1 || q.Entries[0].Recipient != "ann@in.example" || q.Entries[0].Reason != "the list of ann@in.example has @out.example as blocked (no more)" {
		t.Errorf("held: %+v", q.Entries)
	}
	deliver("eve@friend.example", "spam", "250", "ann@in.example", "bob@in.example")
	drained(t, g)
	if n := len(mailsTo(s, "bob@in.example")); n != 2 {
		t.Errorf("bob has %d mails", n)
	}
	if n := len(mailsTo(s, "ann@in.example")); n != 0 {
		t.Errorf("ann has %d mails", n)
	}
	quarantine(t, g, 2)

	mustContain(t, "remove", run("remove", "@out.example", "--for", "ann@in.example"), "removed for ann@in.example: @out.example")
	deliver("ada@out.example", "hello again", "250", "ann@in.example")
	theMail(t, s, "ann@in.example")
	fails(t, g, 1, "senders", "remove", "@out.example", "--for", "ann@in.example")
	fails(t, g, 2, "senders", "block", "nonsense")
}
