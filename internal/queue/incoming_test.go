package queue_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/queue"
)

func TestItemsThatWaitForTheScannerAreIncoming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		tc := b.cfg.Transports["good"]
		tc.Incoming = true
		b.cfg.Transports["good"] = tc
		b.good.set(all(mail.Outcome{Status: mail.Deferred, Reply: mail.ReplyTryLater.Reply(), Stage: "scan"}))
		b.run()
		id := b.send(letter{from: "a@out.example", to: []string{"b@in.example"}})
		synctest.Wait()
		if row := b.one(id); row.State != mail.QueueIncoming || row.Attempts != 1 {
			t.Errorf("listed as %s after %d attempts, want incoming", row.State, row.Attempts)
		}
		if rows := b.list(queue.Selector{State: mail.QueueIncoming}); len(rows) != 1 {
			t.Errorf("%d rows are incoming, want 1", len(rows))
		}
		if st := b.q.Stats(); st.Incoming != 1 || st.Deferred != 0 {
			t.Errorf("%d incoming, %d deferred", st.Incoming, st.Deferred)
		}
	})
}

func TestItemWithEditsOfItsOwnIsDeliveredWithThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var got []string
		b.good.set(func(_ context.Context, d *mail.Delivery, _ int) []mail.Outcome {
			data, err := io.ReadAll(message.NewContent(d.Message).Reader())
			if err != nil {
				t.Error(err)
			}
			got = append(got, string(data))
			return same(d, mail.Outcome{Status: mail.Delivered, Reply: mail.ReplyOK.Reply()})
		})
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"b@in.example"}, edit: func(env *mail.Envelope, item *mail.QueueItem) {
			env.Edits.Prepend = []byte("X-All: 1\r\n")
			item.Edits = &mail.Edits{Prepend: []byte("X-Mine: 1\r\n")}
		}})
		synctest.Wait()
		if len(got) != 1 || got[0] != "X-Mine: 1\r\n"+testBody {
			t.Errorf("delivered %q", got)
		}
	})
}
