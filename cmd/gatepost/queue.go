package main

import (
	"fmt"
	"net/url"
	"strings"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/queue"
)

// queueCmd is the group of queue commands.
type queueCmd struct {
	List    queueListCmd    `cmd:"" help:"List what waits, and why."`
	Show    queueShowCmd    `cmd:"" help:"Show everything about one message."`
	Stats   queueStatsCmd   `cmd:"" help:"Count by state and destination."`
	Retry   queueRetryCmd   `cmd:"" help:"Try now."`
	Hold    queueHoldCmd    `cmd:"" help:"Keep from being delivered until released."`
	Release queueReleaseCmd `cmd:"" help:"Let go what is on hold."`
	Delete  queueDeleteCmd  `cmd:"" help:"Delete, without telling the sender."`
	Reroute queueRerouteCmd `cmd:"" help:"Send by another transport."`
	Pause   queuePauseCmd   `cmd:"" help:"Stop deliveries of a transport or to a domain."`
	Resume  queueResumeCmd  `cmd:"" help:"End a pause."`
	Pauses  queuePausesCmd  `cmd:"" help:"List the pauses."`
}

// Help is the long help text.
func (*queueCmd) Help() string {
	return `Talks to the running gateway over gatepost.sock in its data_dir. Items are chosen
by their ID, or by any of the flags; all that are given must hold.

  gatepost queue list --domain example.org
  gatepost queue show 01hzy3v7q2r8m5n6k4j3h2g1f0
  gatepost queue retry --transport exchange --dry-run
  gatepost queue hold --sender @spammer.example --reason "asking the customer"
  gatepost queue delete --sender '<>' --older 1d --error 'mailbox full' --yes
  gatepost queue reroute --domain example.org --to backup
  gatepost queue pause --transport exchange --reason "maintenance until 18:00"`
}

// selection are the flags that choose queue items.
type selection struct {
	IDs       []string `arg:"" optional:"" name:"id" help:"Messages (ID) or items (ID:n)."`
	ID        []string `name:"id" placeholder:"ID" help:"The same as a flag."`
	Sender    string   `placeholder:"ADDRESS" help:"From this address, from any of a domain with @DOMAIN, or from <>."`
	Recipient string   `placeholder:"ADDRESS" help:"To this address, or to any of a domain with @DOMAIN."`
	Domain    string   `help:"To this domain."`
	Transport string   `placeholder:"NAME" help:"By this transport."`
	State     string   `enum:",incoming,active,deferred,hold" default:"" placeholder:"STATE" help:"In this state: incoming, active, deferred or hold."`
	Older     string   `placeholder:"TIME" help:"Older than this: 90s, 5m, 2h, 3d."`
	Newer     string   `placeholder:"TIME" help:"Newer than this."`
	Error     string   `placeholder:"REGEX" help:"Whose last error matches this regular expression."`
	All       bool     `help:"Every item."`
}

// AfterApply checks what can be known without the gateway.
func (s *selection) AfterApply() error {
	for _, v := range []string{s.Older, s.Newer} {
		if v == "" {
			continue
		}
		if _, err := config.ParseDuration(v); err != nil {
			return err
		}
	}
	return nil
}

func (s *selection) selector() admin.Selector {
	return admin.Selector{
		IDs: append(append([]string(nil), s.IDs...), s.ID...), Sender: s.Sender, Recipient: s.Recipient, Domain: s.Domain,
		Transport: s.Transport, State: s.State, OlderThan: s.Older, NewerThan: s.Newer, Error: s.Error, All: s.All,
	}
}

type queueListCmd struct {
	control   `embed:""`
	selection `embed:""`
	Limit     int `placeholder:"N" help:"At most so many items (default: all)."`
}

// Help is the long help text.
func (*queueListCmd) Help() string {
	return `Without a choice it lists everything, oldest first. WHY tells why an item waits.
With --json it prints an array of objects.`
}

// Run implements the subcommand.
func (c *queueListCmd) Run(t *terminal) error {
	list := listing{path: "/api/v1/queue/items", query: c.selector().Values(), cursor: "after", limit: c.Limit}
	if err := list.check(); err != nil {
		return err
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var out rowPrinter[queue.Row] = &rowTable{t: t}
	if c.JSON {
		out = &rowArray[queue.Row]{t: t}
	}
	return printPages(g, list, out)
}

type queueShowCmd struct {
	control `embed:""`
	ID      string `arg:"" help:"A message (ID) or an item (ID:n)."`
}

// Help is the long help text.
func (*queueShowCmd) Help() string {
	return `Shows envelope, state and the last outcome of each recipient. With --json it prints
one object.`
}

// Run implements the subcommand.
func (c *queueShowCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var items []queue.Detail
	if err := g.get("/api/v1/queue/items/"+url.PathEscape(c.ID), nil, &items); err != nil {
		return err
	}
	if len(items) == 0 {
		return fmt.Errorf("%w: %s", queue.ErrNotFound, c.ID)
	}
	if c.JSON {
		return t.json(oneObject(items))
	}
	return t.print(detailText(items))
}

type queueStatsCmd struct {
	control `embed:""`
}

// Help is the long help text.
func (*queueStatsCmd) Help() string {
	return `Counts items by state, and lists the destinations: how many are being tried, are
ready and wait, how many may be tried at once, and whether it is dead or paused.`
}

// Run implements the subcommand.
func (c *queueStatsCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var s queue.Stats
	if err := g.get("/api/v1/queue/stats", nil, &s); err != nil {
		return err
	}
	if c.JSON {
		return t.json(s)
	}
	return t.print(statsText(&s))
}

// change is what every command that changes items has.
type change struct {
	control   `embed:""`
	selection `embed:""`
	DryRun    bool `help:"Count only."`
}

// run sends the change and tells what came of it; verb is "retried".
func (c *change) run(t *terminal, name, verb string, body admin.Change) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	body.Selector, body.DryRun, body.By = c.selector(), c.DryRun, whoami()
	var n admin.Counted
	if err := g.post("/api/v1/queue/"+name, body, &n); err != nil {
		return err
	}
	return c.tell(t, verb, n)
}

