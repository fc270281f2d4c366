package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
)

// proxyTo passes mail through to a server.
func proxyTo(t *testing.T, s *sinktest.Server) gateway.Proxy {
	t.Helper()
	up, err := upstream.New(upstream.Config{Name: "u", Hostname: "gw.example.com", Hosts: []upstream.Host{{Address: s.Addr()}}, TLS: upstream.TLSOff},
		upstream.Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := up.Close(); err != nil {
			t.Error(err)
		}
	})
	return gateway.Proxy{Server: up}
}

// endsWith makes a server that answers the end of data so, or as usual.
func endsWith(t *testing.T, eod string) *sinktest.Server {
	t.Helper()
	return sinktest.Listen(t, sinktest.Config{Extensions: []string{"PIPELINING", "8BITMIME"}, Script: func(e sinktest.Event) *sinktest.Act {
		if e.Stage == sinktest.EOD && eod != "" {
			return sinktest.Reply(eod)
		}
		return nil
	}})
}

func TestSeveralUpstreamsGetAMessageAtOnce(t *testing.T) {
	proxies := make(map[string]gateway.Proxy)
	var servers []*sinktest.Server
	var to []string
	for i := range 8 {
		s := endsWith(t, "")
		servers = append(servers, s)
		name := fmt.Sprintf("u%d", i)
		proxies[name] = proxyTo(t, s)
		to = append(to, "a@"+name+".example", "b@"+name+".example")
	}
	r := newRig(t, rigOptions{proxies: proxies})
	body := "Subject: x\r\n\r\n" + strings.Repeat("line\r\n", 50_000)
	if reply := r.receive(r.envelope("ada@out.example", to...), body); !strings.HasPrefix(reply.String(), "250 2.0.0 OK: queued (") {
		t.Errorf("%v", reply)
	}
	for i, s := range servers {
		got := s.Messages()
		if len(got) != 1 || len(got[0].To) != 2 || !strings.HasSuffix(got[0].Body(), body) {
			t.Errorf("server %d got %d messages", i, len(got))
		}
	}
	if len(r.queue.added) != 0 || len(storedIn(t, r.fs.CrashClone(vfs.CrashCloneCfg{}))) != 0 {
		t.Error("something was made durable")
	}
}

// What can't be made durable after an upstream has taken it is told to the client as
// a failure: rather twice than not at all.
func TestTheRestIsNotDurable(t *testing.T) {
	var broken atomic.Bool
	s := endsWith(t, "")
	r := newRig(t, rigOptions{proxies: map[string]gateway.Proxy{"live": proxyTo(t, s)}, wrap: func(fs *vfs.MemFS) vfs.FS {
		return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileWrite) {
				return errors.New("disk")
			}
			return nil
		}))
	}})
	in := r.write(r.envelope("ada@out.example", "a@live.example", "b@in.example"), "Subject: x\r\n\r\nx\r\n")
	broken.Store(true)
	reply := in.Commit(t.Context())
	broken.Store(false)
	if !reply.Temporary() || len(r.queue.added) != 0 || len(s.Messages()) != 1 {
		t.Errorf("%v, %d queued, %d passed on", reply, len(r.queue.added), len(s.Messages()))
	}
}

