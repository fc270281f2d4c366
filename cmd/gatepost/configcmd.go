package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"gatepost/internal/admin"
	changes "gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// configCmd is the group of commands about the configuration of the running gateway.
type configCmd struct {
	Show      configShowCmd      `cmd:"" help:"Print the configuration, or the value of a key, without its secrets."`
	Diff      configDiffCmd      `cmd:"" help:"Show what was changed on disk and is not in use."`
	Set       configSetCmd       `cmd:"" help:"Change a key, load it and keep the change as a revision."`
	Unset     configUnsetCmd     `cmd:"" help:"Remove a key, a section or an element of a list."`
	Rename    configRenameCmd    `cmd:"" help:"Give a part another name, there and wherever it is named."`
	Webhook   configWebhookCmd   `cmd:"" name:"test-webhook" help:"Send a test event to a webhook."`
	Revisions configRevisionsCmd `cmd:"" help:"List the changes that were made, or show one."`
	Rollback  configRollbackCmd  `cmd:"" help:"Make everything as it was after a change."`
}

// changing is what commands have that change something.
type changing struct {
	control `embed:""`
	Why     string `placeholder:"TEXT" help:"The reason, for the list of changes."`
	Later   bool   `help:"Save a change that needs a restart; it comes into use with the next start."`
	DryRun  bool   `help:"Check it and show the diff, and change nothing."`
}

type configShowCmd struct {
	control `embed:""`
	Path    string `arg:"" optional:"" help:"A key: listener[inbound].tls, flow[inbound].blocks[0]."`
}

// Run implements the subcommand.
func (c *configShowCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var s changes.Status
	if err := g.get("/api/v1/config", nil, &s); err != nil {
		return err
	}
	if c.Path == "" {
		if c.JSON {
			return t.json(s)
		}
		return t.print(s.Text)
	}
	p, err := edit.ParsePath(c.Path)
	if err != nil {
		return usageError{err}
	}
	d, err := edit.Parse(s.Text)
	if err != nil {
		return err
	}
	v, ok := d.Get(p)
	if !ok {
		return fmt.Errorf("%s is not in the file", p)
	}
	if c.JSON {
		return t.json(v)
	}
	text, err := edit.Literal(v)
	if err != nil {
		return err
	}
	return t.print(text + "\n")
}

type configDiffCmd struct {
	control `embed:""`
}

// Run implements the subcommand.
func (c *configDiffCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var s changes.Status
	if err := g.get("/api/v1/config", nil, &s); err != nil {
		return err
	}
	switch {
	case c.JSON:
		return t.json(s)
	case !s.Unloaded:
		return t.print(s.File + " is in use as it is on disk\n")
	case s.Waiting != 0:
		return t.print(fmt.Sprintf("%sRevision %d waits for a restart.\n", s.Diff, s.Waiting))
	}
	return t.print(s.Diff + "This is not in use: gatepost reload loads it.\n")
}

type configSetCmd struct {
	changing `embed:""`
	Path     string `arg:"" help:"The key: limits.max_errors, listener[inbound].tls, flow[inbound].blocks[0].timeout."`
	Value    string `arg:"" help:"The value as the file writes it; a text needs no quotes."`
}

// Help is the long help text.
func (*configSetCmd) Help() string {
	return `Changes a key of the configuration file. Comments, order and the rest of the file stay
as they are. The change is checked with everything else, loaded without dropping a
session, and kept as a revision; what can't be loaded is not written.

  gatepost config set limits.max_errors 10 --why "fewer guesses"
  gatepost config set 'listener[inbound].trusted_networks' '["10.0.0.0/8"]'`
}

// Run implements the subcommand.
func (c *configSetCmd) Run(t *terminal) error {
	v, err := edit.ParseValue(c.Value)
	if err != nil {
		if strings.HasPrefix(strings.TrimSpace(c.Value), "[") || strings.HasPrefix(strings.TrimSpace(c.Value), "{") {
			return usageError{err}
		}
		v = c.Value
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return usageError{err}
	}
	return c.do(t, edit.Op{Op: "set", Path: c.Path, Value: raw})
}

type configUnsetCmd struct {
	changing `embed:""`
	Path     string `arg:"" help:"The key: limits.max_errors, listener[old], flow[inbound].blocks[2]."`
}

// Run implements the subcommand.
func (c *configUnsetCmd) Run(t *terminal) error {
	return c.do(t, edit.Op{Op: "remove", Path: c.Path})
}

type configRenameCmd struct {
	changing `embed:""`
	Path     string `arg:"" help:"The part: transport[exchange], flow[inbound]."`
	Name     string `arg:"" help:"Its new name."`
}

// Run implements the subcommand.
func (c *configRenameCmd) Run(t *terminal) error {
	raw, err := json.Marshal(c.Name)
	if err != nil {
		return usageError{err}
	}
	return c.do(t, edit.Op{Op: "rename", Path: c.Path, Value: raw})
}

type configWebhookCmd struct {
	control `embed:""`
	Name    string `arg:"" help:"The [[admin.webhook]]."`
}

