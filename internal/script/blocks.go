package script

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/scan"
)

// Block is a script as a block of flows: a policy.Decider at connect and recipient, a
// policy.AuthBackend at auth, a scan.Module at content.
type Block struct {
	program *Program
	key     string
	log     *slog.Logger
}

// NewBlock makes a block. key is that of the block in its content flow. log gets what
// the script says, and why it failed; nil: nobody does.
func NewBlock(p *Program, key string, log *slog.Logger) *Block {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Block{program: p, key: key, log: log}
}

// Check implements policy.Check for those who do not know deciders.
func (b *Block) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	_, findings, err := b.Decide(ctx, in)
	return findings, err
}

// Decide implements policy.Decider.
func (b *Block) Decide(ctx context.Context, in *policy.Input) (policy.Choice, []mail.Finding, error) {
	r := b.program.Run(ctx, &Input{
		Stage: Stage(in.Stage), Session: in.Session, Envelope: in.Envelope, Recipient: in.Recipient,
		Findings: in.Session.Findings, Score: in.Score,
	})
	b.tell(in.Session, in.Envelope, string(in.Stage), r)
	d := r.Decision()
	c := policy.Choice{Act: d.Act, Text: r.Text, Reason: r.Reason, Delay: r.Delay, Transport: r.Transport}
	return c, withLog(r), nil
}

// Authenticate implements policy.AuthBackend.
func (b *Block) Authenticate(ctx context.Context, s *mail.Session, user, password string) (policy.AuthAnswer, error) {
	r := b.program.Run(ctx, &Input{Stage: Auth, Session: s, Findings: s.Findings, Login: user, Password: password})
	b.tell(s, nil, string(Auth), r)
	return r.Answer(), nil
}

// Limits of what findings keep of a script's log; the log file has all of it.
const (
	maxKeptLines = 20
	maxKeptLine  = 200
)

// withLog returns the findings with what the script said, or where it failed, as
// properties for history.
func withLog(r *Result) []mail.Finding {
	if len(r.Log) == 0 {
		return r.Findings
	}
	findings := slices.Clone(r.Findings)
	if r.Failed == nil {
		findings = append(findings, mail.Finding{Module: Module, Symbol: "echo", Result: mail.Clean})
	}
	// The finding that it failed is the last one.
	last := &findings[len(findings)-1]
	// Of a long log the end, where the traceback is.
	for _, line := range r.Log[max(0, len(r.Log)-maxKeptLines):] {
		last.Properties = append(last.Properties, mail.Property{Name: "log", Value: line[:min(len(line), maxKeptLine)]})
	}
	return findings
}

// tell writes the log of a call.
func (b *Block) tell(s *mail.Session, env *mail.Envelope, stage string, r *Result) {
	if len(r.Log) == 0 && r.Failed == nil {
		return
	}
	attrs := []slog.Attr{slog.String("session", s.ID.String()), slog.String("script", b.program.name), slog.String("stage", stage)}
	if env != nil {
		attrs = append(attrs, slog.String("id", env.ID.String()))
	}
	said := r.Log
	if f := r.Failed; f != nil {
		said = said[:max(0, len(said)-len(f.Traceback)-1)]
		b.log.LogAttrs(context.Background(), slog.LevelWarn, "script failed", append(slices.Clip(attrs), slog.Int("line", f.Line), slog.Int("column", f.Column),
			slog.String("error", f.Symbol+": "+f.Text), slog.String("traceback", strings.Join(f.Traceback, "; ")))...)
	}
	for _, line := range said {
		b.log.LogAttrs(context.Background(), slog.LevelInfo, "script says", append(slices.Clip(attrs), slog.String("text", line))...)
	}
}

// answered is what the script said about the message for some recipients.
type answered struct {
	result *Result
	about  []string // their keys
	flow   string
	seen   []mail.Finding
	score  float64
}

