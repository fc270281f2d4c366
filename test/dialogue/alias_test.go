package dialogue

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// Mail to an alias of a domain is the business of who administrates the domain, in the
// quarantine and in the history, as long as the configuration says that it is an alias.
func TestDomainAdministratorsSeeMailToAliases(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	settings := func(aliases string) gatepost.Settings {
		return gatepost.Settings{Next: s.Addr, Listener: scanning, More: filter("kept", "subject = 'keep'", `then = "quarantine"`) + flowOf(`{ use = "filters" }`) +
			"[[domain]]\nname = \"parent.example\"\naliases = [" + aliases + "]\ntransport = \"next\"\n[[domain]]\nname = \"neighbour.example\"\ntransport = \"next\"\n"}
	}
	g := behind(t, s, settings(`"alias.example"`))
	c := g.Hello("")
	id := give(t, c, "ada@out.example", "a@alias.example", "Subject: keep\n\nbody\n")
	give(t, c, "ada@out.example", "a@neighbour.example", "Subject: keep\n\nbody\n")
	quarantine(t, g, 2)

	local := apiOf(g)
	post := func(path, body string, v any) {
		t.Helper()
		resp, err := local.Post("http://gatepost"+path, "application/json", bytes.NewBufferString(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= 300 || v != nil && json.Unmarshal(text, v) != nil {
			t.Fatalf("%s: %d %s %v", path, resp.StatusCode, text, err)
		}
	}
	post("/api/v1/users", `{"name":"kim","role":"domain-administrator","domains":["parent.example"],"password":"correct horse battery"}`, nil)
	var token struct{ Secret string }
	post("/api/v1/users/kim/tokens", `{"name":"test","days":1}`, &token)
	sees := func(what string) string {
		t.Helper()
		status, body := answer(t, "GET", "http://"+g.Admin+"/api/v1/"+what, token.Secret)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", what, status, body)
		}
		return body
	}
	gatepost.Eventually(t, "the history knows of both", patience, func() bool { return strings.Contains(sees("history?q=kind:message"), id) })
	for _, what := range []string{"quarantine", "history?q=kind:message"} {
		if body := sees(what); !strings.Contains(body, id) || strings.Contains(body, "neighbour.example") {
			t.Errorf("%s: %s", what, body)
		}
	}
	g.Configure(settings(""))
	if out, err := g.Run("reload"); err != nil {
		t.Fatal(out, err)
	}
	if body := sees("quarantine"); strings.Contains(body, id) {
		t.Errorf("it is an alias no more, and seen: %s", body)
	}
}
