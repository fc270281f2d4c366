package change_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/config"
	"gatepost/internal/config/change"
)

const start = `# Ours.
hostname = "gw.example.com"
data_dir = "data"

[store]
url = "postgres://gate:s3cr3t@db.example.com/gatepost" # with a password

[[listener]]
name = "in"
address = ["127.0.0.1:0"]
flows = { recipient = "r", auth = "u" }
auth = ["PLAIN"]

[[domain]]
name = "example.com"
transport = "t"
recipients = ["file:recipients.txt"]

[[transport]]
name = "t"
kind = "smtp"
hosts = ["127.0.0.1:2525"]
auth = { mechanism = "PLAIN", username = "u", password_file = "t.pw" }

[[http]]
name = "api"
url = "https://api.example.com/?user={user}&p={password}&token=abc123"
headers = { Authorization = "Bearer xyz789" }

[[flow]]
name = "u"
stage = "auth"
blocks = [ { use = "auth-file", file = "users.txt" }, { use = "auth-http", http = "api" } ]

[[flow]]
name = "r"
stage = "recipient"
blocks = [
  { use = "script", file = "r.star" }, # ours
]
`

// gateway is what runs: it loads the file as the program does, and may refuse.
type gateway struct {
	mu     sync.Mutex
	file   string
	cfg    *config.Config
	refuse error
	loads  int
}

func (g *gateway) reload(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != nil {
		return g.refuse
	}
	cfg, problems := config.Load(g.file)
	if cfg == nil {
		return fmt.Errorf("%v", problems)
	}
	g.cfg = cfg
	g.loads++
	return nil
}

func (g *gateway) inUse() *config.Config {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cfg
}

func (g *gateway) needsRestart(next *config.Config) []string {
	if next.Hostname != g.inUse().Hostname {
		return []string{"hostname"}
	}
	return nil
}

// world is a directory with a configuration, the gateway that uses it and its keeper.
type world struct {
	*gateway
	*change.Keeper
	dir string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	w.gateway = &gateway{file: filepath.Join(w.dir, "gatepost.toml")}
	for name, text := range map[string]string{
		"gatepost.toml": start, "recipients.txt": "anna@example.com\n", "t.pw": "hidden-password\n", "users.txt": "# people\nanna pa55word\n",
		"r.star": "def recipient(s):\n    return None\n", "other.txt": "not named\n",
	} {
		w.put(t, name, text)
	}
	w.reopen(t)
	return w
}

