package smtpclient_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

// challenges answers AUTH and what follows with these replies in turn.
func challenges(replies ...string) func(sinktest.Event) *sinktest.Act {
	return func(e sinktest.Event) *sinktest.Act {
		switch {
		case e.Stage == sinktest.Auth:
			return sinktest.Reply(replies[0])
		case e.Stage == sinktest.Other && e.N < len(replies):
			return sinktest.Reply(replies[e.N])
		}
		return nil
	}
}

func TestAuth(t *testing.T) {
	// The name, the password and the challenge are the example of RFC 2195 §2.
	tim := smtpclient.Credentials{Username: "tim", Password: "tanstaaftanstaaf", AllowCleartext: true}
	for _, tc := range []struct {
		name      string
		mechanism string
		offered   string
		script    func(sinktest.Event) *sinktest.Act
		lines     string
		want      string // of the error's outcome
	}{
		{"CRAM-MD5", "CRAM-MD5", "AUTH PLAIN CRAM-MD5",
			challenges("334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+", "235 2.7.0 ok"),
			"AUTH CRAM-MD5|dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw", ""},
		{"LOGIN, whatever the challenges say", "login", "AUTH LOGIN", challenges("334 VXNlciBOYW1lAA==", "334 ", "235 ok"),
			"AUTH LOGIN|dGlt|dGFuc3RhYWZ0YW5zdGFhZg==", ""},
		{"PLAIN", "PLAIN", "AUTH PLAIN", challenges("334 ", "235 ok"), "AUTH PLAIN|AHRpbQB0YW5zdGFhZnRhbnN0YWFm", ""},
		{"the best one offered", "", "AUTH LOGIN PLAIN", challenges("334 ", "235 ok"), "AUTH PLAIN|AHRpbQB0YW5zdGFhZnRhbnN0YWFm", ""},
		{"wrong password", "PLAIN", "AUTH PLAIN", challenges("334 ", "535 5.7.8 no"), "AUTH PLAIN|AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "deferred auth 535"},
		{"no way to check now", "PLAIN", "AUTH PLAIN", challenges("454 4.7.0 no"), "AUTH PLAIN", "deferred auth 454"},
		{"not offered", "CRAM-MD5", "AUTH PLAIN", nil, "", "deferred auth own 451"},
		{"AUTH not offered at all", "", "SIZE", nil, "", "deferred auth own 451"},
		{"a yes before the password", "LOGIN", "AUTH LOGIN", challenges("334 ", "235 ok"), "AUTH LOGIN|dGlt", "deferred auth own 451"},
		{"no end of challenges", "PLAIN", "AUTH PLAIN", challenges("334 ", "334 ", "235 ok"), "AUTH PLAIN|AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "deferred auth own 451"},
		{"a challenge that is none", "LOGIN", "AUTH LOGIN", challenges("334 user?"), "AUTH LOGIN", "deferred auth own 451"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Extensions: []string{tc.offered}, Script: tc.script}, smtpclient.Config{})
			c := k.mustDial(t)
			cred := tim
			cred.Mechanism = tc.mechanism
			err := c.Auth(t.Context(), cred)
			if tc.want == "" && err != nil {
				t.Fatal(err)
			}
			var e *smtpclient.Error
			if tc.want != "" && (!errors.As(err, &e) || brief(e.Outcome()) != tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			if e != nil && strings.Contains(err.Error(), "tanstaaf") {
				t.Errorf("the error tells the password: %v", err)
			}
			if got := strings.Join(k.sink.Lines()[1:], "|"); got != tc.lines {
				t.Errorf("commands %s, want %s", got, tc.lines)
			}
		})
	}
}

