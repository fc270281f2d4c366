package clamav

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"testing"

	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
	"gatepost/test/clamd"
)

func TestContract(t *testing.T) {
	scantest.Contract(t, scantest.Subject{
		Use: use,
		New: func(t testing.TB) scan.Module {
			f := newFake(t)
			f.answer = func(stream []byte) string {
				f.streams, f.chunks = nil, nil
				switch {
				case bytes.HasPrefix(stream, []byte("PK")):
					return "stream: Heuristics.Encrypted.Zip FOUND\x00"
				case bytes.Contains(stream, []byte("evil")):
					return "stream: Evil\x1b[2J.Name FOUND\x00"
				}
				return "stream: OK\x00"
			}
			s := f.scanner(t, Config{})
			t.Cleanup(func() { stop(t, s, f) })
			return s
		},
		Hanging: func(t testing.TB) scan.Module {
			f := newFake(t)
			f.takeover = func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }
			s := f.scanner(t, Config{})
			t.Cleanup(func() { stop(t, s, f) })
			return s
		},
	})
}

func TestContractWithARealClamd(t *testing.T) {
	if os.Getenv("GATEPOST_REQUIRE_PEERS") == "" {
		t.Skip("clamd takes its time over 100,000 parts; GATEPOST_REQUIRE_PEERS is not set")
	}
	scantest.Contract(t, scantest.Subject{Use: use, New: func(t testing.TB) scan.Module {
		s, _ := realScanner(t, clamd.Config{}, Config{})
		return s
	}})
}
