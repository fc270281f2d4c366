package pages_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/admin/pages"
	"gatepost/internal/config"
	"gatepost/internal/config/change"
)

const configText = `# Ours. <script>alert(1)</script>
hostname = "gw.example.com"
data_dir = "data"
[store]
url = "postgres://gate:s3cr3t@db.example.com/gatepost"
[[listener]]
name = "in"
address = ["127.0.0.1:0"] # here
flows = { content = "c" }
[[domain]]
name = "example.com"
transport = "t"
[[transport]]
name = "t"
kind = "smtp"
hosts = ["127.0.0.1:2525"]
tls = "require"
auth = { mechanism = "PLAIN", username = "u", password_file = "t.pw" }
[[flow]]
name = "c"
stage = "content"
blocks = [
  { use = "script", file = "c.star", label = "<b>ours</b>" }, # first
  { use = "score", mark = 5 },
]
`

// edited is a Configuration on files of its own; Try only remembers.
type edited struct {
	*change.Keeper
	tried  change.Change
	tested string
}

// TestWebhook remembers which, and takes only one that the text has.
func (e *edited) TestWebhook(_ context.Context, what change.Change, name string) error {
	e.tried, e.tested = what, name
	if checked, err := e.Check(what); err != nil || !checked.OK {
		return errors.Join(err, &change.InvalidError{Checked: checked})
	}
	if name != "chat" {
		return &change.BadError{Text: "webhook " + name + " does not take events: it answered <b>500</b>"}
	}
	return nil
}

func (e *edited) TestScript(_ context.Context, what change.Change, path string) (*admin.ScriptTests, error) {
	e.tried, e.tested = what, path
	if strings.Contains(what.Files[0].Text, "broken") {
		return &admin.ScriptTests{Mistakes: []admin.ScriptMistake{{Line: 2, Column: 1, Text: "undefined: broken"}}}, nil
	}
	return &admin.ScriptTests{Passed: 1, Failed: 1, Output: "ok   test_a\nFAIL c.star:3:1: test_b: <i>"}, nil
}

func (e *edited) Try(_ context.Context, what change.Change, _ admin.FlowQuery, _ io.Reader) (any, error) {
	e.tried = what
	return explained("content: reject <img src=x>"), nil
}

type explained string

func (e explained) Text() string { return string(e) }

// keys is what the pages know of keys.
type keys struct{}

func (keys) DKIM(context.Context) []pages.DKIMKey  { return nil }
func (keys) Certificates() []pages.CertificateFile { return nil }
func (keys) Fetch(context.Context, string) ([]*x509.Certificate, error) {
	return nil, errors.New("nobody answers")
}

// configPages is a browser of an administrator, with a configuration.
func configPages(t *testing.T) (c *client, e *edited, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"gatepost.toml": configText, "t.pw": "hidden-password\n", "c.star": "def content(m):\n    return None\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	file := filepath.Join(dir, "gatepost.toml")
	inUse, problems := config.Load(file)
	if inUse == nil {
		t.Fatal(problems)
	}
	k, err := change.Open(change.Config{
		File: file, DataDir: filepath.Join(dir, "data"), InUse: func() *config.Config { return inUse },
		Reload: func(context.Context) error {
			next, problems := config.Load(file)
			if next == nil {
				return fmt.Errorf("%v", problems)
			}
			inUse = next
			return nil
		},
		NeedsRestart: func(*config.Config) []string { return nil },
	})
	must(t, err)
	must(t, k.Loaded())
	t.Cleanup(func() { must(t, k.Close()) })
	e = &edited{Keeper: k}
	w := open(t)
	site, err := pages.New(pages.Config{Gate: w.gate, Configuration: e, Keys: keys{}})
	must(t, err)
	cfg := everything()
	cfg.Accounts, cfg.Gate, cfg.Pages, cfg.Configuration = w.accounts, w.gate, site, e
	w.server, err = admin.New(cfg)
	must(t, err)
	w.handler = w.server.Public()
	return w.as(accounts.Administrator), e, dir
}

// form is what a page would send back: its hidden fields.
func form(t *testing.T, page string, more url.Values) url.Values {
	t.Helper()
	v := url.Values{"csrf": {field(page, "csrf")}}
	for _, name := range []string{"base", "text", "file", "file-base", "file-text"} {
		if strings.Contains(page, `name="`+name+`" value="`) {
			v.Set(name, html.UnescapeString(field(page, name)))
		}
	}
	for name, values := range more {
		v[name] = values
	}
	return v
}