func TestPasswordIsNotSentInClearText(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "LOGIN", ""} {
		k := newTalk(t, sinktest.Config{Extensions: []string{"AUTH PLAIN LOGIN"}}, smtpclient.Config{})
		err := k.mustDial(t).Auth(t.Context(), smtpclient.Credentials{Mechanism: mechanism, Username: "u", Password: "p"})
		if !errors.Is(err, smtpclient.ErrNoMechanism) {
			t.Errorf("%q: %v", mechanism, err)
		}
		if lines := k.sink.Lines(); len(lines) != 1 {
			t.Errorf("%q: commands %q", mechanism, lines)
		}
	}
}

// certificate makes a self-signed one for mx.example.
func certificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestStartTLS(t *testing.T) {
	server := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	whatever := &tls.Config{InsecureSkipVerify: true}
	for _, tc := range []struct {
		name   string
		tls    *tls.Config
		client *tls.Config
		script func(sinktest.Event) *sinktest.Act
		want   string
		usable bool
	}{
		{"works", server, whatever, nil, "", true},
		{"is not offered", nil, whatever, nil, "deferred starttls own 451", true},
		{"is refused for now", server, whatever, at(sinktest.StartTLS, sinktest.Reply("454 4.7.0 no")), "deferred starttls 454", true},
		{"is refused for good", server, whatever, at(sinktest.StartTLS, sinktest.Reply("554 5.7.0 no")), "deferred starttls 554", true},
		{"is answered by 250", server, whatever, at(sinktest.StartTLS, sinktest.Reply("250 ok")), "deferred starttls own 451", false},
		{"comes with an injected reply", server, whatever, at(sinktest.StartTLS, sinktest.Reply("220 go", "250 injected")), "deferred starttls own 451", false},
		{"has a certificate that nobody trusts", server, &tls.Config{ServerName: "mx.example"}, nil, "deferred starttls own 451", false},
		{"works, but EHLO is refused under it", server, whatever, func(e sinktest.Event) *sinktest.Act {
			if e.TLS {
				return sinktest.Reply("451 4.3.0 no")
			}
			return nil
		}, "deferred ehlo 451", false},
		{"is something else", server, whatever, at(sinktest.StartTLS, &sinktest.Act{Wire: "220 go\r\n", Close: true}), "deferred starttls own 451", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{TLS: tc.tls, Extensions: []string{"PIPELINING"}, Script: tc.script}, smtpclient.Config{})
			c := k.mustDial(t)
			err := c.StartTLS(t.Context(), tc.client, false)
			var e *smtpclient.Error
			if tc.want != "" && (!errors.As(err, &e) || brief(e.Outcome()) != tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			if c.Usable() != tc.usable {
				t.Errorf("usable: %v", c.Usable())
			}
			if tc.want != "" {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			out, err := c.Send(t.Context(), request(t, 1, short))
			if err != nil || briefs(out) != "delivered eod 250" || out[0].TLS.Version != "TLSv1.3" || out[0].TLS.Cipher == "" {
				t.Errorf("%+v, %v", out, err)
			}
			if m := k.sink.Messages(); len(m) != 1 || !m[0].TLS {
				t.Errorf("messages %+v", m)
			}
			if lines := k.sink.Lines(); strings.Join(lines[:3], "|") != "EHLO gw.example|STARTTLS|EHLO gw.example" {
				t.Errorf("commands %q", lines)
			}
		})
	}
}

func TestExtensionsAreForgottenByStartTLS(t *testing.T) {
	k := newTalk(t, sinktest.Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}}, Script: func(e sinktest.Event) *sinktest.Act {
		if e.Stage == sinktest.Ehlo && !e.TLS {
			return sinktest.Reply("250-sink", "250-CHUNKING", "250-AUTH PLAIN", "250 STARTTLS")
		}
		return nil
	}}, smtpclient.Config{})
	c := k.mustDial(t)
	if err := c.StartTLS(t.Context(), &tls.Config{InsecureSkipVerify: true}, false); err != nil {
		t.Fatal(err)
	}
	if ext := c.Extensions(); ext.Chunking || ext.Auth != nil || ext.StartTLS {
		t.Errorf("extensions %+v", ext)
	}
}
