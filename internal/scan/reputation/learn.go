package reputation

import (
	"slices"
	"sync"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/store"
)

// maxLearned is how many messages are remembered as learned.
const maxLearned = 8192

// Learn counts a message for its sources, by the verdicts of its recipients, when
// the scan is over (in.Reports has all reports). It never waits. A message counts
// once: the worst verdict decides, and the same message learned again (another
// try after a crash of its scanner) is left out. Filters, policies and failures to
// scan say nothing about a source and are not counted.
func (m *Module) Learn(in *scan.Input, verdicts ...mail.Verdict) {
	n, ok := m.classify(in, verdicts)
	if !ok || in.Message.Envelope == nil || !m.learned.add(in.Message.Envelope.ID) {
		return
	}
	for _, s := range sourcesOf(in) {
		m.config.Store.AddReputation(s.key, n)
	}
}

// UnknownRecipient counts a recipient that does not exist for the network of the
// client, unless it is trusted or authenticated. The gateway calls it for each
// that was refused.
func (m *Module) UnknownRecipient(s *mail.Session) {
	if source, ok := clientSource(s); ok {
		m.config.Store.AddReputation(source.key, store.ReputationCounts{Unknown: 1})
	}
}

// classify says what the message counts as, if it counts.
func (m *Module) classify(in *scan.Input, verdicts []mail.Verdict) (store.ReputationCounts, bool) {
	own := ownScore(in)
	var spam, ham, other bool
	for i := range verdicts {
		v := &verdicts[i]
		switch {
		case v.Threat == mail.ThreatVirus:
			return store.ReputationCounts{Virus: 1}, true
		case v.Threat == mail.ThreatSpam:
			// Where the sum of scores decided, it must be spam without us as well: a
			// bad name must not feed on itself.
			if v.Block != "score" || v.Score-own >= m.config.SpamFrom {
				spam = true
			} else {
				other = true
			}
		case v.Threat == "" && v.Action == mail.ActionDeliver && v.Score-own < m.config.HamBelow && m.judged(in):
			ham = true
		default:
			other = true
		}
	}
	switch {
	case spam:
		return store.ReputationCounts{Spam: 1}, true
	case ham && !other:
		return store.ReputationCounts{Ham: 1}, true
	}
	return store.ReputationCounts{}, false
}

// judged reports whether somebody looked who can tell spam from ham. Where only
// viruses are looked for, all the rest is delivered, and says nothing.
func (m *Module) judged(in *scan.Input) bool {
	for i := range in.Reports {
		r := &in.Reports[i]
		if slices.Contains(m.config.HamNeeds, r.Use) && r.Worst() != mail.Unknown {
			return true
		}
	}
	return false
}

// ownScore is what this module added to the score of the message.
func ownScore(in *scan.Input) float64 {
	sum := 0.0
	for i := range in.Reports {
		for _, f := range in.Reports[i].Findings {
			if f.Module == Name {
				sum += f.Score
			}
		}
	}
	return sum
}

// recent remembers the IDs that were added last.
type recent struct {
	mu   sync.Mutex
	ring []mail.ID
	next int
	set  map[mail.ID]struct{}
}

func newRecent(size int) *recent {
	return &recent{ring: make([]mail.ID, size), set: make(map[mail.ID]struct{}, size)}
}

// add reports whether the ID was not there.
func (r *recent) add(id mail.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.set[id]; known {
		return false
	}
	delete(r.set, r.ring[r.next])
	r.ring[r.next] = id
	r.next = (r.next + 1) % len(r.ring)
	r.set[id] = struct{}{}
	return true
}
