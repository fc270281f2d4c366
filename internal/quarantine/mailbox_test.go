package quarantine

import (
	"errors"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// fetched makes a delivery one of a message that was fetched from a mailbox.
func fetched(d *mail.Delivery) *mail.Delivery {
	env := d.Message.Envelope
	env.Sender = mail.Address{}
	env.Session.Protocol, env.Session.User, env.Session.Server, env.Session.Helo = mail.POP3, "Joe.Doe", "pop.provider.example:110", ""
	for i := range d.Recipients {
		d.Recipients[i].Route = mail.Route{Domain: "pop3", Transport: TransportName}
		env.Recipients[i].Route = mail.Route{Domain: "pop3"}
	}
	return d
}

func TestMessageFromAMailboxIsFoundByItsReader(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	other := b.hold(sample{subject: "another"}, "a@here.example")
	d := fetched(sample{subject: "invoice"}.delivery(t, "joe@pop.provider.example"))
	b.deliver(d)
	b.deliver(d)
	id := d.Message.Envelope.ID
	for _, f := range []Filter{
		{Text: "joe.doe"}, {Text: "provider.example:110 invoice"}, {Recipient: "joe@pop.provider.example"}, {Domain: "pop.provider.example"}, {Recipient: "@pop.provider.example"},
	} {
		f.Limit = 10
		page, err := b.q.List(t.Context(), f)
		must(t, err)
		if len(page.Items) != 1 || page.Items[0].ID != id || page.Items[0].Direction != "pop3" {
			t.Errorf("%+v: %+v", f, page.Items)
		}
	}
	if got := b.show(id); got.User != "Joe.Doe" || got.Server != "pop.provider.example:110" || len(got.Entries) != 1 {
		t.Errorf("%+v", got)
	}
	if got := b.show(other); got.Server != "" {
		t.Errorf("%+v", got)
	}
}

func TestReleaseToOthersLeavesOutTheRecipients(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	d := fetched(sample{}.delivery(t, "joe@pop.provider.example"))
	b.deliver(d)
	request := Request{IDs: []mail.ID{d.Message.Envelope.ID}, To: []string{"boss@here.example"}, Role: RoleRecipient}
	if res := b.release(request); !errors.Is(res.Err, ErrRequest) {
		t.Errorf("for a recipient: %+v", res)
	}
	request.Role, request.To = RoleAdmin, []string{"no address"}
	if res := b.release(request); !errors.Is(res.Err, ErrRequest) || len(b.out.released) != 0 {
		t.Errorf("to nobody: %+v", res)
	}
	request.To = []string{"boss@here.example", "audit@here.example"}
	if res := b.release(request); res.Err != nil || strings.Join(res.Recipients, " ") != "boss@here.example audit@here.example" {
		t.Fatalf("%+v", res)
	}
	if got := b.states(d.Message.Envelope.ID); got != "joe@pop.provider.example held" {
		t.Errorf("for its reader it is %s", got)
	}
	env := b.out.released[0].Envelope
	var to []string
	for _, r := range env.Recipients {
		to = append(to, r.Address.String())
		if r.Route.Domain != "" || r.Notify != mail.NotifyNever {
			t.Errorf("%+v", r)
		}
	}
	if strings.Join(to, " ") != "boss@here.example audit@here.example" || env.Session.Protocol != mail.POP3 {
		t.Errorf("released to %s", to)
	}
}
