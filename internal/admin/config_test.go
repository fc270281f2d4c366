package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/config/change"
)

const configText = `# Ours.
hostname = "gw.example.com"
data_dir = "data"
[store]
url = "postgres://gate:s3cr3t@db.example.com/gatepost"
[[listener]]
name = "in"
address = ["127.0.0.1:0"] # here
[[domain]]
name = "example.com"
transport = "t"
recipients = ["file:recipients.txt"]
[[transport]]
name = "t"
kind = "discard"
`

// tried is a Configuration that remembers what was tried.
type tried struct {
	*change.Keeper
	query   admin.FlowQuery
	message string
	what    change.Change
}

func (c *tried) Try(_ context.Context, what change.Change, q admin.FlowQuery, body io.Reader) (any, error) {
	c.what, c.query = what, q
	if body != nil {
		b, err := io.ReadAll(body)
		c.message = string(b)
		return map[string]string{"says": "fine"}, err
	}
	return map[string]string{"says": "fine"}, nil
}

// TestWebhook takes only the one that is there.
func (c *tried) TestWebhook(_ context.Context, what change.Change, name string) error {
	c.what = what
	if name != "chat" {
		return &change.BadError{Text: "there is no webhook " + name}
	}
	return nil
}

func (c *tried) TestScript(_ context.Context, what change.Change, path string) (*admin.ScriptTests, error) {
	c.what = what
	return &admin.ScriptTests{Passed: 2, Output: "ok   " + path}, nil
}

