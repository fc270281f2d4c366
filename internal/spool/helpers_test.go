package spool

import (
	"bytes"
	"crypto/sha256"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"gatepost/internal/mail"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDirEnv); dir != "" {
		childMain(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// testLog writes to the test's log.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// openTest opens a spool on fs (nil: a directory of its own on the disk) and
// closes it at the end of the test.
func openTest(t testing.TB, o Options) *Spool {
	t.Helper()
	s, err := Open(withDefaults(t, o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && err != ErrClosed {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func withDefaults(t testing.TB, o Options) Options {
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Log == nil {
		o.Log = testLog(t)
	}
	return o
}

func memOptions(fs vfs.FS) Options { return Options{Dir: "/spool", FS: fs} }

// testBody is n bytes that differ from message to message.
func testBody(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	rng.Read(b)
	return b
}

func testEnvelope(id mail.ID) *mail.Envelope {
	to := mail.Address{Local: "bob", Domain: "example.com", Raw: "bob@example.com"}
	return &mail.Envelope{
		ID:       id,
		Received: time.Unix(1700000000, 123456789).UTC(),
		Session: mail.Session{
			ID: mail.NewID(), Listener: "inbound", Helo: "client.example.org", ESMTP: true,
			Client:  netip.MustParseAddrPort("192.0.2.7:40000"),
			Local:   netip.MustParseAddrPort("192.0.2.1:25"),
			Started: time.Unix(1700000000, 0).UTC(),
			TLS:     mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
		},
		Sender:     mail.Address{Local: "alice", Domain: "example.org", Raw: "alice@example.org"},
		Recipients: []mail.Recipient{{Address: to, Original: to, Route: mail.Route{Domain: "example.com", Transport: "exchange"}}},
		Body:       mail.Body8Bit,
		HeaderSize: 400,
		Edits:      mail.Edits{Prepend: []byte("Received: from client.example.org by gw.example.com; Thu, 1 Jan 1970 00:00:00 +0000\r\n")},
		Subject:    "Minutes of the meeting",
		MessageID:  "<abc@example.org>",
	}
}

func testItem(id mail.ID, n uint16) *mail.QueueItem {
	to := mail.Address{Local: "bob", Domain: "example.com", Raw: "bob@example.com"}
	return &mail.QueueItem{
		ID: mail.QueueID{Message: id, N: n}, State: mail.QueueDeferred, Transport: "exchange", NextHop: "example.com",
		Recipients:  []mail.QueuedRecipient{{Recipient: mail.Recipient{Address: to, Original: to, Route: mail.Route{Transport: "exchange"}}}},
		Created:     time.Unix(1700000001, 0).UTC(),
		NextAttempt: time.Unix(1700000002, 5).UTC(),
	}
}

func testItems(id mail.ID, n int) []*mail.QueueItem {
	items := make([]*mail.QueueItem, n)
	for i := range items {
		items[i] = testItem(id, uint16(i+1))
	}
	return items
}

// put commits a message and returns its ID.
func put(t testing.TB, s *Spool, body []byte, items int) mail.ID {
	t.Helper()
	id := mail.NewID()
	if err := tryPut(s, id, body, items); err != nil {
		t.Fatal(err)
	}
	return id
}

func tryPut(s *Spool, id mail.ID, body []byte, items int) error {
	w := s.Create(id)
	defer w.Abort()
	const piece = 32 << 10
	for len(body) > 0 {
		n := min(len(body), piece)
		if _, err := w.Write(body[:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	return w.Commit(testEnvelope(id), testItems(id, items))
}

func readBody(b mail.Body) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
}

func storedBody(t testing.TB, s *Spool, id mail.ID) []byte {
	t.Helper()
	b, err := s.Body(id)
	if err != nil {
		t.Fatal(err)
	}
	data, err := readBody(b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sum(b []byte) [32]byte { return sha256.Sum256(b) }

func scanAll(t testing.TB, s *Spool) map[mail.QueueID]Entry {
	t.Helper()
	all := make(map[mail.QueueID]Entry)
	if err := s.Scan(func(e Entry) error { all[e.ID] = e; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// allKeys names every key of the store.
func allKeys(t testing.TB, s *Spool) []string {
	t.Helper()
	var keys []string
	err := s.each([]byte{0}, []byte{0xff}, func(key, _ []byte) (bool, error) {
		keys = append(keys, keyName(key))
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func addrPortEqual(a, b netip.AddrPort) bool { return a == b }
