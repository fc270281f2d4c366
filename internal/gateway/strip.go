package gateway

import (
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// stripParts replaces the parts that a verdict names by a notice. A part that
// lies inside of an encoded one cannot be reached without changing the bytes
// around it, so the part of the message itself that holds it goes.
func stripParts(b *strings.Builder, edits *mail.Edits, header *message.Header, seen *inspection, paths []string) {
	var spans []stripped
	for _, p := range seen.in.Tree.Parts {
		if !slices.Contains(paths, p.Path) {
			continue
		}
		outer := p
		for outer.Nested && outer.Parent != nil {
			outer = outer.Parent
		}
		span := mail.Span{Start: outer.Header.Start, End: outer.Body.End}
		if outer.Parent == nil {
			span = mail.Span{Start: bodyStart(header, outer), End: outer.Body.End}
		}
		spans = append(spans, stripped{span, outer.Parent == nil, nameOf(p), seen.rulesAbout(p.Path)})
	}
	for _, s := range outermost(spans) {
		text := s.notice()
		if s.whole {
			// The message is the attachment: its header stays, but for what says how
			// to read the body.
			b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n")
			edits.Cut = before(withSpans(edits.Cut, contentFields(header)), s.Start)
			// The Subject, with its tag, may go as well.
			edits.Replace = slices.DeleteFunc(edits.Replace, func(r mail.Replacement) bool { return r.Start >= s.Start })
			text = emptyLine(header, s.Start) + text
		} else {
			text = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nContent-Disposition: inline\r\n\r\n" + text
		}
		edits.Replace = append(edits.Replace, mail.Replacement{Span: s.Span, Text: []byte(text)})
	}
}

// bodyStart is where the body of a message begins for the program that sees it
// first: what one of them shows must go, even where it stands in the header
// section for all others.
func bodyStart(header *message.Header, p *mimetree.Part) int64 {
	start := min(header.Size, p.Body.Start)
	for _, c := range p.Contents {
		start = min(start, c.Raw.Start)
	}
	return start
}

// emptyLine is what must stand at a place of the message to make it the end of the
// header section: nothing where an empty line stands in front of it already.
func emptyLine(header *message.Header, at int64) string {
	fields := header.Fields()
	if at == header.Size && (len(fields) == 0 && at > 0 || len(fields) > 0 && fields[len(fields)-1].Span.End < at) {
		return ""
	}
	for _, f := range fields {
		if f.Span.Start < at && at <= f.Span.End && !strings.HasSuffix(f.Raw()[:at-f.Span.Start], "\r\n") {
			return "\r\n\r\n"
		}
	}
	return "\r\n"
}

// before keeps what ends at a place or in front of it.
func before(spans []mail.Span, at int64) []mail.Span {
	var kept []mail.Span
	for _, s := range spans {
		if s.Start < at {
			kept = append(kept, mail.Span{Start: s.Start, End: min(s.End, at)})
		}
	}
	return kept
}

// stripped is a stretch of the message that goes, with the names in it and the
// rules that are against it.
type stripped struct {
	mail.Span
	whole        bool
	names, rules []string
}

// rulesAbout names the filters that matched a part.
func (seen *inspection) rulesAbout(path string) []string {
	var rules []string
	for _, r := range seen.reports {
		for _, f := range r.Findings {
			if f.Part == path && f.Result == mail.Match && r.Use == "filters" && !slices.Contains(rules, f.Symbol) {
				rules = append(rules, f.Symbol)
			}
		}
	}
	return rules
}

func nameOf(p *mimetree.Part) []string {
	if len(p.Names) == 0 {
		return nil
	}
	return []string{message.SafeText(p.Names[0].Text, 100)}
}

// outermost joins stretches that overlap, in the order of their places.
func outermost(spans []stripped) []stripped {
	slices.SortStableFunc(spans, func(a, b stripped) int {
		if a.Start != b.Start {
			return int(a.Start - b.Start)
		}
		return int(b.End - a.End)
	})
	var out []stripped
	for _, s := range spans {
		if n := len(out); n > 0 && s.Start < out[n-1].End {
			last := &out[n-1]
			last.End = max(last.End, s.End)
			last.names, last.rules = append(last.names, s.names...), append(last.rules, s.rules...)
			continue
		}
		out = append(out, s)
	}
	return out
}

// notice is what the recipient reads in the place of an attachment.
func (s *stripped) notice() string {
	what := "An attachment"
	if len(s.names) > 0 {
		what = fmt.Sprintf("The attachment %q", strings.Join(slices.Compact(s.names), ", "))
	}
	return what + " was removed by the mail gateway.\r\n\r\n" +
		"Rule: " + message.SafeText(strings.Join(slices.Compact(s.rules), ", "), 200) + "\r\n" +
		"The message as it came is kept in the quarantine; your postmaster can release it.\r\n"
}

// contentFields are the fields that say how to read the body.
func contentFields(header *message.Header) []mail.Span {
	var spans []mail.Span
	for _, f := range header.Fields() {
		name := strings.ToLower(f.Name)
		if strings.HasPrefix(name, "content-") || name == "mime-version" {
			spans = append(spans, f.Span)
		}
	}
	return spans
}

// withSpans joins two lists of spans that may have members in common.
func withSpans(a, b []mail.Span) []mail.Span {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y mail.Span) int { return int(x.Start - y.Start) })
	return slices.Compact(all)
}