// configServer is the API on a configuration of its own.
func configServer(t *testing.T) (handler http.Handler, c *tried, file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "gatepost.toml")
	for name, text := range map[string]string{"gatepost.toml": configText, "recipients.txt": "anna@example.com\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inUse, problems := config.Load(file)
	if inUse == nil {
		t.Fatal(problems)
	}
	load := func(context.Context) error {
		next, problems := config.Load(file)
		if next == nil {
			return fmt.Errorf("%v", problems)
		}
		inUse = next
		return nil
	}
	k, err := change.Open(change.Config{
		File: file, DataDir: filepath.Join(dir, "data"), Reload: load, InUse: func() *config.Config { return inUse },
		NeedsRestart: func(next *config.Config) []string {
			if next.Hostname != inUse.Hostname {
				return []string{"hostname"}
			}
			return nil
		},
	})
	if err = errors.Join(err, k.Loaded()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	c = &tried{Keeper: k}
	s, err := admin.New(admin.Config{Queue: noQueue{}, Health: noHealth{}, Configuration: c})
	if err != nil {
		t.Fatal(err)
	}
	return s.API(), c, file
}

type noQueue struct{ admin.Queue }
type noHealth struct{}

func (noHealth) Checks() []admin.Check { return nil }

// ask sends a request and returns status and body.
func ask(t *testing.T, h http.Handler, method, path, body string) (int, map[string]any, string) {
	t.Helper()
	r := httptest.NewRequest(method, "/api/v1/config"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var v map[string]any
	if strings.HasPrefix(w.Body.String(), "{") {
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
	}
	return w.Code, v, w.Body.String()
}

func TestProgramsChangeTheConfiguration(t *testing.T) {
	h, _, file := configServer(t)
	status, v, text := ask(t, h, "GET", "", "")
	if status != 200 || strings.Contains(text, "s3cr3t") || !strings.Contains(text, "(secret-") || v["version"] == "" {
		t.Errorf("status %d: %s", status, text)
	}
	op := `{"ops": [{"op": "insert", "path": "domain", "index": 0, "value": {"name": "example.net", "transport": "t"}}], "why": "new", "by": "ada"}`
	if status, v, text := ask(t, h, "POST", "/check", op); status != 200 || v["ok"] != true || !strings.Contains(text, `+name = \"example.net\"`) {
		t.Errorf("check: %d: %s", status, text)
	}
	if status, _, text := ask(t, h, "POST", "/apply", op); status != 200 || !strings.Contains(text, `"revision":2`) {
		t.Errorf("apply: %d: %s", status, text)
	}
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), "name = \"example.net\"") || !strings.Contains(string(b), "s3cr3t") || !strings.Contains(string(b), "# here") {
		t.Errorf("the file (%v):\n%s", err, b)
	}
	if status, _, text := ask(t, h, "GET", "/revisions?limit=1", ""); status != 200 || !strings.Contains(text, `"by":"ada","why":"new"`) {
		t.Errorf("revisions: %d: %s", status, text)
	}
	if status, _, text := ask(t, h, "GET", "/revisions/1/rollback", ""); status != 200 || !strings.Contains(text, `-name = \"example.net\"`) {
		t.Errorf("what a rollback would do: %d: %s", status, text)
	}
	if status, _, text := ask(t, h, "POST", "/revisions/1/rollback", `{"why": "no"}`); status != 200 || !strings.Contains(text, `"revision":3`) {
		t.Errorf("rollback: %d: %s", status, text)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != configText {
		t.Errorf("after the rollback (%v):\n%s", err, b)
	}
}

func TestAChangeThatIsNotMadeSaysWhy(t *testing.T) {
	h, _, file := configServer(t)
	_, now, _ := ask(t, h, "GET", "", "")
	long := strings.Repeat("x", 600)
	for _, c := range []struct {
		name, body, says string
		status           int
	}{
		{"not valid", `{"ops": [{"op": "set", "path": "domain[0].transport", "value": "nowhere"}]}`, `"rule":"dangling-transport"`, 422},
		{"no TOML", `{"base": "` + now["version"].(string) + `", "text": "hostname = "}`, `"rule":"syntax"`, 422},
		{"a restart", `{"ops": [{"op": "set", "path": "hostname", "value": "mx.example.com"}]}`, `"restart":["hostname"]`, 409},
		{"an old base", `{"base": "old", "text": "hostname = \"x\""}`, `"version":"` + now["version"].(string), 409},
		{"an old base of operations", `{"base": "old", "ops": [{"op": "remove", "path": "hostname"}]}`, "has changed", 409},
		{"a line end in a value", `{"ops": [{"op": "set", "path": "hostname", "value": "a.example\ndata_dir = \"/\""}]}`, "control characters", 400},
		{"NUL in a value", `{"ops": [{"op": "insert", "path": "listener[0].address", "value": "127.0.0.1\u0000:25"}]}`, "control characters", 400},
		{"no such key", `{"ops": [{"op": "remove", "path": "listener[nobody]"}]}`, "no such key", 400},
		{"both", `{"text": "x", "ops": [{"op": "remove", "path": "hostname"}]}`, "not both", 400},
		{"nothing", `{}`, "says nothing", 400},
		{"an unknown field", `{"force": true}`, "unknown field", 400},
		{"an endless reason", `{"why": "` + long + `", "ops": [{"op": "remove", "path": "domain[0].recipients"}]}`, "at most 500", 400},
		{"a file elsewhere", `{"files": [{"path": "../../etc/passwd", "text": "x"}]}`, "no such thing", 404},
		{"a bad list", `{"files": [{"path": "recipients.txt", "base": "", "text": "x"}]}`, "has changed since", 409},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, _, text := ask(t, h, "POST", "/apply", c.body)
			if status != c.status || !strings.Contains(text, c.says) {
				t.Errorf("%d: %s", status, text)
			}
			if b, err := os.ReadFile(file); err != nil || string(b) != configText {
				t.Errorf("the file has changed: %v", err)
			}
		})
	}
}

