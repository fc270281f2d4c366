package rewrite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Errors of tables that do not come to an end.
var (
	ErrLoop      = errors.New("the tables go round in circles")
	ErrTooMany   = errors.New("the address becomes too many recipients")
	ErrRecursion = errors.New("the tables are nested too deeply")
)

// Expansion is what becomes of one recipient.
type Expansion struct {
	// Address is the recipient after canonical and masquerade.
	Address mail.Address
	// To are those who get the mail: Address itself, or what virtual makes of it.
	// There is at least one, and nobody twice.
	To []mail.Address
	// Copies get the mail by automatic BCC; those in To are left out.
	Copies []mail.Address
}

// Recipient says what becomes of a recipient of the envelope.
func (e *Engine) Recipient(ctx context.Context, a mail.Address, t *Trace) (Expansion, error) {
	if a.Domain == "" {
		return Expansion{Address: a, To: []mail.Address{a}}, nil
	}
	var x Expansion
	var err error
	if x.Address, err = e.single(ctx, EnvelopeRecipient, a, t); err != nil {
		return Expansion{}, err
	}
	if x.To, err = e.expand(ctx, x.Address, t); err != nil {
		return Expansion{}, err
	}
	if x.Copies, err = e.copies(ctx, EnvelopeRecipient, x.Address, t); err != nil {
		return Expansion{}, err
	}
	x.Copies = slices.DeleteFunc(x.Copies, func(c mail.Address) bool { return contains(x.To, c) })
	return x, nil
}

// Sender says what becomes of the sender of the envelope. The null sender stays.
func (e *Engine) Sender(ctx context.Context, a mail.Address, t *Trace) (mail.Address, error) {
	return e.single(ctx, EnvelopeSender, a, t)
}

// SenderCopies are those who get a copy because of the sender, which is the one
// that Sender returned.
func (e *Engine) SenderCopies(ctx context.Context, sender mail.Address, t *Trace) ([]mail.Address, error) {
	return e.copies(ctx, EnvelopeSender, sender, t)
}

// single applies the stages that make one address of one: canonical and
// masquerade.
func (e *Engine) single(ctx context.Context, class Class, a mail.Address, t *Trace) (mail.Address, error) {
	if a.Domain == "" {
		return a, nil
	}
	if e.cfg.CanonicalClasses&class != 0 {
		own := EnvelopeRecipient
		if class&(EnvelopeSender|HeaderSender) != 0 {
			own = EnvelopeSender
		}
		for _, r := range []role{{Canonical, own}, {Canonical, 0}} {
			var err error
			if a, err = e.follow(ctx, r, a, t); err != nil {
				return a, err
			}
		}
	}
	if e.cfg.MasqueradeClasses&class != 0 {
		return e.hide(a, t)
	}
	return a, nil
}

// follow looks an address up, and the result again, until there is no entry or one
// that leaves the address as it is.
func (e *Engine) follow(ctx context.Context, r role, a mail.Address, t *Trace) (mail.Address, error) {
	tables := e.tables[r]
	if len(tables) == 0 {
		return a, nil
	}
	seen := map[string]bool{}
	for range e.cfg.RecursionLimit {
		f, ok, err := e.find(ctx, tables, a)
		if !ok || err != nil {
			return a, err
		}
		to, err := e.apply(a, f)
		if err != nil {
			return a, &tableError{f.entry, err}
		}
		t.add(r.stage, a, f.entry, texts(to[:1]))
		before := a.Key()
		a = to[0] // of several the first, as in Postfix
		if a.Key() == before {
			return a, nil
		}
		if seen[before] = true; seen[a.Key()] {
			return a, fmt.Errorf("%s: %s: %w", r.stage, a.Key(), ErrLoop)
		}
	}
	return a, fmt.Errorf("%s: %w", r.stage, ErrRecursion)
}

