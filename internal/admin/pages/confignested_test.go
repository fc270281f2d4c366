package pages_test

import (
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// stepper sends the form of a page with a button, again and again.
type stepper struct {
	*testing.T
	c          *client
	path, page string
}

func (s *stepper) do(button string, more url.Values) int {
	s.Helper()
	if more == nil {
		more = url.Values{}
	}
	more.Set("do", button)
	r := s.c.post(s.path, form(s.T, s.page, more))
	s.page = r.Body.String()
	return r.Code
}

// text is the draft in the page.
func (s *stepper) text() string {
	s.Helper()
	text, err := base64.StdEncoding.DecodeString(html.UnescapeString(field(s.page, "text")))
	must(s.T, err)
	return string(text)
}

func TestProvidersAndWebhooksHaveForms(t *testing.T) {
	c, _, dir := configPages(t)
	s := &stepper{T: t, c: c, path: "/config/admin/edit", page: c.get("/config/admin").Body.String()}
	if code := s.do("row-add:webhook", nil); code != http.StatusUnprocessableEntity {
		t.Errorf("a webhook without a name: %d", code)
	}
	s.do("row-add:webhook", url.Values{"new.webhook": {"chat"}})
	s.do("row-add:webhook", url.Values{"new.webhook": {"gone"}})
	s.do("row-add:oidc", url.Values{"new.oidc": {"company"}})
	s.do("row-remove:webhook.1", nil)
	for _, bad := range []string{"row-remove:webhook.7", "row-remove:webhook", "row-add:listen", "row-remove:flows.auth.0", "row-add:"} {
		if code := s.do(bad, url.Values{"new.listen": {"x"}}); code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", bad, code)
		}
	}
	filled := url.Values{
		"webhook.0.url": {"https://hooks.example.com/x"}, "has.webhook.0.events": {"1"}, "webhook.0.events": {"admin", "release"}, "webhook.0.secret_file": {"hook.secret"},
		"oidc.0.issuer": {"https://login.example.com"}, "oidc.0.client_id": {"gatepost"}, "oidc.0.roles": {"helpdesk = operator\r\n\"cn=mail,dc=x\" = administrator"}, "base_url": {"https://gw.example.com"},
	}
	// What is wrong stands at the field of the element.
	if code := s.do("review", filled); code != http.StatusUnprocessableEntity {
		t.Fatalf("a secret that is not there: %d", code)
	}
	at := strings.Index(s.page, `id="f-webhook.0.secret_file"`)
	if at < 0 || !strings.Contains(s.page[at:at+1500], "This file is not there yet") || !strings.Contains(s.page[at:at+900], `class="wrong"`) {
		t.Errorf("the field does not say that the file is missing: %.2000s", s.page[max(at, 0):])
	}
	filled.Set("content.webhook.0.secret_file", "a secret of many bytes")
	if code := s.do("review", filled); code != http.StatusOK {
		t.Fatalf("%d: %s", code, s.page)
	}
	if shown := html.UnescapeString(s.page); strings.Contains(shown, "many bytes") || !strings.Contains(shown, "+[[admin.webhook]]") {
		t.Errorf("the review is %s", shown)
	}
	c.post("/config/apply", form(t, s.page, url.Values{"why": {"told"}}))
	got := onDisk(t, dir, "gatepost.toml")
	for _, want := range []string{"[[admin.webhook]]\nname = \"chat\"\n", "https://hooks.example.com/x", `secret_file = "hook.secret"`, `"cn=mail,dc=x" = "administrator"`, `helpdesk = "operator"`, "[[admin.oidc]]\nname = \"company\"\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %s in\n%s", want, got)
		}
	}
	if onDisk(t, dir, "hook.secret") != "a secret of many bytes\n" {
		t.Errorf("the secret is %q", onDisk(t, dir, "hook.secret"))
	}
	page := c.get("/config/admin").Body.String()
	if strings.Contains(page, "many bytes") || !strings.Contains(html.UnescapeString(page), `"cn=mail,dc=x" = administrator`) {
		t.Errorf("the form is %s", page)
	}
}