// Run implements the subcommand.
func (c *configWebhookCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var taken map[string]bool
	if err := g.post("/api/v1/config/test-webhook", admin.ConfigTest{Name: c.Name}, &taken); err != nil {
		return err
	}
	return t.print(c.Name + " has taken a test event\n")
}

// do carries out one operation.
func (c *changing) do(t *terminal, op edit.Op) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	what := admin.ConfigChange{Change: changes.Change{By: whoami(), Why: c.Why, Later: c.Later}, Ops: []edit.Op{op}}
	if c.DryRun {
		var checked changes.Checked
		if err := g.post("/api/v1/config/check", what, &checked); err != nil {
			return err
		}
		return c.checked(t, &checked)
	}
	var a changes.Applied
	if err := g.post("/api/v1/config/apply", what, &a); err != nil {
		return err
	}
	return c.applied(t, &a)
}

// checked says what a change would do; one that is not valid is an error.
func (c *changing) checked(t *terminal, x *changes.Checked) error {
	if c.JSON {
		if err := t.json(x); err != nil {
			return err
		}
	} else {
		for _, p := range x.Problems {
			fmt.Fprintln(t.err, problemText(&p))
		}
		if err := t.print(diffsText(x.Diffs)); err != nil {
			return err
		}
	}
	if !x.OK {
		return errSaid
	}
	if len(x.Restart) > 0 && !c.JSON {
		return t.print("A change of " + strings.Join(x.Restart, ", ") + " needs a restart.\n")
	}
	return nil
}

// applied says what a change has done.
func (c *changing) applied(t *terminal, a *changes.Applied) error {
	if c.JSON {
		return t.json(a)
	}
	if a.Revision == 0 {
		return t.print("It is so already; nothing was changed.\n")
	}
	text := fmt.Sprintf("%sRevision %d is in use.\n", diffsText(a.Diffs), a.Revision)
	if a.State == changes.Waiting {
		text = fmt.Sprintf("%sRevision %d is saved and comes into use with the next start: %s can't be changed before.\n",
			diffsText(a.Diffs), a.Revision, strings.Join(a.Restart, ", "))
	}
	return t.print(text)
}

// problemText is a problem on one line, as gatepost check prints it.
func problemText(p *changes.Problem) string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	s += ": "
	if p.Severity == "warning" {
		s += "warning: "
	}
	if p.Path != "" {
		s += p.Path + ": "
	}
	if s += p.Message; p.Hint != "" {
		s += "; " + p.Hint
	}
	return clean(s)
}

func diffsText(diffs []changes.FileDiff) string {
	var b strings.Builder
	for _, d := range diffs {
		if d.Secret {
			fmt.Fprintf(&b, "%s: a secret is replaced\n", clean(d.Path))
			continue
		}
		b.WriteString(d.Diff)
	}
	return b.String()
}

type configRevisionsCmd struct {
	control  `embed:""`
	Revision int `arg:"" optional:"" help:"Show this one."`
	Limit    int `default:"20" help:"How many to list (default: ${default})."`
}

// Run implements the subcommand.
func (c *configRevisionsCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	if c.Revision > 0 {
		return c.one(t, g)
	}
	var list []changes.Revision
	if err := g.get("/api/v1/config/revisions", url.Values{"limit": {strconv.Itoa(c.Limit)}}, &list); err != nil {
		return err
	}
	if c.JSON {
		return t.json(list)
	}
	var rows table
	rows.add("REVISION", "WHEN", "BY", "HOW", "STATE", "FILES", "WHY")
	for _, r := range list {
		var files []string
		for _, f := range r.Files {
			files = append(files, f.Path)
		}
		rows.add(strconv.Itoa(r.ID), r.When.Local().Format("2006-01-02 15:04:05"), clean(r.By), string(r.How), string(r.State), clean(strings.Join(files, " ")), clean(r.Why))
	}
	return t.print(rows.text())
}

func (c *configRevisionsCmd) one(t *terminal, g *client) error {
	var d changes.Detail
	if err := g.get("/api/v1/config/revisions/"+strconv.Itoa(c.Revision), nil, &d); err != nil {
		return err
	}
	if c.JSON {
		return t.json(d)
	}
	return t.print(fmt.Sprintf("Revision %d of %s, %s, by %s: %s\n%s", d.ID, d.When.Local().Format("2006-01-02 15:04:05"), d.How,
		clean(d.By), clean(d.Why), diffsText(d.Diffs)))
}

type configRollbackCmd struct {
	changing `embed:""`
	Revision int `arg:"" help:"The one after which everything was well."`
}

// Run implements the subcommand.
func (c *configRollbackCmd) Run(t *terminal) error {
	if c.Revision <= 0 {
		return usageError{errors.New("a revision is a number from 1")}
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	path := "/api/v1/config/revisions/" + strconv.Itoa(c.Revision) + "/rollback"
	if c.DryRun {
		var checked changes.Checked
		if err := g.get(path, nil, &checked); err != nil {
			return err
		}
		return c.checked(t, &checked)
	}
	var a changes.Applied
	if err := g.post(path, changes.Change{By: whoami(), Why: c.Why, Later: c.Later}, &a); err != nil {
		return err
	}
	return c.applied(t, &a)
}
