package bayes

import (
	"context"
	"fmt"
	"math"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// Module is the block "bayes" of one flow. It implements scan.Module.
type Module struct {
	classifier *Classifier
	spamScore  float64
	hamScore   float64
}

// Module returns a block. spamScore (6.0, say) is what certain spam adds to the
// score, hamScore (-2.0, say) what certain ham does; in between they are scaled.
func (c *Classifier) Module(spamScore, hamScore float64) *Module {
	return &Module{classifier: c, spamScore: spamScore, hamScore: hamScore}
}

// Scan implements scan.Module. There is one finding, or one for each domain that
// has learned enough of its own.
func (m *Module) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	ts, err := m.classifier.tokenize(ctx, in)
	if err != nil {
		return nil, err
	}
	defer ts.release()
	var findings []mail.Finding
	for _, group := range m.classifier.group(in.Message.Envelope) {
		r, err := m.classifier.classify(ts, group.scope)
		if err != nil {
			return findings, err
		}
		f := m.finding(&r)
		f.Recipients = group.recipients
		findings = append(findings, f)
	}
	return findings, nil
}

// recipients of one scope; none stands for all.
type group struct {
	scope      string
	recipients []string
}

// group sorts the recipients by the scopes that have learned enough of their own.
func (c *Classifier) group(e *mail.Envelope) []group {
	if e == nil || !c.config.PerDomain || len(e.Recipients) == 0 {
		return []group{{}}
	}
	var groups []group
	at := map[string]int{}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for i := range e.Recipients {
		r := &e.Recipients[i]
		scope := domainOf(r)
		if !c.trained(c.table.scopes[scope]) {
			scope = ""
		}
		n, ok := at[scope]
		if !ok {
			n = len(groups)
			at[scope] = n
			groups = append(groups, group{scope: scope})
		}
		groups[n].recipients = append(groups[n].recipients, r.Address.Key())
	}
	if len(groups) == 1 {
		groups[0].recipients = nil
	}
	return groups
}

// finding says what a result means in this flow.
func (m *Module) finding(r *Result) mail.Finding {
	f := mail.Finding{Module: "bayes", Symbol: r.Class, Result: mail.Clean}
	if !r.Ready {
		f.Symbol = "untrained"
		f.Reason = fmt.Sprintf("fewer than %d ham or spam messages were learned: no score", m.classifier.config.MinTrained)
		return f
	}
	if r.Class == "spam" {
		f.Result = mail.Match
	}
	if certainty := 2*r.Probability - 1; certainty > 0 {
		f.Score = certainty * m.spamScore
	} else {
		f.Score = -certainty * m.hamScore
	}
	f.Score = math.Round(f.Score*100) / 100
	f.Reason = r.reason()
	return f
}

// maxReason bounds a reason, in bytes.
const maxReason = 600

// reason is the result in one sentence.
func (r *Result) reason() string {
	return message.SafeText(fmt.Sprintf("spam with a probability of %.4f by %d of %d tokens; for spam: %s; for ham: %s",
		r.Probability, r.Known, r.Tokens, names(r.Spam), names(r.Ham)), maxReason)
}

// names lists tokens with their weights. SafeText would decode an encoded word
// that stands in one; quoting is not needed since "?" and "=" are no word marks.
func names(list []Evidence) string {
	if len(list) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for i, e := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s (%+.2f)", message.SafeText(e.Token, 2*maxShown), e.Weight)
	}
	return b.String()
}
