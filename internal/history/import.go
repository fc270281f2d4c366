package history

import (
	"context"
	"crypto/rand"

	"gatepost/internal/mail"
)

// Import adds events of the past, in the order of time: of a gateway that was here
// before, or of a benchmark. They get IDs of their time, are in the store when Import
// returns nil, and are shown to no watcher. It is for one caller at a time, with some
// thousand events at once.
func (h *History) Import(ctx context.Context, events []*mail.Event) error {
	for _, e := range events {
		e.ID = mail.FirstID(e.Time)
		rand.Read(e.ID[6:])
		if e.Node == "" {
			e.Node = h.cfg.Store.Node()
		}
		s := &slot{id: e.ID, queued: true, state: slotReady, line: appendEvent(nil, e), terms: appendTerms(nil, e)}
		h.hours.add(e)
		h.line.join(s)
	}
	h.Flush(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.Health()
}
