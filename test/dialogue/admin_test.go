package dialogue

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// get is the body of a page of the admin listener.
func get(t *testing.T, g *gatepost.Instance, path string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + g.Admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// answer is the status and the body of a request.
func answer(t *testing.T, method, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestHealthAndMetricsTellWhatHappened(t *testing.T) {
	t.Parallel()
	list := []*hop{
		{name: "fails", script: sink.Fail(sink.RcptTo, "550 5.1.1 no")},
		{name: "later", script: sink.Fail(sink.EOD, "451 4.3.0 later")},
	}
	g, reports := hops(t, list, `delays = ["1h"], give_up_after = "2d"`)
	c := g.Hello("")
	for _, to := range []string{"a@in.example", "b@fails.example", "c@later.example", "d@later.example"} {
		give(t, c, "ada@out.example", to, message)
	}
	say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<x@far.example>", "550", "NONSENSE", "500", "VRFY x", "252", "QUIT", "221")
	reports.WaitMails(t, 2, patience)
	if out, err := g.Run("queue", "pause", "--transport", "next"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	wanted := []string{
		"gatepost_ready 1",
		`gatepost_queue_items{state="deferred"} 2`,
		`gatepost_queue_items{state="active"} 0`,
		`gatepost_queue_items{state="hold"} 0`,
		`gatepost_queue_items{state="incoming"} 0`,
		`gatepost_queue_transport_items{state="waiting",transport="later"} 2`,
		`gatepost_delivery_attempts_total{status="delivered",transport="next"} 2`,
		`gatepost_delivery_attempts_total{status="failed",transport="fails"} 1`,
		`gatepost_delivery_attempts_total{status="deferred",transport="later"} 2`,
		`gatepost_delivery_bounces_total{transport="fails"} 1`,
		`gatepost_delivery_duration_seconds_count{transport="next"} 2`,
		`gatepost_smtp_replies_total{code="550",listener="inbound",verb="RCPT"} 1`,
		`gatepost_smtp_replies_total{code="500",listener="inbound",verb="other"} 1`,
		`gatepost_smtp_replies_total{code="252",listener="inbound",verb="VRFY"} 1`,
		`gatepost_smtp_replies_total{code="250",listener="inbound",verb="MESSAGE"} 4`,
		`gatepost_smtp_received_bytes_total{listener="inbound"} ` + strconv.Itoa(4*len(crlf(message))),
		`gatepost_smtp_sessions_open{listener="inbound"} 0`,
		`gatepost_spool_commits_total{result="ok"} 5`,
		`gatepost_spool_commit_duration_seconds_count 5`,
		`gatepost_config_reloads_total{result="ok"} 1`,
		`gatepost_config_last_reload_successful 1`,
		`gatepost_log_lines_dropped_total 0`,
		`gatepost_queue_suspended 0`,
	}
	text := ""
	ok := gatepost.Holds(patience, func() bool {
		text = get(t, g, "/metrics")
		return !slices.ContainsFunc(wanted, func(line string) bool { return !strings.Contains(text, line+"\n") })
	})
	if !ok {
		for _, line := range wanted {
			if !strings.Contains(text, line+"\n") {
				name, _, _ := strings.Cut(line, "{")
				t.Errorf("metrics lack %s; there is %q", line, linesWith(text, name))
			}
		}
	}
	mustContain(t, "metrics", text, "gatepost_build_info{", "gatepost_queue_oldest_age_seconds ", "gatepost_tls_certificate_expiry_timestamp_seconds{",
		"go_goroutines ", "process_resident_memory_bytes ")

	status, body := answer(t, "GET", "http://"+g.Admin+"/healthz", "")
	var health struct {
		Ready  bool
		Checks []struct {
			Name string
			OK   bool
		}
	}
	if err := json.Unmarshal([]byte(body), &health); err != nil || status != 200 || !health.Ready {
		t.Errorf("healthz: %d %s, %v", status, body, err)
	}
	var names []string
	for _, c := range health.Checks {
		names = append(names, c.Name)
		if !c.OK {
			t.Errorf("healthz: %s is not well: %s", c.Name, body)
		}
	}
	if got := strings.Join(names, " "); got != "spool disk queue memory damaged logs reload history store certificate" {
		t.Errorf("healthz checks %q", got)
	}
}

// Without an account or a token of one there is nothing on TCP but /healthz, /metrics for
// who may, and the page to log in: the token for /metrics opens nothing else.
func TestTheAdminListenerGivesNothingElseAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := gatepost.New(t, gatepost.Options{})
	g.Configure(gatepost.Settings{})
	text, err := os.ReadFile(g.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "[admin]\n", "[admin]\nmetrics_token_file = \""+token+"\"\n", 1)
	if err := os.WriteFile(g.ConfigFile, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		method, path, token string
		want                int
	}{
		{"GET", "/healthz", "", 200},
		{"HEAD", "/healthz", "", 200},
		{"POST", "/healthz", "", 405},
		{"GET", "/metrics", "", 401},
		{"GET", "/metrics", "s3cre", 401},
		{"GET", "/metrics", "s3cret", 200},
		{"GET", "/api/v1/queue/items", "s3cret", 401},
		{"POST", "/api/v1/reload", "s3cret", 401},
		{"GET", "/api/v1/config", "", 401},
		{"GET", "/debug/pprof/", "s3cret", 404},
		{"GET", "/../../etc/passwd", "", 404},
	}
	for _, tt := range tests {
		if status, body := answer(t, tt.method, "http://"+g.Admin+tt.path, tt.token); status != tt.want || strings.Contains(body, "s3cret") {
			t.Errorf("%s %s with token %q: %d %.200s, want %d", tt.method, tt.path, tt.token, status, body, tt.want)
		}
	}
	for _, file := range []string{g.SocketFile, g.DataDir} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be used by others: %v, %v", file, info.Mode(), err)
		}
	}
}

