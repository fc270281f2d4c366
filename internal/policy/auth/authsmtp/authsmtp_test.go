package authsmtp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hosts answer as the function says.
type hosts struct {
	answer func(ctx context.Context, cred smtpclient.Credentials) error
	asked  atomic.Int32
}

func (h *hosts) Login(ctx context.Context, cred smtpclient.Credentials) error {
	h.asked.Add(1)
	return h.answer(ctx, cred)
}

func says(code int) error {
	return &smtpclient.Error{Stage: "auth", Reply: mail.Reply{Code: code, Enhanced: fmt.Sprintf("%d.7.8", code/100), Lines: []string{"see\x1b[31m https://help.example"}}}
}

func backend(t *testing.T, cfg Config) *Backend {
	t.Helper()
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRepliesAreUnderstood(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want policy.AuthResult
	}{
		{"235", nil, policy.AuthYes},
		{"535", says(535), policy.AuthNo},
		{"535 with a cause around it", fmt.Errorf("log in: %w", says(535)), policy.AuthNo},
		{"454", says(454), policy.AuthUnknown},
		{"534: another mechanism is wanted", says(534), policy.AuthUnknown},
		{"530: TLS is wanted", says(530), policy.AuthUnknown},
		{"550", says(550), policy.AuthUnknown},
		{"535 to EHLO", &smtpclient.Error{Stage: "ehlo", Reply: mail.Reply{Code: 535}}, policy.AuthUnknown},
		{"down", errors.New("connection refused"), policy.AuthUnknown},
	} {
		h := &hosts{answer: func(context.Context, smtpclient.Credentials) error { return tt.err }}
		a, err := backend(t, Config{Hosts: h}).Authenticate(t.Context(), nil, "bob", "x")
		if a.Result != tt.want || (err != nil) != (tt.want == policy.AuthUnknown) || strings.ContainsRune(a.Reason, '\x1b') {
			t.Errorf("%s: %+v, %v", tt.name, a, err)
		}
	}
	h := &hosts{}
	if a, err := backend(t, Config{Hosts: h}).Authenticate(t.Context(), nil, "bob", ""); a.Result != policy.AuthNo || err != nil || h.asked.Load() != 0 {
		t.Errorf("no password: %+v, %v", a, err)
	}
}

func TestAYesIsRememberedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		right := "right"
		h := &hosts{answer: func(_ context.Context, cred smtpclient.Credentials) error {
			if cred.Password != right {
				return says(535)
			}
			return nil
		}}
		b := backend(t, Config{Hosts: h})
		ask := func(user, password string, want policy.AuthResult, asked int32) {
			t.Helper()
			before := h.asked.Load()
			if a, err := b.Authenticate(t.Context(), nil, user, password); err != nil || a.Result != want || h.asked.Load()-before != asked {
				t.Errorf("%s %s: %+v, %v, asked %d times", user, password, a, err, h.asked.Load()-before)
			}
		}
		ask("bob", "right", policy.AuthYes, 1)
		ask("bob", "right", policy.AuthYes, 0)
		ask("bob", "wrong", policy.AuthNo, 1)
		ask("bob", "wrong", policy.AuthNo, 1)
		ask("bobr", "ight", policy.AuthNo, 1)
		ask("eve", "right", policy.AuthYes, 1)
		time.Sleep(time.Minute + time.Second)
		right = "changed"
		ask("bob", "right", policy.AuthNo, 1)
		b.cfg.CacheFor = -1
		ask("bob", "changed", policy.AuthYes, 1)
		ask("bob", "changed", policy.AuthYes, 1)
	})
}

func TestMemoryIsBounded(t *testing.T) {
	h := &hosts{answer: func(context.Context, smtpclient.Credentials) error { return nil }}
	b := backend(t, Config{Hosts: h, CacheSize: 10})
	for i := range 100 {
		if _, err := b.Authenticate(t.Context(), nil, fmt.Sprint(i), "x"); err != nil || len(b.known) > 10 {
			t.Fatalf("%d remembered, %v", len(b.known), err)
		}
	}
}

func TestLoginsAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		h := &hosts{answer: func(ctx context.Context, _ smtpclient.Credentials) error {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			<-ctx.Done()
			return ctx.Err()
		}}
		b := backend(t, Config{Hosts: h, Concurrency: 2, Timeout: time.Second})
		start := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := b.Authenticate(t.Context(), nil, "bob", "x"); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 2 || time.Since(start) != time.Second {
			t.Errorf("%d at once, %s", most.Load(), time.Since(start))
		}
	})
}

// With a transport and a server on a wire.
func TestAgainstAServer(t *testing.T) {
	s := sinktest.Listen(t, sinktest.Config{Extensions: []string{"AUTH PLAIN"}, Script: func(e sinktest.Event) *sinktest.Act {
		switch e.Line {
		case "AUTH PLAIN":
			return sinktest.Reply("334 ")
		case "AGJvYgByaWdodA==": // \0bob\0right
			return sinktest.Reply("235 2.7.0 ok")
		case "AGJvYgB3cm9uZw==": // \0bob\0wrong
			return sinktest.Reply("535 5.7.8 no")
		}
		return nil
	}})
	tr, err := transport.New(transport.Config{Name: "x", Kind: transport.SMTP, Hostname: "gw.example", Hosts: []string{s.Addr()}, TLS: transport.TLSOff}, transport.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for _, tt := range []struct {
		cleartext bool
		password  string
		want      policy.AuthResult
	}{{true, "right", policy.AuthYes}, {true, "wrong", policy.AuthNo}, {false, "right", policy.AuthUnknown}} {
		b := backend(t, Config{Hosts: tr.(transport.Login), Cleartext: tt.cleartext})
		a, err := b.Authenticate(t.Context(), nil, "bob", tt.password)
		if a.Result != tt.want || (err != nil) != (tt.want == policy.AuthUnknown) {
			t.Errorf("%+v: %+v, %v", tt, a, err)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for _, cfg := range []Config{{}, {Hosts: &hosts{}, Timeout: -1}, {Hosts: &hosts{}, Concurrency: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
