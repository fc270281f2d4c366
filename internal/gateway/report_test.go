package gateway_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"gatepost/internal/mail"
)

const report = "From: MAILER-DAEMON@gw.example.com\r\nSubject: Your message could not be delivered\r\n" +
	"Message-ID: <r1@gw.example.com>\r\n\r\nIt came back.\r\n"

func TestAReportIsDurableAndOnItsWay(t *testing.T) {
	r := newRig(t, rigOptions{})
	if err := r.gateway.SubmitReport(t.Context(), address(t, "ada@out.example"), strings.NewReader(report)); err != nil {
		t.Fatal(err)
	}
	if len(r.queue.added) != 1 {
		t.Fatalf("%d messages queued", len(r.queue.added))
	}
	left := storedIn(t, crash(r.fs, 0))
	m, ok := left[r.queue.added[0].m.Envelope.ID]
	if !ok || len(left) != 1 || m.body != report {
		t.Fatalf("%d messages in the spool after a crash", len(left))
	}
	env := m.env
	if !env.Sender.IsNull() {
		t.Errorf("sender <%s>, want the null sender", env.Sender)
	}
	if len(env.Recipients) != 1 || env.Recipients[0].Notify != mail.NotifyNever || env.Recipients[0].Address.String() != "ada@out.example" {
		t.Errorf("recipients %+v", env.Recipients)
	}
	if env.Subject != "Your message could not be delivered" || env.MessageID != "<r1@gw.example.com>" || env.Size != int64(len(report)) {
		t.Errorf("envelope %+v", env)
	}
	if env.HeaderSize != int64(strings.Index(report, "It came")) || env.Has8Bit || env.HeaderUTF8 || env.SMTPUTF8 {
		t.Errorf("facts %+v", env)
	}
	if len(m.items) != 1 || m.items[0].Transport != "mx" || m.items[0].NextHop != "out.example" {
		t.Errorf("items %+v", m.items)
	}
	// It is nobody's transaction, and no field of ours goes in front of it.
	if len(r.traffic.lines) != 0 || len(env.Edits.Prepend) != 0 {
		t.Errorf("traffic %v, edits %q", r.traffic.lines, env.Edits.Prepend)
	}
}

func TestAReportSaysWhatItsBytesNeed(t *testing.T) {
	tests := []struct {
		name, to, text                 string
		has8Bit, headerUTF8, longLines bool
		smtputf8                       bool
	}{
		{"eight bits in the body", "ada@out.example", "Subject: s\r\n\r\ngrün\r\n", true, false, false, false},
		{"eight bits in the header", "ada@out.example", "Subject: grün\r\n\r\n", false, true, false, false},
		{"a long line", "ada@out.example", "Subject: s\r\n\r\n" + strings.Repeat("x", 1000) + "\r\n", false, false, true, false},
		{"a sender who is not ASCII", "grün@out.example", "Subject: s\r\n\r\n", false, false, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			if err := r.gateway.SubmitReport(t.Context(), address(t, tt.to), strings.NewReader(tt.text)); err != nil {
				t.Fatal(err)
			}
			env := r.queue.added[0].m.Envelope
			if env.Has8Bit != tt.has8Bit || env.HeaderUTF8 != tt.headerUTF8 || env.LongLines != tt.longLines || env.SMTPUTF8 != tt.smtputf8 {
				t.Errorf("facts %+v", env)
			}
		})
	}
}

func TestAReportThatCannotBeKeptIsAnError(t *testing.T) {
	broken := errors.New("broken")
	full := rigOptions{reserve: 5 << 20, freeSpace: func() (int64, error) { return 1 << 20, nil }}
	tests := []struct {
		name string
		o    rigOptions
		to   string
		text io.Reader
	}{
		{"the disk is full", full, "ada@out.example", strings.NewReader(report)},
		{"the report cannot be read", rigOptions{}, "ada@out.example", iotest.ErrReader(broken)},
		{"there is no way to the sender, nor a postmaster", rigOptions{noPostmaster: true}, "ada@gw.example.com", strings.NewReader(report)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.o)
			if err := r.gateway.SubmitReport(t.Context(), address(t, tt.to), tt.text); err == nil {
				t.Error("no error")
			}
			if left := storedIn(t, crash(r.fs, 100)); len(left) != 0 || len(r.queue.added) != 0 {
				t.Error("something was kept")
			}
		})
	}
}

func TestAReportThatHasNoWayGoesToThePostmaster(t *testing.T) {
	for _, to := range []string{"ada@gw.example.com", "ada@[192.0.2.1]"} {
		r := newRig(t, rigOptions{})
		if err := r.gateway.SubmitReport(t.Context(), address(t, to), strings.NewReader(report)); err != nil {
			t.Fatal(err)
		}
		got := r.queue.added[0]
		if rcpt := got.m.Envelope.Recipients[0]; rcpt.Address.String() != "postmaster@in.example" || rcpt.Original.String() != to || rcpt.Notify != mail.NotifyNever {
			t.Errorf("%s: recipient %+v", to, rcpt)
		}
		if got.items[0].Transport != "next" || !got.m.Envelope.Sender.IsNull() {
			t.Errorf("%s: item %+v", to, got.items[0])
		}
	}
}
