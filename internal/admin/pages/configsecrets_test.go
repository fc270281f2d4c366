package pages_test

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gatepost/internal/config/change"
)

var inputs = regexp.MustCompile(`<input id="f-([^"]+)" name=`)

// TestNoFieldOfAFormWritesASecondLine is WEB-13 for every field of every form that is
// one line.
func TestNoFieldOfAFormWritesASecondLine(t *testing.T) {
	c, _, dir := configPages(t)
	sections := regexp.MustCompile(`<h2><a href="/config/([a-z0-9_]+)">[^<]*</a> <code class="faint">(\[*)`).FindAllStringSubmatch(c.get("/config").Body.String(), -1)
	tried := 0
	for _, s := range sections {
		page, action := "/config/"+s[1], "/config/"+s[1]+"/edit"
		if s[2] == "[[" {
			page, action = page+"/new", page+"/new"
		}
		form0 := c.get(page).Body.String()
		for _, field0 := range inputs.FindAllStringSubmatch(form0, -1) {
			name := html.UnescapeString(field0[1])
			tried++
			for _, bad := range []string{"x\ninjected = true", "x\r\ninjected = true", "x\x00y", "x\u2028y\x7f"} {
				sent := form(t, form0, url.Values{"do": {"review"}, "name": {"thing"}})
				sent.Set(name, bad)
				r := c.post(action, sent)
				body := r.Body.String()
				if r.Code != http.StatusUnprocessableEntity {
					t.Errorf("%s %s takes %q: %d", action, name, bad, r.Code)
				}
				text, err := base64.StdEncoding.DecodeString(html.UnescapeString(field(body, "text")))
				if err != nil || strings.Contains(string(text), "\ninjected") || strings.ContainsAny(string(text), "\x00\x7f") {
					t.Errorf("%s %s with %q makes\n%s (%v)", action, name, bad, text, err)
				}
			}
		}
	}
	if tried < 100 {
		t.Errorf("there are %d fields in %d sections", tried, len(sections))
	}
	if onDisk(t, dir, "gatepost.toml") != configText {
		t.Error("the file has changed")
	}
}

// hidden are the secrets of the configuration below.
var hidden = []string{"s3cr3t", "hidden-password", "bearer-of-api", "token-in-url", "users-password", "webhook-secret-of-many", "MIGkeyMIGkey"}

const secretive = configText + `
[[http]]
name = "api"
url = "https://api.example.com/?user={user}&p={password}&token=token-in-url"
headers = { Authorization = "Bearer bearer-of-api" }
[[flow]]
name = "u"
stage = "auth"
blocks = [{ use = "auth-file", file = "users.txt" }, { use = "auth-http", http = "api" }]
[[admin.webhook]]
name = "chat"
url = "https://hooks.example.com/x"
secret_file = "hook.secret"
`