func TestMixedFatesAreQueued(t *testing.T) {
	for _, tt := range []struct {
		name              string
		one, two          string
		deferMixed, adopt bool
		want              string
		queued            string
	}{
		{"all well", "250 2.0.0 one", "250 2.0.0 two", false, false, "250 2.0.0 OK: queued", ""},
		{"all refuse", "554 5.7.1 one", "552 5.3.4 two", false, false, "554 5.7.1 one", ""},
		{"one of them only for now", "554 5.7.1 one", "452 4.3.1 two", false, false, "452 4.3.1 two", ""},
		{"one refuses", "554 5.7.1 one", "250 2.0.0 two", false, false, "250 2.0.0 OK: queued", "one failed 554 5.7.1 one"},
		{"one refuses for now", "250 2.0.0 one", "452 4.3.1 two", false, false, "250 2.0.0 OK: queued", "two deferred 452 4.3.1 two"},
		{"one refuses, and all shall wait", "554 5.7.1 one", "250 2.0.0 two", true, false, "451 4.7.1 Try again later", ""},
		{"one waits, and all shall", "250 2.0.0 one", "452 4.3.1 two", true, false, "452 4.3.1 two", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, rigOptions{deferMixed: tt.deferMixed, proxies: map[string]gateway.Proxy{
				"one": proxyTo(t, endsWith(t, tt.one)), "two": proxyTo(t, endsWith(t, tt.two)),
			}})
			reply := r.receive(r.envelope("ada@out.example", "a@one.example", "b@two.example"), "Subject: x\r\n\r\nx\r\n")
			var queued []string
			for _, a := range r.queue.added {
				for _, item := range a.items {
					last := item.Recipients[0].Last
					queued = append(queued, fmt.Sprintf("%s %s %s", item.Transport, last.Status, last.Reply))
				}
			}
			if !strings.HasPrefix(reply.String(), tt.want) || strings.Join(queued, ",") != tt.queued {
				t.Errorf("%v, queued %q", reply, queued)
			}
		})
	}
}

// A session that ended while the message was scanned is made up for by another one;
// when that fails, too, there is no second try again.
func TestAnUpstreamThatRestartsIsAskedAgain(t *testing.T) {
	for _, again := range []bool{true, false} {
		var dropped atomic.Int32
		s := sinktest.Listen(t, sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Data && (!again || e.Conn == 1) {
				dropped.Add(1)
				return &sinktest.Act{Close: true}
			}
			return nil
		}})
		r := newRig(t, rigOptions{proxies: map[string]gateway.Proxy{"live": proxyTo(t, s)}})
		reply := r.receive(r.envelope("ada@out.example", "a@live.example", "b@live.example"), "Subject: x\r\n\r\nx\r\n")
		if reply.Positive() != again || reply.Permanent() || again != (len(s.Messages()) == 1) || !again && dropped.Load() != 2 {
			t.Errorf("%v after %d failures, %d messages", reply, dropped.Load(), len(s.Messages()))
		}
	}
}

func TestWhatIsPassedThroughIsSigned(t *testing.T) {
	for _, fails := range []error{nil, errors.New("no key")} {
		s := endsWith(t, "")
		proxy := proxyTo(t, s)
		proxy.Leave = func(_ context.Context, _ *mail.Envelope, c *message.Content) (*message.Content, error) {
			return c.Prepend([]byte("X-Signed: yes\r\n")), fails
		}
		r := newRig(t, rigOptions{proxies: map[string]gateway.Proxy{"live": proxy}})
		reply := r.receive(r.envelope("ada@out.example", "a@live.example"), "Subject: x\r\n\r\nx\r\n")
		got := s.Messages()
		if fails != nil {
			if !reply.Temporary() || len(got) != 0 || strings.Contains(s.Raw(), "DATA") {
				t.Errorf("not signed: %v, the server saw\n%s", reply, s.Raw())
			}
			continue
		}
		if !reply.Positive() || len(got) != 1 || !strings.HasPrefix(got[0].Body(), "X-Signed: yes\r\nReceived: ") {
			t.Errorf("%v, %+v", reply, got)
		}
	}
}

// The hook for the end of a transaction ends it upstream; what follows has a clean one.
func TestResetEndsTheTransactionUpstream(t *testing.T) {
	s := endsWith(t, "")
	r := newRig(t, rigOptions{proxies: map[string]gateway.Proxy{"live": proxyTo(t, s)}})
	env := r.envelope("ada@out.example", "a@live.example")
	r.gateway.Reset(env)
	r.gateway.Reset(env)
	if reply := r.receive(r.envelope("eve@out.example", "b@live.example"), "Subject: x\r\n\r\nx\r\n"); !reply.Positive() {
		t.Error(reply)
	}
	got := s.Messages()
	if len(got) != 1 || len(got[0].To) != 1 || !strings.Contains(got[0].To[0], "b@live.example") || !strings.Contains(got[0].From, "eve@") {
		t.Errorf("%+v", got)
	}
}
