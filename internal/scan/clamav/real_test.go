package clamav

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/test/clamd"
)

// knows makes a clamd find the payload.
var knows = map[string]string{"payload.ndb": "Test.Payload:0:*:" + hex.EncodeToString([]byte("Gatepost hidden\x01")) + "\n"}

func realScanner(t testing.TB, c clamd.Config, cfg Config) (*Scanner, *clamd.Instance) {
	t.Helper()
	p := clamd.Run(t, c)
	cfg.Address = p.Unix
	if c.TCP {
		cfg.Address = p.TCP
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, p
}

// virus returns the virus that was found, "" for none.
func virus(found []mail.Finding) string {
	for _, f := range found {
		if f.Result == mail.Match && !strings.HasPrefix(f.Symbol, "heuristic:") {
			return f.Symbol
		}
	}
	return ""
}

func TestRealClamd(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		s, _ := realScanner(t, clamd.Config{TCP: tcp}, Config{})
		if found, err := s.Scan(t.Context(), input(t, plain)); err != nil || len(found) > 0 {
			t.Errorf("clean: %v, %v", found, err)
		}
		found, err := s.Scan(t.Context(), input(t, attachment("eicar.com", clamd.EICAR())))
		if err != nil || len(found) != 1 || !strings.HasPrefix(found[0].Symbol, "Test.Eicar.") || found[0].Part != "1.2" || found[0].Name != "eicar.com" {
			t.Errorf("EICAR: %v, %v", found, err)
		}
		if st := s.State(); !st.OK || !strings.HasPrefix(st.Version, "ClamAV ") {
			t.Errorf("state %+v", st)
		}
	}
}

func TestNothingIsHiddenFromRealClamd(t *testing.T) {
	s, _ := realScanner(t, clamd.Config{Signatures: knows}, Config{})
	for _, h := range hiddenMessages(t) {
		in := input(t, h.msg)
		found, err := s.Scan(t.Context(), in)
		if err != nil || !strings.HasPrefix(virus(found), "Test.Payload") {
			t.Errorf("%s: %v, %v (tree %v)", h.name, found, err, in.Tree.Findings)
		}
		a, _, err := s.client.scan(t.Context(), strings.NewReader(h.msg))
		if err == nil && a.verdict == clean {
			t.Logf("clamd alone misses: %s", h.name)
		}
	}
}

func TestHiddenMessagesWithoutTheFileAreClean(t *testing.T) {
	s, _ := realScanner(t, clamd.Config{}, Config{})
	for _, h := range hiddenMessages(t) {
		if found, err := s.Scan(t.Context(), input(t, h.msg)); err != nil || virus(found) != "" {
			t.Errorf("%s: %v, %v", h.name, found, err)
		}
	}
}

