package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/history"
	"gatepost/internal/logsearch"
	"gatepost/internal/mail"
)

// historyCmd searches what happened.
type historyCmd struct {
	control `embed:""`
	Query   []string `arg:"" optional:"" help:"What to look for."`
	Limit   int      `placeholder:"N" default:"100" help:"At most so many events, the latest first (default: ${default}; 0: all)."`
	CSV     bool     `name:"csv" help:"Print comma-separated values, for a spreadsheet."`
	Message string   `placeholder:"ID" help:"Show everything about one message instead."`
}

// Help is the long help text.
func (*historyCmd) Help() string {
	return `Searches what happened, the latest first. Talks to the running gateway over
gatepost.sock in its data_dir.

  gatepost history recipient:bob@example.com since:today
  gatepost history --message 01kaq6w5q1q6h2x1m3n8rj4t7z

` + history.QueryHelp
}

// Run implements the subcommand.
func (c *historyCmd) Run(t *terminal) error {
	list := listing{path: "/api/v1/history", query: url.Values{"q": {strings.Join(c.Query, " ")}}, cursor: "cursor", limit: c.Limit}
	if err := list.check(); err != nil {
		return err
	}
	if c.Message != "" && (len(c.Query) > 0 || c.CSV) {
		return usageError{errors.New("--message shows one message: it goes with neither a search nor --csv")}
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	if c.Message != "" {
		return c.showMessage(t, g)
	}
	if c.CSV {
		list.query.Set("format", "csv")
		if c.Limit > 0 {
			list.query.Set("limit", strconv.Itoa(c.Limit))
		}
		return g.stream("/api/v1/history/export", list.query, func(body io.Reader) error {
			_, err := io.Copy(t.out, body)
			return err
		})
	}
	var out rowPrinter[*mail.Event] = &eventTable{t: t}
	if c.JSON {
		out = &rowArray[*mail.Event]{t: t}
	}
	return printPages(g, list, out)
}

// stream asks for path and hands the body of the answer over as it comes.
func (c *client) stream(path string, query url.Values, read func(io.Reader) error) error {
	u := url.URL{Scheme: "http", Host: "gatepost", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set(admin.ByHeader, whoami())
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return readAnswer(resp, nil)
	}
	return read(resp.Body)
}

// eventTable prints events for people.
type eventTable struct {
	t     *terminal
	count int
}

func (p *eventTable) rows(page []*mail.Event) error {
	var b strings.Builder
	for _, e := range page {
		b.WriteString(eventLine(e, true))
		b.WriteByte('\n')
	}
	p.count += len(page)
	return p.t.print(b.String())
}

func (p *eventTable) end() error {
	if p.count == 0 {
		return p.t.print("Nothing happened that fits. gatepost history --help says what can be looked for.\n")
	}
	return nil
}

// eventLine is an event on one line; withID: with the ID that it belongs to.
func eventLine(e *mail.Event, withID bool) string {
	b := &strings.Builder{}
	b.WriteString(e.Time.Local().Format("2006-01-02 15:04:05 "))
	if withID {
		fmt.Fprintf(b, "%-26s ", eventID(e))
	}
	fmt.Fprintf(b, "%s %s", e.Kind, e.Result)
	add := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, " %s%s", name, clean(value))
		}
	}
	if e.Client.IsValid() && e.Kind != mail.EventAttempt {
		add("from ", e.Client.String())
	}
	add("user ", e.User)
	add("by ", e.Actor)
	if e.Sender != "" {
		add("", "<"+strings.Trim(e.Sender, "<>")+">")
	}
	if len(e.Recipients) > 0 {
		add("to ", someOf(addressees(e)))
	}
	add("verdict ", string(e.Action))
	add("of ", string(e.Threat))
	add("via ", e.Transport)
	add("at ", e.Host)
	if e.Attempt > 0 {
		add("attempt ", strconv.Itoa(e.Attempt))
	}
	add("", e.Reply)
	add("- ", e.Reason)
	for _, d := range e.Details {
		add(d.Name+"=", d.Value)
	}
	if !e.Next.IsZero() {
		add("next ", e.Next.Local().Format("15:04:05"))
	}
	if e.Subject != "" {
		add("", strconv.Quote(e.Subject))
	}
	return b.String()
}

// eventID is what an event belongs to: queue item, message or session.
func eventID(e *mail.Event) string {
	switch {
	case e.Item > 0 && !e.Message.IsZero():
		return mail.QueueID{Message: e.Message, N: e.Item}.String()
	case !e.Message.IsZero():
		return e.Message.String()
	case !e.Session.IsZero():
		return e.Session.String()
	}
	return "-"
}

func addressees(e *mail.Event) []string {
	var all []string
	for i := range e.Recipients {
		all = append(all, e.Recipients[i].Address)
	}
	return all
}

// showMessage prints everything about one message.
func (c *historyCmd) showMessage(t *terminal, g *client) error {
	var m admin.MessagePage
	if err := g.get("/api/v1/messages/"+url.PathEscape(c.Message), nil, &m); err != nil {
		return err
	}
	if c.JSON {
		return t.json(m)
	}
	return t.print(messageText(&m))
}

