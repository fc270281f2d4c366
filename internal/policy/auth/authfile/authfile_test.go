package authfile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"gatepost/internal/policy"
	"gatepost/test/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ours = `# users
plain    s3cret
braces   {PLAIN}$2y$secret
`

func write(t *testing.T, path, text string) {
	t.Helper()
	// A new file in its place, as editors do it.
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, text string) (*Backend, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.txt")
	write(t, path, text)
	b, err := New(Config{File: path, Recheck: 1})
	if err != nil {
		t.Fatal(err)
	}
	return b, path
}

func ask(t *testing.T, b *Backend, name, password string) policy.AuthAnswer {
	t.Helper()
	a, err := b.Authenticate(t.Context(), nil, name, password)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func bcryptOf(t *testing.T, password string, cost int) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func TestPasswordsOfEveryKind(t *testing.T) {
	hash, err := Hash("käse")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 80)
	text := strings.Join([]string{
		"\ufeff# users", "", "plain s3cret", "  indented\ts3cret  ", "Mixed@Example.com s3cret",
		"braces {PLAIN}$2y$x", "clear {cleartext}{SSHA}x",
		"bcrypt-a " + bcryptOf(t, "s3cret", 4),
		"bcrypt-y " + strings.Replace(bcryptOf(t, "s3cret", 5), "$2a$", "$2y$", 1),
		"bcrypt-b {BLF-CRYPT}" + strings.Replace(bcryptOf(t, "s3cret", 4), "$2a$", "$2b$", 1),
		"bcrypt-long " + bcryptOf(t, long[:72], 4),
		"argon {ARGON2ID}" + hash,
		"reference $argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"ssha " + salted("SSHA", "s3cret"),
		"ssha256 " + salted("SSHA256", "s3cret"),
		"ssha512 " + strings.Replace(salted("SSHA512", "s3cret"), "SSHA", "ssha", 1),
	}, "\n") + "\n"
	b, _ := open(t, text)
	for name, password := range map[string]string{
		"plain": "s3cret", "indented": "s3cret", "mixed@example.COM": "s3cret", "braces": "$2y$x", "clear": "{SSHA}x",
		"bcrypt-a": "s3cret", "bcrypt-y": "s3cret", "bcrypt-b": "s3cret", "bcrypt-long": long[:72],
		"argon": "käse", "reference": "password", "ssha": "s3cret", "ssha256": "s3cret", "ssha512": "s3cret",
	} {
		if a := ask(t, b, name, password); a.Result != policy.AuthYes {
			t.Errorf("%s: %+v", name, a)
		}
		for _, wrong := range []string{"", password + "x", password[:len(password)-1], strings.ToUpper(password), "\x00" + password} {
			if name == "bcrypt-long" && wrong == password+"x" {
				continue // bcrypt sees 72 bytes only
			}
			if wrong == password {
				continue
			}
			if a := ask(t, b, name, wrong); a.Result != policy.AuthNo {
				t.Errorf("%s with %q: %+v", name, wrong, a)
			}
		}
	}
	if a := ask(t, b, "MIXED@example.com", "s3cret"); a.User != "Mixed@Example.com" {
		t.Errorf("canonical name: %+v", a)
	}
	if a := ask(t, b, "nobody", "s3cret"); a.Result != policy.AuthNobody {
		t.Errorf("nobody: %+v", a)
	}
	// The text of a hash is no password.
	if a := ask(t, b, "argon", hash); a.Result != policy.AuthNo {
		t.Errorf("the hash itself: %+v", a)
	}
}

// What OpenLDAP's own tool makes is taken.
func TestPasswordsOfSlappasswd(t *testing.T) {
	peer.Require(t, "slappasswd")
	out, err := exec.Command(peer.Find("slappasswd"), "-h", "{SSHA}", "-s", "s3cret").Output()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := open(t, "bob "+string(out))
	if a := ask(t, b, "bob", "s3cret"); a.Result != policy.AuthYes {
		t.Errorf("%s: %+v", out, a)
	}
}

func TestSenders(t *testing.T) {
	b, _ := open(t, "bob x Bob@Example.com,@example.org,partner.example,\neve y\n")
	if a := ask(t, b, "bob", "x"); !slices.Equal(a.Senders, []string{"bob@example.com", "@example.org", "@partner.example"}) {
		t.Errorf("%+v", a)
	}
	if a := ask(t, b, "eve", "y"); a.Senders != nil {
		t.Errorf("%+v", a)
	}
}

func TestLinesThatMakeNoSenseAreErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"bob\n", "line 1: want a name, a password"},
		{"# x\n\nbob my secret\n", "line 3: want addresses and domains"},
		{"bob my secret phrase\n", "line 1: want a name"},
		{"bob x @\n", "want addresses"},
		{"bob x ,\n", "want addresses"},
		{"bob x\nBOB y\n", `line 2: "BOB" stands in line 1`},
		{"bob {PLAIN}\n", "empty"},
		{"bob {MD5}xyz\n", "not known"},
		{"bob {x\n", "not known"},
		{"bob $6$salt$hash\n", "not known"},
		{"bob $1$salt$hash\n", "not known"},
		{"bob $2x$04$uFZs7zcl6qxfMNPtuebYWOb7c2hgVgEfBJc0GBWFmS1pyJBp/N0Ka\n", "not known"},
		{"bob {CRYPT}secret\n", "not known"},
		{"bob $2y$04$short\n", "damaged"},
		{"bob $2y$15$uFZs7zcl6qxfMNPtuebYWOb7c2hgVgEfBJc0GBWFmS1pyJBp/N0Ka\n", "costs too much"},
		{"bob $argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n", "costs too much"},
		{"bob $argon2id$v=19$m=256,t=0,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n", "damaged"},
		{"bob $argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n", "damaged"},
		{"bob $argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\n", "damaged"},
		{"bob $argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n", "not known"},
		{"bob {SSHA}short\n", "damaged"},
		{"b\x01ob x\n", "control characters"},
		{"b\xffob x\n", "UTF-8"},
		{"bob " + strings.Repeat("x", 9000) + "\n", "line 1: "},
		{strings.Repeat("bob\n", 50), "and 40 lines more"},
	} {
		path := filepath.Join(t.TempDir(), "users.txt")
		write(t, path, tt.text)
		_, err := New(Config{File: path})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: %v, want %q", tt.text, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret phrase") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
	for _, path := range []string{"", "/nowhere", t.TempDir(), os.DevNull} {
		if _, err := New(Config{File: path}); err == nil {
			t.Errorf("%q was taken", path)
		}
	}
}

func TestAChangeOfTheFileCounts(t *testing.T) {
	b, path := open(t, ours)
	if a := ask(t, b, "plain", "s3cret"); a.Result != policy.AuthYes {
		t.Fatalf("%+v", a)
	}
	write(t, path, "plain n3wone\nnew x\n")
	if a := ask(t, b, "plain", "s3cret"); a.Result != policy.AuthNo {
		t.Errorf("the old password: %+v", a)
	}
	if a := ask(t, b, "plain", "n3wone"); a.Result != policy.AuthYes {
		t.Errorf("the new password: %+v", a)
	}
	// In place, with the same size, within the same moment.
	if err := os.WriteFile(path, []byte("plain n3wtwo\nnew x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := ask(t, b, "plain", "n3wtwo"); a.Result != policy.AuthYes || b.Len() != 2 {
		t.Errorf("written in place: %+v", a)
	}
	for _, text := range []string{"plain half writ\n", "plain\n", "plain $6$\n"} {
		write(t, path, text)
		if a := ask(t, b, "plain", "n3wtwo"); a.Result != policy.AuthYes {
			t.Errorf("a damaged file %q: %+v", text, a)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if a := ask(t, b, "plain", "n3wtwo"); a.Result != policy.AuthYes {
		t.Errorf("without a file: %+v", a)
	}
	write(t, path, "plain back1\n")
	if a := ask(t, b, "plain", "back1"); a.Result != policy.AuthYes {
		t.Errorf("the file is back: %+v", a)
	}
}

func TestAFileThatDoesNotChangeIsReadOnce(t *testing.T) {
	b, path := open(t, ours)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	ask(t, b, "plain", "x")
	before := b.table.Load()
	ask(t, b, "plain", "x")
	if b.table.Load() != before {
		t.Error("it was read again")
	}
}

func TestPermissionsOfTheFile(t *testing.T) {
	for _, tt := range []struct {
		mode os.FileMode
		want string
	}{{0o600, ""}, {0o640, ""}, {0o644, "may read"}, {0o660, "may change"}, {0o602, "may change"}} {
		path := filepath.Join(t.TempDir(), "users.txt")
		write(t, path, ours)
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		b, err := New(Config{File: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(b.Warnings(), " "); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) || strings.Contains(log.String(), "level=WARN") != (tt.want != "") {
			t.Errorf("%04o: %q, log %q", tt.mode, got, log.String())
		}
	}
}

// Somebody who is not there is checked against a hash that costs what most do.
func TestTheDummyIsOfTheKindThatMostHave(t *testing.T) {
	argon := "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	for _, tt := range []struct {
		name, text, want string
	}{
		{"nobody", "", ""},
		{"plain", "a x\nb y\n", ""},
		{"bcrypt", "a x\nb " + bcryptOf(t, "x", 5) + "\nc " + bcryptOf(t, "y", 5) + "\nd " + bcryptOf(t, "y", 4) + "\n", "bcrypt 05"},
		{"argon2id", "a x\nb " + argon + "\nc " + argon + "\n", "argon2id 0000256,02,01"},
		{"as many of both", "a x\nb " + argon + "\n", "argon2id 0000256,02,01"},
		{"salted", "a " + salted("SSHA", "x") + "\n", "SSHA"},
	} {
		b, _ := open(t, tt.text)
		d := b.table.Load().dummy
		if d.kind() != tt.want {
			t.Errorf("%s: %q", tt.name, d.kind())
		}
		for _, guess := range []string{"", "x", "y", "password"} {
			if d.matches(guess) {
				t.Errorf("%s: %q is the password of nobody", tt.name, guess)
			}
		}
		if h, ok := d.(*bcryptSecret); ok {
			// It must run to the end, not fail at once because it is damaged.
			if err := bcrypt.CompareHashAndPassword(h.hash, []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	}
}

func TestHashesAtOnceAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.txt")
	write(t, path, ours)
	b, err := New(Config{File: path, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	b.slots <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Authenticate(ctx, nil, "plain", "s3cret"); !errors.Is(err, context.Canceled) {
		t.Errorf("no place: %v", err)
	}
	<-b.slots
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if a := ask(t, b, "plain", "s3cret"); a.Result != policy.AuthYes {
				t.Errorf("%+v", a)
			}
		})
	}
	wg.Wait()
}

func TestHashesThatWeMakeAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.txt")
	var file strings.Builder
	for name, hash := range map[string]func(string) (string, error){"argon": Hash, "bcrypt": HashBcrypt} {
		h, err := hash("correct horse")
		if err != nil {
			t.Fatal(err)
		}
		line, err := Line(name, h)
		if err != nil {
			t.Fatal(err)
		}
		file.WriteString(line + "\n")
		if _, err := hash(""); err == nil {
			t.Errorf("%s: the empty password is hashed", name)
		}
	}
	write(t, path, file.String())
	b, err := New(Config{File: path})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"argon", "bcrypt"} {
		if a := ask(t, b, name, "correct horse"); a.Result != policy.AuthYes {
			t.Errorf("%s: %+v", name, a)
		}
		if a := ask(t, b, name, "correct"); a.Result != policy.AuthNo {
			t.Errorf("%s with a wrong password: %+v", name, a)
		}
	}
	for _, name := range []string{"", "#x", "a b", "a\tb", strings.Repeat("x", 256), "\xff"} {
		if line, err := Line(name, "{PLAIN}x"); err == nil {
			t.Errorf("%q is a name in %q", name, line)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{ours, "a {SSHA}AAAA", "a $argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEg", "a b @c.d,e.f", "\x00 \xff", "a $2y$31$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tb, err := parse(strings.NewReader(s))
		if err != nil {
			return
		}
		for key, u := range tb.users {
			if key != strings.ToLower(u.name) || u.secret == nil || u.secret.kind() != u.secret.dummy().kind() {
				t.Errorf("%q: %+v", key, u)
			}
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	hash, err := Hash("s3cret")
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{"plain": "s3cret", "argon2id": hash, "bcrypt10": "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"} {
		b.Run(name, func(b *testing.B) {
			tb, err := parse(strings.NewReader("bob " + text + "\n"))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				tb.users["bob"].secret.matches("s3cret")
			}
		})
	}
}
