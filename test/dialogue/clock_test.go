package dialogue

import (
	"path/filepath"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/spool"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// DUR-26: the clock was wrong when the mail was stored, or is wrong now. Nothing
// waits for a time that the clock will only reach in days, and nothing expires
// without having been tried.
func TestStoredTimesFromAWrongClockDoNoHarm(t *testing.T) {
	t.Parallel()
	list := []*hop{
		{name: "back", script: sink.Fail(sink.RcptTo, "450 4.2.1 later")},
		{name: "busy", script: sink.Fail(sink.RcptTo, "450 4.2.1 later")},
	}
	g, reports := hops(t, list, `delays = ["1s"], give_up_after = "2d", warn_after = "0s"`)
	c := g.Hello("")
	ahead := give(t, c, "ada@out.example", "ahead@back.example", message)
	old := give(t, c, "ada@out.example", "old@back.example", message)
	expired := give(t, c, "ada@out.example", "expired@busy.example", message)
	gatepost.Eventually(t, "each was tried", patience, func() bool { return len(linesWith(g.MailLog(), "status=deferred")) >= 3 })
	g.Stop()

	s, err := spool.Open(spool.Options{Dir: filepath.Join(g.DataDir, "spool")})
	if err != nil {
		t.Fatal(err)
	}
	for id, set := range map[string]func(*mail.QueueItem){
		ahead:   func(item *mail.QueueItem) { item.NextAttempt = time.Now().Add(72 * time.Hour) },
		old:     func(item *mail.QueueItem) { item.Created = time.Now().Add(-30 * 24 * time.Hour) },
		expired: func(item *mail.QueueItem) { item.Created = time.Now().Add(-30 * 24 * time.Hour) },
	} {
		q, err := mail.ParseQueueID(id + ":1")
		if err != nil {
			t.Fatal(err)
		}
		item, err := s.Item(q)
		if err != nil {
			t.Fatal(err)
		}
		set(item)
		if err := s.Update(item); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	list[0].sink.SetScript(nil)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	list[0].sink.WaitMails(t, 2, patience)
	theReport(t, reports, "expired@busy.example", "failed", "4.2.1")
	drained(t, g)
	if n := len(reports.Mails()); n != 1 {
		t.Errorf("%d reports, want the one about the message that was tried again in vain", n)
	}
}
