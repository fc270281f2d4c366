package gateway_test

import (
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/flow"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/policy/auth"
	"gatepost/internal/scan"
)

// usersOf are rules by which users send as themselves, and a counter that lets so many
// messages through.
func usersOf(t *testing.T, rule auth.SendAs, messages int) gateway.Users {
	t.Helper()
	limits, err := auth.NewLimits(auth.LimitsConfig{MessagesPerHour: messages, RecipientsPerMessage: 3})
	if err != nil {
		t.Fatal(err)
	}
	return gateway.Users{Allow: limits.Allow, MaySend: func(s *mail.Session, sender mail.Address) bool {
		return auth.MaySend(rule, s, sender, func(domain string) bool { return domain == "in.example" })
	}}
}

// by makes the client a user who has logged in.
func by(env *mail.Envelope, user string) *mail.Envelope {
	env.Session.User = user
	return env
}

func TestUsersSendAsThemselves(t *testing.T) {
	for _, tt := range []struct {
		name string
		rule auth.SendAs
		from string // envelope
		head string
		want int // at MAIL, then at the end of data
	}{
		{"own address", auth.SendAsOwn, "ada@in.example", "From: Ada <ada@in.example>", 250},
		{"own address with a tag, in capitals", auth.SendAsOwn, "ada+x@in.example", "From: ADA@in.example", 250},
		{"another sender", auth.SendAsOwn, "bob@in.example", "From: ada@in.example", 553},
		{"another author", auth.SendAsOwn, "ada@in.example", "From: bob@in.example", 553},
		{"another author among several", auth.SendAsOwn, "ada@in.example", "From: ada@in.example, bob@in.example", 553},
		{"another author in a second field", auth.SendAsOwn, "ada@in.example", "From: ada@in.example\nfrom: bob@in.example", 553},
		{"another author behind the null sender", auth.SendAsOwn, "", "From: bob@in.example", 553},
		{"a receipt", auth.SendAsOwn, "", "From: ada@in.example", 250},
		{"another address as the name only", auth.SendAsOwn, "ada@in.example", `From: "bob@in.example" <ada@in.example>`, 250},
		{"a name with a comma", auth.SendAsOwn, "ada@in.example", "From: Berg, Ada <ada@in.example>", 250},
		{"another author where readers disagree", auth.SendAsOwn, "ada@in.example", `From: "x <bob@in.example>, <ada@in.example>`, 553},
		{"two addresses in one mailbox", auth.SendAsOwn, "ada@in.example", "From: <bob@in.example> <ada@in.example>", 553},
		{"an author that cannot be read", auth.SendAsOwn, "ada@in.example", "From: ada@in.example bob@in.example", 553},
		{"From without an address", auth.SendAsOwn, "ada@in.example", "From: the boss", 553},
		{"no From at all", auth.SendAsOwn, "ada@in.example", "Subject: x", 250},
		{"another address in our domain", auth.SendAsDomains, "bob@in.example", "From: carl@in.example", 250},
		{"a quoted local part in our domain", auth.SendAsDomains, "bob@in.example", `From: "carl x"@in.example`, 250},
		{"a foreign author", auth.SendAsDomains, "ada@in.example", "From: bob@out.example", 553},
		{"a foreign sender", auth.SendAsDomains, "bob@out.example", "From: ada@in.example", 553},
		{"anybody", auth.SendAsAny, "bob@out.example", "From: carl@out.example", 250},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, rigOptions{users: usersOf(t, tt.rule, 0)})
			env := by(r.envelope(tt.from), "ada@in.example")
			d := r.gateway.Mail(t.Context(), env)
			reply := d.Reply
			if d.Act == mail.Accept {
				r.add(env, "eve@out.example")
				reply = r.receive(env, crlf(tt.head+"\n\nbody\n"))
			}
			if reply.Code != tt.want || tt.want == 553 && reply.Text() != mail.ReplyNotYourAddress.Reply().WithID(env.ID).Text() && reply.Text() != mail.ReplyNotYourAddress.Reply().Text() {
				t.Errorf("%v, want %d", reply, tt.want)
			}
		})
	}
}

