package gateway

import (
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

func TestALineThatWouldContinueOurReceivedFieldIsCut(t *testing.T) {
	g := &Gateway{cfg: Config{Hostname: "gw.example.com"}}
	header := message.ParseHeader([]byte(" forged by gw.example.com\r\nFrom: a@b.example\r\n\r\n"))
	got := g.forged(header)
	if len(got) != 1 || got[0] != (mail.Span{Start: 0, End: 27}) {
		t.Errorf("cut %v", got)
	}
	if got := g.forged(message.ParseHeader([]byte("From: a@b.example,\r\n c@d.example\r\n\r\n"))); len(got) != 0 {
		t.Errorf("an ordinary folded field is cut: %v", got)
	}
}