// Scan implements scan.Module: it asks for each recipient whose flow has the block, but
// only once for all for whom the answer must be the same.
func (b *Block) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	env, reports := in.Message.Envelope, in.Reports
	var all []*answered
	for i := range env.Recipients {
		r := &env.Recipients[i]
		seen, score, ok := before(in, b.key, reports, r)
		if !ok {
			continue
		}
		next := answered{flow: r.Route.Flow, seen: seen, score: score}
		if same := next.sameAs(all); same != nil {
			same.about = append(same.about, r.Address.Key())
			continue
		}
		next.about = []string{r.Address.Key()}
		next.result = b.program.Run(ctx, &Input{
			Stage: Content, Session: &env.Session, Envelope: env, Recipient: r, Findings: seen, Score: score, Message: in,
		})
		b.tell(&env.Session, env, string(Content), next.result)
		all = append(all, &next)
	}
	var findings []mail.Finding
	for _, a := range all {
		findings = append(findings, a.findings(b.program.name)...)
	}
	return findings, nil
}

// before is what was seen for a recipient; without flows all that anybody saw.
func before(in *scan.Input, key string, reports []scan.Report, r *mail.Recipient) (seen []mail.Finding, score float64, ok bool) {
	if in.Before != nil {
		return in.Before(key, reports, r)
	}
	for i := range reports {
		for _, f := range reports[i].Findings {
			seen, score = append(seen, f), score+f.Score
		}
	}
	return seen, score, true
}

// sameAs returns the answer that holds for another recipient as well: the script did not
// ask who he is, and knew the same.
func (a *answered) sameAs(all []*answered) *answered {
	for _, other := range all {
		if !other.result.Personal && other.flow == a.flow && other.score == a.score && slices.EqualFunc(other.seen, a.seen, sameFinding) {
			return other
		}
	}
	return nil
}

// sameFinding reports that two findings are one that concerns everybody.
func sameFinding(x, y mail.Finding) bool {
	return len(x.Recipients) == 0 && len(y.Recipients) == 0 && x.Module == y.Module && x.Symbol == y.Symbol && x.Result == y.Result &&
		x.Score == y.Score && x.Reason == y.Reason && x.Part == y.Part && x.Name == y.Name
}

// findings are those of an answer, with what the script wants done.
func (a *answered) findings(name string) []mail.Finding {
	findings := slices.Clone(withLog(a.result))
	if wish, ok := a.result.wish(name); ok {
		findings = append(findings, wish)
	}
	for i := range findings {
		findings[i].Recipients = a.about
	}
	return findings
}

// wish is the finding that tells the flow what the script wants done; false for
// nothing.
func (r *Result) wish(name string) (mail.Finding, bool) {
	f := mail.Finding{Module: Module, Symbol: string(r.Verb), Result: mail.Clean, Name: name, Reason: r.Reason}
	for _, then := range r.Then() {
		if !strings.HasPrefix(then, "score:") { // its findings count already
			f.Properties = append(f.Properties, mail.Property{Name: scan.PropertyThen, Value: then})
		}
	}
	if r.Failed != nil {
		return f, false
	}
	for _, field := range r.Edits.Remove {
		f.Properties = append(f.Properties, mail.Property{Name: scan.PropertyRemove, Value: field})
	}
	if r.Transport != "" {
		f.Properties = append(f.Properties, mail.Property{Name: scan.PropertyTransport, Value: r.Transport})
	}
	if len(f.Properties) == 0 {
		return f, false
	}
	if r.Text != "" {
		f.Properties = append(f.Properties, mail.Property{Name: scan.PropertyText, Value: r.Text})
	}
	if f.Symbol == "" {
		f.Symbol = "edit"
	}
	if f.Reason == "" {
		f.Reason = name + " wants it"
	}
	if r.Mark || r.Verb != "" && r.Verb != Accept {
		f.Result = mail.Match
	}
	return f, true
}
