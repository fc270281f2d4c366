// Package engines runs real scanners of other projects for tests: milters
// (OpenDKIM, spamass-milter), rspamd and the spamd of SpamAssassin, each with a
// minimal configuration of its own.
//
// Invariants:
//   - Nothing of the system's instances is used, nothing is asked of the network,
//     and they listen on loopback or in a directory of their own.
//   - They judge a message by one rule: Word in the Subject scores Score, which is
//     spam. So they load at once.
//   - A program that is not installed skips the test (package peer).
package engines

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/test/peer"
)

// Word in the Subject makes a message spam, with this Score.
const (
	Word  = "gatepost-spam-word"
	Score = 7.5
)

// directory is one with a short path: that of a socket may be 107 bytes long.
func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	// They give up root before they open what is in it.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// output is what a program writes, which a test may want to see while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a program until the test ends, and waits until ready says nil.
func start(t testing.TB, ready func(context.Context) error, program string, args ...string) {
	t.Helper()
	out := &output{}
	cmd := exec.Command(peer.Find(program), args...)
	cmd.Stdout, cmd.Stderr = out, out
	// They have children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		// It may have ended by itself.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("%s: %s", program, out)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended", program)
		case <-ctx.Done():
			t.Fatalf("%s is not ready: %v", program, err)
		case <-tick.C:
		}
	}
}

// listens reports whether somebody listens there.
func listens(network, address string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// freeAddress is one of loopback that was free a moment ago: these programs cannot
// tell which port they got if they are asked for 0.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

// Spamd runs a spamd and returns its address, as the configuration has it.
func Spamd(t testing.TB) string {
	t.Helper()
	peer.Require(t, "spamd")
	dir := directory(t)
	write(t, filepath.Join(dir, "local.cf"), fmt.Sprintf(`dns_available no
required_score 5
report_safe 1
add_header spam Flag _YESNOCAPS_
add_header all Status "_YESNO_, score=_SCORE_ required=_REQD_ tests=_TESTS_"
report This is spam.
header GATEPOST_WORD Subject =~ /%s/
score GATEPOST_WORD %.1f
header GATEPOST_CLIENT X-Spam-Relays-External =~ / ip=192\.0\.2\.77 /
score GATEPOST_CLIENT 0.5
header GATEPOST_SENDER EnvelopeFrom =~ /^sender@client\.example$/
score GATEPOST_SENDER 0.3
`, Word, Score))
	socket := filepath.Join(dir, "sock")
	args := []string{
		"--local", "--nouser-config", "--max-children=2", "--min-children=1", "--syslog=stderr",
		"--pre=loadplugin Mail::SpamAssassin::Plugin::Check",
		"--configpath=" + dir, "--siteconfigpath=" + dir, "--helper-home-dir=" + dir,
		"--socketpath=" + socket, "--pidfile=" + filepath.Join(dir, "pid"),
	}
	if os.Getuid() == 0 {
		args = append(args, "--username=nobody")
	}
	start(t, listens("unix", socket), "spamd", args...)
	return "unix:" + socket
}

// Rspamd runs an rspamd and returns the URL of its normal worker.
func Rspamd(t testing.TB) string {
	t.Helper()
	peer.Require(t, "rspamd")
	dir, address := directory(t), freeAddress(t)
	// The list of top-level domains that comes with it takes it seconds to compile.
	write(t, filepath.Join(dir, "tld"), "example\ncom\norg\n")
	write(t, filepath.Join(dir, "rules.lua"), fmt.Sprintf(`
rspamd_config:register_symbol{ name = 'GATEPOST_WORD', score = %.1f, description = 'a word in the subject',
  callback = function(task) return (task:get_subject() or ''):find('%s', 1, true) ~= nil end }
rspamd_config:register_symbol{ name = 'GATEPOST_ENVELOPE', score = 0.5, description = 'what it was told of the envelope',
  callback = function(task)
    local rcpts = {}
    for _, r in ipairs(task:get_recipients('smtp') or {}) do table.insert(rcpts, r.addr) end
    local told = table.concat({ tostring(task:get_ip()), tostring(task:get_helo()), tostring(task:get_user()),
      task:get_from('smtp')[1].addr, table.concat(rcpts, '+'), tostring(task:get_queue_id()) }, ' ')
    return told:find('^192%%.0%%.2%%.77 client%%.example nil sender@client%%.example one@here%%.example%%+two@here%%.example %%w+') ~= nil
  end }
rspamd_config:register_symbol{ name = 'GATEPOST_LATER', score = 0, callback = function(task)
  if (task:get_subject() or ''):find('come back later', 1, true) then task:set_pre_result('soft reject', 'not now') end
end }
`, Score, Word))
	write(t, filepath.Join(dir, "rspamd.conf"), fmt.Sprintf(`
options {
  tempdir = "%[1]s"; pidfile = "%[1]s/pid"; hs_cache_dir = "%[1]s"; cache_file = "%[1]s/symbols";
  control_socket = "%[1]s/control mode=0600"; url_tld = "%[1]s/tld";
  disable_hyperscan = true; filters = ""; dns { nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }
}
logging { type = "console"; level = "notice"; }
actions { reject = 15; add_header = 6; greylist = 4; }
worker "normal" { bind_socket = "%[2]s"; count = 1; }
lua = "%[1]s/rules.lua";
`, dir, address))
	start(t, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/ping", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}, "rspamd", "--no-fork", "--insecure", "--config="+filepath.Join(dir, "rspamd.conf"))
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	return "http://" + address
}

// SpamassMilter runs a spamass-milter that asks the spamd at that address, and
// returns its own. It rejects nothing; args are further options.
func SpamassMilter(t testing.TB, spamd string, args ...string) string {
	t.Helper()
	peer.Require(t, "spamass-milter", "spamc")
	socket := filepath.Join(directory(t), "sock")
	args = append([]string{"-p", socket}, args...)
	args = append(args, "--", "-U", strings.TrimPrefix(spamd, "unix:"))
	start(t, listens("unix", socket), "spamass-milter", args...)
	return "unix:" + socket
}

// OpenDKIM runs an OpenDKIM that verifies, with the given public keys: names of
// records and their text. It calls itself id in Authentication-Results.
func OpenDKIM(t testing.TB, id string, keys map[string]string) string {
	t.Helper()
	peer.Require(t, "opendkim")
	dir := directory(t)
	socket := filepath.Join(dir, "sock")
	var list strings.Builder
	for name, text := range keys {
		fmt.Fprintf(&list, "%s %s\n", name, text)
	}
	write(t, filepath.Join(dir, "keys"), list.String())
	write(t, filepath.Join(dir, "opendkim.conf"), fmt.Sprintf(`Mode v
Socket local:%[1]s
TestPublicKeys %[2]s/keys
TemporaryDirectory %[2]s
AuthservID %[3]s
AlwaysAddARHeader yes
On-BadSignature reject
SoftwareHeader yes
Syslog no
`, socket, dir, id))
	start(t, listens("unix", socket), "opendkim", "-f", "-x", filepath.Join(dir, "opendkim.conf"))
	return "unix:" + socket
}
