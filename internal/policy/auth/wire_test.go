package auth

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/smtpserver"
)

var _ smtpserver.Authenticator = (*Gate)(nil)

// noMail takes no message; nobody sends one here.
type noMail struct{}

func (noMail) Open(context.Context, *mail.Envelope) (smtpserver.Intake, error) {
	return nil, errors.New("no mail")
}

// wire is a server with a gate.
type wire struct {
	t  *testing.T
	ln *memconn.Listener
}

func serve(t *testing.T, g *Gate) *wire {
	t.Helper()
	srv, err := smtpserver.New(smtpserver.Config{Listener: "in", Hostname: "gw.example", Auth: []string{"PLAIN", "LOGIN"}, AuthWithoutTLS: true},
		smtpserver.Hooks{Auth: g, Intake: noMail{}}, smtpserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, ln: memconn.Listen()}
	served := make(chan error)
	go func() { served <- srv.Serve(context.Background(), w.ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		srv.Shutdown(ctx)
		<-served
	})
	return w
}

// dialogue is one session.
type dialogue struct {
	t  *testing.T
	nc *memconn.Conn
	r  *bufio.Scanner
}

func (w *wire) dial(ip string) *dialogue {
	w.t.Helper()
	nc, err := w.ln.DialFrom(w.t.Context(), netip.MustParseAddr(ip))
	if err != nil {
		w.t.Fatal(err)
	}
	d := &dialogue{t: w.t, nc: nc, r: bufio.NewScanner(nc)}
	d.reply()
	if got := d.say("EHLO client.example"); !strings.Contains(got, "AUTH PLAIN LOGIN") {
		w.t.Fatalf("EHLO: %q", got)
	}
	return d
}

// reply reads a whole reply; "" says that the server has closed.
func (d *dialogue) reply() string {
	var all []string
	for d.r.Scan() {
		all = append(all, d.r.Text())
		if len(d.r.Text()) > 3 && d.r.Text()[3] == ' ' {
			break
		}
	}
	return strings.Join(all, "\n")
}

func (d *dialogue) say(line string) string {
	if _, err := d.nc.Write([]byte(line + "\r\n")); err != nil {
		return ""
	}
	return d.reply()
}

// login is AUTH PLAIN, and how long its answer took.
func (d *dialogue) login(user, password string) (string, time.Duration) {
	start := time.Now()
	got := d.say("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	return got, time.Since(start)
}

// DOS-14 on the wire.
func TestGuessingOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, gate(t, Config{}, &backend{users: accounts(), takes: 60 * time.Millisecond}))
		// 20 guesses, at one user who exists and at one who does not: answers and times
		// are the same.
		var answers [2][]string
		for i, user := range []string{"a", "nobody"} {
			d := w.dial(fmt.Sprintf("198.51.%d.1", 100+i))
			for n := range 20 {
				reply, took := d.login(user, fmt.Sprint("guess ", n))
				answers[i] = append(answers[i], fmt.Sprint(reply, " ", took))
			}
			d.nc.Close()
		}
		for n := range answers[0] {
			if answers[0][n] != answers[1][n] {
				t.Errorf("guess %d: %q, and for nobody %q", n, answers[0][n], answers[1][n])
			}
		}
		if first, last := answers[0][0], answers[0][19]; first != "535 5.7.8 Authentication failed 500ms" || last != "454 4.7.0 Authentication not possible now 15s" {
			t.Errorf("first %q, last %q", first, last)
		}
		// The right password is no way round it; the other user of the network gets in.
		d := w.dial("198.51.100.7")
		if got, _ := d.login("a", "right"); !strings.HasPrefix(got, "454") {
			t.Errorf("locked: %q", got)
		}
		if got, took := d.login("b", "right"); !strings.HasPrefix(got, "235") || took != 60*time.Millisecond {
			t.Errorf("the other user: %q after %s", got, took)
		}
		d.nc.Close()
		// After the lock.
		time.Sleep(15 * time.Minute)
		d = w.dial("198.51.100.1")
		if got, _ := d.login("a", "right"); !strings.HasPrefix(got, "235") {
			t.Errorf("after the lock: %q", got)
		}
		d.nc.Close()
	})
}

func TestANetworkThatSpraysIsSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, gate(t, Config{}, &backend{users: accounts()}))
		for n := range 30 {
			d := w.dial("198.51.100.1")
			if got, _ := d.login(fmt.Sprint("user", n), "123456"); !strings.HasPrefix(got, "535") {
				t.Errorf("guess %d: %q", n, got)
			}
			d.nc.Close()
		}
		d := w.dial("198.51.100.1")
		if got, _ := d.login("b", "right"); got != "421 4.7.0 Too many failed logins, try again later" || d.say("NOOP") != "" {
			t.Errorf("locked: %q", got)
		}
		d.nc.Close()
		d = w.dial("203.0.113.1")
		if got, _ := d.login("b", "right"); !strings.HasPrefix(got, "235") {
			t.Errorf("another network: %q", got)
		}
		d.nc.Close()
	})
}
