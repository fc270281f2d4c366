package milter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/scan"
)

// script says what the fake answers to a command; nothing hangs up, and "-" is no
// answer at all. Several packets come one after the other.
type script func(cmd byte, data string) []string

// on is a script that answers one command and continues otherwise.
func on(cmd byte, packets ...string) script {
	return func(c byte, _ string) []string {
		if c == cmd {
			return packets
		}
		return []string{"c"}
	}
}

// fake is a milter whose answers are scripted.
type fake struct {
	t  testing.TB
	l  *memconn.Listener
	wg sync.WaitGroup

	// version and steps are what it negotiates; raw, where set, is all it says then.
	version, steps uint32
	raw            string
	answer         script

	mu      sync.Mutex
	off     bool
	dialled int
	heard   []string // "C...", without macros
	macros  map[string]string
}

func newFake(t testing.TB, answer script) *fake {
	f := &fake{t: t, l: memconn.Listen(), version: 6, answer: answer, macros: map[string]string{}}
	f.wg.Go(func() {
		for {
			c, err := f.l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() {
				defer c.Close()
				f.serve(c)
			})
		}
	})
	return f
}

func (f *fake) dial(ctx context.Context) (net.Conn, error) {
	f.mu.Lock()
	f.dialled++
	off := f.off
	f.mu.Unlock()
	if off {
		return nil, errors.New("nobody is there")
	}
	return f.l.Dial(ctx)
}

// pack frames what a script says: its first byte is the code.
func pack(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

func number(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

func (f *fake) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		p, err := readPacket(r)
		if err != nil {
			return
		}
		if p.code == cmdNegotiate {
			out := pack("O" + number(f.version) + number(0xff) + number(f.steps))
			if f.raw != "" {
				out = []byte(f.raw)
			}
			if _, err := c.Write(out); err != nil {
				return
			}
			continue
		}
		if p.code == cmdMacro {
			f.mu.Lock()
			list := strings.Split(string(p.data[1:]), "\x00")
			for i := 0; i+1 < len(list); i += 2 {
				f.macros[list[i]] = list[i+1]
			}
			f.mu.Unlock()
			continue
		}
		f.mu.Lock()
		f.heard = append(f.heard, string(p.code)+string(p.data))
		f.mu.Unlock()
		if p.code == cmdAbort || p.code == cmdQuit || p.code == cmdHeader && f.steps&quietHeader != 0 || p.code == cmdBody && f.steps&quietBody != 0 {
			continue
		}
		answers := f.answer(p.code, string(p.data))
		if len(answers) == 0 {
			return
		}
		for _, a := range answers {
			if a == "-" {
				continue
			}
			if _, err := c.Write(pack(a)); err != nil {
				return
			}
		}
	}
}

func (f *fake) scanner(t testing.TB, cfg Config) *Scanner {
	t.Helper()
	cfg.dial, cfg.Hostname = f.dial, "gw.example"
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stop ends the fake; a conversation that was not closed would keep it waiting.
func (f *fake) stop() {
	if err := f.l.Close(); err != nil {
		f.t.Error(err)
	}
	f.wg.Wait()
}

func (f *fake) transcript() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.heard, "|")
}

type body struct{ *bytes.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

// address is one as package smtp would make it.
func address(s string) mail.Address {
	local, domain, _ := strings.Cut(s, "@")
	return mail.Address{Local: local, Domain: domain, Raw: s}
}

func envelope(recipients ...string) *mail.Envelope {
	env := &mail.Envelope{
		Received: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Sender:   address("sender@client.example"),
		Session: mail.Session{Client: netip.MustParseAddrPort("192.0.2.77:4025"), Helo: "client.example", ESMTP: true, Listener: "mx",
			TLS: mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"}},
	}
	for _, r := range recipients {
		env.Recipients = append(env.Recipients, mail.Recipient{Address: address(r), Original: address(r)})
	}
	return env
}

func input(t testing.TB, msg string) *scan.Input {
	t.Helper()
	return inputOf(t, envelope("one@here.example", "Two@here.example"), msg)
}

func inputOf(t testing.TB, env *mail.Envelope, msg string) *scan.Input {
	t.Helper()
	in, err := scan.NewInput(context.WithoutCancel(t.Context()), mail.Message{Envelope: env, Body: body{bytes.NewReader([]byte(msg))}}, scan.Inbound, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

const plain = "From: a@b.example\r\nSubject: lunch\r\n\tat noon\r\n\r\nAt noon?\r\n"

// summary writes findings down shortly: "match reject [key]".
func summary(found []mail.Finding) string {
	var list []string
	for _, f := range found {
		s := fmt.Sprintf("%s %s", f.Result, f.Symbol)
		if len(f.Recipients) > 0 {
			s += fmt.Sprint(" ", f.Recipients)
		}
		list = append(list, s)
	}
	return strings.Join(list, ", ")
}

// canned is a connection on which everything has been said.
type canned struct {
	net.Conn
	in bytes.Buffer
}

func (c *canned) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *canned) Write(p []byte) (int, error) { return len(p), nil }
