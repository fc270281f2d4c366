package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeQueue notes what it is asked and answers what the test says.
type fakeQueue struct {
	calls []string
	sel   queue.Selector
	err   error
	items []queue.Row
	wait  chan struct{} // when set, List waits for the request to end, then closes it
}

func (f *fakeQueue) note(sel queue.Selector, format string, args ...any) (int, error) {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	f.sel = sel
	return 3, f.err
}

func (f *fakeQueue) List(ctx context.Context, sel queue.Selector, limit int, after string) ([]queue.Row, error) {
	if f.wait != nil {
		<-ctx.Done()
		close(f.wait)
		return nil, ctx.Err()
	}
	if _, err := f.note(sel, "list %d %s", limit, after); err != nil {
		return nil, err
	}
	rows := f.items
	if after != "" {
		i := slices.IndexFunc(rows, func(r queue.Row) bool { return r.QueueID.String() == after })
		rows = rows[i+1:]
	}
	return rows[:min(limit, len(rows))], nil
}

func (f *fakeQueue) Show(_ context.Context, id string) ([]queue.Detail, error) {
	_, err := f.note(queue.Selector{}, "show %s", id)
	if len(f.items) == 0 {
		return nil, err
	}
	return []queue.Detail{{Row: f.items[0]}}, err
}

func (f *fakeQueue) Count(_ context.Context, sel queue.Selector) (int, error) {
	return f.note(sel, "count")
}

func (f *fakeQueue) Stats() queue.Stats { return queue.Stats{Deferred: 7} }

func (f *fakeQueue) Retry(_ context.Context, sel queue.Selector, by string) (int, error) {
	return f.note(sel, "retry by %s", by)
}

func (f *fakeQueue) Release(_ context.Context, sel queue.Selector, by string) (int, error) {
	return f.note(sel, "release by %s", by)
}

func (f *fakeQueue) Delete(_ context.Context, sel queue.Selector, by string) (int, error) {
	return f.note(sel, "delete by %s", by)
}

func (f *fakeQueue) Hold(_ context.Context, sel queue.Selector, by, reason string) (int, error) {
	return f.note(sel, "hold by %s: %s", by, reason)
}

func (f *fakeQueue) Reroute(_ context.Context, sel queue.Selector, transport, by string) (int, error) {
	return f.note(sel, "reroute to %s by %s", transport, by)
}

func (f *fakeQueue) Pause(_ context.Context, p queue.PauseTarget, by, reason string) error {
	_, err := f.note(queue.Selector{}, "pause %s/%s by %s: %s", p.Transport, p.Domain, by, reason)
	return err
}

func (f *fakeQueue) Resume(_ context.Context, p queue.PauseTarget, by string) error {
	_, err := f.note(queue.Selector{}, "resume %s/%s by %s", p.Transport, p.Domain, by)
	return err
}

func (f *fakeQueue) Pauses() []queue.Pause { return nil }

// fakeHealth is a list of checks.
type fakeHealth []Check

func (f fakeHealth) Checks() []Check { return slices.Clone(f) }

func newServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Queue == nil {
		cfg.Queue = &fakeQueue{}
	}
	if cfg.Health == nil {
		cfg.Health = fakeHealth{Required("spool", nil)}
	}
	s, err := New(cfg)
	must(t, err)
	return s
}

