package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/policy/greylist"
	"gatepost/internal/store"
)

// greylistCmd is the group of greylist commands.
type greylistCmd struct {
	List   greylistListCmd   `cmd:"" help:"List who waits, who has passed, and who never waits."`
	Allow  greylistAllowCmd  `cmd:"" help:"Never have somebody wait."`
	Forget greylistForgetCmd `cmd:"" help:"Have somebody wait again."`
}

// Help is the long help text.
func (*greylistCmd) Help() string {
	return `Talks to the running gateway over gatepost.sock in its data_dir.

  gatepost greylist list --waiting
  gatepost greylist list --source 192.0.2.0/24
  gatepost greylist allow 192.0.2.0/20 --note "ticket 4711"
  gatepost greylist allow to:sales@example.com
  gatepost greylist forget --sender @example.org
  gatepost greylist forget --kind allow --source 192.0.2.0/20`
}

// greylistChoice says which entries are meant.
type greylistChoice struct {
	Kind      string `enum:",triplet,source,known,allow" default:"" placeholder:"KIND" help:"Of this kind: triplet (source, sender and recipient), source (one that has passed often enough), known (somebody here wrote to the sender) or allow."`
	Source    string `placeholder:"NETWORK" help:"From this network or domain; with --kind allow what was allowed."`
	Sender    string `placeholder:"ADDRESS" help:"From this sender, or from any of a domain with @DOMAIN."`
	Recipient string `placeholder:"ADDRESS" help:"To this recipient, or to any of a domain with @DOMAIN."`
	Waiting   bool   `help:"That have not passed."`
	Passed    bool   `help:"That have passed."`
}

type greylistListCmd struct {
	control        `embed:""`
	greylistChoice `embed:""`
	Limit          int `placeholder:"N" help:"At most so many entries (default: all)."`
}

// Help is the long help text.
func (*greylistListCmd) Help() string {
	return `Without a choice it lists everything that has not expired. With --json it prints an
array of objects.`
}

func (c *greylistListCmd) query() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"kind": c.Kind, "source": c.Source, "sender": c.Sender, "recipient": c.Recipient} {
		if value != "" {
			v.Set(name, value)
		}
	}
	switch {
	case c.Waiting:
		v.Set("state", "waiting")
	case c.Passed:
		v.Set("state", "passed")
	}
	return v
}

// Run implements the subcommand.
func (c *greylistListCmd) Run(t *terminal) error {
	list := listing{path: "/api/v1/greylist", query: c.query(), cursor: "cursor", limit: c.Limit}
	if err := list.check(); err != nil {
		return err
	}
	if c.Waiting && c.Passed {
		return usageError{errors.New("--waiting and --passed: nothing is both")}
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var out rowPrinter[store.GreylistEntry] = &greylistTable{t: t}
	if c.JSON {
		out = &rowArray[store.GreylistEntry]{t: t}
	}
	return printPages(g, list, out)
}

// greylistTable prints entries for people.
type greylistTable struct {
	t     *terminal
	count int
}

func (p *greylistTable) rows(page []store.GreylistEntry) error {
	var t table
	if p.count == 0 && len(page) > 0 {
		t.add("KIND", "SOURCE", "SENDER", "RECIPIENT", "STATE", "SEEN", "UNTIL", "NOTE")
	}
	p.count += len(page)
	now := time.Now()
	for i := range page {
		e := &page[i]
		until := "for good"
		if !e.Expires.IsZero() {
			until = timeText(e.Expires, now)
		}
		t.add(string(e.Kind), clean(e.Source), clean(e.Sender), clean(e.Recipient), greylistState(e), timeText(e.LastSeen, now), until, clean(e.Note))
	}
	return p.t.print(t.text())
}

// greylistState is how an entry is, in a word.
func greylistState(e *store.GreylistEntry) string {
	switch {
	case e.Kind != store.GreylistTripletKind && e.Kind != store.GreylistSourceKind:
		return "passes"
	case e.Passes == 0:
		return "waits"
	}
	return "passed " + strconv.FormatInt(e.Passes, 10) + "×"
}

func (p *greylistTable) end() error {
	if p.count == 0 {
		return p.t.print("There are no such entries.\n")
	}
	return nil
}

type greylistAllowCmd struct {
	control `embed:""`
	What    []string `arg:"" help:"An address, a network, a domain, a sender user@domain, or a recipient to:user@domain or to:domain."`
	Note    string   `help:"Why, for the list."`
}

// Help is the long help text.
func (*greylistAllowCmd) Help() string {
	return `It holds at once here, and within a minute on other nodes of the same store. A domain
is that of the sender, and the one that SPF proves, with those below it.`
}

// Run implements the subcommand.
func (c *greylistAllowCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	for _, what := range c.What {
		if err := g.post("/api/v1/greylist/allow", admin.GreylistAllow{What: what, Note: c.Note}, &struct{}{}); err != nil {
			return err
		}
		if c.JSON {
			continue
		}
		if err := t.print("allowed: " + clean(what) + "\n"); err != nil {
			return err
		}
	}
	if c.JSON {
		return t.json(c.What)
	}
	return nil
}

type greylistForgetCmd struct {
	control        `embed:""`
	greylistChoice `embed:""`
}

// Help is the long help text.
func (*greylistForgetCmd) Help() string {
	return `What it chooses waits again as if it had never been seen; what was allowed is not any
more. It needs a choice.`
}

// Run implements the subcommand.
func (c *greylistForgetCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var n admin.GreylistForgotten
	if err := g.post("/api/v1/greylist/forget", admin.GreylistForget(c.greylistChoice), &n); err != nil {
		return err
	}
	if c.JSON {
		return t.json(n)
	}
	return t.print(fmt.Sprintf("forgotten: %d\n", n.Entries))
}

// greylists are those of the present configuration, as one: their records are the
// same, and each has a memory of its own that must hear of changes.
type greylists struct{ *app }

func (a greylists) all() ([]*greylist.Greylist, error) {
	state := a.state.Load()
	if state == nil || len(state.gen.greylists) == 0 {
		return nil, admin.ErrNoGreylist
	}
	return state.gen.greylists, nil
}

// List implements admin.Greylist.
func (a greylists) List(ctx context.Context, q store.GreylistQuery) ([]store.GreylistEntry, bool, error) {
	lists, err := a.all()
	if err != nil {
		return nil, false, err
	}
	return lists[0].List(ctx, q)
}

// Allow implements admin.Greylist.
func (a greylists) Allow(ctx context.Context, what, note string) error {
	lists, err := a.all()
	for _, list := range lists {
		err = errors.Join(err, list.Allow(ctx, what, note))
	}
	return err
}

// Pass implements admin.Greylist.
func (a greylists) Pass(ctx context.Context, pair store.GreylistPair) error {
	lists, err := a.all()
	for _, list := range lists {
		err = errors.Join(err, list.Pass(ctx, pair))
	}
	return err
}

// Forget implements admin.Greylist.
func (a greylists) Forget(ctx context.Context, q store.GreylistQuery) (int64, error) {
	lists, err := a.all()
	sum := int64(0)
	for _, list := range lists {
		n, failed := list.Forget(ctx, q)
		sum, err = sum+n, errors.Join(err, failed)
	}
	return sum, err
}
