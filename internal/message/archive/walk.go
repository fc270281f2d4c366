package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"gatepost/internal/mail"
)

// errEnded unwinds a walk that must end: over a limit, or with walk.err.
var errEnded = errors.New("walk ended")

// errEnough unwinds one container whose rest must not be read.
var errEnough = errors.New("container ended")

// walk is one call of Walk.
type walk struct {
	unpacker *Unpacker
	ctx      context.Context
	budget   *Budget
	visit    func(*Member) error
	result   *Result

	// visiting is set while the visitor has the member. It may read on then, with
	// its own context, although the walk is over.
	visiting bool

	ended bool
	err   error // what Walk returns
	seen  map[symbol]int
}

// node is an object: the input, or a member.
type node struct {
	path  []string
	name  string
	body  mail.Body
	depth int
	meter *meter
	// formats are the types of the object, once they were looked for.
	formats []Format
}

func (w *walk) run(in Input) error {
	w.seen = map[symbol]int{}
	name := CleanName(in.Name)
	if name == "" {
		name = "part"
	}
	body := pages(in.Body)
	n := &node{path: []string{name}, name: name, body: body, meter: &meter{in: body.Size()}}
	hits := w.detect(n)
	w.result.Formats = n.formats
	// The error is errEnded, which w.err explains.
	_ = w.unpack(n, hits)
	return w.err
}

// end stops the walk; err, where not nil, is for the caller of Walk.
func (w *walk) end(err error) error {
	w.ended = true
	if w.err == nil {
		w.err = err
	}
	return errEnded
}

// broken stops the walk because storage failed.
func (w *walk) broken(err error) error { return w.end(err) }

// alive returns errEnded when the walk must end.
func (w *walk) alive() error {
	if w.ended {
		return errEnded
	}
	if err := w.ctx.Err(); err != nil {
		w.note(nil, symTime, "the scan was stopped")
		return w.end(fmt.Errorf("open archive: %w", err))
	}
	if w.budget.expired() {
		w.note(nil, symTime, "not done after "+w.budget.limits.Time.String())
		return w.end(nil)
	}
	return nil
}

// note records a finding about the object at path; nil is the walk as a whole.
// Each symbol is recorded once for a path, and at least once whatever the limit.
func (w *walk) note(path []string, s symbol, reason string) {
	// An archive of encrypted members says so a few times, not for each.
	const ofOneKind = 20
	list := w.result.Findings
	if w.seen[s] >= ofOneKind || len(list) >= w.budget.limits.Findings && w.seen[s] > 0 {
		return
	}
	for i := len(list) - 1; i >= max(0, len(list)-8); i-- {
		if f := &list[i]; f.Module == s.module && f.Symbol == s.name && samePath(f.Path, path) {
			return
		}
	}
	w.seen[s]++
	if len(path) > 0 {
		reason = showPath(path) + ": " + reason
	}
	w.result.Findings = append(list, Finding{
		Finding: mail.Finding{Module: s.module, Symbol: s.name, Result: s.result, Reason: reason},
		Path:    path,
	})
}

func samePath(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// showPath is a path for people, cut in the middle where it is long.
func showPath(path []string) string {
	return shorten(strings.Join(path, " › "), 240)
}

// unpack opens n as each of its types, and then looks for archives in what these
// did not claim.
func (w *walk) unpack(n *node, hits []hit) error {
	rest := []mail.Span{{Start: 0, End: n.body.Size()}}
	for _, h := range hits {
		claimed, err := w.unpackAs(n, h)
		if err != nil {
			return err
		}
		rest = subtract(rest, claimed)
	}
	for _, h := range w.embedded(n, rest) {
		if _, err := w.unpackAs(n, h); err != nil {
			return err
		}
	}
	return nil
}

// unpackAs opens n as one type and returns which of its bytes belong to that.
// The error is errEnded or nil.
func (w *walk) unpackAs(n *node, h hit) (claimed []mail.Span, err error) {
	f := unpacker(h.format)
	if f == nil {
		w.note(n.path, symUnsupported, h.format.title()+" is not opened")
		return nil, nil
	}
	if n.depth >= w.budget.limits.Depth {
		w.note(n.path, symDepth, fmt.Sprintf("%s at depth %d is not opened", h.format.title(), n.depth))
		return []mail.Span{{Start: 0, End: n.body.Size()}}, nil
	}
	body := w.open(n.body)
	if h.offset > 0 {
		body = io.NewSectionReader(body, h.offset, n.body.Size()-h.offset)
	}
	s := &scope{w: w, node: n, format: h.format, body: body, base: h.offset, quiet: h.quiet,
		meter: &meter{in: body.Size(), outer: n.meter}}
	s.claim(0, body.Size())
	err = f(s)
	s.releaseTo(0)
	switch {
	case w.ended:
		return s.claimed, errEnded
	case err == nil, errors.Is(err, errEnough), s.quiet:
		return s.claimed, nil
	}
	s.failed(err)
	return s.claimed, nil
}

// subtract removes the spans of cut from list.
func subtract(list, cut []mail.Span) []mail.Span {
	for _, c := range cut {
		var left []mail.Span
		for _, s := range list {
			if s.Start < min(s.End, c.Start) {
				left = append(left, mail.Span{Start: s.Start, End: min(s.End, c.Start)})
			}
			if max(s.Start, c.End) < s.End {
				left = append(left, mail.Span{Start: max(s.Start, c.End), End: s.End})
			}
		}
		list = left
	}
	return list
}
