package leaving_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/leaving"
	"gatepost/internal/rewrite/srs"
	"gatepost/internal/smtp"
)

// hop takes everything, and says to whom.
type hop struct{ sent []mail.Delivery }

func (h *hop) Deliver(_ context.Context, d *mail.Delivery) []mail.Outcome {
	h.sent = append(h.sent, *d)
	var all []mail.Outcome
	for i := range d.Recipients {
		all = append(all, mail.Outcome{Status: mail.Delivered, Host: d.Recipients[i].Address.String()})
	}
	return all
}

// body is a mail.Body in memory.
type body struct{ *strings.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func address(t *testing.T, text string) mail.Address {
	t.Helper()
	if text == "" {
		return mail.Address{}
	}
	a, err := smtp.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func delivery(t *testing.T, from string, to ...string) *mail.Delivery {
	t.Helper()
	d := &mail.Delivery{Message: mail.Message{
		Envelope: &mail.Envelope{Sender: address(t, from)},
		Body:     body{strings.NewReader("From: bob@ours.example\r\nTo: x@far.example\r\n\r\nbob@ours.example\r\n")},
	}}
	for _, a := range to {
		d.Recipients = append(d.Recipients, mail.Recipient{Address: address(t, a)})
	}
	return d
}

func ours(domain string) bool { return domain == "ours.example" }

// Only what a stranger sends to a stranger has another sender; a delivery to both
// kinds of recipients becomes two, with the outcomes where they belong.
func TestTheSenderOfForwardedMailIsWrapped(t *testing.T) {
	wrapper, err := srs.New(srs.Config{Secrets: []string{"0123456789abcdef"}, Domain: "gw.example"})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 60) + "@out.example"
	for _, tt := range []struct {
		name, from string
		to         []string
		want       []string // "sender: recipients", with SRS for a wrapped one
	}{
		{"a stranger's to a stranger", "anna@out.example", []string{"x@far.example"}, []string{"SRS: x@far.example"}},
		{"a stranger's to us", "anna@out.example", []string{"bob@ours.example"}, []string{"anna@out.example: bob@ours.example"}},
		{"ours to a stranger", "bob@ours.example", []string{"x@far.example"}, []string{"bob@ours.example: x@far.example"}},
		{"from the domain of the wrapped senders", "postmaster@gw.example", []string{"x@far.example"}, []string{"postmaster@gw.example: x@far.example"}},
		{"a bounce", "", []string{"x@far.example"}, []string{": x@far.example"}},
		{"a sender that does not fit", long, []string{"x@far.example"}, []string{long + ": x@far.example"}},
		{"to both", "anna@out.example", []string{"x@far.example", "bob@ours.example", "y@far.example"}, []string{"anna@out.example: bob@ours.example", "SRS: x@far.example y@far.example"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &hop{}
			d := delivery(t, tt.from, tt.to...)
			outcomes := leaving.New(leaving.Config{Transport: h, Name: "internet", SRS: wrapper, Ours: ours}).Deliver(t.Context(), d)
			var got []string
			for _, s := range h.sent {
				from := s.Message.Envelope.Sender.String()
				if strings.HasPrefix(from, "SRS0=") && strings.HasSuffix(from, "=out.example=anna@gw.example") {
					from = "SRS"
				}
				var to []string
				for i := range s.Recipients {
					to = append(to, s.Recipients[i].Address.String())
				}
				got = append(got, from+": "+strings.Join(to, " "))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("sent %q, want %q", got, tt.want)
			}
			for i, o := range outcomes {
				if o.Status != mail.Delivered || o.Host != tt.to[i] {
					t.Errorf("%s got the outcome of %q", tt.to[i], o.Host)
				}
			}
			if len(outcomes) != len(tt.to) {
				t.Errorf("%d outcomes", len(outcomes))
			}
			if d.Message.Envelope.Sender.String() != tt.from {
				t.Errorf("the queue's message has the sender %s now", d.Message.Envelope.Sender)
			}
		})
	}
}

// What generic changes is a copy, and a table that can't be asked defers all.
func TestGenericOnTheWayOut(t *testing.T) {
	down := errors.New("down")
	for _, tt := range []struct {
		name, through string
		fails         bool
		from, to      string
		header        int
		status        mail.OutcomeStatus
	}{
		{"through a transport of the table", "internet", false, "robert@public.example", "robert@public.example", 1, mail.Delivered},
		{"through another one", "inside", false, "bob@ours.example", "bob@ours.example", 0, mail.Delivered},
		{"the table is down", "internet", true, "", "", 0, mail.Deferred},
	} {
		t.Run(tt.name, func(t *testing.T) {
			engine, errs := rewrite.New(rewrite.Config{
				Generic: []rewrite.Table{{Name: "test", Lookup: rewrite.LookupFunc(func(_ context.Context, key string) ([]string, error) {
					switch {
					case tt.fails:
						return nil, down
					case key == "bob@ours.example":
						return []string{"robert@public.example"}, nil
					}
					return nil, nil
				})}},
				GenericTransports: []string{"internet"},
			})
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			h := &hop{}
			d := delivery(t, "bob@ours.example", "bob@ours.example")
			outcomes := leaving.New(leaving.Config{Transport: h, Name: tt.through, Engine: engine, Ours: ours}).Deliver(t.Context(), d)
			if len(outcomes) != 1 || outcomes[0].Status != tt.status {
				t.Fatalf("outcomes %+v", outcomes)
			}
			if tt.status != mail.Delivered {
				if len(h.sent) > 0 || outcomes[0].Reply.Code != 451 {
					t.Errorf("sent %d times, %v", len(h.sent), outcomes[0].Reply)
				}
				return
			}
			env := h.sent[0].Message.Envelope
			if got := env.Sender.String(); got != tt.from {
				t.Errorf("from %s", got)
			}
			if got := h.sent[0].Recipients[0].Address.String(); got != tt.to {
				t.Errorf("to %s", got)
			}
			if got := len(env.Edits.Replace); got != tt.header {
				t.Errorf("%d changes in the header", got)
			}
			if d.Message.Envelope.Sender.String() != "bob@ours.example" || d.Recipients[0].Address.String() != "bob@ours.example" || len(d.Message.Envelope.Edits.Replace) > 0 {
				t.Error("the queue's message was changed")
			}
		})
	}
}
