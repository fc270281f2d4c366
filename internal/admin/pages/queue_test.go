package pages_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/admin/pages"
	"gatepost/internal/mail"
	"gatepost/internal/queue"
	"gatepost/internal/store"
)

// line is a queue that notes what is done with it.
type line struct {
	admin.Queue
	rows  []queue.Row
	did   []string
	asked queue.Selector
}

func (l *line) Stats() queue.Stats {
	return queue.Stats{Deferred: len(l.rows), Destinations: []queue.DestinationStats{{Destination: mail.Destination{Transport: "next"}, Dead: true}}}
}

func (l *line) List(_ context.Context, sel queue.Selector, limit int, after string) ([]queue.Row, error) {
	l.asked = sel
	var rows []queue.Row
	for _, r := range l.rows {
		if r.QueueID.String() > after && len(rows) < limit {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func (l *line) Show(_ context.Context, id string) ([]queue.Detail, error) {
	for _, r := range l.rows {
		if r.ID.String() == id {
			return []queue.Detail{{Row: r, Subject: "<script>alert(1)</script>", States: []queue.RecipientDetail{{Address: "u@a.example", Reply: "450 <script>", Status: mail.Deferred}}}}, nil
		}
	}
	return nil, queue.ErrNotFound
}

func (l *line) note(what string, sel queue.Selector, more ...string) (int, error) {
	l.did = append(l.did, fmt.Sprintf("%s %v all=%v sender=%s %s", what, sel.IDs, sel.All, sel.Sender, strings.Join(more, " ")))
	return len(l.rows), nil
}

func (l *line) Count(context.Context, queue.Selector) (int, error) { return len(l.rows), nil }
func (l *line) Retry(_ context.Context, s queue.Selector, by string) (int, error) {
	return l.note("retry", s, by)
}
func (l *line) Release(_ context.Context, s queue.Selector, by string) (int, error) {
	return l.note("release", s, by)
}
func (l *line) Delete(_ context.Context, s queue.Selector, by string) (int, error) {
	return l.note("delete", s, by)
}
func (l *line) Hold(_ context.Context, s queue.Selector, by, reason string) (int, error) {
	return l.note("hold", s, by, reason)
}
func (l *line) Reroute(_ context.Context, s queue.Selector, to, by string) (int, error) {
	return l.note("reroute", s, by, to)
}
func (l *line) Pauses() []queue.Pause { return nil }
func (l *line) Pause(_ context.Context, t queue.PauseTarget, by, reason string) error {
	l.did = append(l.did, fmt.Sprintf("pause %s/%s %s: %s", t.Transport, t.Domain, by, reason))
	return nil
}
func (l *line) Resume(_ context.Context, t queue.PauseTarget, by string) error {
	l.did = append(l.did, fmt.Sprintf("resume %s/%s %s", t.Transport, t.Domain, by))
	return nil
}

func openQueue(t *testing.T, n int) (*line, *web) {
	l := &line{}
	for i := range n {
		id := mail.ID{byte(i >> 8), byte(i), 1}
		l.rows = append(l.rows, queue.Row{ID: id, QueueID: mail.QueueID{Message: id, N: 1}, Sender: "<script>@x.example", Recipients: []string{"u@a.example"},
			Transport: "next", State: mail.QueueDeferred, Reason: "paused by <script>", LastError: "450 <script>", Created: time.Now(), NextAttempt: time.Now().Add(time.Hour)})
	}
	return l, openWith(t, func(_ *store.Store, c *pages.Config) {
		c.Queue, c.Transports = l, func() []string { return []string{"next", "other"} }
	})
}

func TestItemsOfTheQueueAreChangedAsTheyWereChosen(t *testing.T) {
	l, w := openQueue(t, 2)
	c := w.as(accounts.Operator)
	first := l.rows[0].QueueID.String()
	for name, tt := range map[string]struct {
		form       url.Values
		code       int
		does, says string
	}{
		"one":                    {url.Values{"do": {"retry"}, "id": {first}}, 303, "retry [" + first + "] all=false sender= the-operator", ""},
		"hold with a reason":     {url.Values{"do": {"hold"}, "id": {first}, "reason": {"ask first"}}, 303, "hold [" + first + "] all=false sender= the-operator ask first", ""},
		"reroute":                {url.Values{"do": {"reroute"}, "id": {first}, "transport": {"other"}}, 303, "reroute [" + first + "] all=false sender= the-operator other", ""},
		"reroute to nowhere":     {url.Values{"do": {"reroute"}, "id": {first}, "transport": {"gone"}}, 422, "", "No such transport"},
		"reroute without a name": {url.Values{"do": {"reroute"}, "id": {first}}, 422, "", "Choose the transport"},
		"nothing chosen":         {url.Values{"do": {"delete"}}, 422, "", "Choose items first"},
		"an unknown operation":   {url.Values{"do": {"burn"}, "id": {first}}, 422, "", "Choose what to do"},
		"all, not yet sure":      {url.Values{"do": {"delete"}, "all": {"1"}}, 200, "", "Delete: 2 items?"},
		"all of a search":        {url.Values{"do": {"delete"}, "all": {"1"}, "sure": {"1"}, "back": {"/queue?sender=a@b.example"}}, 303, "delete [] all=false sender=a@b.example the-operator", ""},
		"everything":             {url.Values{"do": {"release"}, "all": {"1"}, "sure": {"1"}, "back": {"/queue"}}, 303, "release [] all=true sender= the-operator", ""},
		"all of a bad search":    {url.Values{"do": {"delete"}, "all": {"1"}, "sure": {"1"}, "back": {"/queue?older=soon"}}, 422, "", "is no age"},
	} {
		l.did = nil
		r := c.post("/queue/change", tt.form)
		if did := strings.TrimSpace(strings.Join(l.did, ";")); r.Code != tt.code || did != tt.does || !strings.Contains(r.Body.String(), tt.says) {
			t.Errorf("%s: %d, did %q", name, r.Code, did)
		}
	}
	l.did = nil
	for _, role := range []accounts.Role{accounts.Viewer, accounts.DomainAdministrator, accounts.EndUser} {
		w.as(role).post("/queue/change", url.Values{"do": {"delete"}, "id": {first}})
		w.as(role).post("/queue/pause", url.Values{"transport": {"next"}, "reason": {"x"}})
	}
	if l.did != nil {
		t.Errorf("others did %v", l.did)
	}
}

func TestTheQueueIsShownPageByPage(t *testing.T) {
	l, w := openQueue(t, 120)
	c := w.as(accounts.Viewer)
	seen := 0
	for path := "/queue?transport=next"; path != ""; {
		body := c.get(path).Body.String()
		seen += strings.Count(body, "<code>")
		if strings.Contains(body, "<script>") || !strings.Contains(body, "does not answer") || strings.Contains(body, "<button name=\"do\"") {
			t.Fatalf("%s is\n%s", path, body)
		}
		_, rest, _ := strings.Cut(body, `rel="next" href="`)
		path, _, _ = strings.Cut(strings.ReplaceAll(rest, "&amp;", "&"), `"`)
		if l.asked.Transport != "next" {
			t.Fatalf("asked for %+v", l.asked)
		}
	}
	if seen != 120 {
		t.Errorf("%d items", seen)
	}
	id := l.rows[3].ID.String()
	if body := c.get("/queue/" + id).Body.String(); !strings.Contains(body, "450 &lt;script&gt;") || strings.Contains(body, "<script>") {
		t.Errorf("an item:\n%s", body)
	}
	if r := c.get("/queue/" + mail.NewID().String()); r.Code != http.StatusNotFound {
		t.Errorf("an item that is not there: %d", r.Code)
	}
}

func TestPausesNeedAReason(t *testing.T) {
	l, w := openQueue(t, 0)
	c := w.as(accounts.Operator)
	for _, form := range []url.Values{{"transport": {"next"}}, {"reason": {"new disks"}}, {"transport": {"next"}, "reason": {strings.Repeat("x", 600)}}} {
		if r := c.post("/queue/pause", form); r.Code != http.StatusUnprocessableEntity {
			t.Errorf("%v: %d", form, r.Code)
		}
	}
	c.post("/queue/pause", url.Values{"transport": {"next"}, "domain": {"a.example"}, "reason": {"new disks"}})
	c.post("/queue/resume", url.Values{"transport": {"next"}, "domain": {"a.example"}})
	if got := strings.Join(l.did, "; "); got != "pause next/a.example the-operator: new disks; resume next/a.example the-operator" {
		t.Errorf("did %s", got)
	}
}

// grey is greylisting that notes what is done with it.
type grey struct {
	admin.Greylist
	asked  store.GreylistQuery
	passed []store.GreylistPair
	off    bool
}

func (g *grey) List(_ context.Context, q store.GreylistQuery) ([]store.GreylistEntry, bool, error) {
	if g.off {
		return nil, false, admin.ErrNoGreylist
	}
	g.asked = q
	return []store.GreylistEntry{{Kind: store.GreylistTripletKind, Source: "192.0.2.0/24", Sender: "<script>@x.example", Recipient: "u@a.example"}}, true, nil
}

func (g *grey) Pass(_ context.Context, p store.GreylistPair) error {
	g.passed = append(g.passed, p)
	return nil
}

func TestDelayedMailIsLetThroughByThoseWhomItIsFor(t *testing.T) {
	g := &grey{}
	w := openWith(t, func(_ *store.Store, c *pages.Config) { c.Greylist = g })
	for role, want := range map[accounts.Role]string{accounts.Administrator: "[]", accounts.DomainAdministrator: "[@a.example]", accounts.EndUser: "[u@a.example]"} {
		c := w.as(role)
		body := c.get("/delayed").Body.String()
		if got := fmt.Sprint(g.asked.Recipients); got != want || !g.asked.Waiting || strings.Contains(body, "<script>") || !strings.Contains(body, `rel="next"`) {
			t.Errorf("%s is shown mail to %s", role, got)
		}
		g.passed = nil
		r := c.post("/delayed/pass", url.Values{"pair": {"sender=x%40y.example&recipient=other%40b.example"}})
		if may := role == accounts.Administrator; (len(g.passed) == 1) != may || (r.Code == http.StatusSeeOther) != may {
			t.Errorf("%s lets mail to others through: %d %v", role, r.Code, g.passed)
		}
		g.passed = nil
		if r := c.post("/delayed/pass", url.Values{"pair": {"sender=x%40y.example&recipient=u%40a.example"}}); r.Code != http.StatusSeeOther || len(g.passed) != 1 || g.passed[0].Recipient != "u@a.example" {
			t.Errorf("%s: %d %v", role, r.Code, g.passed)
		}
	}
	if w.as(accounts.EndUser).get("/delayed?list=allow"); g.asked.Kind != store.GreylistTripletKind {
		t.Error("an end user is shown what administrators allowed")
	}
	g.off = true
	if body := w.as(accounts.EndUser).get("/delayed").Body.String(); !strings.Contains(body, "Nothing is ever delayed here") {
		t.Errorf("without greylisting:\n%s", body)
	}
}
