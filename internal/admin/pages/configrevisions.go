package pages

import (
	"net/http"
	"strconv"

	"gatepost/internal/admin"
	"gatepost/internal/config/change"
)

// revisionsPage is how many a page has.
const revisionsPage = 50

func (c *configPages) revisions(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	before, _ := strconv.Atoi(r.URL.Query().Get("before")) // what is no number is the first page
	list := c.config.Revisions(before, revisionsPage)
	next := 0
	if len(list) == revisionsPage {
		next = list[len(list)-1].ID
	}
	now, err := c.config.Status()
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	c.show(w, r, a, page{Template: "config-revisions.html", Title: "Revisions", Data: map[string]any{
		"List": list, "Next": next, "Status": now, "Unloaded": diffLines(now.Diff),
	}})
}

func (c *configPages) showRevision(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		c.Refuse(w, r, a, http.StatusNotFound, "")
		return
	}
	d, err := c.config.Revision(id)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	data := map[string]any{"Revision": d, "Diffs": shownDiffs(d.Diffs)}
	// That nothing would change, or that the file is gone, is no reason not to show it.
	if back, err := c.config.CheckRollback(id); err == nil {
		data["Back"], data["BackDiffs"] = back, shownDiffs(back.Diffs)
	} else {
		data["NoBack"] = sentence(err.Error())
	}
	c.show(w, r, a, page{Template: "config-revision.html", Title: "Revision " + strconv.Itoa(id), Data: data})
}

// rollback makes everything as it was after a revision.
func (c *configPages) rollback(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		c.Refuse(w, r, a, http.StatusNotFound, "")
		return
	}
	what, err := readChange(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	done, err := c.config.Rollback(r.Context(), id, change.Change{By: a.Name, Why: what.Why, Later: what.Later})
	a.Note("to revision " + strconv.Itoa(id))
	admin.NoteChange(a, done, what.Why)
	c.applied(w, r, a, done, err)
}
