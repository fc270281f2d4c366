package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/footer"
	"gatepost/internal/scan"
)

// Content is what the content flows of one configuration are made of. The zero
// Content scans nothing.
type Content struct {
	// Flows by name, with the blocks that observe for them.
	Flows map[string]Flow
	// Options are how messages are read, Budget how long a scan may take.
	Options scan.Options
	Budget  time.Duration
	// MaxSize is the size in bytes above which a message is not scanned but
	// treated as over a limit; 0: none.
	MaxSize int64
	// Observer counts what modules say and flows decide; nil: nobody.
	Observer Observer
	// Fields are header fields that the findings make, for every recipient:
	// Authentication-Results. Nil: none.
	Fields func(env *mail.Envelope) []byte
	// Edits are the changes of the header section that external engines asked for:
	// whole fields to put in front, and fields that go. Nil: none.
	Edits func(findings []mail.Finding, header *message.Header) (prepend []string, cut []mail.Span)
	// Disclaimers are the texts that verdicts name.
	Disclaimers map[string]*footer.Footer
	// Learn is told what became of a message, for statistics. It must not wait.
	// Nil: nobody.
	Learn func(in *scan.Input, env *mail.Envelope)
}

// Observer counts what is scanned and decided.
type Observer interface {
	scan.Observer
	// Decided is told each verdict, one for each recipient.
	Decided(flow string, action mail.Action, threat mail.Threat)
}

// scanObserver keeps nobody from becoming somebody: an interface that holds a nil one.
func scanObserver(o Observer) scan.Observer {
	if o == nil {
		return nil
	}
	return o
}

// Flow is a content flow: what decides, and what observes for it.
type Flow struct {
	Decide *flow.Flow
	Blocks []scan.Block
}

// inspection is what was found out about one message.
type inspection struct {
	in      *scan.Input
	reports []scan.Report
	took    time.Duration
	// footers are the edits that put disclaimers into the message, once they are made.
	footers map[string][]mail.Replacement
}

// inspect scans a message once and decides for each recipient by its flow: the
// findings go into the envelope, the verdicts to its recipients. Nil means that
// no recipient has a flow. An error means that the message could not be read,
// which is our failure and not the message's.
func (g *Gateway) inspect(ctx context.Context, m mail.Message) (*inspection, error) {
	return g.look(ctx, m, g.cfg.Content.Observer)
}

// look is inspect, told to the observer; nil is nobody.
func (g *Gateway) look(ctx context.Context, m mail.Message, watch Observer) (*inspection, error) {
	flows := g.flowsOf(m.Envelope)
	if len(flows) == 0 {
		return nil, nil
	}
	begun := time.Now()
	c := &g.cfg.Content
	ctx, cancel := context.WithTimeout(ctx, c.Budget)
	defer cancel()
	in, err := scan.NewInput(ctx, m, directionOf(m.Envelope), c.Options)
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	tooBig := c.MaxSize > 0 && m.Body.Size() > c.MaxSize
	in.Before = func(key string, reports []scan.Report, r *mail.Recipient) ([]mail.Finding, float64, bool) {
		f, ok := flows[r.Route.Flow]
		if !ok {
			return nil, 0, false
		}
		return flow.Before(f.Decide, key, reports, r, m.Envelope.Session.Findings...)
	}
	seen := &inspection{in: in}
	seen.reports = scan.Run(ctx, in, blocksOf(flows, tooBig), c.Budget, scanObserver(watch))
	seen.took = time.Since(begun)
	m.Envelope.Findings = m.Envelope.Findings[:0:0]
	for _, r := range seen.reports {
		m.Envelope.Findings = append(m.Envelope.Findings, r.Findings...)
	}
	for i := range m.Envelope.Recipients {
		r := &m.Envelope.Recipients[i]
		f, ok := flows[r.Route.Flow]
		if !ok {
			continue
		}
		decide := f.Decide
		if tooBig {
			decide = onlyStructure(decide)
		}
		v := flow.Decide(decide, seen.reports, r, m.Envelope.Session.Findings...)
		r.Verdict = &v
		m.Envelope.Findings = append(m.Envelope.Findings, observedBy(&v, r)...)
		if watch != nil {
			watch.Decided(v.Flow, v.Action, v.Threat)
		}
	}
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, fmt.Errorf("scan message: %w", err)
	}
	return seen, nil
}

// observedBy are findings about what a flow or a block would have done that only
// observes.
func observedBy(v *mail.Verdict, r *mail.Recipient) []mail.Finding {
	var all []mail.Finding
	for _, would := range v.Observed {
		all = append(all, mail.Finding{
			Module: "flow", Symbol: "observe", Result: mail.Clean, Name: v.Flow, Reason: would, Recipients: []string{r.Address.Key()},
		})
	}
	return all
}