// tell prints what was done. Asking for an ID that is not there is a failure;
// a choice that nothing meets is not.
func (c *change) tell(t *terminal, verb string, n admin.Counted) error {
	if n.Count == 0 && len(c.IDs)+len(c.ID) > 0 {
		return fmt.Errorf("no such queue item: %s", strings.Join(c.selector().IDs, ", "))
	}
	if c.JSON {
		return t.json(n)
	}
	if n.DryRun {
		return t.print(fmt.Sprintf("%s would be %s\n", plural(n.Count, "item"), verb))
	}
	return t.print(fmt.Sprintf("%s %s\n", plural(n.Count, "item"), verb))
}

type queueRetryCmd struct {
	change `embed:""`
}

// Help is the long help text.
func (*queueRetryCmd) Help() string {
	return `Makes the items due now, whatever their schedule says. What is on hold or paused
stays where it is.`
}

// Run implements the subcommand.
func (c *queueRetryCmd) Run(t *terminal) error {
	return c.run(t, "retry", "made due", admin.Change{})
}

type queueHoldCmd struct {
	change `embed:""`
	Reason string `help:"Why; shown in lists."`
}

// Run implements the subcommand.
func (c *queueHoldCmd) Run(t *terminal) error {
	return c.run(t, "hold", "put on hold", admin.Change{Reason: c.Reason})
}

type queueReleaseCmd struct {
	change `embed:""`
}

// Run implements the subcommand.
func (c *queueReleaseCmd) Run(t *terminal) error {
	return c.run(t, "release", "released", admin.Change{})
}

type queueDeleteCmd struct {
	change `embed:""`
	Yes    bool `help:"Delete more than one ID."`
}

// Help is the long help text.
func (*queueDeleteCmd) Help() string {
	return `Deletes items for good. Nobody is told, neither sender nor recipient. Whatever is
more than a single ID needs --yes; without it the items are counted only.`
}

// Run implements the subcommand.
func (c *queueDeleteCmd) Run(t *terminal) error {
	single := len(c.selector().IDs) == 1
	if single || c.Yes || c.DryRun {
		return c.run(t, "delete", "deleted", admin.Change{})
	}
	c.DryRun = true
	if err := c.run(t, "delete", "deleted", admin.Change{}); err != nil {
		return err
	}
	return fmt.Errorf("nothing was deleted: say --yes to do it")
}

type queueRerouteCmd struct {
	change `embed:""`
	To     string `required:"" placeholder:"NAME" help:"Transport that the items go by from now on."`
}

// Help is the long help text.
func (*queueRerouteCmd) Help() string {
	return `Sends items by another transport of the configuration and makes them due. The flag
--transport chooses items by the one that they have now:

  gatepost queue reroute --transport exchange --to exchange-dr`
}

// Run implements the subcommand.
func (c *queueRerouteCmd) Run(t *terminal) error {
	return c.run(t, "reroute", "rerouted", admin.Change{Transport: c.To})
}

// pauseFlags name what is paused.
type pauseFlags struct {
	control   `embed:""`
	Transport string `placeholder:"NAME" help:"This transport."`
	Domain    string `help:"This destination domain; with --transport only on that transport."`
}

func (c *pauseFlags) send(t *terminal, name string, p admin.PauseRequest) error {
	if c.Transport == "" && c.Domain == "" {
		return usageError{fmt.Errorf("say what: --transport, --domain or both")}
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	p.Transport, p.Domain, p.By = c.Transport, c.Domain, whoami()
	var list []queue.Pause
	if err := g.post("/api/v1/queue/"+name, p, &list); err != nil {
		return err
	}
	if c.JSON {
		return t.json(list)
	}
	return t.print(pausesText(list))
}

type queuePauseCmd struct {
	pauseFlags `embed:""`
	Reason     string `help:"Why; shown in lists."`
}

// Help is the long help text.
func (*queuePauseCmd) Help() string {
	return `No new deliveries begin; those under way end. Mail is accepted and waits: it uses
up no attempts and does not get older. A pause survives a restart. Prints the
pauses that are in force then.`
}

// Run implements the subcommand.
func (c *queuePauseCmd) Run(t *terminal) error {
	return c.send(t, "pause", admin.PauseRequest{Reason: c.Reason})
}

type queueResumeCmd struct {
	pauseFlags `embed:""`
}

// Run implements the subcommand.
func (c *queueResumeCmd) Run(t *terminal) error {
	return c.send(t, "resume", admin.PauseRequest{})
}

type queuePausesCmd struct {
	control `embed:""`
}

// Run implements the subcommand.
func (c *queuePausesCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var list []queue.Pause
	if err := g.get("/api/v1/queue/pauses", nil, &list); err != nil {
		return err
	}
	if c.JSON {
		return t.json(list)
	}
	return t.print(pausesText(list))
}