func onDisk(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	must(t, err)
	return string(b)
}

func TestEveryPageOfTheConfigurationIsThere(t *testing.T) {
	c, _, _ := configPages(t)
	for _, path := range []string{
		"/config", "/config/raw", "/config/files", "/config/file?path=c.star", "/config/file?path=t.pw", "/config/revisions", "/config/revisions/1", "/config/try",
		"/config/dkim-keys", "/config/certificates", "/config/general", "/config/limits", "/config/rewrite", "/config/bayes", "/config/listener", "/config/listener/0",
		"/config/listener/new", "/config/domain", "/config/domain/0", "/config/transport/0", "/config/flow/0", "/config/flow/new", "/config/filter/new", "/config/ldap/new", "/config/http/new",
	} {
		r := c.get(path)
		body := r.Body.String()
		if r.Code != http.StatusOK {
			t.Errorf("%s: %d: %.500s", path, r.Code, body)
		}
		for _, bad := range []string{"<script>alert", "<b>ours", "s3cr3t", "hidden-password"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s shows %s", path, bad)
			}
		}
	}
	for _, path := range []string{"/config/nonsense", "/config/listener/7", "/config/listener/-1", "/config/limits/0", "/config/revisions/99", "/config/revisions/x", "/config/file?path=..%2fx", "/config/file?path=gatepost.toml"} {
		if r := c.get(path); r.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, r.Code)
		}
	}
}

func TestAFormBecomesAChangeOfTheFile(t *testing.T) {
	c, _, dir := configPages(t)
	page := c.get("/config/flow/0").Body.String()
	more := url.Values{"do": {"review"}, "name": {"c"}, "stage": {"content"}, "b0.file": {"c.star"}, "b0.label": {"<b>ours</b>"}, "b1.mark": {"6"}, "b1.reject": {"15"}}
	review := c.post("/config/flow/0", form(t, page, more)).Body.String()
	if !strings.Contains(html.UnescapeString(review), `+  { use = "score", mark = 6, reject = 15 },`) || onDisk(t, dir, "gatepost.toml") != configText {
		t.Fatalf("the review is %s", review)
	}
	r := c.post("/config/apply", form(t, review, url.Values{"why": {"stricter"}, "return": {"https://evil.example/"}}))
	if r.Code != http.StatusSeeOther || !strings.HasPrefix(r.Header().Get("Location"), "/config?said=") {
		t.Errorf("%d to %s", r.Code, r.Header().Get("Location"))
	}
	if got, want := onDisk(t, dir, "gatepost.toml"), strings.Replace(configText, "mark = 5", "mark = 6, reject = 15", 1); got != want {
		t.Errorf("the file is\n%s", got)
	}
	if page := c.get("/config/revisions").Body.String(); !strings.Contains(page, "stricter") || !strings.Contains(page, "the-administrator") {
		t.Error("the revision does not say who and why")
	}
	// The same form again is a change to an old text.
	if r := c.post("/config/apply", form(t, review, url.Values{"why": {"again"}})); r.Code != http.StatusConflict || !strings.Contains(r.Body.String(), "has changed since") {
		t.Errorf("an old form: %d", r.Code)
	}
}

// TestFieldsAreOneLineOfTheFile is WEB-13 for the forms of the configuration.
func TestFieldsAreOneLineOfTheFile(t *testing.T) {
	c, _, dir := configPages(t)
	for _, path := range []string{"/config/domain/0", "/config/domain/new"} {
		page := c.get(path).Body.String()
		for _, bad := range []string{"x.example\ndata_dir = \"/\"", "x.example\r\n[admin]", "x.example\x00", "x.example\x1b[2J", "x.example\u0085y"} {
			r := c.post(path, form(t, page, url.Values{"do": {"review"}, "name": {bad}, "transport": {"t"}}))
			if r.Code != http.StatusUnprocessableEntity {
				t.Errorf("%s with %q: %d", path, bad, r.Code)
			}
		}
		// An escape of an address is no escape of a form.
		r := c.post(path, form(t, page, url.Values{"do": {"review"}, "name": {"%0adata_dir"}, "transport": {"t"}}))
		if r.Code != http.StatusUnprocessableEntity || !strings.Contains(r.Body.String(), "is no domain") {
			t.Errorf("%s: %d", path, r.Code)
		}
	}
	if r := c.post("/config/apply", form(t, c.get("/config/domain/0").Body.String(), url.Values{"why": {"two\nlines"}})); r.Code != http.StatusUnprocessableEntity {
		t.Errorf("a reason of two lines: %d", r.Code)
	}
	if onDisk(t, dir, "gatepost.toml") != configText {
		t.Error("the file has changed")
	}
}

