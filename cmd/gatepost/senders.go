package main

import (
	"fmt"
	"net/url"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/store"
)

// sendersCmd is the group of commands for lists of senders.
type sendersCmd struct {
	List   sendersListCmd   `cmd:"" help:"List the senders that are allowed or blocked."`
	Allow  sendersAllowCmd  `cmd:"" help:"Allow senders."`
	Block  sendersBlockCmd  `cmd:"" help:"Block senders."`
	Remove sendersRemoveCmd `cmd:"" help:"Take senders off a list."`
}

// Help is the long help text.
func (*sendersCmd) Help() string {
	return `Talks to the running gateway over gatepost.sock in its data_dir. A sender is an address,
or @domain for the addresses of a domain and of those below it.

  gatepost senders block @spam.example
  gatepost senders allow news@shop.example --for ann@example.com --note "ticket 4711"
  gatepost senders list --for @example.com
  gatepost senders remove news@shop.example --for ann@example.com`
}

// sendersFor says whose list is meant.
type sendersFor struct {
	For string `placeholder:"WHOM" default:"everybody" help:"Whose list: an address, @domain, or everybody (the default)."`
}

// owner is the list as the API names it.
func (f *sendersFor) owner() string {
	if f.For == "everybody" {
		return ""
	}
	return f.For
}

type sendersListCmd struct {
	control `embed:""`
	For     string `placeholder:"WHOM" help:"This list alone: that of an address, of @domain, or of everybody."`
	Kind    string `enum:",allow,block" default:"" placeholder:"KIND" help:"Those alone that are allowed (allow) or blocked (block)."`
	Text    string `placeholder:"TEXT" help:"With this in sender, list or note."`
	Limit   int    `placeholder:"N" help:"At most so many (default: all)."`
}

// Run implements the subcommand.
func (c *sendersListCmd) Run(t *terminal) error {
	query := url.Values{}
	for name, value := range map[string]string{"owner": c.For, "kind": c.Kind, "text": c.Text} {
		if value != "" {
			query.Set(name, value)
		}
	}
	list := listing{path: "/api/v1/senders", query: query, cursor: "cursor", limit: c.Limit}
	if err := list.check(); err != nil {
		return err
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var out rowPrinter[store.SenderEntry] = &senderTable{t: t}
	if c.JSON {
		out = &rowArray[store.SenderEntry]{t: t}
	}
	return printPages(g, list, out)
}

// senderTable prints entries for people.
type senderTable struct {
	t     *terminal
	count int
}

func (p *senderTable) rows(page []store.SenderEntry) error {
	var t table
	if p.count == 0 && len(page) > 0 {
		t.add("SENDER", "IS", "FOR", "BY", "SINCE", "NOTE")
	}
	p.count += len(page)
	now := time.Now()
	for i := range page {
		e := &page[i]
		is := "blocked"
		if e.Kind == store.SenderAllowed {
			is = "allowed"
		}
		t.add(clean(e.Pattern), is, clean(admin.WhoseList(e.Owner)), clean(e.By), timeText(e.Added, now), clean(e.Note))
	}
	return p.t.print(t.text())
}

func (p *senderTable) end() error {
	if p.count == 0 {
		return p.t.print("There are no such entries.\n")
	}
	return nil
}

// sendersPut is what allow and block have in common.
type sendersPut struct {
	control    `embed:""`
	sendersFor `embed:""`
	Senders    []string `arg:"" help:"Addresses, or @domain."`
	Note       string   `placeholder:"TEXT" help:"Why, for the list."`
}

func (c *sendersPut) put(t *terminal, kind store.SenderKind, said string) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	put := admin.SenderPut{Owner: c.owner(), Patterns: c.Senders, Kind: kind, Note: c.Note, By: whoami()}
	var answer admin.SenderDone
	if err := g.post("/api/v1/senders", put, &answer); err != nil {
		return err
	}
	return c.tell(t, answer, said)
}

func (c *control) tell(t *terminal, answer admin.SenderDone, said string) error {
	if c.JSON {
		return t.json(answer.Entries)
	}
	for _, k := range answer.Entries {
		if err := t.print(fmt.Sprintf("%s for %s: %s\n", said, clean(admin.WhoseList(k.Owner)), clean(k.Pattern))); err != nil {
			return err
		}
	}
	return nil
}

type sendersAllowCmd struct {
	sendersPut `embed:""`
}

// Help is the long help text.
func (*sendersAllowCmd) Help() string {
	return `Their mail is never taken for spam by what stands behind the block "senders" of a flow,
if SPF, DKIM or DMARC proves that it is theirs. Viruses are held in any case.`
}

// Run implements the subcommand.
func (c *sendersAllowCmd) Run(t *terminal) error { return c.put(t, store.SenderAllowed, "allowed") }

type sendersBlockCmd struct {
	sendersPut `embed:""`
}

// Help is the long help text.
func (*sendersBlockCmd) Help() string {
	return `What happens to their mail says on_match of the block "senders" of a flow: it goes into
the quarantine, unless something else is configured.`
}

// Run implements the subcommand.
func (c *sendersBlockCmd) Run(t *terminal) error { return c.put(t, store.SenderBlocked, "blocked") }

type sendersRemoveCmd struct {
	control    `embed:""`
	sendersFor `embed:""`
	Senders    []string `arg:"" help:"As the list has them."`
}

// Run implements the subcommand.
func (c *sendersRemoveCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var request admin.SenderRemove
	for _, s := range c.Senders {
		request.Entries = append(request.Entries, store.SenderKey{Owner: c.owner(), Pattern: s})
	}
	var answer admin.SenderDone
	if err := g.post("/api/v1/senders/remove", request, &answer); err != nil {
		return err
	}
	if missing := len(c.Senders) - len(answer.Entries); missing > 0 {
		fmt.Fprintf(t.err, "gatepost: %d not on the list\n", missing)
	}
	if err := c.tell(t, answer, "removed"); err != nil {
		return err
	}
	if len(answer.Entries) == 0 {
		return errSaid
	}
	return nil
}
