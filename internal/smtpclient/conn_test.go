package smtpclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is a message content in memory.
type text string

func (t text) Size() int64 { return int64(len(t)) }
func (t text) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, string(t))
	return int64(n), err
}

const short text = "Subject: hi\r\n\r\nhello\r\n"

// writes is a connection that keeps what each Write call was given.
type writes struct {
	net.Conn
	mu  sync.Mutex
	all []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.all = append(w.all, string(p))
	w.mu.Unlock()
	return w.Conn.Write(p)
}

func (w *writes) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

// talk is a client and the server it is to talk to.
type talk struct {
	sink   *sinktest.Server
	dialer *smtpclient.Dialer
	wire   *writes // of the latest connection
}

func newTalk(t *testing.T, server sinktest.Config, client smtpclient.Config) *talk {
	ln := memconn.Listen()
	k := &talk{sink: sinktest.Start(t, ln, server)}
	client.Hostname = "gw.example"
	client.LMTP = server.LMTP
	client.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := ln.Dial(ctx)
		if err != nil {
			return nil, err
		}
		k.wire = &writes{Conn: c}
		return k.wire, nil
	}
	k.dialer = smtpclient.NewDialer(client)
	return k
}

func (k *talk) dial(t *testing.T) (*smtpclient.Conn, error) {
	c, err := k.dialer.Dial(t.Context(), smtpclient.Target{Network: "tcp", Address: "192.0.2.25:25", Name: "mx.example"})
	if c != nil {
		t.Cleanup(func() { c.Close() })
		k.wire.take()
	}
	return c, err
}

func (k *talk) mustDial(t *testing.T) *smtpclient.Conn {
	t.Helper()
	c, err := k.dial(t)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func address(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// request is a message from a@in.example to r1@…, r2@… and so on.
func request(t *testing.T, recipients int, content smtpclient.Content) *smtpclient.Request {
	t.Helper()
	req := &smtpclient.Request{Sender: address(t, "a@in.example"), Content: content}
	for i := range recipients {
		req.Recipients = append(req.Recipients, mail.Recipient{Address: address(t, fmt.Sprintf("r%d@out.example", i+1))})
	}
	return req
}

// brief is an outcome in one line: "delivered eod 250", "deferred data - 451 4.5.0".
func brief(o mail.Outcome) string {
	if o.Status == "" {
		return "none"
	}
	whose := ""
	if !o.Remote {
		whose = "own "
	}
	return fmt.Sprintf("%s %s %s%d", o.Status, o.Stage, whose, o.Reply.Code)
}

func briefs(list []mail.Outcome) string {
	s := make([]string, len(list))
	for i, o := range list {
		s[i] = brief(o)
	}
	return strings.Join(s, ", ")
}

// at scripts one stage.
func at(stage string, act *sinktest.Act) func(sinktest.Event) *sinktest.Act {
	return func(e sinktest.Event) *sinktest.Act {
		if e.Stage == stage {
			return act
		}
		return nil
	}
}

func TestPipeliningTakesTwoWritesForAMessage(t *testing.T) {
	k := newTalk(t, sinktest.Config{Extensions: []string{"PIPELINING", "SIZE 10000", "8BITMIME"}}, smtpclient.Config{})
	c := k.mustDial(t)
	for range 2 {
		out, err := c.Send(t.Context(), request(t, 2, short))
		if err != nil || briefs(out) != "delivered eod 250, delivered eod 250" {
			t.Fatalf("%s, %v", briefs(out), err)
		}
		want := []string{
			"MAIL FROM:<a@in.example> SIZE=22\r\nRCPT TO:<r1@out.example>\r\nRCPT TO:<r2@out.example>\r\nDATA\r\n",
			string(short) + ".\r\n",
		}
		if got := k.wire.take(); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("writes %q, want %q", got, want)
		}
	}
	if o := k.sink.Messages(); len(o) != 2 || o[0].Body() != string(short) {
		t.Errorf("messages %+v", o)
	}
}

func TestWithoutPipeliningEachCommandWaitsForItsReply(t *testing.T) {
	k := newTalk(t, sinktest.Config{}, smtpclient.Config{})
	c := k.mustDial(t)
	out, err := c.Send(t.Context(), request(t, 2, short))
	if err != nil || briefs(out) != "delivered eod 250, delivered eod 250" {
		t.Fatalf("%s, %v", briefs(out), err)
	}
	want := []string{"MAIL FROM:<a@in.example>\r\n", "RCPT TO:<r1@out.example>\r\n", "RCPT TO:<r2@out.example>\r\n", "DATA\r\n", string(short) + ".\r\n"}
	if got := k.wire.take(); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("writes %q, want %q", got, want)
	}
}