// messageText is a message for people.
func messageText(m *admin.MessagePage) string {
	b := &strings.Builder{}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "%-12s %s\n", name, clean(value))
		}
	}
	line("Message", m.ID.String())
	line("Session", zeroless(m.Session))
	line("Received", m.Received.Local().Format(time.RFC3339))
	line("Sender", m.Sender)
	line("Subject", m.Subject)
	line("Message-ID", m.Header)
	if m.Size > 0 {
		line("Size", sizeText(m.Size))
	}
	if e := m.Client; e != nil {
		line("Client", strings.TrimSpace(e.Client.String()+" "+e.Helo+" "+e.TLS.Version+" "+e.User))
	}
	line("Verdict", strings.TrimSpace(string(m.Action)+" "+string(m.Threat)))
	for _, id := range m.Related {
		line("Related", id.String())
	}
	for i := range m.Recipients {
		d := &m.Recipients[i]
		text := d.Address + ": " + string(d.State)
		for _, more := range []string{d.By, d.Host, d.Reply, d.Cause, d.Reason} {
			if more != "" {
				text += ", " + more
			}
		}
		line("Recipient", text)
	}
	for i := range m.Findings {
		f := &m.Findings[i]
		if f.Result != mail.Clean {
			line("Finding", fmt.Sprintf("%s %s: %s %+.1f %s", f.Module, f.Symbol, f.Result, f.Score, f.Reason))
		}
	}
	b.WriteString("\n")
	for _, e := range m.Events {
		b.WriteString(eventLine(e, false) + "\n")
	}
	if len(m.Can) > 0 {
		fmt.Fprintf(b, "\nNow possible: %s\n", strings.Join(m.Can, ", "))
	}
	return b.String()
}

func zeroless(id mail.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// logCmd searches the log files.
type logCmd struct {
	control `embed:""`
	Query   []string `arg:"" help:"What to look for."`
	Limit   int      `placeholder:"N" default:"1000" help:"At most so many lines, the latest (default: ${default})."`
	Quiet   bool     `short:"q" help:"Do not tell how far the search is."`
}

// Help is the long help text.
func (*logCmd) Help() string {
	return `Searches mail.log and the files that were rotated from it, compressed or not, and
prints what it finds in the order of time. Talks to the running gateway over
gatepost.sock in its data_dir.

` + logsearch.Help
}

// Run implements the subcommand.
func (c *logCmd) Run(t *terminal) error {
	if c.Limit < 1 {
		return usageError{fmt.Errorf("--limit %d: must be above 0", c.Limit)}
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	q := url.Values{"q": {strings.Join(c.Query, " ")}, "limit": {strconv.Itoa(c.Limit)}}
	return g.stream("/api/v1/log", q, func(body io.Reader) error { return c.print(t, body) })
}

// print shows the lines of an answer, and on a terminal how far the search is.
func (c *logCmd) print(t *terminal, body io.Reader) error {
	info, err := os.Stderr.Stat()
	tell := err == nil && info.Mode()&os.ModeCharDevice != 0 && !c.Quiet
	lines := 0
	err = eachJSON(body, func(raw []byte) error {
		var l admin.LogLine
		if err := json.Unmarshal(raw, &l); err != nil {
			return fmt.Errorf("read the gateway's answer: %w", err)
		}
		switch {
		case l.Error != "":
			return errors.New(l.Error)
		case l.Progress != nil && tell:
			fmt.Fprintf(t.err, "\r%s: %d of %d MB ", clean(l.Progress.File), l.Progress.Read>>20, l.Progress.Of>>20)
		case l.End != nil && l.End.Cut:
			fmt.Fprintf(t.err, "gatepost: only the latest %d lines are shown; see --limit, or give a time\n", l.End.Lines)
		case l.Line != "":
			lines++
			if c.JSON {
				return t.print(string(raw) + "\n")
			}
			return t.print(logLine(l.Line) + "\n")
		}
		return nil
	})
	if err == nil && lines == 0 && !c.JSON {
		return t.print("No line of the log fits.\n")
	}
	return err
}

// logLine is a line of the log as a terminal may have it, in full.
func logLine(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return '?'
		}
		return r
	}, line)
}

// maxStreamLine bounds a line of an answer that comes line by line.
const maxStreamLine = 8 << 20

// eachJSON calls fn with each line that is not empty.
func eachJSON(r io.Reader, fn func(line []byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxStreamLine)
	for s.Scan() {
		if len(s.Bytes()) == 0 {
			continue
		}
		if err := fn(s.Bytes()); err != nil {
			return err
		}
	}
	return s.Err()
}

// traceCmd shows events as they happen.
type traceCmd struct {
	control   `embed:""`
	Client    string `placeholder:"NETWORK" help:"Of clients in this network."`
	Sender    string `placeholder:"ADDRESS" help:"Of this sender, of any of a domain with @DOMAIN, or with this in the address."`
	Recipient string `placeholder:"ADDRESS" help:"Of this recipient, likewise."`
}

// Help is the long help text.
func (*traceCmd) Help() string {
	return `Shows what happens while it happens, until it is interrupted: connections that are
refused, messages with their findings and verdicts, attempts with the next hop's
words. Talks to the running gateway over gatepost.sock in its data_dir.

  gatepost trace --client 192.0.2.0/24
  gatepost trace --recipient @example.com --json`
}

// Run implements the subcommand.
func (c *traceCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	q := url.Values{}
	for name, value := range map[string]string{"client": c.Client, "sender": c.Sender, "recipient": c.Recipient} {
		if value != "" {
			q.Set(name, value)
		}
	}
	err = g.stream("/api/v1/trace", q, func(body io.Reader) error {
		return eachJSON(body, func(line []byte) error { return c.print(t, line) })
	})
	if g.ctx.Err() != nil {
		return nil // interrupted: that is how it ends
	}
	return err
}

func (c *traceCmd) print(t *terminal, line []byte) error {
	if c.JSON {
		return t.print(string(line) + "\n")
	}
	var e struct {
		mail.Event
		Missed int64 `json:"missed"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	if e.Missed > 0 {
		fmt.Fprintf(t.err, "gatepost: %d events were left out: this terminal is too slow\n", e.Missed)
		return nil
	}
	return t.print(eventLine(&e.Event, true) + "\n")
}