// ask sends one request to a handler; body "" is none.
func ask(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEachOperationReachesTheQueueWithItsSelector(t *testing.T) {
	const sel = `"selector":{"ids":["x"],"sender":"<>","recipient":"a@b","domain":"d","transport":"t","state":"hold","older_than":"2d","newer_than":"3d","error":"4.."}`
	want := queue.Selector{
		IDs: []string{"x"}, Sender: "<>", Recipient: "a@b", Domain: "d", Transport: "t", State: mail.QueueHold,
		OlderThan: 48 * time.Hour, NewerThan: 72 * time.Hour, Error: "4..",
	}
	for path, c := range map[string]struct{ body, call string }{
		"retry":   {`{` + sel + `,"by":"anna"}`, "retry by anna"},
		"release": {`{` + sel + `,"by":"anna"}`, "release by anna"},
		"delete":  {`{` + sel + `,"by":"anna"}`, "delete by anna"},
		"hold":    {`{` + sel + `,"by":"anna","reason":"because"}`, "hold by anna: because"},
		"reroute": {`{` + sel + `,"by":"anna","transport":"backup"}`, "reroute to backup by anna"},
	} {
		q := &fakeQueue{}
		h := newServer(t, Config{Queue: q}).API()
		w := ask(h, "POST", "/api/v1/queue/"+path, c.body)
		if w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"count":3}` {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if len(q.calls) != 1 || q.calls[0] != c.call || fmt.Sprint(q.sel) != fmt.Sprint(want) {
			t.Errorf("%s: %v with %+v", path, q.calls, q.sel)
		}
		w = ask(h, "POST", "/api/v1/queue/"+path, `{"dry_run":true,`+c.body[1:])
		if strings.TrimSpace(w.Body.String()) != `{"count":3,"dry_run":true}` || q.calls[1] != "count" || len(q.calls) != 2 {
			t.Errorf("dry run of %s: %s, %v", path, w.Body, q.calls)
		}
	}
}

func TestBadRequestsAreRefusedAndTheQueueIsLeftAlone(t *testing.T) {
	long := strings.Repeat("x", maxNote+1)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		text                     string
	}{
		{"an empty selector", "POST", "/api/v1/queue/delete", `{"selector":{}}`, 400, "selector is empty"},
		{"no selector", "POST", "/api/v1/queue/retry", `{}`, 400, "selector is empty"},
		{"an unknown field", "POST", "/api/v1/queue/delete", `{"selector":{"all":true},"dryrun":true}`, 400, `unknown field "dryrun"`},
		{"an unknown field of the selector", "POST", "/api/v1/queue/delete", `{"selector":{"all":true,"older":"1d"}}`, 400, `unknown field "older"`},
		{"two values", "POST", "/api/v1/queue/delete", `{"selector":{"all":true}} {}`, 400, "more than one value"},
		{"half a value", "POST", "/api/v1/queue/delete", `{"selector":`, 400, "bad request body"},
		{"a bad age", "POST", "/api/v1/queue/delete", `{"selector":{"older_than":"soon"}}`, 400, "older_than"},
		{"a negative age", "POST", "/api/v1/queue/delete", `{"selector":{"newer_than":"-2d"}}`, 400, "newer_than"},
		{"a reason where none belongs", "POST", "/api/v1/queue/delete", `{"selector":{"all":true},"reason":"x"}`, 400, "takes no reason"},
		{"a transport where none belongs", "POST", "/api/v1/queue/retry", `{"selector":{"all":true},"transport":"x"}`, 400, "takes no transport"},
		{"reroute without a transport", "POST", "/api/v1/queue/reroute", `{"selector":{"all":true}}`, 400, "needs a transport"},
		{"a reason without end", "POST", "/api/v1/queue/hold", `{"selector":{"all":true},"reason":"` + long + `"}`, 400, "at most"},
		{"a body without end", "POST", "/api/v1/queue/delete", `{"by":"` + strings.Repeat("x", maxBodyBytes) + `"}`, 413, "larger than"},
		{"an unknown pause field", "POST", "/api/v1/queue/pause", `{"transports":"x"}`, 400, "unknown field"},
		{"a misspelt parameter", "GET", "/api/v1/queue/items?sendr=x", "", 400, `unknown parameter "sendr"`},
		{"a parameter given twice", "GET", "/api/v1/queue/items?sender=x&sender=y", "", 400, "given twice"},
		{"a page that is too large", "GET", "/api/v1/queue/items?limit=1001", "", 400, "limit"},
		{"a page of nothing", "GET", "/api/v1/queue/items?limit=0", "", 400, "limit"},
		{"all that is neither true nor false", "GET", "/api/v1/queue/count?all=yes!", "", 400, "neither true nor false"},
		{"the wrong method", "GET", "/api/v1/queue/delete", "", 405, "use POST"},
		{"deleting by method", "DELETE", "/api/v1/queue/items/x", "", 405, "use GET"},
		{"an unknown path", "GET", "/api/v1/queue/itemz", "", 404, "no such path"},
		{"profiles", "GET", "/debug/pprof/", "", 404, "no such path"},
	} {
		q := &fakeQueue{}
		w := ask(newServer(t, Config{Queue: q}).API(), c.method, c.path, c.body)
		var f Failure
		if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil || w.Code != c.status || !strings.Contains(f.Error, c.text) {
			t.Errorf("%s: %d %s, want %d …%s…", c.name, w.Code, w.Body, c.status, c.text)
		}
		if len(q.calls) != 0 {
			t.Errorf("%s reached the queue: %v", c.name, q.calls)
		}
	}
}

func TestAFormPostIsRefused(t *testing.T) {
	r := httptest.NewRequest("POST", "/api/v1/queue/delete", strings.NewReader(`{"selector":{"all":true}}`))
	r.Header.Set("Content-Type", "text/plain")
	w := httptest.NewRecorder()
	newServer(t, Config{}).API().ServeHTTP(w, r)
	if w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestErrorsOfTheQueueHaveTheirStatus(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("x: %w", queue.ErrSelector), 400},
		{fmt.Errorf("x: %w", queue.ErrNoTransport), 400},
		{fmt.Errorf("x: %w", queue.ErrNotFound), 404},
		{fmt.Errorf("x: %w", queue.ErrNotPaused), 404},
		{context.DeadlineExceeded, 503},
		{errors.New("disk on fire"), 500},
	} {
		w := ask(newServer(t, Config{Queue: &fakeQueue{err: c.err}}).API(), "POST", "/api/v1/queue/retry", `{"selector":{"all":true}}`)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.err.Error()) {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
	}
}

func TestAListComesInPages(t *testing.T) {
	q := &fakeQueue{}
	for range 25 {
		id := mail.NewID()
		q.items = append(q.items, queue.Row{ID: id, QueueID: mail.QueueID{Message: id, N: 1}, Sender: "<>"})
	}
	h := newServer(t, Config{Queue: q}).API()
	var got []queue.Row
	for after, pages := "", 1; ; pages++ {
		w := ask(h, "GET", "/api/v1/queue/items?domain=d&limit=10&after="+after, "")
		var p Page
		must(t, json.Unmarshal(w.Body.Bytes(), &p))
		got = append(got, p.Items...)
		if after = p.Next; after == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(got) != 25 || got[24].QueueID != q.items[24].QueueID || q.sel.Domain != "d" {
		t.Errorf("%d rows, selector %+v", len(got), q.sel)
	}
	q.items = nil
	if w := ask(h, "GET", "/api/v1/queue/items", ""); strings.TrimSpace(w.Body.String()) != `{"items":[]}` {
		t.Errorf("an empty list: %s", w.Body)
	}
	if w := ask(h, "GET", "/api/v1/queue/items/x", ""); w.Code != 404 {
		t.Errorf("show of nothing: %d %s", w.Code, w.Body)
	}
	if w := ask(h, "GET", "/api/v1/queue/pauses", ""); strings.TrimSpace(w.Body.String()) != `[]` {
		t.Errorf("no pauses: %s", w.Body)
	}
}

func TestPausesReachTheQueue(t *testing.T) {
	q := &fakeQueue{}
	h := newServer(t, Config{Queue: q}).API()
	ask(h, "POST", "/api/v1/queue/pause", `{"transport":"exchange","domain":"d","by":"anna","reason":"patch day"}`)
	ask(h, "POST", "/api/v1/queue/resume", `{"transport":"exchange","by":"anna"}`)
	if want := []string{"pause exchange/d by anna: patch day", "resume exchange/ by anna"}; !slices.Equal(q.calls, want) {
		t.Errorf("%q", q.calls)
	}
}

func TestHealthIsReadyUntilARequiredCheckFails(t *testing.T) {
	broken := errors.New("no space in /secret/place")
	for _, c := range []struct {
		name   string
		health fakeHealth
		status int
	}{
		{"all is well", fakeHealth{Required("spool", nil), Advisory("logs", nil)}, 200},
		{"an advisory check fails", fakeHealth{Required("spool", nil), Advisory("logs", broken)}, 200},
		{"a required check fails", fakeHealth{Required("spool", broken), Advisory("logs", nil)}, 503},
	} {
		s := newServer(t, Config{Health: c.health})
		w := ask(s.API(), "GET", "/healthz", "")
		var report HealthReport
		must(t, json.Unmarshal(w.Body.Bytes(), &report))
		if w.Code != c.status || report.Ready != (c.status == 200) || len(report.Checks) != 2 {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		// httptest's client is 192.0.2.1: it learns that, not why.
		w = ask(s.Public(), "GET", "/healthz", "")
		if w.Code != c.status || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s, seen from outside: %d %s", c.name, w.Code, w.Body)
		}
		if w := ask(s.Public(), "HEAD", "/healthz", ""); w.Code != c.status {
			t.Errorf("%s: HEAD %d", c.name, w.Code)
		}
	}
}

func TestMetricsAreForThisHostOrForTheToken(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "gatepost_up 1\n") })
	file := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(file, []byte("s3cret\n"), 0o600))
	open, locked := newServer(t, Config{Metrics: metrics}), newServer(t, Config{Metrics: metrics, MetricsTokenFile: file})
	for _, c := range []struct {
		name          string
		server        *Server
		client        string
		header, value string
		status        int
	}{
		{"loopback", open, "127.0.0.1:1", "", "", 200},
		{"loopback IPv6", open, "[::1]:1", "", "", 200},
		{"loopback mapped", open, "[::ffff:127.0.0.1]:1", "", "", 200},
		{"other host", open, "192.0.2.1:1", "", "", 403},
		{"other host with a token", open, "192.0.2.1:1", "Authorization", "Bearer s3cret", 403},
		{"behind a reverse proxy", open, "127.0.0.1:1", "X-Forwarded-For", "192.0.2.1", 403},
		{"the token", locked, "192.0.2.1:1", "Authorization", "Bearer s3cret", 200},
		{"the token, spelt otherwise", locked, "192.0.2.1:1", "Authorization", "bearer  s3cret ", 200},
		{"a wrong token", locked, "192.0.2.1:1", "Authorization", "Bearer s3cre", 401},
		{"no token, from loopback", locked, "127.0.0.1:1", "", "", 401},
		{"another scheme", locked, "192.0.2.1:1", "Authorization", "Basic s3cret", 401},
		{"an empty token", locked, "192.0.2.1:1", "Authorization", "Bearer ", 401},
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.RemoteAddr = c.client
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		w := httptest.NewRecorder()
		c.server.Public().ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.status)
		}
	}
	must(t, os.WriteFile(file, []byte(" \n"), 0o600))
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Authorization", "Bearer ")
	w := httptest.NewRecorder()
	locked.Public().ServeHTTP(w, r)
	if w.Code != 401 {
		t.Errorf("a token file that was emptied lets in: %d", w.Code)
	}
	for _, bad := range []string{file, filepath.Join(t.TempDir(), "missing")} {
		if _, err := New(Config{Queue: &fakeQueue{}, Health: fakeHealth{}, MetricsTokenFile: bad}); err == nil {
			t.Errorf("token file %s was accepted", bad)
		}
	}
}

func TestThePublicSideServesNothingElse(t *testing.T) {
	s := newServer(t, Config{Reload: func(context.Context) error { t.Error("reloaded"); return nil }})
	for _, c := range [][2]string{
		{"GET", "/api/v1/queue/items"}, {"POST", "/api/v1/queue/delete"}, {"GET", "/api/v1/status"}, {"POST", "/api/v1/reload"},
		{"GET", "/debug/pprof/"}, {"GET", "/"}, {"GET", "/metrics"},
	} {
		if w := ask(s.Public(), c[0], c[1], `{"selector":{"all":true}}`); w.Code != 404 {
			t.Errorf("%s %s: %d", c[0], c[1], w.Code)
		}
	}
}

func TestReloadTellsEverythingThatIsWrong(t *testing.T) {
	var result error
	s := newServer(t, Config{
		Reload: func(context.Context) error { return result },
		Status: func() Status { return Status{Version: "1.2.3", Listeners: map[string][]string{"in": {"127.0.0.1:25"}}} },
	})
	w := ask(s.API(), "POST", "/api/v1/reload", `{}`)
	var status Status
	must(t, json.Unmarshal(w.Body.Bytes(), &status))
	if w.Code != 200 || status.Version != "1.2.3" || !status.Ready || status.Checks[0].Name != "spool" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	result = errors.New("f:1:2: a\nf:3:4: b")
	w = ask(s.API(), "POST", "/api/v1/reload", `{}`)
	var f Failure
	must(t, json.Unmarshal(w.Body.Bytes(), &f))
	if w.Code != 422 || f.Error != result.Error() {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// serveSocket serves the API on a socket and returns a client for it.
func serveSocket(t *testing.T, s *Server, path string) *http.Client {
	t.Helper()
	l, err := ListenSocket(path)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- s.ServeAPI(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return DialSocket(ctx, path) }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		must(t, s.Shutdown(context.Background()))
		must(t, <-done)
	})
	return &http.Client{Transport: transport}
}

func TestTheAPIIsServedOnTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	c := serveSocket(t, newServer(t, Config{}), path)
	resp, err := c.Post("http://gatepost/api/v1/queue/retry", "application/json", strings.NewReader(`{"selector":{"all":true}}`))
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != 200 || !bytes.Contains(body, []byte(`"count":3`)) {
		t.Errorf("%s %s", resp.Status, body)
	}
}

func TestARequestEndsWithItsConnection(t *testing.T) {
	q := &fakeQueue{wait: make(chan struct{})}
	c := serveSocket(t, newServer(t, Config{Queue: q}), filepath.Join(t.TempDir(), SocketName))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://gatepost/api/v1/queue/items", nil)
	must(t, err)
	if resp, err := c.Do(r); err == nil {
		resp.Body.Close()
		t.Error("the request was answered")
	}
	<-q.wait // or the test times out
}

func TestHeadersAreBounded(t *testing.T) {
	c := serveSocket(t, newServer(t, Config{}), filepath.Join(t.TempDir(), SocketName))
	r, err := http.NewRequest("GET", "http://gatepost/healthz", nil)
	must(t, err)
	r.Header.Set("X-Long", strings.Repeat("x", 3*maxHeaderBytes))
	resp, err := c.Do(r)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(resp.Status)
	}
}

func TestNothingIsServedAfterShutdown(t *testing.T) {
	s := newServer(t, Config{})
	must(t, s.Shutdown(t.Context()))
	path := filepath.Join(t.TempDir(), SocketName)
	l, err := ListenSocket(path)
	must(t, err)
	if err := s.ServeAPI(l); !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
}
