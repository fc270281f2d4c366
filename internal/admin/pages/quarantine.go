package pages

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
)

// Quarantine is what the pages do with the quarantine.
type Quarantine interface {
	admin.Quarantine
	// HTML returns the source of a message's HTML, which nobody made harmless.
	HTML(ctx context.Context, id mail.ID) (html string, cut bool, err error)
}

// quarantinePages is where held mail is looked at, released and deleted: by those
// who see all of it, by domain administrators, and by the people whom it was for.
type quarantinePages struct {
	*Site
	q Quarantine
}

// maxBulk bounds the form of a bulk operation: a page of IDs.
const maxBulk = 1 << 20

func (s *Site) quarantine() section {
	if s.cfg.Quarantine == nil {
		return section{}
	}
	q := &quarantinePages{Site: s, q: s.cfg.Quarantine}
	get := func(path string, need accounts.Permission, do admin.Handler) admin.Route {
		return admin.Route{Method: "GET", Path: path, Permission: need, Scope: accounts.Own, Do: do}
	}
	post := func(path, act string, need accounts.Permission, do admin.Handler) admin.Route {
		return admin.Route{Method: "POST", Path: path, Permission: need, Scope: accounts.Own, Act: act, MaxBody: maxBulk, Do: do}
	}
	return section{
		nav: []entry{{Path: "/quarantine", Title: "Quarantine", Group: "Mail", Order: 200, permission: accounts.QuarantineRead, scope: accounts.Own}},
		said: map[string]string{
			"mail-released": "Released. It is on its way now.", "mail-deleted": "Deleted.", "mail-spam": "Learned as spam.", "mail-ham": "Learned as good mail.",
			"mail-asked": "An administrator sees now that you want it.",
		},
		routes: []admin.Route{
			get("/quarantine", accounts.QuarantineRead, q.list),
			get("/quarantine/{id}", accounts.QuarantineRead, q.message),
			get("/quarantine/{id}/html", accounts.MailRead, q.frame),
			get("/quarantine/{id}/download", accounts.MailRead, q.warn),
			post("/quarantine/{id}/download", "download held message", accounts.MailRead, q.download),
			post("/quarantine/change", "change held mail", accounts.QuarantineWrite, q.change),
			post("/quarantine/train", "train with held mail", accounts.Train, q.change),
		},
	}
}

// quarantineRows is how many messages a page has.
const quarantineRows = 50

// threats and states are what lists are narrowed to.
var (
	threatNames = []string{string(mail.ThreatVirus), string(mail.ThreatSpam), string(mail.ThreatFilter), string(mail.ThreatUnscanned), string(mail.ThreatPolicy)}
	stateNames  = []string{"held", "asked", "released", "deleted"}
	sinceNames  = []string{"1d", "7d", "30d"}
)

// quarantineList is what the page shows.
type quarantineList struct {
	Items []quarantine.Row
	// Search are the fields of the search; Here is the address of this page, Next
	// that of the next one, First that of the first where this is another.
	Search            url.Values
	Here, Next, First string
	// Searched says that the list was narrowed.
	Searched bool
	// One says that all that somebody sees is mail to themselves.
	One                     bool
	Threats, States, Sinces []string
}

// searchFields are the fields of the search, which addresses of pages have.
var searchFields = []string{"text", "sender", "recipient", "domain", "threat", "state", "since"}

// search keeps what belongs to the search of an address's query.
func search(v url.Values) url.Values {
	kept := url.Values{}
	for _, name := range searchFields {
		if s := strings.TrimSpace(v.Get(name)); s != "" {
			kept.Set(name, s)
		}
	}
	return kept
}

// filter is a search in the quarantine's terms, bounded to what the actor may see.
func filterOf(v url.Values, a *admin.Actor) (f quarantine.Filter, err error) {
	f = quarantine.Filter{
		Sender: v.Get("sender"), Recipient: v.Get("recipient"), Domain: v.Get("domain"), Text: v.Get("text"),
		Cursor: v.Get("cursor"), Limit: quarantineRows,
	}
	if t := v.Get("threat"); slices.Contains(threatNames, t) {
		f.Threat = mail.Threat(t)
	}
	switch state := v.Get("state"); {
	case state == "asked":
		f.Asked = true
	case slices.Contains(stateNames, state):
		f.State = quarantine.State(state)
	}
	if days, ok := map[string]int{"1d": 1, "7d": 7, "30d": 30}[v.Get("since")]; ok {
		f.Since = time.Now().AddDate(0, 0, -days)
	}
	return f, a.BoundHeld(&f)
}

func (q *quarantinePages) list(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	q.listPage(w, r, a, r.URL.Query(), nil)
}

// listPage shows the page of a query, above it what failed of an operation.
func (q *quarantinePages) listPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, query url.Values, failed error) {
	v := quarantineList{Search: search(query), One: a.Role.Scope() == accounts.Own, Threats: threatNames, States: stateNames, Sinces: sinceNames}
	v.Searched = len(v.Search) > 0
	address := func(cursor string) string {
		values := search(query)
		if cursor != "" {
			values.Set("cursor", cursor)
		}
		return strings.TrimSuffix("/quarantine?"+values.Encode(), "?")
	}
	v.Here = address(query.Get("cursor"))
	if query.Get("cursor") != "" {
		v.First = address("")
	}
	found, err := q.find(r.Context(), query, a)
	if err != nil {
		failed = errors.Join(failed, err)
	}
	for i := range found.Items {
		if a.SeeHeld(&found.Items[i]) {
			v.Items = append(v.Items, found.Items[i])
		}
	}
	if found.Next != "" {
		v.Next = address(found.Next)
	}
	p := page{Template: "quarantine.html", Title: "Quarantine", Data: v}
	if failed != nil {
		p.Status, p.Failed = quarantineStatus(failed), explain(failed)
	}
	q.show(w, r, a, p)
}

func (q *quarantinePages) find(ctx context.Context, query url.Values, a *admin.Actor) (quarantine.Page, error) {
	f, err := filterOf(query, a)
	if err != nil {
		return quarantine.Page{}, err
	}
	found, err := q.q.List(ctx, f)
	if errors.Is(err, quarantine.ErrRequest) {
		err = errors.New("this cannot be searched for: look at the fields of the search, or begin anew")
	}
	return found, err
}

// quarantineStatus is the status of a page that says what failed.
func quarantineStatus(err error) int {
	if errors.Is(err, quarantine.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return http.StatusServiceUnavailable
	}
	return http.StatusUnprocessableEntity
}

// explain is an error for people; one that joins others has a sentence for each.
func explain(err error) string {
	if errors.Is(err, quarantine.ErrUnavailable) {
		return "The database does not answer. Nothing is lost: try again in a moment."
	}
	var b strings.Builder
	for line := range strings.Lines(err.Error()) {
		b.WriteString(sentence(strings.TrimSpace(line)) + " ")
	}
	return strings.TrimSpace(b.String())
}