func TestWhoHasNotLoggedInIsNoUser(t *testing.T) {
	r := newRig(t, rigOptions{users: usersOf(t, auth.SendAsOwn, 1)})
	for range 3 {
		env := r.trusted(r.envelope("ada@out.example"), "eve@out.example")
		if d := r.gateway.Mail(t.Context(), env); d.Act != mail.Accept {
			t.Errorf("MAIL: %+v", d)
		}
		if got := r.accept(env, crlf("From: bob@out.example\n\nbody\n")); got.items[0].Transport != "mx" {
			t.Errorf("item %+v", got.items[0])
		}
	}
}

const fromAda = "From: ada@in.example\nX-Test: "

func TestMailOverALimitIsHeldAndThePostmasterIsToldOnce(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionReject), users: usersOf(t, auth.SendAsDomains, 1)})
	send := func(what string, to ...string) mail.Reply {
		env := by(r.envelope("ada@in.example"), "ada")
		r.add(env, to...)
		return r.receive(env, crlf(fromAda+what+"\nSubject: hello\n\nbody\n"))
	}
	if reply := send("nothing", "bob@in.example"); reply.Code != 250 || r.queue.added[0].items[0].Transport != "next" {
		t.Fatalf("the first one: %v", reply)
	}
	if reply := send("spam", "bob@in.example", "eve@out.example"); reply.Code != 250 {
		t.Fatalf("the second one: %v", reply)
	}
	held := r.queue.added[1]
	if len(held.items) != 1 || held.items[0].Transport != gateway.QuarantineTransport || len(held.items[0].Recipients) != 2 {
		t.Fatalf("items %+v", held.items)
	}
	for _, rcpt := range held.items[0].Recipients {
		v := rcpt.Verdict
		if v == nil || v.Threat != mail.ThreatPolicy || v.Block != "users" || v.Reason != "user limit: ada: 2 messages in an hour, the limit is 1" || rcpt.Notify != mail.NotifyNever {
			t.Errorf("%s: %+v", rcpt.Address, v)
		}
	}
	if len(r.queue.added) != 3 {
		t.Fatalf("%d messages, want a notice", len(r.queue.added))
	}
	notice := r.queue.added[2]
	text := r.deliveredItem(notice, 0)
	for _, want := range []string{"To: <postmaster@in.example>\r\n", "Auto-Submitted: auto-generated\r\n", "ada: 2 messages in an hour, the limit is 1.", held.m.Envelope.ID.String(), "192.0.2.7", "<ada@in.example>", "Recipients  2"} {
		if !strings.Contains(text, want) {
			t.Errorf("the notice lacks %q:\n%s", want, text)
		}
	}
	// A virus is refused still, what comes next is held without another word.
	if reply := send("virus", "bob@in.example"); reply.Code != 554 {
		t.Errorf("a virus: %v", reply)
	}
	if reply := send("nothing", "bob@in.example"); reply.Code != 250 || len(r.queue.added) != 4 || r.queue.added[3].items[0].Transport != gateway.QuarantineTransport {
		t.Errorf("the next one: %v, %d messages", reply, len(r.queue.added))
	}

	// Released, it goes out and is not held again.
	env := *held.m.Envelope
	if _, err := r.gateway.Release(t.Context(), &env, held.m.Body); err != nil {
		t.Fatal(err)
	}
	released := r.queue.added[len(r.queue.added)-1]
	if len(released.items) != 2 || released.items[0].Transport != "next" || released.items[1].Transport != "mx" {
		t.Errorf("released as %+v", released.items)
	}
}

func TestAVirusOfAUserOverALimitStaysAVirus(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine), users: usersOf(t, auth.SendAsDomains, 0)})
	env := by(r.envelope("ada@in.example"), "ada")
	r.add(env, "a@in.example", "b@in.example", "c@in.example", "eve@in.example")
	r.accept(env, crlf(fromAda+"for eve\n\nbody\n"))
	got := r.queue.added[0]
	threats := map[string]mail.Threat{}
	for _, item := range got.items {
		for _, rcpt := range item.Recipients {
			if item.Transport != gateway.QuarantineTransport {
				t.Errorf("%s gets it", rcpt.Address)
			}
			threats[rcpt.Address.Local] = rcpt.Verdict.Threat
		}
	}
	if len(threats) != 4 || threats["eve"] != mail.ThreatVirus || threats["a"] != mail.ThreatPolicy {
		t.Errorf("threats %v", threats)
	}
}

