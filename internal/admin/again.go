package admin

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/mail"
)

// Again looks at a message that is still here, in the queue or in the quarantine, with
// the rules of now, and changes nothing. The error is fs.ErrNotExist where the message
// is not here any more.
type Again interface {
	ScanAgain(ctx context.Context, id mail.ID) (then, now *mail.Envelope, err error)
}

// SeenAgain compares what was found and decided when a message came with what today's
// rules say.
type SeenAgain struct {
	ID         mail.ID          `json:"id"`
	Recipients []RecipientAgain `json:"recipients"`
	Findings   []FindingAgain   `json:"findings"`
	Took       time.Duration    `json:"took"`
}

// RecipientAgain is what was decided for a recipient, and what would be now; nil where
// no flow decides.
type RecipientAgain struct {
	Address string        `json:"address"`
	Then    *mail.Verdict `json:"then,omitempty"`
	Now     *mail.Verdict `json:"now,omitempty"`
	Changed bool          `json:"changed"`
}

// FindingAgain is a finding, and whether it is "new", "gone" or counts otherwise
// ("changed", with the Before); "" is as it was.
type FindingAgain struct {
	mail.Finding
	Change string  `json:"change,omitempty"`
	Before float64 `json:"score_before,omitzero"`
}

// ErrNotHere says that the original of a message is gone.
var ErrNotHere = errors.New("the message itself is not here any more: it can be looked at again while it waits or is held")

// ScanAgain has a message looked at with today's rules.
func ScanAgain(ctx context.Context, again Again, id mail.ID) (*SeenAgain, error) {
	begun := time.Now()
	then, now, err := again.ScanAgain(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotHere
	}
	if err != nil {
		return nil, err
	}
	x := &SeenAgain{ID: id, Findings: compareFindings(then.Findings, now.Findings), Recipients: []RecipientAgain{}, Took: time.Since(begun)}
	for i := range now.Recipients {
		r := RecipientAgain{Address: now.Recipients[i].Address.String(), Then: then.Recipients[i].Verdict, Now: now.Recipients[i].Verdict}
		r.Changed = (r.Then == nil) != (r.Now == nil) ||
			r.Then != nil && (r.Then.Action != r.Now.Action || r.Then.Block != r.Now.Block || r.Then.Rule != r.Now.Rule)
		x.Recipients = append(x.Recipients, r)
	}
	return x, nil
}

// compareFindings puts what is found now first, in its order, and then what is gone. A
// check may find the same more than once, two signatures of one domain for instance:
// those are told apart by their reasons, and then taken in turn.
func compareFindings(then, now []mail.Finding) []FindingAgain {
	name := func(f *mail.Finding) string {
		return strings.Join(append([]string{f.Module, f.Symbol, f.Part, f.Name, string(f.Result)}, f.Recipients...), "\x00")
	}
	before := make(map[string][]*mail.Finding, len(then))
	for i := range then {
		before[name(&then[i])] = append(before[name(&then[i])], &then[i])
	}
	// What is word for word the same goes first, so that nothing else takes its place.
	was := make([]*mail.Finding, len(now))
	for _, exact := range []bool{true, false} {
		for i := range now {
			key := name(&now[i])
			at := slices.IndexFunc(before[key], func(f *mail.Finding) bool {
				return !exact || f.Reason == now[i].Reason && f.Score == now[i].Score
			})
			if was[i] == nil && at >= 0 {
				was[i] = before[key][at]
				before[key] = slices.Delete(before[key], at, at+1)
			}
		}
	}
	all := make([]FindingAgain, 0, len(now))
	for i := range now {
		f := FindingAgain{Finding: now[i]}
		switch {
		case was[i] == nil:
			f.Change = "new"
		case was[i].Score != f.Score:
			f.Change, f.Before = "changed", was[i].Score
		}
		all = append(all, f)
	}
	// Those that are left, in the order in which they were found.
	for i := range then {
		if slices.Contains(before[name(&then[i])], &then[i]) {
			all = append(all, FindingAgain{Finding: then[i], Change: "gone"})
		}
	}
	return all
}

func (s *Server) routeAgain(r *router) {
	if s.cfg.Again == nil {
		return
	}
	r.add(Route{Method: "POST", Path: "/api/v1/messages/{id}/explain", Permission: accounts.Explain, Quiet: true, Do: s.scanAgain,
		Doc: &Doc{Summary: "Look at a message that is still here with today's rules, and compare", Out: SeenAgain{}}})
}

func (s *Server) scanAgain(w http.ResponseWriter, r *http.Request, _ *Actor) {
	id, err := mail.ParseID(r.PathValue("id"))
	if err != nil {
		fail(w, http.StatusNotFound, ErrNotHere.Error())
		return
	}
	x, err := ScanAgain(r.Context(), s.cfg.Again, id)
	switch {
	case errors.Is(err, ErrNotHere):
		fail(w, http.StatusNotFound, err.Error())
	case err != nil:
		failWith(w, err)
	default:
		answer(w, http.StatusOK, x)
	}
}