func TestTablesWithAnyKeysAreLines(t *testing.T) {
	c, _, _ := configPages(t)
	s := &stepper{T: t, c: c, path: "/config/http/new", page: c.get("/config/http/new").Body.String()}
	for _, bad := range []string{"Accept", "= x", "a = 1\na = 2", `"a = 1`} {
		if code := s.do("more", url.Values{"name": {"api"}, "headers": {bad}}); code != http.StatusUnprocessableEntity {
			t.Errorf("%q is taken: %d", bad, code)
		}
		s.page = c.get("/config/http/new").Body.String()
	}
	s.do("more", url.Values{"name": {"api"}, "headers": {"Accept = text/plain\r\nX-Key = a=b="}})
	if !strings.Contains(s.text(), `headers = { Accept = "text/plain", X-Key = "a=b=" }`) {
		t.Errorf("the draft is\n%s", s.text())
	}
}

func TestAWebhookIsTestedAsTheFormDescribesIt(t *testing.T) {
	c, e, dir := configPages(t)
	must(t, os.WriteFile(filepath.Join(dir, "hook.secret"), []byte("a secret of many bytes\n"), 0o600))
	s := &stepper{T: t, c: c, path: "/config/admin/edit", page: c.get("/config/admin").Body.String()}
	for _, name := range []string{"chat", "other"} {
		s.do("row-add:webhook", url.Values{"new.webhook": {name}})
	}
	s.path = "/config/test-webhook"
	filled := func(secret string) url.Values {
		return url.Values{"webhook.0.url": {"https://hooks.example.com/x"}, "webhook.0.secret_file": {"hook.secret"}, "webhook.1.url": {"https://hooks.example.com/y"}, "webhook.1.secret_file": {secret}}
	}
	if code := s.do("webhook.0", filled("hook.secret")); code != http.StatusOK || !strings.Contains(s.page, "chat has taken a test event") || e.tested != "chat" || !strings.Contains(*e.tried.Text, "hooks.example.com/y") {
		t.Errorf("%d, tested %s", code, e.tested)
	}
	if code := s.do("webhook.1", filled("hook.secret")); code != http.StatusUnprocessableEntity || !strings.Contains(s.page, "answered &lt;b&gt;500") {
		t.Errorf("%d, tested %s", code, e.tested)
	}
	if code := s.do("webhook.1", filled("nowhere.secret")); code != http.StatusUnprocessableEntity || !strings.Contains(s.page, "cannot be tested like this") || !strings.Contains(s.page, `class="wrong"`) {
		t.Errorf("%d, tested %s", code, e.tested)
	}
	for _, bad := range []string{"webhook.9", "webhook", "", "listen.0", "webhook.-1"} {
		if code := s.do(bad, filled("hook.secret")); code != http.StatusUnprocessableEntity {
			t.Errorf("%q: %d", bad, code)
		}
	}
	if onDisk(t, dir, "gatepost.toml") != configText {
		t.Error("the file has changed")
	}
}

func TestAScriptIsTestedAsItIsInTheEditor(t *testing.T) {
	c, e, _ := configPages(t)
	page := c.get("/config/file?path=c.star").Body.String()
	send := func(text string) (int, string) {
		r := c.post("/config/test-script", form(t, page, url.Values{"path": {"c.star"}, "raw": {text}}))
		return r.Code, r.Body.String()
	}
	code, body := send("def test_a():\r\n    pass\r\n")
	if code != http.StatusOK || !strings.Contains(body, "1 test passed, 1 failed") || !strings.Contains(body, "test_b: &lt;i&gt;") || e.tried.Files[0].Text != "def test_a():\n    pass\n" {
		t.Errorf("%d, tried %q: %s", code, e.tried.Files, body)
	}
	if code, body := send("broken"); code != http.StatusUnprocessableEntity || !strings.Contains(body, "c.star, line 2") || !strings.Contains(body, ">broken</textarea>") {
		t.Errorf("%d: %s", code, body)
	}
	if r := c.post("/config/test-script", form(t, page, url.Values{"path": {"t.pw"}, "raw": {"x"}})); r.Code != http.StatusUnprocessableEntity {
		t.Errorf("a secret is tested: %d", r.Code)
	}
}