func TestQueuedMailOverALimitIsHeldWhenItHasBeenScanned(t *testing.T) {
	s := &scannerRig{rig: newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine), queued: true, users: usersOf(t, auth.SendAsDomains, 1)}), file: filepath.Join(t.TempDir(), "scanning")}
	s.open()
	for i, want := range []string{"next", gateway.QuarantineTransport} {
		env := by(s.envelope("ada@in.example"), "ada")
		s.add(env, "bob@in.example")
		if reply := s.receive(env, crlf(fromAda+"nothing\n\nbody\n")); reply.Code != 250 {
			t.Fatal(reply)
		}
		var mine added
		for _, a := range s.queue.added {
			if a.m.Envelope.ID == env.ID {
				mine = a
			}
		}
		if mine.items[0].Transport != gateway.ScannerTransport {
			t.Fatalf("items %+v", mine.items)
		}
		// As another process would find it.
		stored := storedIn(t, crash(s.fs, 0))[env.ID]
		mine.m.Envelope = stored.env
		if o := s.deliver(mine); o.Status != mail.Delivered {
			t.Fatalf("outcome %+v", o)
		}
		if got := s.last().items[0].Transport; got != want {
			t.Errorf("message %d goes to %s, want %s", i, got, want)
		}
	}
	if len(s.queue.added) != 5 {
		t.Errorf("%d times something was queued, want 2 messages twice and a notice", len(s.queue.added))
	}
}

// What a filter wanted for a message holds for the copy that is held: it is kept for
// whom it was to go to, and whoever releases it learns what would have been taken out.
func TestHeldMailIsKeptForThoseWhomAFilterNames(t *testing.T) {
	for _, tt := range []struct {
		name, path, want string
		recipients       int
		then             flow.FilterAction
		threat           mail.Threat
	}{
		{"redirect", "", "boss@out.example", 1, flow.FilterAction{Verb: flow.VerbRedirect, Address: address(t, "boss@out.example")}, mail.ThreatPolicy},
		{"strip", "1", "bob@in.example", 4, flow.FilterAction{Verb: flow.VerbStrip}, mail.ThreatFilter},
	} {
		t.Run(tt.name, func(t *testing.T) {
			block := flow.Defaults("filters")
			block.Key, block.Filters = "filters", []flow.FilterRule{{Name: "all", Then: []flow.FilterAction{tt.then}}}
			module := scripted(func(*scan.Input) ([]mail.Finding, error) {
				return []mail.Finding{{Module: "filters", Symbol: "all", Result: mail.Match, Part: tt.path}}, nil
			})
			r := newRig(t, rigOptions{users: usersOf(t, auth.SendAsDomains, 0), content: gateway.Content{Flows: map[string]gateway.Flow{"inbound": {
				Decide: &flow.Flow{Name: "inbound", Blocks: []flow.Block{block}}, Blocks: []scan.Block{{Key: "filters", Use: "filters", Module: module}},
			}}}})
			env := by(r.envelope("ada@in.example"), "ada")
			r.add(env, "bob@in.example", "b@out.example", "c@out.example", "d@out.example")
			if reply := r.receive(env, crlf("From: ada@in.example\nSubject: two\n\nbody\n")); reply.Code != 250 {
				t.Fatal(reply)
			}
			items := r.queue.added[0].items
			if len(items) != 1 || items[0].Transport != gateway.QuarantineTransport || len(items[0].Recipients) != tt.recipients {
				t.Fatalf("items %+v", items)
			}
			if got := items[0].Recipients[0]; got.Address.String() != tt.want || got.Verdict.Threat != tt.threat || !strings.HasPrefix(got.Verdict.Reason, "user limit: ada: 4 recipients in a message") {
				t.Errorf("%s: %+v", got.Address, got.Verdict)
			}
		})
	}
}
