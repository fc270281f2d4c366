package gateway

import (
	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// addDisclaimer puts a text at the end of the message. What else changes it is stronger:
// where a place is cut or replaced already, the message goes without.
func (g *Gateway) addDisclaimer(edits *mail.Edits, env *mail.Envelope, name string, header *message.Header, seen *inspection) {
	more, made := seen.footers[name]
	if !made {
		var why string
		if f := g.cfg.Content.Disclaimers[name]; f != nil {
			more, why = f.Edits(seen.in.Tree, header, seen.in.Message.Body)
		}
		if seen.footers == nil {
			seen.footers = make(map[string][]mail.Replacement, 1)
		}
		seen.footers[name] = more
		if why != "" {
			g.cfg.Log.Info("leaves without a disclaimer", "id", env.ID.String(), "disclaimer", name, "why", why)
		}
	}
	for _, m := range more {
		for _, r := range edits.Replace {
			if touch(m.Span, r.Span) {
				return
			}
		}
		for _, cut := range edits.Cut {
			if touch(m.Span, cut) {
				return
			}
		}
	}
	edits.Replace = append(edits.Replace, more...)
}

// touch reports whether two stretches overlap, or are the same place.
func touch(a, b mail.Span) bool { return a.Start < b.End && b.Start < a.End || a == b }
