package pages

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatepost/internal/admin"
	"gatepost/internal/queue"
)

// queueChange is what is to be done with items, as a form says it.
type queueChange struct {
	Do, Reason, Transport string
	IDs                   []string
	// All says that everything is meant that fits the search of Back.
	All  bool
	Back string
	// Count is how many those are, for the page that asks whether that is meant.
	Count int
	Verb  string
}

// queueVerbs are the operations as the button that confirms them says it.
var queueVerbs = map[string]string{
	"retry": "Try now", "hold": "Hold", "release": "Release", "reroute": "Send by another transport", "delete": "Delete",
}

// change does something with the items that were chosen, or after it was asked whether
// that is meant with all that fit the search.
func (q *queuePages) change(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	c := queueChange{
		Do: r.PostFormValue("do"), Reason: strings.TrimSpace(r.PostFormValue("reason")), Transport: r.PostFormValue("transport"),
		IDs: r.PostForm["id"], All: r.PostFormValue("all") != "", Back: r.PostFormValue("back"),
	}
	back := queueBack(c.Back)
	sel, err := c.selector(back)
	var n int
	if err == nil && c.All && r.PostFormValue("sure") == "" {
		if c.Count, err = q.q.Count(r.Context(), sel); err == nil && c.Count > 0 {
			c.Back, c.Verb = back.String(), queueVerbs[c.Do]
			q.show(w, r, a, page{Template: "queue-sure.html", Title: c.Verb + "?", Data: c})
			return
		}
	} else if err == nil {
		n, err = q.run(r.Context(), a, sel, c)
	}
	a.Note(fmt.Sprintf("%s: %d items %s %s", c.Do, n, strings.Join(c.IDs[:min(len(c.IDs), 40)], " "), c.Reason+c.Transport))
	switch id, one := strings.CutPrefix(back.Path, "/queue/"); {
	case err != nil && one:
		q.itemPage(w, r, a, id, err)
	case err != nil:
		q.listPage(w, r, a, back.Query(), err)
	case n == 0:
		q.back(w, r, "/queue", "queue-none")
	case c.Do == "delete" && one:
		q.back(w, r, "/queue", "queue-delete")
	default:
		q.back(w, r, back.String(), "queue-"+c.Do)
	}
}

// selector is what the form means; the error says what it leaves open.
func (c *queueChange) selector(back *url.URL) (queue.Selector, error) {
	switch {
	case queueVerbs[c.Do] == "":
		return queue.Selector{}, errors.New("choose what to do with the items")
	case c.Do == "reroute" && c.Transport == "":
		return queue.Selector{}, errors.New("choose the transport that they are to go by")
	case len(c.Reason) > maxWhy:
		return queue.Selector{}, fmt.Errorf("the reason has more than %d bytes", maxWhy)
	case c.All:
		sel, err := queueSelector(queueSearch(back.Query()))
		sel.All = sel.Empty()
		return sel, err
	case len(c.IDs) == 0:
		return queue.Selector{}, errors.New("choose items first: tick the box beside each")
	case len(c.IDs) > admin.MaxPage:
		return queue.Selector{}, fmt.Errorf("choose at most %d items at once", admin.MaxPage)
	}
	return queue.Selector{IDs: c.IDs}, nil
}

func (q *queuePages) run(ctx context.Context, a *admin.Actor, sel queue.Selector, c queueChange) (int, error) {
	switch c.Do {
	case "retry":
		return q.q.Retry(ctx, sel, a.Name)
	case "hold":
		return q.q.Hold(ctx, sel, a.Name, c.Reason)
	case "release":
		return q.q.Release(ctx, sel, a.Name)
	case "reroute":
		if names := q.transports(); names != nil && !slices.Contains(names, c.Transport) {
			return 0, queue.ErrNoTransport
		}
		return q.q.Reroute(ctx, sel, c.Transport, a.Name)
	}
	return q.q.Delete(ctx, sel, a.Name)
}

// queueBack is the address of a page of the queue that a form came from, made anew of
// its parts: it leads nowhere else.
func queueBack(s string) *url.URL {
	u := &url.URL{Path: "/queue"}
	from, err := url.Parse(s)
	if err != nil {
		return u
	}
	if id, ok := strings.CutPrefix(from.Path, "/queue/"); ok && id != "" && !strings.ContainsAny(id, "/\\") {
		u.Path += "/" + id
		return u
	}
	u.RawQuery = queueSearch(from.Query()).Encode()
	return u
}