func TestAListComesAlongWithTheFilterThatNamesIt(t *testing.T) {
	c, _, dir := configPages(t)
	s := &stepper{T: t, c: c, path: "/config/filter/new", page: c.get("/config/filter/new").Body.String()}
	filled := url.Values{"name": {"bad senders"}, "when": {`{ sender = "file:bad.txt" }`}, "then": {"score:2"}, "along.name": {"bad.txt"}}
	if code := s.do("review", filled); code != http.StatusUnprocessableEntity || !strings.Contains(s.page, "needs both a name") {
		t.Errorf("an empty list: %d", code)
	}
	s.page = c.get("/config/filter/new").Body.String()
	filled.Set("along.text", "@evil.example\r\n@bad.example")
	if code := s.do("review", filled); code != http.StatusOK {
		t.Fatalf("%d: %s", code, s.page)
	}
	c.post("/config/apply", form(t, s.page, url.Values{"why": {"they are bad"}}))
	if onDisk(t, dir, "bad.txt") != "@evil.example\n@bad.example\n" || !strings.Contains(onDisk(t, dir, "gatepost.toml"), `when = { sender = "file:bad.txt" }`) {
		t.Errorf("the file is\n%s", onDisk(t, dir, "gatepost.toml"))
	}
	if page := c.get("/config/files?kind=lists").Body.String(); !strings.Contains(page, "/config/file?path=bad.txt") {
		t.Error("the list is not on the page of lists")
	}
}

// TestEveryKeyOfTheExampleHasAField goes through the example with every key: each one is
// in a form, and only the conditions of filters are written as the file writes them.
func TestEveryKeyOfTheExampleHasAField(t *testing.T) {
	text, err := os.ReadFile("../../../docs/gatepost.example.toml")
	must(t, err)
	c, _, _ := configPages(t)
	shown := map[string]string{}
	form := func(section string) string {
		if _, ok := shown[section]; !ok {
			path := "/config/" + section
			if body := c.get(path + "/new"); body.Code == http.StatusOK {
				shown[section] = body.Body.String()
			} else {
				shown[section] = c.get(path).Body.String()
			}
		}
		return shown[section]
	}
	header, key := regexp.MustCompile(`^#? ?\[\[?([a-z0-9_.]+)\]\]?`), regexp.MustCompile(`^#? ?([a-z0-9_]+) = `)
	section, within, tried := "general", "", 0
	for line := range strings.Lines(string(text)) {
		if m := header.FindStringSubmatch(line); m != nil {
			section, within, _ = strings.Cut(m[1], ".")
			continue
		}
		m := key.FindStringSubmatch(line)
		if m == nil || section == "flow" || within != "" {
			continue
		}
		tried++
		if body := form(section); !strings.Contains(body, `id="f-`+m[1]) && !strings.Contains(body, `name="has.`+m[1]+`"`) && !strings.Contains(body, `<legend>`+m[1]+`</legend>`) {
			t.Errorf("[%s] %s is in no form", section, m[1])
		}
	}
	if tried < 40 {
		t.Errorf("%d keys were looked for", tried)
	}
	for _, section := range []string{"ldap", "http", "rewrite", "srs", "admin", "users", "store", "history", "disclaimer", "dns", "limits", "queue"} {
		form(section)
	}
	for section, body := range shown {
		for _, m := range regexp.MustCompile(`<textarea id="f-([^"]+)" name="[^"]+" class="mono"`).FindAllStringSubmatch(body, -1) {
			if m[1] != "when" {
				t.Errorf("[%s] %s is written as TOML", section, m[1])
			}
		}
	}
}
