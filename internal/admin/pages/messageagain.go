package pages

import (
	"errors"
	"net/http"

	"gatepost/internal/admin"
	"gatepost/internal/mail"
)

// again shows what today's rules say about a message that is still here.
func (h *historyPages) again(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	id, err := mail.ParseID(r.PathValue("id"))
	if err != nil {
		h.Refuse(w, r, a, http.StatusNotFound, "")
		return
	}
	x, err := admin.ScanAgain(r.Context(), h.cfg.Again, id)
	switch {
	case errors.Is(err, admin.ErrNotHere):
		h.Refuse(w, r, a, http.StatusNotFound, sentence(err.Error()))
	case err != nil:
		h.Refuse(w, r, a, http.StatusServiceUnavailable, "It cannot be looked at now: "+err.Error()+". Try again in a moment.")
	default:
		h.show(w, r, a, page{Template: "message-again.html", Title: "With today's rules", Data: x})
	}
}
