package admin

import (
	"context"
	"fmt"
	"net/http"

	"gatepost/internal/accounts"
	"gatepost/internal/queue"
)

// Changer changes queue items. Each method returns how many it changed.
type Changer interface {
	Retry(ctx context.Context, sel queue.Selector, by string) (int, error)
	Release(ctx context.Context, sel queue.Selector, by string) (int, error)
	Delete(ctx context.Context, sel queue.Selector, by string) (int, error)
	Hold(ctx context.Context, sel queue.Selector, by, reason string) (int, error)
	Reroute(ctx context.Context, sel queue.Selector, transport, by string) (int, error)
}

// Change is the body of a request that changes queue items.
type Change struct {
	Selector Selector `json:"selector"`
	// DryRun counts only.
	DryRun bool `json:"dry_run,omitempty"`
	// By is who wants it, for log and history.
	By string `json:"by,omitempty"`
	// Reason is for hold.
	Reason string `json:"reason,omitempty"`
	// Transport is where reroute sends the items.
	Transport string `json:"transport,omitempty"`
}

// maxNote bounds By and Reason, in bytes.
const maxNote = 500

// operation is one of the queue's changes.
type operation func(ctx context.Context, q Changer, sel queue.Selector, c *Change) (int, error)

func (s *Server) routeChanges(r *router) {
	operations := map[string]operation{
		"retry": func(ctx context.Context, q Changer, sel queue.Selector, c *Change) (int, error) {
			return q.Retry(ctx, sel, c.By)
		},
		"release": func(ctx context.Context, q Changer, sel queue.Selector, c *Change) (int, error) {
			return q.Release(ctx, sel, c.By)
		},
		"delete": func(ctx context.Context, q Changer, sel queue.Selector, c *Change) (int, error) {
			return q.Delete(ctx, sel, c.By)
		},
		"hold": func(ctx context.Context, q Changer, sel queue.Selector, c *Change) (int, error) {
			return q.Hold(ctx, sel, c.By, c.Reason)
		},
		"reroute": func(ctx context.Context, q Changer, sel queue.Selector, c *Change) (int, error) {
			return q.Reroute(ctx, sel, c.Transport, c.By)
		},
	}
	for name, op := range operations {
		r.add(Route{Method: "POST", Path: "/api/v1/queue/" + name, Permission: accounts.QueueWrite, Do: s.change(name, op),
			Doc: &Doc{Summary: "Queue items: " + name, In: Change{}, Out: Counted{}}})
	}
}

// change decodes and checks the request, and counts or runs the operation.
func (s *Server) change(name string, op operation) Handler {
	return func(w http.ResponseWriter, r *http.Request, a *Actor) {
		var c Change
		if !decode(w, r, &c) {
			return
		}
		c.By = a.By(c.By)
		sel, err := c.check(name)
		if err != nil {
			failWith(w, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
		defer cancel()
		var n int
		if c.DryRun {
			n, err = s.cfg.Queue.Count(ctx, sel)
		} else {
			n, err = op(ctx, s.cfg.Queue, sel, &c)
		}
		if err != nil {
			failWith(w, err)
			return
		}
		a.Note(fmt.Sprintf("%d items: %s", n, c.Selector.Values().Encode()))
		answer(w, http.StatusOK, Counted{Count: n, DryRun: c.DryRun})
	}
}

// check returns the selector. A field that the operation does not know is
// refused, as is a selector that chooses everything without saying so.
func (c *Change) check(name string) (queue.Selector, error) {
	switch {
	case c.Transport == "" && name == "reroute":
		return queue.Selector{}, badRequest(fmt.Errorf("reroute needs a transport"))
	case c.Transport != "" && name != "reroute":
		return queue.Selector{}, badRequest(fmt.Errorf("%s takes no transport", name))
	case c.Reason != "" && name != "hold":
		return queue.Selector{}, badRequest(fmt.Errorf("%s takes no reason", name))
	}
	if err := checkNotes(c.By, c.Reason); err != nil {
		return queue.Selector{}, err
	}
	sel, err := c.Selector.forQueue()
	if err == nil && sel.Empty() {
		err = badRequest(fmt.Errorf("the selector is empty; say all if you mean every item"))
	}
	return sel, err
}

func checkNotes(notes ...string) error {
	for _, note := range notes {
		if len(note) > maxNote {
			return badRequest(fmt.Errorf("by and reason have at most %d bytes", maxNote))
		}
	}
	return nil
}
