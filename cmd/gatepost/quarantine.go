package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"gatepost/internal/admin"
	"gatepost/internal/quarantine"
)

// quarantineCmd is the group of quarantine commands.
type quarantineCmd struct {
	List    quarantineListCmd    `cmd:"" help:"List what is held, and why."`
	Show    quarantineShowCmd    `cmd:"" help:"Show everything about one message."`
	Get     quarantineGetCmd     `cmd:"" help:"Write the message as it came to standard output."`
	Release quarantineReleaseCmd `cmd:"" help:"Put back on its way, unchanged and not scanned again."`
	Delete  quarantineDeleteCmd  `cmd:"" help:"Delete, without telling anyone."`
	Train   quarantineTrainCmd   `cmd:"" help:"Tell the Bayesian filter what it is."`
}

// Help is the long help text.
func (*quarantineCmd) Help() string {
	return `Talks to the running gateway over gatepost.sock in its data_dir.

  gatepost quarantine list --domain example.org --threat spam --since 2d
  gatepost quarantine show 01hzy3v7q2r8m5n6k4j3h2g1f0
  gatepost quarantine release 01hzy3v7q2r8m5n6k4j3h2g1f0 --recipient anna@example.org --train
  gatepost quarantine get 01hzy3v7q2r8m5n6k4j3h2g1f0 > message.eml`
}

type quarantineListCmd struct {
	control   `embed:""`
	Sender    string `placeholder:"ADDRESS" help:"From this address, from any of a domain with @DOMAIN, or from <>."`
	Recipient string `placeholder:"ADDRESS" help:"To this address, or to any of a domain with @DOMAIN."`
	Domain    string `help:"To this domain."`
	Threat    string `enum:",virus,spam,filter,unscanned,policy" default:"" placeholder:"THREAT" help:"Held for this: virus, spam, filter, unscanned or policy."`
	State     string `enum:",held,released,deleted" default:"" placeholder:"STATE" help:"In this state: held, released or deleted (default: all but deleted)."`
	Since     string `placeholder:"TIME" help:"Received since then: 2026-01-31, 2026-01-31T15:04:05Z, or 2d for the last two days."`
	Before    string `placeholder:"TIME" help:"Received before then."`
	Text      string `help:"With this text in subject, sender, recipient, message ID, reason, user or POP3 server."`
	Limit     int    `placeholder:"N" help:"At most so many messages (default: all)."`
}

// Help is the long help text.
func (*quarantineListCmd) Help() string {
	return `Without a choice it lists everything that is held or was released, the latest
first. With --json it prints an array of objects.`
}

func (c *quarantineListCmd) query() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"sender": c.Sender, "recipient": c.Recipient, "domain": c.Domain, "threat": c.Threat, "state": c.State,
		"since": c.Since, "before": c.Before, "text": c.Text,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

// Run implements the subcommand.
func (c *quarantineListCmd) Run(t *terminal) error {
	list := listing{path: "/api/v1/quarantine", query: c.query(), cursor: "cursor", limit: c.Limit}
	if err := list.check(); err != nil {
		return err
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var out rowPrinter[quarantine.Row] = &quarantineTable{t: t}
	if c.JSON {
		out = &rowArray[quarantine.Row]{t: t}
	}
	return printPages(g, list, out)
}

type quarantineShowCmd struct {
	control `embed:""`
	ID      string `arg:"" help:"The message."`
}

// Help is the long help text.
func (*quarantineShowCmd) Help() string {
	return `Shows for whom it is held and why, every finding of the scan, the structure of the
message, its header fields and the beginning of its text. Everything that the
sender wrote is made safe for a terminal. With --json it prints one object.`
}

// Run implements the subcommand.
func (c *quarantineShowCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var d quarantine.Detail
	if err := g.get("/api/v1/quarantine/"+url.PathEscape(c.ID), nil, &d); err != nil {
		return err
	}
	if c.JSON {
		return t.json(d)
	}
	return t.print(quarantinedText(&d))
}

type quarantineGetCmd struct {
	control `embed:""`
	ID      string `arg:"" help:"The message."`
}

// Help is the long help text.
func (*quarantineGetCmd) Help() string {
	return `Writes the message byte for byte as the client sent it, with CRLF line ends. It may
hold a virus, or what upsets a terminal: send it to a file.`
}

// Run implements the subcommand.
func (c *quarantineGetCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	return g.download("/api/v1/quarantine/"+url.PathEscape(c.ID)+"/body", t.out)
}

// download writes the answer for path to w.
func (c *client) download(path string, w io.Writer) error {
	u := url.URL{Scheme: "http", Host: "gatepost", Path: path}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return readAnswer(resp, nil)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	return nil
}

// quarantineChange is what every command that changes the quarantine has.
type quarantineChange struct {
	control `embed:""`
}

// run sends the request, a portion of the IDs at a time, and tells what came of
// it; verb is "released".
func (c *quarantineChange) run(t *terminal, name, verb string, body admin.QuarantineRequest) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	ids := body.IDs
	body.By = whoami()
	var all admin.QuarantineResults
	for len(ids) > 0 {
		n := min(len(ids), admin.MaxQuarantineIDs)
		body.IDs, ids = ids[:n], ids[n:]
		var part admin.QuarantineResults
		if err := g.post("/api/v1/quarantine/"+name, body, &part); err != nil {
			return err
		}
		all.Results = append(all.Results, part.Results...)
	}
	return c.tell(t, verb, all)
}

