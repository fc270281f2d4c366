package smtpserver

import (
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

func TestTheResetHookIsToldOfTransactionsWithoutAMessage(t *testing.T) {
	x := startServer(t, Config{MaxMessageSize: 100}, Options{})
	c := x.dial().greet()
	rcpt := "RCPT TO:<v@in.example>"
	c.send("MAIL FROM:<rset@out.example>", rcpt, "RSET", "RSET")
	c.expect("250", "250", "250", "250")
	c.send("MAIL FROM:<helo@out.example>", rcpt, "HELO again.example")
	c.expect("250", "250", "250")
	c.send("MAIL FROM:<reject@out.example>", "MAIL FROM:<taken@out.example>", rcpt, "DATA", "x", ".")
	c.expect("550", "250", "250", "354", "250")
	c.send("MAIL FROM:<data-reject@out.example>", rcpt, "DATA")
	c.expect("250", "250", "554")
	c.send("MAIL FROM:<large@out.example>", rcpt, "DATA", strings.Repeat("x", 200), ".")
	c.expect("250", "250", "354", "552")
	c.send("MAIL FROM:<nested@out.example>", "MAIL FROM:<b@out.example>", rcpt)
	c.expect("250", "503", "250")
	c.quit()
	d := x.dial().greet()
	d.send("MAIL FROM:<half@out.example>", rcpt, "DATA", "half of")
	d.expect("250", "250", "354")
	d.conn.Close()
	x.stop()
	if got := strings.Join(x.hooks.resets, " "); got != "rset helo data-reject large nested half" {
		t.Errorf("told of %s", got)
	}
}

func TestEHLOPromisesNoMoreThanTheOffer(t *testing.T) {
	offer := Offer{Extensions: smtp.ExtPipelining | smtp.ExtSize | smtp.ExtLimits | smtp.ExtBinaryMIME, MessageSize: 1000, Recipients: 2}
	x := startServer(t, Config{Offer: func(_ *mail.Session, own smtp.Extensions) Offer {
		if !own.Has(smtp.ExtSMTPUTF8 | smtp.Ext8BitMIME) {
			t.Errorf("asked about %b", own)
		}
		return offer
	}}, Options{})
	c := x.dial()
	c.expect("220")
	c.send("EHLO client.example")
	var lines []string
	for {
		line := c.line()
		lines = append(lines, line[4:])
		if line[3] == ' ' {
			break
		}
	}
	if got := strings.Join(lines[1:], ","); got != "PIPELINING,SIZE 1000,LIMITS RCPTMAX=2" {
		t.Errorf("EHLO promises %s", got)
	}
	c.send("MAIL FROM:<a@out.example> SMTPUTF8", "MAIL FROM:<a@out.example> SIZE=1001", "MAIL FROM:<a@out.example> SIZE=1000")
	c.expect("555", "552", "250")
	offer = Offer{Extensions: smtp.ExtSize, MessageSize: 1 << 40}
	c.send("EHLO client.example")
	if got := c.line() + c.line(); !strings.HasSuffix(got, "250 SIZE 52428800") {
		t.Errorf("the second EHLO promises %s", got)
	}
	c.quit()
	x.stop()
}
