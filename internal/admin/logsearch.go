package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/history"
	"gatepost/internal/logsearch"
)

// LogFiles finds lines in the log.
type LogFiles interface {
	// SearchLog fills in where the files are.
	SearchLog(ctx context.Context, r logsearch.Request) (logsearch.Result, error)
}

// LogLine is one line of the answer to a search in the log: one of its fields is set.
type LogLine struct {
	// Line is a line of the log.
	Line string `json:"line,omitempty"`
	// Progress is how far it is, End how it ended, Error why it did not.
	Progress *logsearch.Progress `json:"progress,omitempty"`
	End      *logsearch.Result   `json:"end,omitempty"`
	Error    string              `json:"error,omitempty"`
}

// routeLog adds the log. Its lines are about everybody's mail.
func (s *Server) routeLog(r *router) {
	r.add(Route{Method: "GET", Path: "/api/v1/log", Permission: accounts.HistoryRead, Do: s.searchLog,
		Doc: &Doc{Summary: "Search the log: one JSON object on each line", OutType: "application/x-ndjson",
			Query: []string{"q: what to look for, see docs/history.md", "limit: lines, the latest; at most 100000"}}})
}

func (s *Server) searchLog(w http.ResponseWriter, r *http.Request, _ *Actor) {
	v := r.URL.Query()
	err := knownParameters(v, "q", "limit")
	var req logsearch.Request
	if err == nil {
		req.Query, err = logsearch.ParseQuery(v.Get("q"), time.Now(), history.ParseTime)
	}
	if text := v.Get("limit"); text != "" && err == nil {
		if req.Limit, err = strconv.Atoi(text); err != nil || req.Limit < 1 {
			err = fmt.Errorf("limit: %.64q is not a number above 0", text)
		}
	}
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	out := &stream{w: w, c: http.NewResponseController(w), patience: s.cfg.Timeout}
	begun := false
	say := func(l LogLine) error {
		if !begun {
			begun = true
			out.begin(r)
		}
		b, err := json.Marshal(l)
		if err != nil {
			return err
		}
		out.line(b)
		return out.err
	}
	req.Line = func(line []byte) error { return say(LogLine{Line: string(line)}) }
	req.Progress = func(p logsearch.Progress) {
		if say(LogLine{Progress: &p}) != nil {
			cancel()
		}
	}
	result, err := s.cfg.LogFiles.SearchLog(ctx, req)
	switch {
	case errors.Is(err, logsearch.ErrNoFiles) && !begun:
		fail(w, http.StatusConflict, err.Error())
	case err != nil && !begun:
		failWith(w, err)
	case err != nil:
		_ = say(LogLine{Error: err.Error()})
	default:
		_ = say(LogLine{End: &result})
	}
}
