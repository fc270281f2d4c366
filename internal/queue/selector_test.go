package queue

import (
	"errors"
	"testing"

	"gatepost/internal/mail"
)

// FuzzSelector: whatever an operator types is refused as a bad selector or can
// be matched.
func FuzzSelector(f *testing.F) {
	f.Add("0123456789abcdefghjkmnpqrs", "a@b.example", "@b.example", "B.example", "5[.]1", "hold")
	f.Add("0123456789abcdefghjkmnpqrs:1", "<>", "<x@y>", "münchen.example", "(", "")
	f.Add(":", "\"a b\"@x", "@", "-", "(?i)x", "x")
	f.Fuzz(func(t *testing.T, id, sender, recipient, domain, lastError, state string) {
		s := Selector{Sender: sender, Recipient: recipient, Domain: domain, Error: lastError, State: mail.QueueState(state)}
		if id != "" {
			s.IDs = []string{id}
		}
		m, err := s.compile()
		if err != nil {
			if !errors.Is(err, ErrSelector) {
				t.Fatalf("%+v: %v", s, err)
			}
			return
		}
		item := &mail.QueueItem{State: mail.QueueHold, Recipients: make([]mail.QueuedRecipient, 1)}
		if len(m.ids) > 0 {
			item.ID = m.ids[0]
		}
		m.match(item, &mail.Envelope{}, item.State)
	})
}