// hide replaces the domain of a host by the one that it is to be hidden behind.
func (e *Engine) hide(a mail.Address, t *Trace) (mail.Address, error) {
	if len(e.masquerade) == 0 || slices.ContainsFunc(e.cfg.MasqueradeExceptions, func(x string) bool { return strings.EqualFold(x, a.Local) }) {
		return a, nil
	}
	for _, name := range e.masquerade {
		domain := strings.TrimLeft(name, "!")
		switch {
		case domain == a.Domain:
			return a, nil
		case !strings.HasSuffix(a.Domain, "."+domain):
			continue
		case (len(name)-len(domain))%2 == 1:
			return a, nil
		}
		to, err := makeAddress(a.Local, domain)
		if err != nil {
			return a, fmt.Errorf("masquerade %s: %w", a, err)
		}
		t.Add(Step{Stage: "masquerade", Address: a.String(), Pattern: name, Result: texts([]mail.Address{to})})
		return to, nil
	}
	return a, nil
}

// copies are the automatic recipients for an address. They are rewritten and
// expanded as any recipient, and get no copies of their own.
func (e *Engine) copies(ctx context.Context, class Class, a mail.Address, t *Trace) ([]mail.Address, error) {
	f, ok, err := e.find(ctx, e.tables[role{BCC, class}], a)
	if !ok || err != nil {
		return nil, err
	}
	direct, err := e.apply(a, found{entry: f.entry})
	if err != nil {
		return nil, &tableError{f.entry, err}
	}
	t.add(BCC, a, f.entry, texts(direct))
	var all []mail.Address
	for _, c := range direct {
		if c, err = e.single(ctx, EnvelopeRecipient, c, t); err != nil {
			return nil, err
		}
		to, err := e.expand(ctx, c, t)
		if err != nil {
			return nil, err
		}
		for _, c := range to {
			if !contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return all, nil
}

func contains(all []mail.Address, a mail.Address) bool {
	return slices.ContainsFunc(all, func(b mail.Address) bool { return a.Key() == b.Key() })
}

// expand follows virtual aliases.
func (e *Engine) expand(ctx context.Context, a mail.Address, t *Trace) ([]mail.Address, error) {
	tables := e.tables[role{Virtual, 0}]
	if len(tables) == 0 {
		return []mail.Address{a}, nil
	}
	x := expander{engine: e, tables: tables, trace: t, state: map[string]progress{}}
	if err := x.follow(ctx, a); err != nil {
		return nil, fmt.Errorf("%s: %w", Virtual, err)
	}
	return x.out, nil
}

// progress is how far an address was followed.
type progress uint8

const (
	open  progress = iota + 1 // it is on the way to the present one
	ended                     // it is in the result, or all that it becomes is
)

// expander follows the aliases of one recipient.
type expander struct {
	engine   *Engine
	tables   []table
	trace    *Trace
	state    map[string]progress
	out      []mail.Address
	followed int
}

func (x *expander) follow(ctx context.Context, a mail.Address) error {
	key := a.Key()
	switch x.state[key] {
	case ended:
		return nil
	case open:
		return fmt.Errorf("%s: %w", key, ErrLoop)
	}
	f, ok, err := x.engine.find(ctx, x.tables, a)
	if err != nil {
		return err
	}
	if !ok {
		return x.take(key, a)
	}
	if x.followed++; x.followed > x.engine.cfg.RecursionLimit {
		return ErrRecursion
	}
	to, err := x.engine.apply(a, f)
	if err != nil {
		return &tableError{f.entry, err}
	}
	x.trace.add(Virtual, a, f.entry, texts(to))
	x.state[key] = open
	// An address may be a member of itself: then it is a mailbox, too, and not
	// looked up again.
	if i := slices.IndexFunc(to, func(b mail.Address) bool { return b.Key() == key }); i >= 0 {
		if err := x.take(key, to[i]); err != nil {
			return err
		}
	}
	for _, b := range to {
		if err := x.follow(ctx, b); err != nil {
			return err
		}
	}
	x.state[key] = ended
	return nil
}

// take puts an address into the result.
func (x *expander) take(key string, a mail.Address) error {
	if len(x.out) >= x.engine.cfg.ExpansionLimit {
		return ErrTooMany
	}
	x.out = append(x.out, a)
	x.state[key] = ended
	return nil
}
