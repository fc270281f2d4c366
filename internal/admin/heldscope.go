package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gatepost/internal/accounts"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
)

// BoundHeld bounds what a list of the quarantine finds to what the actor may see. Its
// error is for people whose account names nothing that they may.
func (a *Actor) BoundHeld(f *quarantine.Filter) error {
	switch a.Role.Scope() {
	case accounts.Everything:
	case accounts.Domains:
		if f.Domains = a.Domains; len(f.Domains) == 0 {
			return errors.New("your account has no domains: ask an administrator to add them")
		}
	default:
		if f.Recipients = a.Addresses; len(f.Recipients) == 0 {
			return errors.New("your account has no addresses: ask an administrator to add them")
		}
	}
	return nil
}

// SeeHeld leaves in a row what the actor may see, and reports whether that is anything.
// Who else got the message is none of theirs.
func (a *Actor) SeeHeld(row *quarantine.Row) bool {
	if a.SeesAll() {
		return true
	}
	row.State, row.Recipients = quarantine.Deleted, nil
	row.Entries = slices.DeleteFunc(row.Entries, func(e quarantine.Entry) bool { return !a.Sees(e.Key) })
	for i := range row.Entries {
		e := &row.Entries[i]
		if e.State == quarantine.Held || e.State == quarantine.Released && row.State == quarantine.Deleted {
			row.State = e.State
		}
		row.Recipients = append(row.Recipients, e.Recipient)
	}
	if len(row.Entries) == 0 {
		return false
	}
	row.Reason = row.Entries[0].Reason
	return true
}

// SeeDetail is SeeHeld for everything about a message. What it says is left out for
// those who may not read mail.
func (a *Actor) SeeDetail(d *quarantine.Detail) bool {
	if !a.SeeHeld(&d.Row) {
		return false
	}
	if !a.SeesAll() {
		d.Findings = slices.DeleteFunc(d.Findings, func(f mail.Finding) bool {
			return len(f.Recipients) > 0 && !slices.ContainsFunc(f.Recipients, a.Sees)
		})
		for i := range d.Findings {
			d.Findings[i].Recipients = slices.DeleteFunc(slices.Clone(d.Findings[i].Recipients), func(r string) bool { return !a.Sees(r) })
		}
	}
	if !a.May(accounts.MailRead) {
		d.Headers, d.Structure, d.StructureFindings, d.Links = []quarantine.Field{}, []quarantine.Part{}, nil, nil
		d.Text, d.TextCut, d.HTMLPart = "", false, ""
	}
	return true
}

// HeldRole is on whose behalf the actor changes the quarantine.
func (a *Actor) HeldRole() quarantine.Role {
	if a.Role.Scope() == accounts.Own {
		return quarantine.RoleRecipient
	}
	return quarantine.RoleAdmin
}

// seesHeld fails unless the actor may see a message; what is not theirs is not there.
func (s *Server) seesHeld(ctx context.Context, a *Actor, id mail.ID) (*quarantine.Row, error) {
	row, err := s.cfg.Quarantine.Get(ctx, id)
	if err == nil && !a.SeeHeld(row) {
		err = fmt.Errorf("%w: %s", quarantine.ErrNotFound, id)
	}
	return row, err
}

// heldOperation does something with held messages.
type heldOperation func(ctx context.Context, r quarantine.Request) []quarantine.Result

// boundedHeld does something with messages, for those recipients alone whom the actor
// may see.
func (s *Server) boundedHeld(ctx context.Context, a *Actor, r quarantine.Request, do heldOperation) []quarantine.Result {
	if r.Role = a.HeldRole(); a.SeesAll() {
		return do(ctx, r)
	}
	results := make([]quarantine.Result, 0, len(r.IDs))
	for _, id := range r.IDs {
		one, err := s.boundRequest(ctx, a, r, id)
		if err != nil {
			results = append(results, quarantine.Result{ID: id, Error: err.Error(), Err: err})
			continue
		}
		results = append(results, do(ctx, one)...)
	}
	return results
}

// boundRequest is the request for one message and those of its recipients whom the
// actor may see: the ones that it names, or all for whom it is held.
func (s *Server) boundRequest(ctx context.Context, a *Actor, r quarantine.Request, id mail.ID) (quarantine.Request, error) {
	row, err := s.seesHeld(ctx, a, id)
	if err != nil {
		return r, err
	}
	named := r.Recipients
	r.IDs, r.Recipients = []mail.ID{id}, nil
	for i := range row.Entries {
		e := &row.Entries[i]
		if len(named) == 0 && e.State == quarantine.Held {
			r.Recipients = append(r.Recipients, e.Key)
		}
	}
	for _, name := range named {
		if !a.Sees(name) {
			return r, fmt.Errorf("%w: %s for %.320q", quarantine.ErrNotFound, id, name)
		}
		r.Recipients = append(r.Recipients, name)
	}
	if len(r.Recipients) == 0 {
		return r, fmt.Errorf("%s: %w", id, quarantine.ErrReleased)
	}
	return r, nil
}
