package pages_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"gatepost/internal/accounts"
	"gatepost/internal/admin/pages"
	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// The API shows and does for each role what the pages do.
func TestProgramsSeeAndChangeMailOfTheirActorOnly(t *testing.T) {
	h := openHeld(t)
	both := h.hold(message{subject: "for both", to: []string{"u@a.example", "secret@b.example"}}).String()
	others := h.hold(message{subject: "for others", to: []string{"other@b.example"}}).String()
	virus := h.hold(message{threat: mail.ThreatVirus, to: []string{"u@a.example", "secret@b.example"}}).String()
	const api = "/api/v1/quarantine"
	for _, role := range []accounts.Role{accounts.EndUser, accounts.DomainAdministrator} {
		c := h.as(role)
		list := c.get(api)
		if body := list.Body.String(); list.Code != 200 || !strings.Contains(body, both) || strings.Contains(body, others) || strings.Contains(body, "b.example") {
			t.Errorf("%s: the list is %s", role, body)
		}
		if r := c.get(api + "/" + both); r.Code != 200 || strings.Contains(r.Body.String(), "b.example") || !strings.Contains(r.Body.String(), "Hello.") {
			t.Errorf("%s: %d %s", role, r.Code, r.Body)
		}
		for _, path := range []string{"", "/body"} {
			if r := c.get(api + "/" + others + path); r.Code != http.StatusNotFound {
				t.Errorf("%s gets %s%s: %d", role, others, path, r.Code)
			}
		}
		for request, want := range map[string]int{
			`{"ids":["` + others + `"]}`:                                           404,
			`{"ids":["` + both + `"],"recipients":["secret@b.example"]}`:           404,
			`{"ids":["` + both + `"],"to":["me@c.example"]}`:                       400,
			`{"ids":["` + both + `"],"force":true}`:                                400,
			`{"ids":["` + both + `"],"recipients":["u@a.example"],"as":"nothing"}`: 400,
		} {
			if r, err := c.send("POST", api+"/release", request); err != nil || r.Code != want {
				t.Errorf("%s: release %s: %d %s", role, request, r.Code, r.Body)
			}
		}
		if r, _ := c.send("POST", api+"/train", `{"ids":["`+both+`"],"as":"spam"}`); r.Code != http.StatusForbidden {
			t.Errorf("%s trains: %d", role, r.Code)
		}
	}
	user := h.as(accounts.EndUser)
	if r, _ := user.send("POST", api+"/release", `{"ids":["`+virus+`"]}`); r.Code != http.StatusForbidden || h.out.all() != "" {
		t.Errorf("a virus: %d, released to %s", r.Code, h.out.all())
	}
	for _, what := range []string{"ask", "release"} {
		if r, _ := user.send("POST", api+"/"+what, `{"ids":["`+both+`"],"by":"somebody else"}`); r.Code != http.StatusOK || strings.Contains(r.Body.String(), "b.example") {
			t.Errorf("%s: %d %s", what, r.Code, r.Body)
		}
	}
	if sent := h.out.all(); sent != "u@a.example" {
		t.Errorf("released to %s", sent)
	}
	viewer := h.as(accounts.Viewer)
	if r := viewer.get(api + "/" + both); r.Code != 200 || strings.Contains(r.Body.String(), "Hello.") || !strings.Contains(r.Body.String(), "the-end-user") || strings.Contains(r.Body.String(), "somebody else") {
		t.Errorf("a viewer: %d %s", r.Code, r.Body)
	}
}

func TestProgramsSeeDelayedMailOfTheirActorOnly(t *testing.T) {
	g := &grey{}
	w := openWith(t, func(_ *store.Store, c *pages.Config) { c.Greylist = g })
	for role, want := range map[accounts.Role]string{accounts.Operator: "[]", accounts.DomainAdministrator: "[@a.example]", accounts.EndUser: "[u@a.example]"} {
		c := w.as(role)
		c.get("/api/v1/greylist?kind=allow")
		if got := fmt.Sprint(g.asked.Recipients); got != want || (g.asked.Kind == store.GreylistAllowKind) != (role == accounts.Operator) {
			t.Errorf("%s is shown %s of %s", role, g.asked.Kind, got)
		}
		for recipient, may := range map[string]bool{"u@a.example": true, "x@b.example": role == accounts.Operator} {
			g.passed = nil
			r, err := c.send("POST", "/api/v1/greylist/pass", `{"sender":"s@x.example","recipient":"`+recipient+`"}`)
			if err != nil || (r.Code == http.StatusOK) != may || (len(g.passed) == 1) != may {
				t.Errorf("%s for %s: %d %v", role, recipient, r.Code, g.passed)
			}
		}
	}
}
