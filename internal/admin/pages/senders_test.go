package pages_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"gatepost/internal/accounts"
	"gatepost/internal/store"
)

// onLists are the entries in the store: "owner kind pattern".
func onLists(w *web) string {
	w.t.Helper()
	found, _, err := w.store.FindSenders(w.t.Context(), store.SenderQuery{})
	must(w.t, err)
	var all []string
	for _, e := range found {
		all = append(all, e.Owner+" "+string(e.Kind)+" "+e.Pattern)
	}
	return strings.Join(all, "; ")
}

// mine are lists, and who may change them.
var mine = []struct {
	owner string
	roles []accounts.Role
}{
	{"everybody", []accounts.Role{accounts.Administrator, accounts.Operator}},
	{"@a.example", []accounts.Role{accounts.Administrator, accounts.Operator, accounts.DomainAdministrator}},
	{"@b.example", []accounts.Role{accounts.Administrator, accounts.Operator}},
	{"@sub.a.example", []accounts.Role{accounts.Administrator, accounts.Operator}},
	{"x@a.example", []accounts.Role{accounts.Administrator, accounts.Operator, accounts.DomainAdministrator}},
	{"U@A.example", []accounts.Role{accounts.Administrator, accounts.Operator, accounts.DomainAdministrator, accounts.EndUser}},
	{"x@b.example", []accounts.Role{accounts.Administrator, accounts.Operator}},
}

func may(roles []accounts.Role, role accounts.Role) bool {
	for _, r := range roles {
		if r == role {
			return true
		}
	}
	return false
}

func TestListsOfSendersAreChangedByThoseWhoseTheyAre(t *testing.T) {
	w := open(t)
	for _, role := range accounts.Roles() {
		c := w.as(role)
		for _, list := range mine {
			want := ""
			key := strings.ToLower(strings.TrimPrefix(list.owner, "everybody"))
			if may(list.roles, role) {
				want = key + " block news@shop.example"
			}
			r := c.post("/senders", url.Values{"owner": {list.owner}, "pattern": {"News@Shop.example\r\n"}, "kind": {"block"}})
			if got := onLists(w); got != want || (r.Code == http.StatusSeeOther) != (want != "") {
				t.Errorf("%s at the list of %s: %d, %q, want %q", role, list.owner, r.Code, got, want)
			}
			// Nobody takes off a list what they could not put there.
			must(t, w.store.PutSender(t.Context(), store.SenderEntry{SenderKey: store.SenderKey{Owner: key, Pattern: "news@shop.example"}, Kind: store.SenderBlocked}, 10))
			c.post("/senders/remove", url.Values{"entry": {url.Values{"owner": {key}, "pattern": {"news@shop.example"}}.Encode()}})
			if got := onLists(w); (got == "") != (want != "") {
				t.Errorf("%s removes from the list of %s: left is %q", role, list.owner, got)
			}
			_ = w.store.DropSender(t.Context(), store.SenderKey{Owner: key, Pattern: "news@shop.example"})
		}
	}
}

