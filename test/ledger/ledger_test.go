package ledger

import (
	"bytes"
	"strings"
	"testing"
)

func TestAuditFindsWhatIsWrong(t *testing.T) {
	trace := []byte("Received: from a by b\r\n")
	tests := []struct {
		name string
		do   func(b *Book, m Message)
		want string // "" for nothing
	}{
		{"acknowledged and delivered with a trace header", func(b *Book, m Message) {
			b.Sending(m.ID)
			b.Acked(m.ID)
			b.Arrived(append(trace, m.Data...))
		}, ""},
		{"not acknowledged and not delivered", func(b *Book, m Message) { b.Sending(m.ID) }, ""},
		{"not acknowledged and delivered", func(b *Book, m Message) { b.Sending(m.ID); b.Arrived(m.Data) }, ""},
		{"acknowledged and lost", func(b *Book, m Message) { b.Sending(m.ID); b.Acked(m.ID) }, "lost"},
		{"delivered twice", func(b *Book, m Message) { b.Sending(m.ID); b.Arrived(m.Data); b.Arrived(m.Data) }, "1 duplicates"},
		{"sent twice and delivered twice", func(b *Book, m Message) {
			b.Sending(m.ID)
			b.Sending(m.ID)
			b.Arrived(m.Data)
			b.Arrived(m.Data)
		}, ""},
		{"truncated", func(b *Book, m Message) { b.Sending(m.ID); b.Arrived(m.Data[:len(m.Data)-70]) }, "not what was sent"},
		{"cut in the header", func(b *Book, m Message) { b.Sending(m.ID); b.Arrived(m.Data[:150]) }, "no end"},
		{"a byte changed", func(b *Book, m Message) {
			b.Sending(m.ID)
			b.Arrived(bytes.Replace(m.Data, []byte("line 3"), []byte("line 4"), 1))
		}, "not what was sent"},
		{"never sent", func(b *Book, m Message) { b.Arrived(m.Data) }, "never sent"},
		{"not ours", func(b *Book, _ Message) { b.Arrived([]byte("Subject: x\r\n\r\ny")) }, "without"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBook()
			tt.do(b, New(2000))
			got := strings.Join(b.Audit(0), "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("audit says %q, want %q", got, tt.want)
			}
		})
	}
}
