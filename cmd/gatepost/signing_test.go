package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/dkim"
	"gatepost/internal/mail"
	"gatepost/internal/message"
)

func TestWhatIsSealed(t *testing.T) {
	key, err := dkim.GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := dkim.NewSigner("example.com", "arc", key, dkim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &sealer{signer: signer, host: "gw.example.com"}
	client := netip.MustParseAddrPort("192.0.2.1:25")
	stranger, ours, own := mail.Session{Client: client}, mail.Session{Client: client, Trusted: true}, mail.Session{}
	finding := func(symbol string, properties ...mail.Property) mail.Finding {
		return mail.Finding{Module: "authres", Symbol: symbol, Result: mail.Clean, Properties: properties}
	}
	checked := []mail.Finding{finding("spf:none"), finding("dkim:none")}
	tests := []struct {
		name     string
		session  mail.Session
		findings []mail.Finding
		want     string // cv=, or why not
		sealed   bool
	}{
		{"a stranger's", stranger, checked, "none", true},
		{"a stranger's, not looked at", stranger, []mail.Finding{{Module: "clamav"}}, notChecked, false},
		{"a stranger's, with a chain that can't be checked now", stranger, append(checked, finding("arc:fail", mail.Property{Name: "temporary", Value: "yes"})), notNow, false},
		{"our own people's", ours, checked, notPassedOn, false},
		{"what our server passes on", ours, append(checked, finding("arc:pass")), "pass", true},
		{"our own report", own, checked, notPassedOn, false},
	}
	for _, tt := range tests {
		env := &mail.Envelope{Session: tt.session, Findings: tt.findings}
		c := message.NewContent(mail.Message{Envelope: env, Body: bytes.NewReader([]byte("From: a@example.org\r\n\r\nx\r\n"))})
		fields, cv, err := s.Seal(t.Context(), env, c)
		if err != nil || cv != tt.want || (len(fields) > 0) != tt.sealed {
			t.Errorf("%s: %q, %v, %s", tt.name, cv, err, fields)
		}
		if tt.sealed && !strings.Contains(string(fields), "ARC-Authentication-Results: i=1; gw.example.com;\r\n\tspf=none") {
			t.Errorf("%s: %s", tt.name, fields)
		}
	}
}
