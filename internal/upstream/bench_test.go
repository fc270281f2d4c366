package upstream_test

import (
	"strings"
	"testing"

	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
)

// One transaction of 4 kB over loopback, on a session of the pool.
func BenchmarkTransaction(b *testing.B) {
	sink := sinktest.Listen(b, sinktest.Config{Extensions: []string{"PIPELINING", "8BITMIME", "SIZE"}})
	s, err := upstream.New(upstream.Config{Name: "bench", Hostname: "gw.example", Hosts: hosts(sink.Addr()), TLS: upstream.TLSOff, MessagesPerSession: 1 << 30}, upstream.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	env, to := envelope(b), recipient(b, "r@out.example")
	body := text("Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abc\r\n", 64))
	b.ReportAllocs()
	for b.Loop() {
		tx, _ := s.Begin(b.Context(), env)
		tx.Rcpt(b.Context(), to)
		if res := tx.Data(b.Context(), body); !res.OK() {
			b.Fatal(brief(res), res.Err)
		}
	}
}