func TestOutcomeTellsReplyHostAndStage(t *testing.T) {
	k := newTalk(t, sinktest.Config{Script: at(sinktest.Rcpt, sinktest.Reply("550-5.1.1 no such user", "550 5.1.1 here"))}, smtpclient.Config{})
	c := k.mustDial(t)
	out, err := c.Send(t.Context(), request(t, 1, short))
	if err != nil {
		t.Fatal(err)
	}
	o := out[0]
	if o.Status != mail.Failed || o.Reply.String() != "550 5.1.1 no such user / here" || !o.Remote || o.Stage != "rcpt" ||
		o.Host != "mx.example [192.0.2.25]:25" || o.Time.IsZero() {
		t.Errorf("outcome %+v", o)
	}
}

func TestHello(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script func(sinktest.Event) *sinktest.Act
		want   string // "" is success
		lines  string
	}{
		{"EHLO is answered", nil, "", "EHLO gw.example"},
		{"EHLO refused for good, HELO tried", at(sinktest.Ehlo, sinktest.Reply("502 5.5.1 no")), "", "EHLO gw.example|HELO gw.example"},
		{"EHLO refused for now", at(sinktest.Ehlo, sinktest.Reply("451 4.3.0 no")), "deferred ehlo 451", "EHLO gw.example"},
		{"EHLO and HELO refused", func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Banner {
				return nil
			}
			return sinktest.Reply("550 5.7.1 no")
		}, "deferred ehlo 550", "EHLO gw.example|HELO gw.example"},
		{"EHLO answered by 421", at(sinktest.Ehlo, sinktest.Reply("421 4.3.2 no")), "deferred ehlo 421", "EHLO gw.example"},
		{"EHLO answered by 354", at(sinktest.Ehlo, sinktest.Reply("354 go")), "deferred ehlo own 451", "EHLO gw.example"},
		{"banner refuses for good", at(sinktest.Banner, sinktest.Reply("554 5.7.1 no")), "deferred connect 554", ""},
		{"banner refuses for now", at(sinktest.Banner, sinktest.Reply("450 4.7.1 no")), "deferred connect 450", ""},
		{"banner is no banner", at(sinktest.Banner, sinktest.Reply("250 hello")), "deferred connect own 451", ""},
		{"banner is another protocol", at(sinktest.Banner, sinktest.Reply("SSH-2.0-OpenSSH_9.2")), "deferred connect own 451", ""},
		{"two banners", at(sinktest.Banner, sinktest.Reply("220 one", "220 two")), "deferred ehlo own 451", ""},
		{"banner of three lines", at(sinktest.Banner, sinktest.Reply("220-one", "220-two", "220 three")), "", "EHLO gw.example"},
		{"connection closed", at(sinktest.Banner, &sinktest.Act{Close: true}), "deferred connect own 451", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Script: tc.script}, smtpclient.Config{})
			c, err := k.dial(t)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
			} else {
				var e *smtpclient.Error
				if !errors.As(err, &e) {
					t.Fatalf("error %v", err)
				}
				if got := brief(e.Outcome()); got != tc.want {
					t.Errorf("outcome %s (%v), want %s", got, err, tc.want)
				}
			}
			k.sink.Close()
			var lines []string
			for _, l := range k.sink.Lines() {
				if l != "QUIT" {
					lines = append(lines, l)
				}
			}
			if got := strings.Join(lines, "|"); got != tc.lines {
				t.Errorf("commands %s, want %s", got, tc.lines)
			}
		})
	}
}

func TestExtensionsAreReadInAnySpelling(t *testing.T) {
	k := newTalk(t, sinktest.Config{Extensions: []string{
		"pipelining", "Size 1000", "8bitMime", "chunking", "BINARYMIME", "smtputf8", "dsn", "REQUIRETLS ", "starttls",
		"AUTH=LOGIN", "auth plain CRAM-MD5 LOGIN", "LIMITS MAILMAX=5 rcptmax=7 RCPTDOMAINMAX=x", "X-FOO bar", "xclient Name ADDR", "XForward NAME",
	}}, smtpclient.Config{})
	got := k.mustDial(t).Extensions()
	want := "{true true true true true true true true true 1000 5 7 [LOGIN PLAIN CRAM-MD5] [NAME ADDR] [NAME]}"
	if s := fmt.Sprint(got); s != want {
		t.Errorf("extensions %s\nwant %s", s, want)
	}
	k = newTalk(t, sinktest.Config{Extensions: []string{"SIZE", "BINARYMIME", "LIMITS RCPTMAX=0"}}, smtpclient.Config{})
	got = k.mustDial(t).Extensions()
	if !got.Size || got.SizeLimit != 0 || got.Binary || got.RcptMax != 0 {
		t.Errorf("extensions %+v", got)
	}
}
