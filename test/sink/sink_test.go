package sink_test

import (
	"strings"
	"testing"
	"time"

	"gatepost/test/ledger"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

func TestSinkRecordsWhatWasSent(t *testing.T) {
	s := sink.Start(t, sink.Options{Extensions: []string{"CHUNKING"}})
	c, ehlo, err := wire.Hello(s.Addr, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	if !ehlo.Has("CHUNKING") || ehlo.Has("SIZE") {
		t.Errorf("EHLO: %v", ehlo)
	}
	m := ledger.New(3000)
	if r, err := c.Deliver("a@out.example", []string{"b@in.example", "c@in.example"}, m.Data); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	if err := c.Send("MAIL FROM:<a@out.example>\r\nRCPT TO:<b@in.example>\r\nBDAT 5\r\na\r\n.\rBDAT 3 LAST\r\n\nb\n"); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if r, err := c.Reply(); err != nil || r.Code != 250 {
			t.Fatalf("%v, %v", r, err)
		}
	}
	mails := s.WaitMails(t, 2, 10*time.Second)
	if string(mails[0].Data) != string(m.Data) || mails[0].From != "<a@out.example>" || len(mails[0].To) != 2 {
		t.Errorf("first mail: %+v", mails[0])
	}
	if string(mails[1].Data) != "a\r\n.\r\nb\n" || !mails[1].Chunked {
		t.Errorf("second mail: %+v", mails[1])
	}
	if raw := s.Wire()[0]; !strings.Contains(raw, "\r\n..line 0 of") || !strings.HasPrefix(raw, "EHLO client.example\r\n") {
		t.Errorf("wire: %q", raw)
	}
}

func TestScriptDecides(t *testing.T) {
	s := sink.Start(t, sink.Options{Script: sink.Fail(sink.EOD, "451 4.3.0 later")})
	c, _, err := wire.Hello(s.Addr, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := ledger.New(100)
	if r, err := c.Deliver("a@out.example", []string{"b@in.example"}, m.Data); err != nil || r.Code != 451 {
		t.Fatalf("%v, %v", r, err)
	}
	if n := len(s.Mails()); n != 0 {
		t.Errorf("%d mails recorded though refused", n)
	}
	s.SetScript(func(st sink.Step) sink.Reaction {
		return sink.Reaction{Drop: st.Stage == sink.EOD, Keep: true}
	})
	if r, err := c.Deliver("a@out.example", []string{"b@in.example"}, m.Data); err == nil {
		t.Errorf("answer %v from a sink that was to hang up", r)
	}
	if n := len(s.Mails()); n != 1 {
		t.Errorf("%d mails recorded, want the one that was kept without an answer", n)
	}
}
