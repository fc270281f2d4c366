package transport

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"

	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
	testpeer "gatepost/test/peer"
)

// users is a server that knows bob, and answers others with the reply.
func users(t *testing.T, reply string, mechanisms string, cert *testpeer.Certificate) *sinktest.Server {
	t.Helper()
	cfg := sinktest.Config{Extensions: []string{"AUTH " + mechanisms}}
	if cert != nil {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
	}
	cfg.Script = func(e sinktest.Event) *sinktest.Act {
		text, _ := base64.StdEncoding.DecodeString(e.Line)
		switch {
		case e.Line == "AUTH PLAIN":
			return sinktest.Reply("334 ")
		case e.Line == "AUTH LOGIN":
			return sinktest.Reply("334 VXNlcm5hbWU6")
		case string(text) == "bob":
			return sinktest.Reply("334 UGFzc3dvcmQ6")
		case string(text) == "\x00bob\x00right", string(text) == "right":
			return sinktest.Reply("235 2.7.0 welcome")
		case string(text) == "\x00bob\x00wrong", string(text) == "wrong":
			return sinktest.Reply(reply)
		}
		return nil
	}
	return sinktest.Listen(t, cfg)
}

func TestUsersLogInAtTheHosts(t *testing.T) {
	cert := testpeer.NewCertificate(t, "mail.example")
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	plain := users(t, "535 5.7.8 no", "CRAM-MD5 PLAIN LOGIN", &cert)
	login := users(t, "535 5.7.8 no", "LOGIN", &cert)
	busy := users(t, "454 4.7.0 later", "PLAIN", &cert)
	weak := users(t, "534 5.7.9 too weak", "PLAIN", &cert)
	clear := users(t, "535 5.7.8 no", "PLAIN", nil)
	none := users(t, "535 5.7.8 no", "GSSAPI", &cert)
	for _, tt := range []struct {
		name      string
		hosts     []string
		mode      TLSMode
		cleartext bool
		password  string
		want      string // yes, no, or part of the error
	}{
		{"right", []string{plain.Addr()}, TLSOpportunistic, false, "right", "yes"},
		{"wrong", []string{plain.Addr()}, TLSOpportunistic, false, "wrong", "no"},
		{"right by LOGIN", []string{login.Addr()}, TLSRequire, false, "right", "yes"},
		{"wrong by LOGIN", []string{login.Addr()}, TLSRequire, false, "wrong", "no"},
		{"a host that is down, then one that is up", []string{dead.Addr().String(), plain.Addr()}, TLSRequire, false, "right", "yes"},
		{"a host that is busy, then one that knows", []string{busy.Addr(), plain.Addr()}, TLSRequire, false, "wrong", "no"},
		{"no is not asked again", []string{plain.Addr(), busy.Addr()}, TLSRequire, false, "wrong", "no"},
		{"busy", []string{busy.Addr()}, TLSRequire, false, "wrong", "454"},
		{"another 5xx is no answer", []string{weak.Addr()}, TLSRequire, false, "wrong", "534"},
		{"down", []string{dead.Addr().String()}, TLSRequire, false, "right", "connection refused"},
		{"no TLS", []string{clear.Addr()}, TLSOpportunistic, false, "right", "no usable AUTH mechanism"},
		{"no TLS where that is required", []string{clear.Addr()}, TLSRequire, true, "right", "STARTTLS"},
		{"no TLS where that is allowed", []string{clear.Addr()}, TLSOff, true, "right", "yes"},
		{"a certificate that nobody vouches for", []string{plain.Addr()}, TLSVerify, true, "right", "certificate"},
		{"no mechanism", []string{none.Addr()}, TLSRequire, true, "right", "no usable AUTH mechanism"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr, err := New(Config{Name: "x", Kind: SMTP, Hostname: "gw.example", Hosts: tt.hosts, TLS: tt.mode,
				Auth: &smtpclient.Credentials{Username: "gateway", Password: "own"}}, Deps{})
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			err = tr.(Login).Login(t.Context(), smtpclient.Credentials{Username: "bob", Password: tt.password, AllowCleartext: tt.cleartext})
			switch tt.want {
			case "yes":
				if err != nil {
					t.Error(err)
				}
			case "no":
				if !Refused(err) {
					t.Errorf("%v, want a refusal", err)
				}
			default:
				if err == nil || Refused(err) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q", err, tt.want)
				}
			}
			if err != nil && (strings.Contains(err.Error(), "right") || strings.Contains(err.Error(), "wrong")) {
				t.Errorf("the error holds the password: %v", err)
			}
		})
	}
	// Only the case that allows it.
	if n := strings.Count(clear.Clear(), "AUTH"); n != 1 {
		t.Errorf("AUTH was sent in clear text %d times", n)
	}
}

func TestLoginEndsWithTheTransport(t *testing.T) {
	tr, err := New(Config{Name: "x", Kind: SMTP, Hostname: "gw.example", Hosts: []string{"127.0.0.1:9"}}, Deps{
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}})
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		failed <- tr.(Login).Login(t.Context(), smtpclient.Credentials{Username: "bob", Password: "x"})
	}()
	tr.Close()
	if err := <-failed; !errors.Is(err, errClosed) {
		t.Error(err)
	}
}
