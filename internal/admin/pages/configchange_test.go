package pages_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestANewNameIsGivenWhereverTheOldOneStands(t *testing.T) {
	c, _, dir := configPages(t)
	page := c.get("/config/transport/0").Body.String()
	if !strings.Contains(page, `<a href="/config/domain/0"><code>domain[&#34;example.com&#34;].transport</code></a>`) {
		t.Errorf("the page does not say where the transport is used")
	}
	r := c.post("/config/transport/0", form(t, page, url.Values{"do": {"review"}, "name": {"exchange"}, "follow": {"1"}}))
	review := html.UnescapeString(r.Body.String())
	for _, want := range []string{`-transport = "t"`, `+transport = "exchange"`, `-name = "t"`, `+name = "exchange"`} {
		if r.Code != http.StatusOK || !strings.Contains(review, want) {
			t.Errorf("%d, the review lacks %s", r.Code, want)
		}
	}
	if r := c.post("/config/transport/0", form(t, page, url.Values{"do": {"review"}, "name": {"exchange"}})); r.Code != http.StatusUnprocessableEntity {
		t.Errorf("a name that is still used is given up: %d", r.Code)
	}
	c.post("/config/apply", form(t, r.Body.String(), url.Values{"why": {"what it is"}}))
	if got, want := onDisk(t, dir, "gatepost.toml"), strings.NewReplacer(`transport = "t"`, `transport = "exchange"`, `name = "t"`, `name = "exchange"`).Replace(configText); got != want {
		t.Errorf("the file is\n%s", got)
	}
}

func TestANameThatIsTakenIsNotGiven(t *testing.T) {
	c, e, _ := configPages(t)
	page := c.get("/config/flow/new").Body.String()
	r := c.post("/config/flow/new", form(t, page, url.Values{"do": {"more"}, "name": {"d"}, "stage": {"content"}}))
	two := r.Body.String()
	r = c.post("/config/flow/1", form(t, two, url.Values{"do": {"review"}, "name": {"c"}, "follow": {"1"}}))
	if r.Code != http.StatusUnprocessableEntity || !strings.Contains(html.UnescapeString(r.Body.String()), `The name "c" is taken`) || field(r.Body.String(), "text") != field(two, "text") {
		t.Errorf("%d", r.Code)
	}
	if now, err := e.Status(); err != nil || now.Text == "" || strings.Contains(now.Text, `"d"`) {
		t.Errorf("the file has changed (%v)", err)
	}
}

func TestWhatIsInUseIsNotDeletedButSaysWhere(t *testing.T) {
	c, _, dir := configPages(t)
	for path, where := range map[string]string{"/config/transport/0": `domain["example.com"].transport`, "/config/flow/0": `listener["in"].flows.content`} {
		r := c.post(path, form(t, c.get(path).Body.String(), url.Values{"do": {"delete"}}))
		if body := html.UnescapeString(r.Body.String()); r.Code != http.StatusUnprocessableEntity || !strings.Contains(body, "is in use at "+where) || !strings.Contains(body, `id="f-name"`) {
			t.Errorf("%s: %d", path, r.Code)
		}
	}
	r := c.post("/config/domain/0", form(t, c.get("/config/domain/0").Body.String(), url.Values{"do": {"delete"}}))
	if !strings.Contains(html.UnescapeString(r.Body.String()), `-[[domain]]`) {
		t.Errorf("what nothing uses is kept: %d", r.Code)
	}
	if onDisk(t, dir, "gatepost.toml") != configText {
		t.Error("the file has changed")
	}
}

func TestTheIndexLeadsToEveryPartByItsName(t *testing.T) {
	c, _, _ := configPages(t)
	page := c.get("/config").Body.String()
	_, index, _ := strings.Cut(page, `<ul class="index">`)
	index, _, _ = strings.Cut(index, "</ul>")
	for _, title := range []string{"Listeners", "Domains and aliases", "Recipients", "Transports", "Flows", "Filters", "Lists", "Scripts", "Bayes", "DKIM keys", "Certificates", "Files", "Users of these pages", "Webhooks"} {
		before, _, ok := strings.Cut(index, `">`+title+"</a>")
		if !ok {
			t.Errorf("there is no %s in %s", title, index)
			continue
		}
		href := html.UnescapeString(before[strings.LastIndex(before, `"`)+1:])
		href, _, _ = strings.Cut(href, "#")
		if r := c.get(href); r.Code != http.StatusOK {
			t.Errorf("%s leads to %s: %d", title, href, r.Code)
		}
	}
	for path, want := range map[string]string{
		"/config/filter": "A block “filters”", "/config/ldap": "knows recipients", "/config/files?kind=lists": "No lists yet", "/config/files?kind=scripts": "c.star", "/config/files?kind=x": "t.pw",
	} {
		if body := c.get(path).Body.String(); !strings.Contains(body, want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
}

func TestAListOfRecipientsIsMadeForADomain(t *testing.T) {
	c, _, dir := configPages(t)
	page := c.get("/config/recipients").Body.String()
	if !strings.Contains(page, "every address") {
		t.Error("a domain without a list does not say so")
	}
	for what, bad := range map[string]url.Values{
		"an unknown domain": {"domain": {"other.example"}, "name": {"r.txt"}, "raw": {"a@example.com"}},
		"no file":           {"domain": {"example.com"}, "name": {" "}, "raw": {"a@example.com"}},
		"an empty list":     {"domain": {"example.com"}, "name": {"r.txt"}, "raw": {"\r\n"}},
		"a file of another": {"domain": {"example.com"}, "name": {"c.star"}, "raw": {"a@example.com"}},
		"a line break":      {"domain": {"example.com"}, "name": {"r.txt\nx"}, "raw": {"a@example.com"}},
	} {
		if r := c.post("/config/recipients", form(t, page, bad)); r.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", what, r.Code)
		}
	}
	r := c.post("/config/recipients", form(t, page, url.Values{"domain": {"example.com"}, "name": {"r.txt"}, "raw": {"ada@example.com\r\nbob@example.com"}}))
	if shown := html.UnescapeString(r.Body.String()); !strings.Contains(shown, "+ada@example.com") || !strings.Contains(shown, `+recipients = ["file:r.txt"]`) {
		t.Fatalf("%d: %s", r.Code, shown)
	}
	c.post("/config/apply", form(t, r.Body.String(), url.Values{"why": {"only these"}}))
	if onDisk(t, dir, "r.txt") != "ada@example.com\nbob@example.com\n" || !strings.Contains(onDisk(t, dir, "gatepost.toml"), `recipients = ["file:r.txt"]`) {
		t.Errorf("the file is\n%s", onDisk(t, dir, "gatepost.toml"))
	}
	if page := c.get("/config/recipients").Body.String(); !strings.Contains(page, `href="/config/file?path=r.txt"`) {
		t.Error("the list is not on the page")
	}
}
