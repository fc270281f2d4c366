package pages

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
)

// heldOperation is something that is done with messages that were chosen.
type heldOperation struct {
	// said is the key of what is said when all went well, done what was done with
	// those that went well when others did not.
	said, done string
	// any says that it is done with what is not held any more as well.
	any bool
	// train says that the route for training is the one for it.
	train bool
	run   func(ctx context.Context, r quarantine.Request) []quarantine.Result
}

func (q *quarantinePages) operation(name string) (heldOperation, bool) {
	release := func(change func(r *quarantine.Request)) func(context.Context, quarantine.Request) []quarantine.Result {
		return func(ctx context.Context, r quarantine.Request) []quarantine.Result {
			change(&r)
			return q.q.Release(ctx, r)
		}
	}
	train := func(spam bool) func(context.Context, quarantine.Request) []quarantine.Result {
		return func(ctx context.Context, r quarantine.Request) []quarantine.Result {
			r.Recipients = nil // it concerns the message, not who got it
			return q.q.Train(ctx, r, spam)
		}
	}
	op, ok := map[string]heldOperation{
		"release":       {said: "mail-released", done: "released", run: release(func(*quarantine.Request) {})},
		"release-again": {said: "mail-released", done: "released", any: true, run: release(func(r *quarantine.Request) { r.Force = true })},
		"release-train": {said: "mail-released", done: "released", train: true, run: release(func(r *quarantine.Request) { r.Train = true })},
		"delete":        {said: "mail-deleted", done: "deleted", any: true, run: q.q.Delete},
		"ask":           {said: "mail-asked", done: "asked for", run: q.q.Ask},
		"spam":          {said: "mail-spam", done: "learned", train: true, any: true, run: train(true)},
		"ham":           {said: "mail-ham", done: "learned", train: true, any: true, run: train(false)},
	}[name]
	return op, ok
}

// change does something with the messages that were chosen, one after the other, and
// says of those that failed why.
func (q *quarantinePages) change(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	back := comeBack(r.PostFormValue("back"))
	name := r.PostFormValue("do")
	op, ok := q.operation(name)
	ids := r.PostForm["id"]
	var failed error
	switch {
	case !ok || op.train != strings.HasSuffix(r.URL.Path, "/train") || op.train && !a.May(accounts.QuarantineWrite):
		failed = errors.New("choose what to do with the messages")
	case len(ids) == 0:
		failed = errors.New("choose messages first: tick the box beside each")
	case len(ids) > admin.MaxQuarantineIDs:
		failed = fmt.Errorf("choose at most %d messages at once", admin.MaxQuarantineIDs)
	default:
		a.Note(name + " " + strings.Join(ids[:min(len(ids), 40)], " "))
		failed = q.runAll(r, a, op, ids)
	}
	if failed == nil {
		q.back(w, r, back.String(), op.said)
		return
	}
	if _, id, one := strings.Cut(back.Path[1:], "/"); one {
		q.messagePage(w, r, a, id, failed)
		return
	}
	q.listPage(w, r, a, back.Query(), failed)
}

// runAll does it with message after message. Its error says what failed, if anything.
func (q *quarantinePages) runAll(r *http.Request, a *admin.Actor, op heldOperation, ids []string) error {
	done := 0
	var failed []error
	for _, text := range ids {
		err := q.runOne(r, a, op, text)
		switch {
		case err == nil:
			done++
		case len(failed) == maxFailures:
			failed = append(failed, errors.New("others failed as well"))
		case len(failed) < maxFailures:
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return errors.Join(append([]error{fmt.Errorf("%d of %d %s", done, len(ids), op.done)}, failed...)...)
}

// maxFailures bounds the failures that are told one by one.
const maxFailures = 5

// runOne does it with one message: for those recipients alone whom the actor may see,
// and of those the ones that the form names, if it does.
func (q *quarantinePages) runOne(r *http.Request, a *admin.Actor, op heldOperation, text string) error {
	row, err := q.visible(r.Context(), a, text)
	if err != nil {
		return err
	}
	request := quarantine.Request{IDs: []mail.ID{row.ID}, By: a.Name, Role: a.HeldRole()}
	own := request.Role == quarantine.RoleRecipient
	named := r.PostForm["recipient"]
	for i := range row.Entries {
		e := &row.Entries[i]
		wanted := len(named) == 0 || slices.Contains(named, e.Key)
		if wanted && (op.any && !own || len(named) > 0 || e.State == quarantine.Held) {
			request.Recipients = append(request.Recipients, e.Key)
		}
	}
	if len(request.Recipients) == 0 {
		return fmt.Errorf("%s: it is held for nobody any more", row.ID)
	}
	res := op.run(r.Context(), request)[0]
	switch {
	case res.Err == nil:
		return nil
	case errors.Is(res.Err, quarantine.ErrForbidden):
		return fmt.Errorf("%s: viruses are released by administrators only; you can ask them to", row.ID)
	case errors.Is(res.Err, quarantine.ErrBusy):
		return fmt.Errorf("%s: somebody else is at it right now; look again in a moment", row.ID)
	case errors.Is(res.Err, quarantine.ErrUnavailable):
		return quarantine.ErrUnavailable
	}
	return fmt.Errorf("%s: %s", row.ID, strings.TrimPrefix(res.Error, row.ID.String()+": "))
}

// visible is a message as the actor may see it. One that is not theirs is not there.
func (q *quarantinePages) visible(ctx context.Context, a *admin.Actor, text string) (*quarantine.Row, error) {
	id, err := mail.ParseID(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %.64q", quarantine.ErrNotFound, text)
	}
	row, err := q.q.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if !a.SeeHeld(row) {
		return nil, fmt.Errorf("%w: %s", quarantine.ErrNotFound, id)
	}
	return row, nil
}

// comeBack is the address of the page that a form came from, one of the quarantine or of
// a message, made anew of its parts: it leads nowhere else.
func comeBack(s string) *url.URL {
	u := &url.URL{Path: "/quarantine"}
	from, err := url.Parse(s)
	if err != nil {
		return u
	}
	for _, page := range []string{"/quarantine", "/messages"} {
		if id, err := mail.ParseID(strings.TrimPrefix(from.Path, page+"/")); err == nil {
			u.Path = page + "/" + id.String()
			return u
		}
	}
	values := search(from.Query())
	if cursor, err := mail.ParseID(from.Query().Get("cursor")); err == nil {
		values.Set("cursor", cursor.String())
	}
	u.RawQuery = values.Encode()
	return u
}
