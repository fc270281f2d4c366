package admin

import (
	"context"
	"net/http"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/queue"
)

// Pauser stops and starts deliveries.
type Pauser interface {
	Pause(ctx context.Context, target queue.PauseTarget, by, reason string) error
	Resume(ctx context.Context, target queue.PauseTarget, by string) error
	Pauses() []queue.Pause
}

// PauseRequest is the body of a request to pause or resume.
type PauseRequest struct {
	queue.PauseTarget
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func (s *Server) routePauses(r *router) {
	r.add(Route{Method: "GET", Path: "/api/v1/queue/pauses", Permission: accounts.QueueRead, Do: plain(s.pauses),
		Doc: &Doc{Summary: "List what is paused", Out: []queue.Pause{}}})
	write := func(path, summary string, h Handler) {
		r.add(Route{Method: "POST", Path: path, Permission: accounts.QueueWrite, Do: h,
			Doc: &Doc{Summary: summary, In: PauseRequest{}, Out: []queue.Pause{}}})
	}
	write("/api/v1/queue/pause", "Pause a transport or a domain", s.pause(func(ctx context.Context, q Pauser, p *PauseRequest) error {
		return q.Pause(ctx, p.PauseTarget, p.By, p.Reason)
	}))
	write("/api/v1/queue/resume", "Resume a transport or a domain", s.pause(func(ctx context.Context, q Pauser, p *PauseRequest) error {
		return q.Resume(ctx, p.PauseTarget, p.By)
	}))
}

func (s *Server) pauses(w http.ResponseWriter, _ *http.Request) {
	list := s.cfg.Queue.Pauses()
	if list == nil {
		list = []queue.Pause{}
	}
	answer(w, http.StatusOK, list)
}

// pause answers with the pauses that are in force afterwards.
func (s *Server) pause(act func(context.Context, Pauser, *PauseRequest) error) Handler {
	return func(w http.ResponseWriter, r *http.Request, a *Actor) {
		var p PauseRequest
		if !decode(w, r, &p) {
			return
		}
		p.By = a.By(p.By)
		a.Note(strings.TrimSpace(p.Transport + " " + p.Domain + " " + p.Reason))
		err := checkNotes(p.By, p.Reason)
		if err == nil {
			err = act(r.Context(), s.cfg.Queue, &p)
		}
		if err != nil {
			failWith(w, err)
			return
		}
		s.pauses(w, r)
	}
}
