package gateway

import (
	"sync"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// visits are the sessions that flows before content have looked at, with what they
// were told and what still holds. The hook for the end of a session forgets it.
type visits struct {
	mu  sync.Mutex
	all map[mail.ID]*visit
}

// visit is what is kept of one session. Only the session's own goroutine uses it.
type visit struct {
	// later is a refusal that waits for RCPT.
	later *mail.Decision
	// session and transaction are the reports that hold as long; message is the
	// transaction that the latter are about.
	session, transaction map[string]*policy.Report
	message              mail.ID
	// passages are the transactions with upstreams, by transport and sender, for the message that
	// passing names.
	passages map[string]*passage
	passing  mail.ID
}

// of returns what is kept of a session.
func (vs *visits) of(s *mail.Session) *visit {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	v := vs.all[s.ID]
	if v == nil {
		if vs.all == nil {
			vs.all = make(map[mail.ID]*visit)
		}
		v = &visit{}
		vs.all[s.ID] = v
	}
	return v
}

// known returns what is kept of a session; nil: nothing is.
func (vs *visits) known(s *mail.Session) *visit {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	return vs.all[s.ID]
}

// forget ends the visit of a session.
func (vs *visits) forget(s *mail.Session) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	delete(vs.all, s.ID)
}

// reports are those of the same scope that are known already, to be read and
// added to; nil where each question is asked anew.
func (v *visit) reports(scope policy.Scope, in *policy.Input) map[string]*policy.Report {
	switch {
	case in.Stage == policy.Connect:
		return nil // once, or again after XCLIENT made it another client
	case scope == policy.PerSession:
		if v.session == nil {
			v.session = make(map[string]*policy.Report)
		}
		return v.session
	case scope == policy.PerTransaction && in.Envelope != nil:
		if v.transaction == nil || v.message != in.Envelope.ID {
			v.transaction, v.message = make(map[string]*policy.Report), in.Envelope.ID
		}
		return v.transaction
	}
	return nil
}