// Without space for mail the gateway is up and says that it is not ready, and why.
func TestAFullDiskIsNotReady(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := gatepost.New(t, gatepost.Options{NoWait: true, Settings: gatepost.Settings{Next: s.Addr, Limits: `free_disk = "1000000GiB"`}})
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	gatepost.Eventually(t, "the admin listener answers", patience, func() bool {
		conn, err := net.Dial("tcp", g.Admin)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	status, body := answer(t, "GET", "http://"+g.Admin+"/healthz", "")
	if status != 503 || !strings.Contains(body, `"ready":false`) || !strings.Contains(body, `"name":"disk","ok":false,"why":"not enough disk space`) {
		t.Errorf("healthz: %d %s", status, body)
	}
	mustContain(t, "metrics", get(t, g, "/metrics"), "gatepost_ready 0\n")
	if out, err := g.Run("status"); err == nil || !strings.Contains(out, "disk") {
		t.Errorf("status says %q, %v", out, err)
	}
	say(t, g.Hello(""), "MAIL FROM:<ada@out.example>", "452 4.3.1", "NOOP", "250")
}

// Typical mistakes, all in one run, each with its line and what to do.
func TestCheckNamesEveryMistake(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/check/mistakes.txt")
	if err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs("testdata/check/mistakes.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "-c", config}, {"serve", "-c", config}} {
		out, err := exec.Command(os.Getenv(gatepost.BinaryVar), args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%s: %v, want status 1", args[0], err)
		}
		got := strings.ReplaceAll(string(out), filepath.Dir(config)+"/", "")
		_, got, _ = strings.Cut("\n"+got, "\nmistakes.toml:")
		if got = "mistakes.toml:" + got; got != string(want) {
			t.Errorf("%s (-want +got):\n%s", args[0], cmp.Diff(string(want), got))
		}
	}
}
