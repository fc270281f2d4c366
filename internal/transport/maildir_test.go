package transport

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient/sinktest"
)

func maildirAt(t *testing.T, path string) Transport {
	t.Helper()
	tr, err := New(Config{Name: "t", Kind: Maildir, Hostname: "gw.example", Path: path}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// files returns the messages in a maildir's new.
func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestMaildirFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "on", "the", "way")
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	tr := maildirAt(t, dir)
	d := delivery(t, "X-Cut: 1\r\nSubject: hi\r\n\r\n.dot\r\nlast\r\n", "r1@out.example", "r2@out.example")
	d.Message.Envelope.Edits = mail.Edits{Prepend: []byte("Received: by us\r\n"), Cut: []mail.Span{{Start: 0, End: 10}}}
	out := tr.Deliver(t.Context(), d)
	if briefs(out) != "delivered eod own 250, delivered eod own 250" || out[0].Host != dir {
		t.Fatalf("%s at %s", briefs(out), out[0].Host)
	}
	list := files(t, dir)
	if len(list) != 1 {
		t.Fatalf("files %q", list)
	}
	data, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	want := "Return-Path: <a@in.example>\nDelivered-To: r1@out.example\nDelivered-To: r2@out.example\nReceived: by us\nSubject: hi\n\n.dot\nlast\n"
	if string(data) != want {
		t.Errorf("file\n%q\nwant\n%q", data, want)
	}
	if name := filepath.Base(list[0]); !strings.HasSuffix(name, ".gw.example") || strings.ContainsAny(name, ":/") {
		t.Errorf("file name %s", name)
	}
	err = filepath.WalkDir(filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(dir))))+"/made", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); e.IsDir() && mode != 0o700 || !e.IsDir() && mode != 0o600 {
			t.Errorf("%s has mode %o", path, mode)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, "tmp", "*")); len(list) > 0 {
		t.Errorf("left in tmp: %q", list)
	}
}

func TestMaildirPerRecipient(t *testing.T) {
	dir := t.TempDir()
	tr := maildirAt(t, dir+"/{domain}/{user}/Maildir")
	d := delivery(t, short, "Anna@out.example", "b+tag@out.example", "anna@OUT.example", "c@other.example")
	if out := tr.Deliver(t.Context(), d); len(out) != 4 || out[3].Host != dir+"/other.example/c/Maildir" {
		t.Fatalf("%s", briefs(out))
	}
	for path, want := range map[string]int{"out.example/anna": 2, "out.example/b+tag": 1, "other.example/c": 1} {
		list := files(t, filepath.Join(dir, path, "Maildir"))
		if len(list) != 1 {
			t.Errorf("%s: files %q", path, list)
			continue
		}
		data, err := os.ReadFile(list[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(data), "Delivered-To: "); got != want {
			t.Errorf("%s: %d Delivered-To, want %d", path, got, want)
		}
	}
}

func TestMaildirNamesLeadNowhereElse(t *testing.T) {
	dir := t.TempDir()
	tr := maildirAt(t, dir+"/inner/{user}")
	for _, local := range []string{"../evil", "..", ".", ".hidden", "a/b", "a\\b", "-rf", "x\x00y", "x\ny", "ä", "", strings.Repeat("x", 201), "a b", "a:b", "$x", "*"} {
		d := delivery(t, short, "good@out.example")
		d.Recipients = append(d.Recipients, mail.Recipient{Address: mail.Address{Local: local, Domain: "out.example", Raw: `"` + local + `"@out.example`}})
		out := tr.Deliver(t.Context(), d)
		if briefs(out) != "delivered eod own 250, failed rcpt own 553" || out[1].Reply.Enhanced != "5.1.3" {
			t.Errorf("%q: %s", local, briefs(out))
		}
	}
	list, err := os.ReadDir(dir + "/inner")
	if err != nil || len(list) != 1 || list[0].Name() != "good" {
		t.Errorf("directories %v, %v", list, err)
	}
	list, err = os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("directories %v, %v", list, err)
	}
}

func TestMaildirThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tr := maildirAt(t, dir+"/file/maildir")
	out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
	if briefs(out) != "deferred eod own 451" || out[0].Reply.Enhanced != "4.3.0" || out[0].Cause == "" {
		t.Errorf("%s (%s)", briefs(out), out[0].Cause)
	}
}

func TestMaildirBodyThatCannotBeReadLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	tr := maildirAt(t, dir)
	d := delivery(t, short, "r@out.example")
	d.Message.Body = broken{strings.NewReader(short)}
	if out := tr.Deliver(t.Context(), d); briefs(out) != "deferred eod own 451" {
		t.Errorf("%s", briefs(out))
	}
	for _, sub := range []string{"tmp", "new", "cur"} {
		if list, err := os.ReadDir(filepath.Join(dir, sub)); err != nil || len(list) > 0 {
			t.Errorf("%s: %v, %v", sub, list, err)
		}
	}
}

// broken is a body whose bytes are gone.
type broken struct{ *strings.Reader }

func (broken) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

func TestMaildirNamesAreUnique(t *testing.T) {
	dir := t.TempDir()
	tr := maildirAt(t, dir)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
			}
		})
	}
	wg.Wait()
	if n := len(files(t, dir)); n != 200 {
		t.Errorf("%d files of 200", n)
	}
}

func TestUnixLines(t *testing.T) {
	for in, want := range map[string]string{"a\r\nb\r\n": "a\nb\n", "a\rb": "a\rb", "a\r\r\nb": "a\r\nb", "\r": "\r", "a\nb": "a\nb", "": "", "\r\n\r\n": "\n\n", "x\r\r": "x\r\r"} {
		for cut := 0; cut <= len(in); cut++ {
			var b strings.Builder
			u := &unixLines{w: &b}
			for _, piece := range []string{in[:cut], in[cut:]} {
				if n, err := u.Write([]byte(piece)); n != len(piece) || err != nil {
					t.Fatal(n, err)
				}
			}
			if err := u.end(); err != nil || b.String() != want {
				t.Errorf("%q cut at %d: %q, want %q", in, cut, b.String(), want)
			}
		}
	}
}

func TestUnreadableBodyIsDeferred(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{})
	tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
	d := delivery(t, short, "r@out.example")
	d.Message.Body = broken{strings.NewReader(short)}
	out := tr.Deliver(t.Context(), d)
	if briefs(out) != "deferred data own 451" || len(s.Messages()) > 0 {
		t.Errorf("%s", briefs(out))
	}
}
