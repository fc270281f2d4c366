package gateway

import (
	"context"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/scan"
)

// Explanation is everything that a content flow sees and decides about a message.
type Explanation struct {
	// Verdict is the one for the first recipient.
	Verdict mail.Verdict `json:"verdict"`
	Flow    string       `json:"flow"`
	// Session are the findings from before content that have a score.
	Session []mail.Finding `json:"session,omitempty"`
	Reports []scan.Report  `json:"reports"`
	// Tree is the message as it was read.
	Tree  *mimetree.Part `json:"tree"`
	Files []scan.File    `json:"files"`
	Took  time.Duration  `json:"took"`
}

// Explain scans a message as if it had just come in, and changes nothing. Every
// recipient needs a route with a flow; without one the Explanation has no verdict.
func (g *Gateway) Explain(ctx context.Context, m mail.Message) (*Explanation, error) {
	seen, err := g.look(ctx, m, nil)
	if err != nil || seen == nil {
		return &Explanation{Verdict: mail.Verdict{Action: mail.ActionDeliver}}, err
	}
	r := &m.Envelope.Recipients[0]
	x := &Explanation{Flow: r.Route.Flow, Reports: seen.reports, Tree: seen.in.Tree.Root, Took: seen.took}
	if r.Verdict != nil {
		x.Verdict = *r.Verdict
	}
	for _, f := range m.Envelope.Session.Findings {
		if f.Score != 0 {
			x.Session = append(x.Session, f)
		}
	}
	// A module may have come to its end on the way through the archives.
	if files, err := seen.in.Files(ctx); err == nil {
		x.Files = files.List
	}
	return x, nil
}
