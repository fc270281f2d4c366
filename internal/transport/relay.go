package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
)

// relay takes messages to next hops that speak SMTP or LMTP. The kinds differ in
// the route that they give it.
type relay struct {
	cfg     Config
	dialer  *smtpclient.Dialer
	pool    *pool
	policy  *policy
	marks   *Marks
	watch   Observer
	reports Reports // nil: nobody
	log     *slog.Logger
	// dialFrom connects from an address that is not ours.
	dialFrom func(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error)
}

func newRelay(cfg Config, deps Deps, p *pool) (*relay, error) {
	pol, err := newPolicy(cfg, deps)
	if err != nil {
		return nil, err
	}
	dialer := smtpclient.NewDialer(smtpclient.Config{
		Hostname: cfg.Hostname,
		LMTP:     cfg.Kind == LMTP,
		Source:   cfg.Source,
		Timeouts: cfg.Timeouts,
		Dial:     deps.Dial,
	})
	return &relay{cfg: cfg, dialer: dialer, pool: p, policy: pol, marks: NewMarks(cfg.Name, deps), watch: deps.Observer, reports: deps.Reports, log: deps.Log, dialFrom: deps.DialFrom}, nil
}

// deliver tries one hop after the other until every recipient has an answer.
func (r *relay) deliver(ctx context.Context, d *mail.Delivery, way func(context.Context) route) []mail.Outcome {
	ctx, leave, err := r.pool.enter(ctx)
	if err != nil {
		return sameForAll(d, ownOutcome(mail.Deferred, mail.ReplyInterrupted, "connect", err))
	}
	defer leave()
	j := newJob(d, r.marks)
	tried := 0
	for h, failure := range way(ctx) {
		switch {
		case failure != nil:
			j.note(*failure)
			continue
		case ctx.Err() != nil:
			j.note(ownOutcome(mail.Deferred, mail.ReplyInterrupted, "connect", context.Cause(ctx)))
		case tried == r.cfg.MaxHosts:
		default:
			tried++
			r.attempt(ctx, j, h)
			if len(j.left) > 0 {
				continue
			}
		}
		break
	}
	return j.done()
}

// attempt offers the message to one hop. A session from the pool that turns out
// to be dead, or that takes no more messages, is replaced by a new one, once.
func (r *relay) attempt(ctx context.Context, j *job, h hop) {
	strict := j.strict(h)
	h.lax = j.env.TLSOptional
	for _, fresh := range []bool{false, true} {
		s, err := r.session(ctx, h, strict, fresh)
		if err != nil {
			r.unreachable(ctx, j, h, err)
			return
		}
		req := j.request(ctx, s.conn, strict)
		if req == nil {
			r.pool.put(s)
			return
		}
		outcomes, err := s.conn.Send(ctx, req)
		j.take(outcomes, s)
		r.pool.put(s)
		if err == nil {
			return
		}
		var e *smtpclient.Error
		early := errors.As(err, &e) && e.Early && s.reused
		if (early || errors.Is(err, smtpclient.ErrSpent)) && !fresh && len(j.left) > 0 {
			r.pool.dropIdle(h.target.Address)
			continue
		}
		r.log.DebugContext(ctx, "session ended", "id", j.d.ID.String(), "host", h.target.String(), "error", err)
		if len(j.left) > 0 {
			j.noteError(err, s)
		}
		return
	}
}

// unreachable notes that there is no session to the hop.
func (r *relay) unreachable(ctx context.Context, j *job, h hop, err error) {
	o := ownOutcome(mail.Deferred, mail.ReplyNextHopDown, "connect", err)
	var e *smtpclient.Error
	switch {
	case ctx.Err() != nil:
		o.Reply = mail.ReplyInterrupted.Reply()
	case errors.As(err, &e):
		// RFC 5321 §3.1: 554 as a greeting refuses us, not the message, and another
		// host or another day may be kinder; so do 5xx to EHLO, to STARTTLS and to
		// AUTH. Error.Outcome says Deferred to all of them (docs/adr/0006).
		o = e.Outcome()
		r.pool.failed(h.target.Address)
		if j.strict(h) && errors.Is(err, smtpclient.ErrNoTLS) {
			o = ownOutcome(mail.Failed, mail.ReplyNextHopReqTLS, e.Stage, err)
		}
	}
	o.Host = h.target.String()
	r.log.InfoContext(ctx, "next hop not reached", "id", j.d.ID.String(), "host", o.Host, "stage", o.Stage, "error", err)
	j.note(o)
}

// session returns a session to the hop: an idle one, or a new one as the policy
// wants it.
func (r *relay) session(ctx context.Context, h hop, strict, fresh bool) (*session, error) {
	class := r.policy.class(h, strict)
	s, err := r.pool.take(ctx, h.target.Address, class, fresh)
	if s != nil || err != nil {
		return s, err
	}
	conn, note, err := r.open(ctx, h, strict)
	if err != nil {
		r.pool.release(h.target.Address)
		return nil, err
	}
	r.pool.succeeded(h.target.Address)
	return &session{conn: conn, address: h.target.Address, class: class, note: note}, nil
}

// opening is how conversations with the hop begin.
func (r *relay) opening(h hop) smtpclient.Opening {
	var o smtpclient.Opening
	if h.from.IsValid() {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			return r.dialFrom(ctx, h.from, network, address)
		}
	}
	return o
}

// close ends everything.
func (r *relay) close() { r.pool.close() }