// reopen is a restart of the gateway.
func (w *world) reopen(t *testing.T) {
	t.Helper()
	if err := w.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	k, err := change.Open(change.Config{
		File: w.file, DataDir: filepath.Join(w.dir, "data"), Reload: w.reload, InUse: w.inUse, NeedsRestart: w.needsRestart,
	})
	if err == nil {
		err = k.Loaded()
	}
	if err != nil {
		t.Fatal(err)
	}
	w.Keeper = k
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *world) get(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// status is the configuration as it is shown.
func (w *world) status(t *testing.T) *change.Status {
	t.Helper()
	s, err := w.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// edited is a change of the shown text by replacing one string by another.
func (w *world) edited(t *testing.T, old, by string) change.Change {
	t.Helper()
	s := w.status(t)
	if strings.Count(s.Text, old) != 1 {
		t.Fatalf("%q occurs %d times in\n%s", old, strings.Count(s.Text, old), s.Text)
	}
	text := strings.Replace(s.Text, old, by, 1)
	return change.Change{By: "ada", Why: "a test", Base: s.Version, Text: &text}
}

func (w *world) apply(t *testing.T, c change.Change) *change.Applied {
	t.Helper()
	a, err := w.Apply(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAChangeIsWrittenLoadedAndKept(t *testing.T) {
	w := newWorld(t)
	if err := os.Chmod(w.file, 0o640); err != nil {
		t.Fatal(err)
	}
	a := w.apply(t, w.edited(t, `name = "example.com"`, `name = "example.net"`))
	if a.State != change.InUse || a.Revision != 2 || string(w.inUse().Domains[0].Name) != "example.net" {
		t.Errorf("outcome %+v, in use %s", a, w.inUse().Domains[0].Name)
	}
	if got, want := w.get(t, "gatepost.toml"), strings.Replace(start, `name = "example.com"`, `name = "example.net"`, 1); got != want {
		t.Errorf("the file is\n%s", got)
	}
	if info, err := os.Stat(w.file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	r := w.Revisions(0, 10)
	if len(r) != 2 || r[0].By != "ada" || r[0].Why != "a test" || r[0].How != change.ByChange || r[1].How != change.First {
		t.Errorf("revisions %+v", r)
	}
	d, err := w.Revision(2)
	if err != nil || len(d.Diffs) != 1 || !strings.Contains(d.Diffs[0].Diff, "-name = \"example.com\"\n+name = \"example.net\"\n") {
		t.Errorf("diff %+v (%v)", d, err)
	}
	left, err := filepath.Glob(filepath.Join(w.dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestSecretsAreNeverShownAndSurviveAChange(t *testing.T) {
	w := newWorld(t)
	a := w.apply(t, w.edited(t, "# with a password", "# the password's here"))
	text := w.get(t, "gatepost.toml")
	for _, secret := range []string{"s3cr3t", "abc123", "Bearer xyz789"} {
		if !strings.Contains(text, secret) {
			t.Errorf("%s is lost", secret)
		}
	}
	users, err := w.File("users.txt")
	if err != nil {
		t.Fatal(err)
	}
	w.apply(t, change.Change{Files: []change.FileText{{Path: "users.txt", Base: users.Version, Text: users.Text + "bob builder99\n"}}})
	if got := w.get(t, "users.txt"); got != "# people\nanna pa55word\nbob builder99\n" {
		t.Errorf("users are %q", got)
	}
	password, err := w.File("t.pw")
	if err != nil || password.Text != "" || !password.Secret {
		t.Errorf("password file %+v (%v)", password, err)
	}
	w.apply(t, change.Change{Files: []change.FileText{{Path: "t.pw", Base: password.Version, Text: "new-password\n"}}})
	shown := w.status(t).Text + users.Text
	for id := 1; id <= 4; id++ {
		d, err := w.Revision(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range d.Diffs {
			shown += f.Diff
		}
	}
	for _, d := range a.Diffs {
		shown += d.Diff
	}
	for _, secret := range []string{"s3cr3t", "abc123", "xyz789", "pa55word", "builder99", "new-password", "hidden-password"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
	err = filepath.WalkDir(filepath.Join(w.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "new-password") || strings.Contains(string(data), "hidden-password") {
			t.Errorf("%s holds a password", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	forged := w.edited(t, "hosts = ", "# (secret-0123456789abcdef)\nhosts = ")
	if _, err := w.Apply(t.Context(), forged); err == nil {
		t.Error("a mark that stands for nothing is taken")
	}
}

func TestAnInvalidChangeIsNotWritten(t *testing.T) {
	w := newWorld(t)
	c := w.edited(t, `transport = "t"`, `transport = "nowhere"`)
	checked, err := w.Check(c)
	if err != nil || checked.OK || len(checked.Problems) < 2 || checked.Problems[1].Line != 16 || checked.Problems[1].Rule != "dangling-transport" {
		t.Errorf("checked %+v (%v)", checked, err)
	}
	_, err = w.Apply(t.Context(), c)
	var invalid *change.InvalidError
	if !errors.As(err, &invalid) || w.get(t, "gatepost.toml") != start || len(w.Revisions(0, 9)) != 1 {
		t.Errorf("error %v, %d revisions", err, len(w.Revisions(0, 9)))
	}
}

func TestWhatCannotBeLoadedIsPutBack(t *testing.T) {
	w := newWorld(t)
	script, err := w.File("r.star")
	if err != nil {
		t.Fatal(err)
	}
	c := w.edited(t, `{ use = "script", file = "r.star" }, # ours`, `{ use = "script", file = "new.star" }, # ours`)
	c.Files = []change.FileText{{Path: "new.star", Text: script.Text}}
	w.refuse = errors.New("the port is taken")
	_, err = w.Apply(t.Context(), c)
	var refused *change.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "the port is taken") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "new.star")); w.get(t, "gatepost.toml") != start || !errors.Is(err, fs.ErrNotExist) || len(w.Revisions(0, 9)) != 1 {
		t.Error("something was left behind")
	}
	w.refuse = nil
	if a := w.apply(t, c); len(a.Diffs) != 2 || w.get(t, "new.star") != script.Text {
		t.Errorf("outcome %+v", a)
	}
}

func TestAChangeThatNeedsARestartWaitsForItIfAsked(t *testing.T) {
	w := newWorld(t)
	c := w.edited(t, "gw.example.com", "mx.example.com")
	_, err := w.Apply(t.Context(), c)
	var restart *change.RestartError
	if !errors.As(err, &restart) || w.get(t, "gatepost.toml") != start {
		t.Fatalf("error %v", err)
	}
	loads := w.loads
	c.Later = true
	a := w.apply(t, c)
	if s := w.status(t); a.State != change.Waiting || w.loads != loads || s.Waiting != a.Revision || !s.Unloaded || !strings.Contains(s.Diff, "+hostname = \"mx.example.com\"") {
		t.Errorf("outcome %+v, status %+v", a, s)
	}
	w.reopen(t)
	if s := w.status(t); s.Waiting != 0 || s.Unloaded || w.Revisions(0, 1)[0].State != change.InUse {
		t.Errorf("after the restart %+v", s)
	}
}

func TestAChangeToAnOldTextIsAConflict(t *testing.T) {
	w := newWorld(t)
	mine, other := w.edited(t, `"127.0.0.1:2525"`, `"127.0.0.1:2526"`), w.edited(t, "# Ours.", "# Yours.")
	w.apply(t, other)
	_, err := w.Apply(t.Context(), mine)
	var conflict *change.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(conflict.Diff, "-# Ours.\n+# Yours.\n") || conflict.Version != w.status(t).Version {
		t.Errorf("error %v: %+v", err, conflict)
	}
}

func TestChangesByHandBecomeRevisions(t *testing.T) {
	w := newWorld(t)
	w.put(t, "gatepost.toml", start+"\n# by hand\n")
	if s := w.status(t); !s.Unloaded || !strings.Contains(s.Diff, "+# by hand") {
		t.Errorf("status %+v", s)
	}
	if err := errors.Join(w.reload(t.Context()), w.Loaded()); err != nil {
		t.Fatal(err)
	}
	if r := w.Revisions(0, 1)[0]; r.How != change.ByHand || r.By != "" || w.status(t).Unloaded {
		t.Errorf("revision %+v", r)
	}
	// What nobody has loaded yet comes into use with the next change, under its own name.
	w.put(t, "gatepost.toml", start+"\n# again\n")
	w.apply(t, w.edited(t, "# Ours.", "# Yours."))
	if r := w.Revisions(0, 2); r[0].How != change.ByChange || r[1].How != change.ByHand {
		t.Errorf("revisions %+v", r)
	}
}

func TestARollbackIsAChangeOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.apply(t, w.edited(t, "# Ours.", "# Two."))
	list, err := w.File("recipients.txt")
	if err != nil {
		t.Fatal(err)
	}
	w.apply(t, change.Change{Files: []change.FileText{{Path: "recipients.txt", Base: list.Version, Text: "bob@example.com\n"}}})
	w.apply(t, w.edited(t, "# Two.", "# Four."))
	if c, err := w.CheckRollback(2); err != nil || !c.OK || len(c.Diffs) != 2 {
		t.Errorf("checked %+v (%v)", c, err)
	}
	a, err := w.Rollback(t.Context(), 2, change.Change{By: "ada", Why: "it was better"})
	if err != nil || a.Revision != 5 || !strings.HasPrefix(w.get(t, "gatepost.toml"), "# Two.") || w.get(t, "recipients.txt") != "anna@example.com\n" {
		t.Errorf("outcome %+v (%v)", a, err)
	}
	if r := w.Revisions(0, 1)[0]; r.How != change.Back || r.By != "ada" {
		t.Errorf("revision %+v", r)
	}
	if _, err := w.Rollback(t.Context(), 5, change.Change{}); !errors.Is(err, change.ErrNothing) {
		t.Errorf("to the present: %v", err)
	}
	if _, err := w.Rollback(t.Context(), 77, change.Change{}); !errors.Is(err, change.ErrNotFound) {
		t.Errorf("to nowhere: %v", err)
	}
}

// TestOnlyFilesThatTheConfigurationNamesAreWithinReach is WEB-06 for files.
func TestOnlyFilesThatTheConfigurationNamesAreWithinReach(t *testing.T) {
	w := newWorld(t)
	outside := filepath.Join(t.TempDir(), "secret.txt")
	if err := os.WriteFile(outside, []byte("outside\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"../" + filepath.Base(w.dir) + "/r.star", "..", ".", "", "/etc/passwd", "other.txt", "data/revisions/00000001.json", "./r.star", "r.star/", `..\r.star`, "r.star\x00",
		"gatepost.toml", strings.Repeat("a/", 5000), "%2e%2e/r.star",
	} {
		if _, err := w.File(path); !errors.Is(err, change.ErrNotFound) {
			t.Errorf("%.40q can be read: %v", path, err)
		}
		if _, err := w.Apply(t.Context(), change.Change{Files: []change.FileText{{Path: path, Text: "x"}}}); err == nil {
			t.Errorf("%.40q can be written", path)
		}
	}
	// A link is not followed, neither in the place of a file nor on the way to one.
	if err := errors.Join(os.Remove(filepath.Join(w.dir, "r.star")), os.Symlink(outside, filepath.Join(w.dir, "r.star"))); err != nil {
		t.Fatal(err)
	}
	if f, err := w.File("r.star"); err != nil || f.Text != "" || f.Elsewhere == "" {
		t.Errorf("a link is read: %+v (%v)", f, err)
	}
	if _, err := w.Apply(t.Context(), change.Change{Files: []change.FileText{{Path: "r.star", Text: "x"}}}); err == nil {
		t.Error("a link is written")
	}
	if text, err := os.ReadFile(outside); err != nil || string(text) != "outside\n" {
		t.Error("a file elsewhere was changed")
	}
}

// TestANamedFileIsNotReadByItsProblems keeps an administrator of the pages from reading
// files of the host by naming them in a candidate.
func TestANamedFileIsNotReadByItsProblems(t *testing.T) {
	w := newWorld(t)
	outside := filepath.Join(t.TempDir(), "shadow")
	w.put(t, "inner.txt", "inner topsecret line\n")
	if err := os.WriteFile(outside, []byte("root topsecret line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{outside, "t.pw", "inner.txt"} {
		c, err := w.Check(w.edited(t, `"file:recipients.txt"`, `"file:`+path+`"`))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Problems {
			if strings.Contains(p.Message, "topsecret") || strings.Contains(p.Message, "hidden-password") {
				t.Errorf("%s: %s", path, p.Message)
			}
		}
	}
}

func TestRevisionsAreBounded(t *testing.T) {
	w := newWorld(t)
	k, err := change.Open(change.Config{
		File: w.file, DataDir: filepath.Join(w.dir, "bounded"), Reload: w.reload, InUse: w.inUse, NeedsRestart: w.needsRestart, Keep: 3,
	})
	if err == nil {
		err = k.Loaded()
	}
	if err != nil {
		t.Fatal(err)
	}
	w.Keeper = k
	for i := range 6 {
		w.apply(t, w.edited(t, "# with a password", "# with a password"+strings.Repeat("!", i+1)))
		w.put(t, "gatepost.toml", start)
		if err := errors.Join(w.reload(t.Context()), w.Loaded()); err != nil {
			t.Fatal(err)
		}
	}
	if r := w.Revisions(0, 99); len(r) != 3 || r[2].ID != 11 {
		t.Errorf("revisions %+v", r)
	}
	objects, err := os.ReadDir(filepath.Join(w.dir, "bounded", "revisions", "objects"))
	// Two texts of the configuration, three other files.
	if err != nil || len(objects) > 7 {
		t.Errorf("%d contents are kept (%v)", len(objects), err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

// TestAnUnfinishedChangeIsSettledByTheNextStart begins with a record as a crash leaves
// it: before the file was replaced, and after.
func TestAnUnfinishedChangeIsSettledByTheNextStart(t *testing.T) {
	for name, written := range map[string]bool{"before the file was replaced": false, "after the file was replaced": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(t, w.edited(t, "# Ours.", "# Crashed."))
			record := filepath.Join(w.dir, "data", "revisions", "00000002.json")
			text, err := os.ReadFile(record)
			if err == nil {
				err = os.WriteFile(record, []byte(strings.Replace(string(text), `"applied"`, `"begun"`, 1)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !written {
				w.put(t, "gatepost.toml", start)
			}
			w.reopen(t)
			r := w.Revisions(0, 1)[0]
			if written && (r.ID != 2 || r.State != change.InUse) || !written && r.ID != 1 {
				t.Errorf("the last revision is %+v", r)
			}
		})
	}
}