// TestNoSecretIsShownAnywhere is WEB-14 for the configuration: its pages, the API, the
// revisions, the diffs, and what is said of mistakes.
func TestNoSecretIsShownAnywhere(t *testing.T) {
	c, e, dir := configPages(t)
	for name, text := range map[string]string{
		"gatepost.toml": secretive, "users.txt": "ada users-password\n", "hook.secret": "webhook-secret-of-many\n",
		"key.pem": "-----BEGIN PRIVATE KEY-----\nMIGkeyMIGkey\n-----END PRIVATE KEY-----\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	must(t, e.Loaded())
	text := strings.Replace(secretive, "# here", "# there", 1)
	now, err := e.Status()
	must(t, err)
	masked := strings.Replace(now.Text, "# here", "# there", 1)
	done, err := e.Apply(t.Context(), change.Change{Base: now.Version, Text: &masked, Why: "words"})
	must(t, err)
	if onDisk(t, dir, "gatepost.toml") != text {
		t.Fatalf("the file is\n%s", onDisk(t, dir, "gatepost.toml"))
	}
	last := strconv.Itoa(done.Revision)
	for _, path := range []string{
		"/config", "/config/raw", "/config/files", "/config/recipients", "/config/http", "/config/http/0", "/config/store", "/config/admin", "/config/transport/0", "/config/flow/1", "/config/certificates",
		"/config/file?path=users.txt", "/config/file?path=hook.secret", "/config/file?path=t.pw", "/config/file?path=key.pem", "/config/revisions", "/config/revisions/1", "/config/revisions/2", "/config/revisions/" + last, "/config/try",
		"/api/v1/config", "/api/v1/config/files", "/api/v1/config/file?path=users.txt", "/api/v1/config/file?path=hook.secret", "/api/v1/config/file?path=t.pw", "/api/v1/config/file?path=key.pem",
		"/api/v1/config/revisions", "/api/v1/config/revisions/1", "/api/v1/config/revisions/2", "/api/v1/config/revisions/" + last, "/api/v1/config/revisions/1/rollback", "/api/v1/config/revisions/2/rollback", "/api/v1/audit", "/audit",
	} {
		hides(t, path, c.get(path).Body.String())
	}
	// Who does not know a secret has its mark, and may write that anywhere.
	now, err = e.Status()
	must(t, err)
	marks := regexp.MustCompile(`\(secret-[0-9a-f]{16}\)`).FindAllString(now.Text, -1)
	if len(marks) != 3 {
		t.Fatalf("%d secrets are marked in\n%s", len(marks), now.Text)
	}
	page := c.get("/config/raw").Body.String()
	for _, mark := range marks {
		for what, broken := range map[string]string{
			"no TOML":      strings.Replace(now.Text, mark, mark+"\"\"", 1),
			"another type": strings.NewReplacer(`"Bearer `+mark+`"`, `["Bearer `+mark+`"]`, `"`+mark+`"`, `["`+mark+`"]`).Replace(now.Text),
			"a bad URL":    strings.NewReplacer("postgres://", "nonsense://", "https://api", "gopher://api").Replace(now.Text),
			"a host":       strings.Replace(now.Text, "gw.example.com", mark, 1),
			"a transport":  strings.Replace(now.Text, `transport = "t"`, `transport = "`+mark+`"`, 1),
			"a file":       strings.Replace(now.Text, `"users.txt"`, `"`+mark+`"`, 1),
			"a comment":    strings.Replace(now.Text, "# Ours.", "# "+mark, 1),
		} {
			r := c.post("/config/review", form(t, page, url.Values{"raw": {broken}, "do": {"review"}}))
			hides(t, "a check of "+mark+" as "+what, r.Body.String())
			checked, err := e.Check(change.Change{Base: now.Version, Text: &broken})
			answer, jsonErr := json.Marshal(checked)
			must(t, jsonErr)
			hides(t, "the API on "+mark+" as "+what, string(answer))
			if err != nil {
				hides(t, "an error on "+mark+" as "+what, err.Error())
			}
		}
	}
	// A secret that is named as something else is still one.
	for _, other := range []string{"key.pem", "hook.secret", "t.pw", "users.txt", "gatepost.toml"} {
		broken := strings.Replace(now.Text, `file = "c.star"`, `file = "`+other+`"`, 1)
		hides(t, "a check of "+other+" as a script", c.post("/config/review", form(t, page, url.Values{"raw": {broken}, "do": {"check"}})).Body.String())
	}
}

// hides fails the test where a text has a secret in it, also in base64 as forms have it.
func hides(t *testing.T, where, text string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`value="([A-Za-z0-9+/=&#;]{40,})"`).FindAllStringSubmatch(text, -1) {
		if raw, err := base64.StdEncoding.DecodeString(html.UnescapeString(m[1])); err == nil {
			text += string(raw)
		}
	}
	for _, secret := range hidden {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%s shows %s: …%s…", where, secret, text[max(0, i-150):min(len(text), i+60)])
		}
	}
}
