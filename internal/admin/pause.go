package admin

import (
	"context"
	"net/http"

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
	r.handle("GET", "/api/v1/queue/pauses", s.pauses)
	r.handle("POST", "/api/v1/queue/pause", s.pause(func(ctx context.Context, q Pauser, p *PauseRequest) error {
		return q.Pause(ctx, p.PauseTarget, p.By, p.Reason)
	}))
	r.handle("POST", "/api/v1/queue/resume", s.pause(func(ctx context.Context, q Pauser, p *PauseRequest) error {
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
func (s *Server) pause(act func(context.Context, Pauser, *PauseRequest) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var p PauseRequest
		if !decode(w, r, &p) {
			return
		}
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