func TestArchivesThatRealClamdDoesNotOpen(t *testing.T) {
	words := "Test.Words:0:*:" + hex.EncodeToString([]byte("some words repeated\nsome words")) + "\n"
	s, _ := realScanner(t, clamd.Config{Signatures: map[string]string{"payload.ndb": knows["payload.ndb"] + words}}, Config{})
	sample := func(name string) []byte {
		b, err := os.ReadFile("../../message/archive/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	evil := zipped(t, map[string]string{"evil.exe": string(payload())})
	for name, file := range map[string][]byte{
		"a zip":                         evil,
		"a zip behind something else":   prefixed(evil),
		"a zip with LZMA":               sample("lzma.zip"),
		"a zip with xz":                 sample("xz.zip"),
		"a zip with LZMA in a zip":      zipped(t, map[string]string{"a.txt": "x", "b.zip": string(sample("lzma.zip"))}),
		"a zip in a zip with LZMA only": zipped(t, map[string]string{"a.txt": "x", "b.zip": string(zipped(t, map[string]string{"c.zip": string(sample("lzma.zip"))}))}),
		"a 7z with deflate":             sample("deflate.7z"),
		"a 7z with bzip2":               sample("bzip2.7z"),
		"LZMA alone":                    sample("words.lzma"),
	} {
		if found, err := s.Scan(t.Context(), input(t, attachment("a.bin", file))); err != nil || virus(found) == "" {
			t.Errorf("%s: %v, %v", name, found, err)
		}
		if a, _, err := s.client.scan(t.Context(), bytes.NewReader(file)); err == nil && a.verdict == clean {
			t.Logf("clamd alone misses: %s", name)
		}
	}
}

// SCN-01 with the real thing.
func TestRealClamdGoesAndComes(t *testing.T) {
	s, p := realScanner(t, clamd.Config{}, Config{Retry: 100 * time.Millisecond, ConnectTimeout: time.Second})
	in := input(t, plain)
	if _, err := s.Scan(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if found, err := s.Scan(t.Context(), in); err == nil || len(found) > 0 {
			t.Fatalf("%v, %v", found, err)
		}
	}
	if st := s.State(); st.Status != Down || st.Version == "" {
		t.Errorf("state %+v", st)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	well(t, s)
	if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// well waits until clamd is believed.
func well(t *testing.T, s *Scanner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.Health() != nil {
		select {
		case <-ctx.Done():
			t.Fatal(s.Health())
		case <-tick.C:
		}
	}
}

// SCN-02 with the real thing: stopped, it accepts connections and says nothing.
func TestRealClamdHangs(t *testing.T) {
	s, p := realScanner(t, clamd.Config{}, Config{Timeout: 200 * time.Millisecond, Retry: 50 * time.Millisecond})
	in := input(t, plain)
	if _, err := s.Scan(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if found, err := s.Scan(t.Context(), in); err == nil || len(found) > 0 {
			t.Fatalf("%v, %v", found, err)
		}
	}
	if st := s.State(); st.Status != Down {
		t.Errorf("state %+v", st)
	}
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	well(t, s)
}

func TestRealClamdWithoutTheTestFileIsNotBelieved(t *testing.T) {
	s, p := realScanner(t, clamd.Config{Signatures: map[string]string{
		"gatepost.hdb": "00000000000000000000000000000000:1:Test.Other\n", "gatepost.ndb": "Test.Another:0:*:00112233445566778899aabbccddeeff\n",
	}}, Config{Retry: 50 * time.Millisecond})
	if found, err := s.Scan(t.Context(), input(t, plain)); err == nil || len(found) > 0 || s.State().Status != NotDetecting {
		t.Fatalf("%v, %v, %+v", found, err, s.State())
	}
	if err := p.Signature("gatepost.hdb", "44d88612fea8a8f36de82e1278abb02f:68:Test.Eicar.HDB\n"); err != nil {
		t.Fatal(err)
	}
	p.Reload(t)
	well(t, s)
}

func TestRealClamdRefusesALargeStream(t *testing.T) {
	s, _ := realScanner(t, clamd.Config{Options: map[string]string{"StreamMaxLength": "1M"}}, Config{})
	found, err := s.Scan(t.Context(), input(t, plain+strings.Repeat("0123456789abcdef\r\n", 1<<17)))
	if err != nil || len(found) != 1 || found[0].Symbol != "limit:clamav-size" || found[0].Result != mail.Unknown {
		t.Errorf("%v, %v", found, err)
	}
}

func TestRealClamdNamesLimitsAndEncryption(t *testing.T) {
	s, _ := realScanner(t, clamd.Config{Options: map[string]string{"AlertExceedsMax": "yes", "AlertEncrypted": "yes", "MaxFileSize": "100K"}}, Config{})
	found, err := s.Scan(t.Context(), input(t, attachment("a.bin", []byte(strings.Repeat("0123456789abcde\x00", 1<<14)))))
	if err != nil || len(found) == 0 || found[0].Symbol != "limit:clamav" || found[0].Result != mail.Unknown {
		t.Errorf("limit: %v, %v", found, err)
	}
	locked := zipped(t, map[string]string{"a.bin": "some text"})
	locked[6] |= 1
	if i := strings.Index(string(locked), "PK\x01\x02"); i > 0 {
		locked[i+8] |= 1
	}
	found, err = s.Scan(t.Context(), input(t, attachment("a.zip", locked)))
	if err != nil || len(found) == 0 || found[0].Symbol != "encrypted:clamav" || found[0].Result != mail.Unknown {
		t.Errorf("encrypted: %v, %v", found, err)
	}
}

// TestHiddenContentIsFoundByRealClamd measures with a public collection of mails
// that carry the EICAR file in a zip, in ways that mail programs show and
// scanners miss.
func TestHiddenContentIsFoundByRealClamd(t *testing.T) {
	dir := os.Getenv("GATEPOST_CORPORA")
	if dir == "" {
		t.Skip("GATEPOST_CORPORA does not name a folder with corpora")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "noxxi", "hide-content", "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	w := &watcher{}
	s, _ := realScanner(t, clamd.Config{}, Config{Observer: w})
	begun := time.Now()
	var caught, ambiguous, valid, validCaught, alone, validAlone int
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		msg := strings.ReplaceAll(string(b), "\n", "\r\n")
		id, ok := payloadID(msg)
		in := input(t, msg)
		found, err := s.Scan(t.Context(), in)
		if err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if ok {
			valid++
		}
		_, odd := in.Tree.Ambiguous()
		switch {
		case virus(found) != "":
			caught++
			if ok {
				validCaught++
			}
		case odd:
			ambiguous++
			t.Logf("ambiguous only: %s", id)
		default:
			t.Logf("missed: %s %s %v", id, filepath.Base(path), in.Tree.Findings)
		}
		if a, _, err := s.client.scan(t.Context(), strings.NewReader(msg)); err == nil && a.verdict == infected {
			alone++
			if ok {
				validAlone++
			}
		}
	}
	t.Logf("%d mails: virus %d, ambiguous only %d; validity >= 1: %d of %d; clamd alone %d (%d); %d streams in %v",
		len(paths), caught, ambiguous, validCaught, valid, alone, validAlone, w.results[mail.Clean]+w.results[mail.Match]+w.results[mail.Unknown], time.Since(begun))
	if caught+ambiguous < 365 || validCaught < 80 {
		t.Error("too few")
	}
}

// payloadID reads "X-Payload-Id: trick valid(2)", and whether it is valid.
func payloadID(msg string) (string, bool) {
	_, id, _ := strings.Cut(msg, "X-Payload-Id: ")
	id, _, _ = strings.Cut(id, "\r\n")
	_, level, _ := strings.Cut(id, "valid(")
	level, _, _ = strings.Cut(level, ")")
	n, err := strconv.Atoi(level)
	return id, err == nil && n >= 1
}