func TestProgramsChangeListsOfSendersAsPeopleDo(t *testing.T) {
	w := open(t)
	for _, role := range accounts.Roles() {
		c := w.as(role)
		for _, list := range mine {
			key := strings.ToLower(strings.TrimPrefix(list.owner, "everybody"))
			body := `{"owner":"` + key + `","patterns":["@shop.example"],"kind":"allow","note":"Ticket 1","by":"somebody else"}`
			r, err := c.send("POST", "/api/v1/senders", body)
			must(t, err)
			if got := onLists(w); (r.Code == http.StatusOK) != may(list.roles, role) || (got != "") != may(list.roles, role) {
				t.Errorf("%s at the list of %q: %d %s, %q", role, key, r.Code, r.Body, got)
			}
			if strings.Contains(c.get("/api/v1/senders").Body.String(), "somebody else") {
				t.Errorf("%s says who it was", role)
			}
			r, err = c.send("POST", "/api/v1/senders/remove", `{"entries":[{"owner":"`+key+`","pattern":"@Shop.example"}]}`)
			if must(t, err); (r.Code == http.StatusOK) != may(list.roles, role) || onLists(w) != "" {
				t.Errorf("%s removes from the list of %q: %d %s", role, key, r.Code, r.Body)
			}
		}
	}
	admin := w.as(accounts.Administrator)
	for _, body := range []string{`{"patterns":["a@b.example"],"kind":"maybe"}`, `{"patterns":[],"kind":"block"}`, `{"patterns":["nothing"],"kind":"block"}`, `{"owner":"me","patterns":["a@b.example"],"kind":"block"}`} {
		if r, err := admin.send("POST", "/api/v1/senders", body); err != nil || r.Code != http.StatusBadRequest {
			t.Errorf("%s: %d, %v", body, r.Code, err)
		}
	}
	for _, query := range []string{"owner=me", "kind=x", "limit=0", "cursor=!", "what=1", "text=a&text=b"} {
		if r := admin.get("/api/v1/senders?" + query); r.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", query, r.Code)
		}
	}
}

func TestEverybodySeesTheirOwnListsOfSenders(t *testing.T) {
	w := open(t)
	owners := []string{"", "@a.example", "u@a.example", "x@a.example", "x@b.example"}
	for i, owner := range owners {
		must(t, w.store.PutSender(t.Context(), store.SenderEntry{SenderKey: store.SenderKey{Owner: owner, Pattern: fmt.Sprintf("s%d@shop.example", i)},
			Kind: store.SenderBlocked, Note: "<script>"}, 10))
	}
	for role, want := range map[accounts.Role]string{
		accounts.Administrator: "01234", accounts.Operator: "01234", accounts.Viewer: "01234", accounts.DomainAdministrator: "123", accounts.EndUser: "2",
	} {
		c := w.as(role)
		for path, want := range map[string]string{
			"/senders": want, "/senders?text=script": want, "/api/v1/senders": want,
			"/senders?owner=x%40b.example": only(want, "4"), "/api/v1/senders?owner=everybody": only(want, "0"), "/senders?kind=allow": "",
		} {
			body := c.get(path).Body.String()
			for i := range owners {
				if shown := strings.Contains(body, fmt.Sprintf("s%d@shop.example", i)); shown != strings.Contains(want, fmt.Sprint(i)) {
					t.Errorf("%s %s: the list of %q is shown: %v", role, path, owners[i], shown)
				}
			}
			if strings.Contains(body, "<script>") {
				t.Errorf("%s %s: a note is more than text", role, path)
			}
		}
		body := c.get("/senders").Body.String()
		if forms := strings.Contains(body, `action="/senders/remove"`) && strings.Contains(body, "Take what is chosen"); forms != (role != accounts.Viewer) {
			t.Errorf("%s can remove: %v", role, forms)
		}
	}
}

// only is what of a text is one of others.
func only(text, others string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(others, r) {
			return r
		}
		return -1
	}, text)
}

func TestAFormThatLeavesOutForWhomBlocksNobody(t *testing.T) {
	w := open(t)
	c := w.as(accounts.Administrator)
	r := c.post("/senders", url.Values{"pattern": {"@shop.example"}, "kind": {"block"}, "note": {"my note"}})
	if r.Code != http.StatusUnprocessableEntity || onLists(w) != "" || !strings.Contains(r.Body.String(), "my note") || !strings.Contains(r.Body.String(), "Say for whom") {
		t.Errorf("%d, %q\n%s", r.Code, onLists(w), r.Body)
	}
	r = c.post("/senders", url.Values{"owner": {"everybody"}, "pattern": {"a@one.example\n@two.example"}, "kind": {"allow"}, "back": {"//evil.example/"}})
	if got := onLists(w); got != " allow @two.example;  allow a@one.example" || r.Header().Get("Location") != "/senders?said=senders-allow" {
		t.Errorf("%q, to %s", got, r.Header().Get("Location"))
	}
}