// tell prints what was done. One message that could not be is a failure.
func (c *quarantineChange) tell(t *terminal, verb string, all admin.QuarantineResults) error {
	var errs []error
	text := ""
	for i := range all.Results {
		r := &all.Results[i]
		if r.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", r.ID, clean(r.Error)))
		}
		if r.Error == "" || !r.ReleasedAs.IsZero() {
			text += resultText(r, verb)
		}
	}
	if c.JSON {
		if err := t.json(all.Results); err != nil {
			return err
		}
	} else if err := t.print(text); err != nil {
		return err
	}
	return errors.Join(errs...)
}

type quarantineReleaseCmd struct {
	quarantineChange `embed:""`
	IDs              []string `arg:"" name:"id" help:"Messages."`
	Recipient        []string `placeholder:"ADDRESS" help:"Only for this recipient; may be given several times (default: all for whom it is held)."`
	To               []string `placeholder:"ADDRESS" help:"Mail it to this address instead; may be given several times."`
	Train            bool     `help:"Tell the Bayesian filter that it is ham."`
	Force            bool     `help:"Release again what was released before."`
}

// Help is the long help text.
func (*quarantineReleaseCmd) Help() string {
	return `Puts the bytes and the envelope as they came back into the queue. They are not
scanned again. Viruses too: look first.

What was fetched from a POP3 mailbox lies there still: its reader gets the original
instead of the notice when he fetches it the next time. With --to it is mailed, to
whom you say, and the reader goes on getting the notice.`
}

// Run implements the subcommand.
func (c *quarantineReleaseCmd) Run(t *terminal) error {
	return c.run(t, "release", "released", admin.QuarantineRequest{IDs: c.IDs, Recipients: c.Recipient, To: c.To, Train: c.Train, Force: c.Force})
}

type quarantineDeleteCmd struct {
	quarantineChange `embed:""`
	IDs              []string `arg:"" name:"id" help:"Messages."`
	Recipient        []string `placeholder:"ADDRESS" help:"Only for this recipient; may be given several times (default: all)."`
}

// Run implements the subcommand.
func (c *quarantineDeleteCmd) Run(t *terminal) error {
	return c.run(t, "delete", "deleted", admin.QuarantineRequest{IDs: c.IDs, Recipients: c.Recipient})
}

type quarantineTrainCmd struct {
	quarantineChange `embed:""`
	As               string   `arg:"" enum:"ham,spam" help:"What it is: ham or spam."`
	IDs              []string `arg:"" name:"id" help:"Messages."`
}

// Help is the long help text.
func (*quarantineTrainCmd) Help() string {
	return `Teaches the Bayesian filter. The messages stay where they are. Training a message
twice counts once; training it as the other undoes what was learned.`
}

// Run implements the subcommand.
func (c *quarantineTrainCmd) Run(t *terminal) error {
	return c.run(t, "train", "trained as "+c.As, admin.QuarantineRequest{IDs: c.IDs, As: c.As})
}