func TestFilesOfTheConfiguration(t *testing.T) {
	h, _, file := configServer(t)
	if status, _, text := ask(t, h, "GET", "/files", ""); status != 200 || !strings.Contains(text, `"path":"recipients.txt","kind":"recipients"`) {
		t.Errorf("files: %d: %s", status, text)
	}
	_, v, _ := ask(t, h, "GET", "/file?path=recipients.txt", "")
	body := fmt.Sprintf(`{"files": [{"path": "recipients.txt", "base": %q, "text": "bob@example.com\n"}], "why": "moved"}`, v["version"])
	if status, _, text := ask(t, h, "POST", "/apply", body); status != 200 {
		t.Errorf("apply: %d: %s", status, text)
	}
	b, err := os.ReadFile(filepath.Join(filepath.Dir(file), "recipients.txt"))
	if err != nil || string(b) != "bob@example.com\n" {
		t.Errorf("%q (%v)", b, err)
	}
	for _, path := range []string{"..%2f..%2fetc%2fpasswd", "%2e%2e%2frecipients.txt", "..%5crecipients.txt", "recipients.txt%00", "%2fetc%2fpasswd", strings.Repeat("a", 9000), "gatepost.toml"} {
		if status, _, text := ask(t, h, "GET", "/file?path="+path, ""); status != 404 {
			t.Errorf("%.40s: %d: %s", path, status, text)
		}
	}
}

func TestACandidateIsTried(t *testing.T) {
	h, c, _ := configServer(t)
	body := `{"change": {"ops": [{"op": "set", "path": "limits.max_errors", "value": 5}]}, "client": "192.0.2.7", "to": "anna@example.com", "message": "Subject: x\r\n\r\nhi\r\n"}`
	status, _, text := ask(t, h, "POST", "/try", body)
	if status != 200 || !strings.Contains(text, "fine") {
		t.Fatalf("%d: %s", status, text)
	}
	if c.query.Client.String() != "192.0.2.7" || c.query.To.Local != "anna" || !strings.HasPrefix(c.message, "Subject") || c.what.Text == nil || !strings.Contains(*c.what.Text, "max_errors = 5") {
		t.Errorf("tried %+v with %+v", c.what, c.query)
	}
	if status, _, text := ask(t, h, "POST", "/try", `{"change": {}, "client": "nobody"}`); status != 400 {
		t.Errorf("a client without address: %d: %s", status, text)
	}
}

func TestTheSchemaIsServed(t *testing.T) {
	h, _, _ := configServer(t)
	status, v, text := ask(t, h, "GET", "/schema", "")
	if status != 200 || len(v["sections"].([]any)) < 10 || !strings.Contains(text, `"use":"greylist"`) {
		t.Errorf("%d: %.300s", status, text)
	}
}

func TestProgramsRenameAndTest(t *testing.T) {
	h, c, file := configServer(t)
	code, _, body := ask(t, h, "POST", "/apply", `{"ops":[{"op":"rename","path":"transport[t]","value":"exchange"}],"why":"what it is"}`)
	text, err := os.ReadFile(file)
	if err != nil || code != http.StatusOK || !strings.Contains(string(text), `transport = "exchange"`) || !strings.Contains(string(text), `name = "exchange"`) {
		t.Errorf("%d %s: %s", code, body, text)
	}
	for _, bad := range []string{`"path":"transport[none]","value":"x"`, `"path":"transport[exchange]","value":3`, `"path":"transport[exchange]","value":""`, `"path":"transport[exchange]","value":"x\ny"`, `"path":"transport","value":"x"`} {
		if code, _, body := ask(t, h, "POST", "/apply", `{"ops":[{"op":"rename",`+bad+`}]}`); code != http.StatusBadRequest && code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", bad, code, body)
		}
	}
	if code, _, body := ask(t, h, "POST", "/test-webhook", `{"name":"chat"}`); code != http.StatusOK || !strings.Contains(body, `"taken":true`) || c.what.Text != nil {
		t.Errorf("%d %s", code, body)
	}
	if code, _, body := ask(t, h, "POST", "/test-webhook", `{"name":"other","change":{"ops":[{"op":"set","path":"hostname","value":"mx.example.com"}]}}`); code != http.StatusBadRequest || !strings.Contains(body, "no webhook other") || c.what.Text == nil {
		t.Errorf("%d %s", code, body)
	}
	if code, got, body := ask(t, h, "POST", "/test-script", `{"path":"r.star"}`); code != http.StatusOK || got["passed"] != float64(2) {
		t.Errorf("%d %s", code, body)
	}
}