func TestWhatIsWrongStandsAtItsField(t *testing.T) {
	c, _, _ := configPages(t)
	page := c.get("/config/listener/0").Body.String()
	r := c.post("/config/listener/0", form(t, page, url.Values{"do": {"review"}, "name": {"in"}, "address": {"127.0.0.1"}, "flows.content": {"c"}}))
	body := r.Body.String()
	i := strings.Index(body, `id="f-address"`)
	if r.Code != http.StatusUnprocessableEntity || i < 0 || !strings.Contains(body[i:], "has no port") || strings.Index(body[i:], "has no port") > 900 {
		t.Errorf("%d: %s", r.Code, body)
	}
}

func TestBlocksAreAddedRemovedAndMovedInADraft(t *testing.T) {
	c, _, dir := configPages(t)
	page := c.get("/config/flow/0").Body.String()
	step := func(do string, more url.Values) {
		t.Helper()
		if more == nil {
			more = url.Values{}
		}
		more.Set("do", do)
		r := c.post("/config/flow/0", form(t, page, more))
		if r.Code != http.StatusOK {
			t.Fatalf("%s: %d", do, r.Code)
		}
		page = r.Body.String()
	}
	step("add", url.Values{"use": {"bayes"}})
	step("up:2", nil)
	step("remove:0", nil)
	text, err := base64.StdEncoding.DecodeString(html.UnescapeString(field(page, "text")))
	must(t, err)
	if !strings.Contains(string(text), "blocks = [\n  { use = \"bayes\" },\n  { use = \"score\", mark = 5 },\n]") || onDisk(t, dir, "gatepost.toml") != configText {
		t.Errorf("the draft is\n%s", text)
	}
	for _, bad := range []string{"up:0", "down:99", "remove:-1", "up:x", "nonsense"} {
		step(bad, nil)
	}
}

func TestTheTextIsEditedAndTried(t *testing.T) {
	c, e, dir := configPages(t)
	page := c.get("/config/raw").Body.String()
	_, shown, _ := strings.Cut(page, "data-editor>")
	shown, _, _ = strings.Cut(shown, "</textarea>")
	shown = html.UnescapeString(shown)
	// Browsers send CRLF.
	text := strings.ReplaceAll(strings.Replace(shown, "# here", "# there", 1), "\n", "\r\n")
	r := c.post("/config/review", form(t, page, url.Values{"raw": {text}, "do": {"review"}}))
	review := r.Body.String()
	if r.Code != http.StatusOK || !strings.Contains(html.UnescapeString(review), "+address") {
		t.Fatalf("%d: %s", r.Code, review)
	}
	try := c.post("/config/try", form(t, review, url.Values{"do": {"try"}, "client": {"192.0.2.7"}})).Body.String()
	if !strings.Contains(try, "reject &lt;img") || e.tried.Text == nil || !strings.Contains(*e.tried.Text, "# there") {
		t.Errorf("tried %+v: %s", e.tried, try)
	}
	c.post("/config/apply", form(t, review, url.Values{"why": {"words"}}))
	if got, want := onDisk(t, dir, "gatepost.toml"), strings.Replace(configText, "# here", "# there", 1); got != want {
		t.Errorf("the file is\n%q\nwant\n%q", got, want)
	}
}

func TestSecretFilesAreWrittenAndNeverShown(t *testing.T) {
	c, _, dir := configPages(t)
	page := c.get("/config/file?path=t.pw").Body.String()
	r := c.post("/config/secret", form(t, page, url.Values{"path": {"t.pw"}, "raw": {"new-password"}, "why": {"rotated"}}))
	if r.Code != http.StatusSeeOther || onDisk(t, dir, "t.pw") != "new-password\n" {
		t.Errorf("%d, the file holds %q", r.Code, onDisk(t, dir, "t.pw"))
	}
	for _, path := range []string{"/config/revisions/2", "/config/file?path=t.pw", "/config/files"} {
		if strings.Contains(c.get(path).Body.String(), "-password\n") {
			t.Errorf("%s shows a password", path)
		}
	}
	if r := c.post("/config/file", form(t, page, url.Values{"path": {"t.pw"}, "raw": {"x"}})); r.Code != http.StatusUnprocessableEntity {
		t.Errorf("a secret in the editor: %d", r.Code)
	}
}
