package clamav

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// maxName bounds names of signatures and files, in bytes.
const maxName = 200

// safe makes one short line of what clamd says.
func safe(s string) string { return message.SafeText(s, maxName) }

// run is the scan of one message.
type run struct {
	s        *Scanner
	in       *scan.Input
	findings []mail.Finding
	streams  int
	virus    bool
}

// errEnough ends a run: no finding could be worse, or no more may be asked.
var errEnough = errors.New("enough is known")

// all streams what is to be streamed, until a virus is found.
func (r *run) all(ctx context.Context) error {
	err := r.one(ctx, whole(r.in))
	if r.virus {
		r.locate(ctx)
	}
	if err == nil {
		err = r.readings(ctx)
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// readings streams what clamd does not come to by itself.
func (r *run) readings(ctx context.Context) error {
	for _, t := range contents(r.in) {
		if err := r.one(ctx, t); err != nil {
			return err
		}
	}
	return members(ctx, r.in, r.s.cfg.MaxSize, func(t target, size int64) error {
		if size > r.s.cfg.MaxSize {
			r.add(tooLarge(t, r.s.cfg.MaxSize))
			return nil
		}
		return r.one(ctx, t)
	})
}

// one streams one target and takes note of the answer.
func (r *run) one(ctx context.Context, t target) error {
	if r.streams++; r.streams > r.s.cfg.Streams {
		r.add(mail.Finding{
			Module: use, Symbol: "limit:clamav-streams", Result: mail.Unknown,
			Reason: fmt.Sprintf("more than %d readings and files: not all of them were scanned by clamd", r.s.cfg.Streams),
		})
		return errEnough
	}
	a, err := r.ask(ctx, t)
	if err != nil {
		return fmt.Errorf("%s: %w", t.what, err)
	}
	switch a.verdict {
	case infected:
		f := named(a.name, t)
		r.add(f)
		if f.Result == mail.Match && !strings.HasPrefix(f.Symbol, "heuristic:") {
			r.virus = true
			return errEnough
		}
	case oversized:
		r.add(tooLarge(t, r.s.cfg.MaxSize))
	}
	return nil
}

// ask streams one target.
func (r *run) ask(ctx context.Context, t target) (answer, error) {
	begun := time.Now()
	a, n, err := r.s.client.scan(ctx, t.open())
	r.s.outcome(ctx, err, time.Since(begun))
	result := mail.Clean
	switch {
	case err != nil || a.verdict == oversized:
		result = mail.Unknown
	case a.verdict == infected:
		result = named(a.name, t).Result
	}
	r.s.streamed(result, n, time.Since(begun))
	return a, err
}

// add appends a finding unless the same was found before.
func (r *run) add(f mail.Finding) {
	if !slices.ContainsFunc(r.findings, func(g mail.Finding) bool { return g.Symbol == f.Symbol && g.Part == f.Part && g.Name == f.Name }) {
		r.findings = append(r.findings, f)
	}
}

// locating is how many parts are streamed to find the one with the virus.
const locating = 10

// locate looks for the part that holds what was found in the message, for those
// who read about it. It tells nothing new, so it gives up at the first trouble.
func (r *run) locate(ctx context.Context) {
	f := &r.findings[len(r.findings)-1]
	tried := 0
	for _, p := range r.in.Tree.Parts {
		for _, c := range p.Contents {
			if len(p.Names) == 0 || len(c.Types) == 0 {
				continue
			}
			if tried++; tried > locating {
				return
			}
			t := ofContent(p, c)
			a, err := r.ask(ctx, t)
			if err != nil {
				return
			}
			if a.verdict == infected {
				if g := named(a.name, t); g.Symbol == f.Symbol {
					*f = g
					return
				}
			}
		}
	}
}

// named is the finding for the name of a signature.
func named(name string, t target) mail.Finding {
	name = safe(name)
	f := mail.Finding{Module: use, Result: mail.Match, Part: t.part, Name: t.name}
	switch {
	case strings.HasPrefix(name, "Heuristics.Limits.Exceeded"), strings.HasPrefix(name, "Heuristics.Email.ExceedsMax"):
		f.Symbol, f.Result = "limit:clamav", mail.Unknown
		f.Reason = fmt.Sprintf("clamd could not scan all of %s: %s", t.what, name)
	case strings.HasPrefix(name, "Heuristics.Encrypted"):
		f.Symbol, f.Result = "encrypted:clamav", mail.Unknown
		f.Reason = fmt.Sprintf("clamd cannot open %s: %s", t.what, name)
	case strings.HasPrefix(name, "Heuristics."):
		f.Symbol = "heuristic:" + name
		f.Reason = fmt.Sprintf("clamd suspects %s: %s", t.what, name)
	default:
		// A colon would make the beginning of the name a class.
		f.Symbol = strings.ReplaceAll(name, ":", "_")
		f.Reason = fmt.Sprintf("clamd found %s in %s", name, t.what)
	}
	return f
}

// tooLarge is the finding for what clamd does not take.
func tooLarge(t target, limit int64) mail.Finding {
	return mail.Finding{
		Module: use, Symbol: "limit:clamav-size", Result: mail.Unknown, Part: t.part, Name: t.name,
		Reason: fmt.Sprintf("%s is larger than what is given to clamd (%d bytes)", t.what, limit),
	}
}