// findingsFor are those of the blocks of one flow: what another recipient's flow
// asked about a message is not this one's business.
func (seen *inspection) findingsFor(f Flow) []mail.Finding {
	var all []mail.Finding
	for _, r := range seen.reports {
		if slices.ContainsFunc(f.Blocks, func(b scan.Block) bool { return b.Key == r.Key }) {
			all = append(all, r.Findings...)
		}
	}
	return all
}

// flowsOf are the flows of the recipients. A flow that is not configured any more
// (the message waited for the scanner) is an empty one: it delivers.
func (g *Gateway) flowsOf(env *mail.Envelope) map[string]Flow {
	var flows map[string]Flow
	for i := range env.Recipients {
		name := env.Recipients[i].Route.Flow
		f, ok := g.cfg.Content.Flows[name]
		if !ok {
			continue
		}
		if flows == nil {
			flows = make(map[string]Flow, 1)
		}
		flows[name] = f
	}
	return flows
}

// structureBlock is the block that looks at the shape of a message. It is the only
// one that is asked about a message that is too big to scan.
const structureBlock = "structure"

// blocksOf joins the blocks of flows: those with equal keys run once.
func blocksOf(flows map[string]Flow, tooBig bool) []scan.Block {
	var all []scan.Block
	known := make(map[string]bool)
	for _, f := range flows {
		for _, b := range f.Blocks {
			if known[b.Key] || tooBig && b.Use != structureBlock {
				continue
			}
			known[b.Key] = true
			all = append(all, b)
		}
	}
	return all
}

// onlyStructure is the flow as it decides about a message that was not scanned.
func onlyStructure(f *flow.Flow) *flow.Flow {
	short := &flow.Flow{Name: f.Name, Observe: f.Observe}
	for _, b := range f.Blocks {
		if b.Use == structureBlock {
			short.Blocks = append(short.Blocks, b)
		}
	}
	return short
}

// directionOf tells mail for our domains from mail that leaves, and from mail that is
// fetched from a mailbox.
func directionOf(env *mail.Envelope) scan.Direction {
	if env.Session.Protocol == mail.POP3 {
		return scan.POP3
	}
	for i := range env.Recipients {
		if env.Recipients[i].Route.Domain != "*" {
			return scan.Inbound
		}
	}
	if env.Session.MayRelay() {
		return scan.Outbound
	}
	return scan.Inbound
}

// refusal is what all verdicts together mean for the client whose final dot is
// still unanswered: a decision that refuses the message, or the zero Decision.
// Where only some recipients refuse, their copies go to the quarantine: an answer
// to one dot cannot say both.
func refusal(env *mail.Envelope) mail.Decision {
	var rejected *mail.Verdict
	taken := false
	for i := range env.Recipients {
		r := &env.Recipients[i]
		switch v := r.Verdict; {
		case v != nil && v.Action == mail.ActionDefer:
			// Nobody gets it yet: a client that tries again sends it to all.
			return mail.Decision{Act: mail.Defer, Reply: orReply(v.Reply, mail.ReplyTryLater), Reason: because(v)}
		case r.Copy:
			// Of what nobody gets there is no copy.
		case v == nil || v.Action != mail.ActionReject:
			taken = true
		case rejected == nil:
			rejected = v
		}
	}
	if rejected != nil && !taken {
		return mail.Decision{Act: mail.Reject, Reply: orReply(rejected.Reply, mail.ReplyContentRejected), Reason: because(rejected)}
	}
	quarantineRejects(env)
	return mail.Decision{}
}

// quarantineRejects makes each reject a quarantine: the message was accepted, or
// will be for others, and a bounce would go to somebody who did not send it.
func quarantineRejects(env *mail.Envelope) {
	for i := range env.Recipients {
		if v := env.Recipients[i].Verdict; v != nil && v.Action == mail.ActionReject {
			quarantineReject(v)
		}
	}
}

func quarantineReject(v *mail.Verdict) {
	v.Action, v.Reply = mail.ActionQuarantine, mail.Reply{}
	v.Reason += " (would have been refused)"
}

func orReply(r mail.Reply, k mail.ReplyKey) mail.Reply {
	if r.IsZero() {
		return k.Reply()
	}
	return r
}

// because is a verdict's reason with the block that gave it, for the log.
func because(v *mail.Verdict) string {
	said := slices.DeleteFunc([]string{v.Block, v.Rule, v.Reason}, func(s string) bool { return s == "" })
	return strings.Join(said, ": ")
}
