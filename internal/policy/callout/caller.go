package callout

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/smtpclient"
)

// question is what is to be found out.
type question struct {
	// key names the address with the way to it, domainKey what holds for all
	// addresses of its domain.
	key, domainKey string
	address        mail.Address
	hops           func(ctx context.Context) ([]Hop, error)
}

// caller asks questions; the checks differ in which.
type caller struct {
	name    string
	config  Config
	smtp    *smtpclient.Dialer
	lmtp    *smtpclient.Dialer
	cache   *cache
	targets *targets
	machine []netip.Addr // its addresses, for listeners on all of them
	strict  bool         // a refusal for reasons of policy is an answer

	ctx    context.Context // of all callouts, until close
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	flights map[string]*flight
	closed  bool
}

// flight is a callout that is under way.
type flight struct {
	done   chan struct{}
	answer answer // set before done is closed
}

// maxFlights bounds the callouts under way and those that wait for their turn.
const maxFlights = 2000

func newCaller(name string, c Config) (*caller, error) {
	machine, err := machineAddresses(c.Own)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	// One bound for all, so none for each step.
	t := smtpclient.Timeouts{Connect: c.Timeout, Banner: c.Timeout, Hello: c.Timeout, TLS: c.Timeout, Auth: c.Timeout,
		Mail: c.Timeout, Rcpt: c.Timeout, Reset: c.Timeout}
	v := &caller{
		name: name, config: c, cache: newCache(c.CacheSize), flights: map[string]*flight{},
		smtp:    smtpclient.NewDialer(smtpclient.Config{Hostname: c.Hostname, Timeouts: t, Dial: c.Dial}),
		lmtp:    smtpclient.NewDialer(smtpclient.Config{Hostname: c.Hostname, Timeouts: t, Dial: c.Dial, LMTP: true}),
		targets: newTargets(c), machine: machine,
	}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	return v, nil
}

// Close ends the callouts that are under way. Afterwards nobody is asked any more.
func (v *caller) Close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.cancel()
	v.done.Wait()
}

// find returns what is known of an address as a finding, asking if need be. The
// error is ctx's.
func (v *caller) find(ctx context.Context, q question) ([]mail.Finding, error) {
	a, ok := v.known(q)
	if !ok {
		f := v.join(q)
		if f == nil {
			a = v.unknown("too many callouts are under way")
		} else {
			select {
			case <-f.done:
				a = f.answer
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	finding := mail.Finding{Module: v.name, Symbol: a.symbol, Result: a.result, Name: q.address.Key(), Reason: a.reason}
	finding.Name = message.SafeText(finding.Name, maxReason)
	if a.result == mail.Match {
		finding.Score = v.config.Score
	}
	return []mail.Finding{finding}, nil
}

// known returns what is remembered.
func (v *caller) known(q question) (answer, bool) {
	if a, ok := v.cache.get(q.key); ok {
		return a, true
	}
	a, ok := v.cache.get(q.domainKey)
	return a, ok && a.symbol != picky
}

// join returns the callout for the question, a new one if there is none; nil where
// there must be no more. It belongs to nobody in particular: what it finds out is
// worth remembering even when the client that made us ask has left.
func (v *caller) join(q question) *flight {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f, ok := v.flights[q.key]; ok {
		return f
	}
	if v.closed || len(v.flights) >= maxFlights {
		return nil
	}
	f := &flight{done: make(chan struct{})}
	v.flights[q.key] = f
	v.done.Go(func() {
		f.answer = v.call(q)
		v.mu.Lock()
		delete(v.flights, q.key)
		v.mu.Unlock()
		close(f.done)
	})
	return f
}

// call makes the callout and remembers its answer.
func (v *caller) call(q question) answer {
	ctx, cancel := context.WithTimeout(v.ctx, v.config.Timeout)
	defer cancel()
	begin := time.Now()
	a, err := v.ask(ctx, q)
	if err != nil {
		a = v.unknown(err.Error())
		if !errors.Is(err, errBusy) && v.ctx.Err() == nil {
			v.cache.put(q.domainKey, a) // it is not about this address
		}
	} else {
		v.cache.put(q.key, a)
	}
	v.config.Log.Debug("callout", "check", v.name, "address", q.address.Key(), "result", a.symbol, "reason", a.reason, "took", time.Since(begin))
	return a
}

// ask tries one server after the other until one has answered. The error says why
// nobody did.
func (v *caller) ask(ctx context.Context, q question) (answer, error) {
	hops, err := q.hops(ctx)
	if err != nil {
		return answer{}, err
	}
	failure := errors.New("there is no server to ask")
	for _, h := range hops[:min(len(hops), v.config.MaxHosts)] {
		a, err := v.visit(ctx, h, q)
		if err == nil {
			return a, nil
		}
		failure = fmt.Errorf("%s: %w", h.String(), err)
		if ctx.Err() != nil {
			break
		}
	}
	return answer{}, failure
}

// visit waits until the server may be asked, and asks.
func (v *caller) visit(ctx context.Context, h Hop, q question) (answer, error) {
	leave, err := v.targets.enter(ctx, h.Address)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	return v.talk(ctx, h, q)
}

// maxReason bounds a reason in bytes.
const maxReason = 256

func (v *caller) unknown(why string) answer {
	return answer{result: mail.Unknown, symbol: SymbolUnavailable, reason: message.SafeText("nobody could say: "+why, maxReason),
		until: time.Now().Add(v.config.UnknownFor)}
}

func (v *caller) exists(host string) answer {
	return answer{result: mail.Clean, symbol: SymbolExists, reason: message.SafeText("taken by "+host, maxReason),
		until: time.Now().Add(v.config.PositiveFor)}
}
