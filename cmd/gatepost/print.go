package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gatepost/internal/admin"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/queue"
	"gatepost/internal/upstream"
)

// maxCell bounds one value on a line, in bytes. Much of it was written by remote
// hosts, so everything that is printed goes through clean.
const maxCell = 600

// clean makes text safe for a terminal: one printable line.
func clean(s string) string { return message.SafeText(s, maxCell) }

// table aligns columns. It can be flushed several times: columns only grow, so
// that a long list can be printed page by page. The last column is not padded.
type table struct {
	widths []int
	lines  [][]string
}

func (t *table) add(cells ...string) {
	for i, c := range cells {
		if i == len(t.widths) {
			t.widths = append(t.widths, 0)
		}
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(c))
	}
	t.lines = append(t.lines, cells)
}

// text returns the lines that were added since the last call.
func (t *table) text() string {
	var b strings.Builder
	for _, cells := range t.lines {
		line := ""
		for i, c := range cells {
			line += c + strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(c)+2)
		}
		b.WriteString(strings.TrimRight(line, " "))
		b.WriteByte('\n')
	}
	t.lines = nil
	return b.String()
}

// rowPrinter prints a list page by page.
type rowPrinter[T any] interface {
	rows(page []T) error
	end() error
}

// rowTable prints rows for people.
type rowTable struct {
	t     *terminal
	table table
	count int
}

func (p *rowTable) rows(page []queue.Row) error {
	if p.count == 0 && len(page) > 0 {
		p.table.add("QUEUE ID", "STATE", "AGE", "SIZE", "NEXT", "SENDER", "RECIPIENTS", "BY", "WHY")
	}
	p.count += len(page)
	now := time.Now()
	for i := range page {
		r := &page[i]
		p.table.add(r.QueueID.String(), string(r.State), span(now.Sub(r.Created)), sizeText(r.Size), nextText(r, now),
			clean(r.Sender), clean(someOf(r.Recipients)), clean(destination(r)), clean(why(r)))
	}
	return p.t.print(p.table.text())
}

func (p *rowTable) end() error {
	if p.count == 0 {
		return p.t.print("Nothing is queued that fits.\n")
	}
	return nil
}

// rowArray prints rows as one JSON array, a row on each line.
type rowArray[T any] struct {
	t     *terminal
	begun bool
}

func (p *rowArray[T]) rows(page []T) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for i := range page {
		if p.begun {
			b.Truncate(max(b.Len()-1, 0)) // the encoder's line end
			b.WriteString(",\n")
		} else {
			b.WriteString("[\n")
		}
		p.begun = true
		if err := e.Encode(&page[i]); err != nil {
			return err
		}
	}
	// The last line end stays out until it is known what follows.
	b.Truncate(max(b.Len()-1, 0))
	return p.t.print(b.String())
}

func (p *rowArray[T]) end() error {
	if !p.begun {
		return p.t.print("[]\n")
	}
	return p.t.print("\n]\n")
}

// why tells in words why an item waits.
func why(r *queue.Row) string {
	switch {
	case r.Reason != "" && r.LastError != "":
		return r.Reason + "; last: " + r.LastError
	case r.Reason != "" || r.LastError != "":
		return r.Reason + r.LastError
	case r.State == mail.QueueActive:
		return "is being delivered"
	case r.State == mail.QueueHold:
		return "on hold"
	case r.State == mail.QueueIncoming:
		return "waits for the scanner"
	case r.Attempts == 0:
		return "not tried yet"
	}
	return ""
}

func nextText(r *queue.Row, now time.Time) string {
	switch {
	case r.State == mail.QueueActive:
		return "now"
	case r.NextAttempt.IsZero() || r.Paused:
		return "-"
	case !r.NextAttempt.After(now):
		return "due"
	}
	return "in " + span(r.NextAttempt.Sub(now))
}

func destination(r *queue.Row) string {
	if r.NextHop == "" {
		return r.Transport
	}
	return r.Transport + ":" + r.NextHop
}

// someOf is the first of a list and how many more there are.
func someOf(list []string) string {
	switch len(list) {
	case 0:
		return "-"
	case 1:
		return list[0]
	}
	return fmt.Sprintf("%s (+%d)", list[0], len(list)-1)
}

// span is a duration in its largest unit: "45s", "12m", "3h", "5d".
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// sizeText is a number of bytes with about two digits of it.
func sizeText(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1024 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}

func timeText(t time.Time, now time.Time) string {
	switch d := t.Sub(now); {
	case t.IsZero():
		return "-"
	case d > 0:
		return fmt.Sprintf("%s (in %s)", t.Format(time.RFC3339), span(d))
	default:
		return fmt.Sprintf("%s (%s ago)", t.Format(time.RFC3339), span(-d))
	}
}

func statsText(s *queue.Stats) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d incoming, %d active, %d deferred, %d on hold", s.Incoming, s.Active, s.Deferred, s.Hold)
	if !s.Oldest.IsZero() {
		fmt.Fprintf(&b, "; the oldest is %s old", span(time.Since(s.Oldest)))
	}
	b.WriteByte('\n')
	if s.Suspended {
		b.WriteString("Nothing is tried: outcomes cannot be stored. See the log.\n")
	}
	if len(s.Destinations) == 0 {
		return b.String()
	}
	var t table
	t.add("TRANSPORT", "NEXT HOP", "ACTIVE", "LIMIT", "READY", "WAITING", "HOLD", "")
	for _, d := range s.Destinations {
		var notes []string
		for _, n := range []struct {
			set  bool
			text string
		}{{d.Dead, "dead"}, {d.Paused, "paused"}, {d.Missing, "transport not configured"}} {
			if n.set {
				notes = append(notes, n.text)
			}
		}
		t.add(clean(d.Transport), clean(orDash(d.NextHop)), fmt.Sprint(d.Active), fmt.Sprint(d.Limit), fmt.Sprint(d.Ready),
			fmt.Sprint(d.Waiting), fmt.Sprint(d.Hold), strings.Join(notes, ", "))
	}
	return b.String() + t.text()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func pausesText(list []queue.Pause) string {
	if len(list) == 0 {
		return "Nothing is paused.\n"
	}
	var t table
	t.add("TRANSPORT", "DOMAIN", "SINCE", "BY", "REASON")
	now := time.Now()
	for _, p := range list {
		t.add(clean(orDash(p.Transport)), clean(orDash(p.Domain)), timeText(p.Since, now), clean(orDash(p.By)), clean(p.Reason))
	}
	return t.text()
}

// upstreamText is a line for each host that mail is passed through to.
func upstreamText(name string, h upstream.Health) string {
	var b strings.Builder
	for _, host := range h.Hosts {
		fmt.Fprintf(&b, "Upstream %s %s: %d of %d sessions, %d idle", name, cmp.Or(host.Address, host.Host), host.Open, host.Limit, host.Idle)
		if host.Failures > 0 {
			fmt.Fprintf(&b, ", failed %d times in a row", host.Failures)
		}
		b.WriteString("\n")
	}
	if h.Waiting > 0 {
		fmt.Fprintf(&b, "Upstream %s: %d transactions wait for a session\n", name, h.Waiting)
	}
	return b.String()
}

func statusText(s *admin.Status) string {
	var b strings.Builder
	now := time.Now()
	fmt.Fprintf(&b, "Gatepost %s on %s, pid %d, up %s\n", s.Version, s.Hostname, s.PID, span(now.Sub(s.Started)))
	fmt.Fprintf(&b, "Configuration %s, loaded %s\n", s.ConfigFile, timeText(s.ConfigLoaded, now))
	for _, name := range slices.Sorted(maps.Keys(s.Listeners)) {
		fmt.Fprintf(&b, "Listener %s: %s\n", name, strings.Join(slices.Sorted(slices.Values(s.Listeners[name])), ", "))
		if how := s.Interception[name]; how != "" {
			fmt.Fprintf(&b, "  diverted to it: %s\n", how)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Upstreams)) {
		b.WriteString(upstreamText(name, s.Upstreams[name]))
	}
	if h := s.History; h != nil {
		fmt.Fprintf(&b, "History %s, %d events waiting", sizeText(h.Size), h.Waiting)
		if h.Outbox > 0 {
			fmt.Fprintf(&b, ", %s in the spool", sizeText(h.Outbox))
		}
		if h.Dropped > 0 {
			fmt.Fprintf(&b, ", %d LOST", h.Dropped)
		}
		b.WriteByte('\n')
	}
	if s.Ready {
		b.WriteString("Ready\n")
	} else {
		b.WriteString("NOT READY\n")
	}
	var t table
	for _, c := range s.Checks {
		word := "ok"
		switch {
		case !c.OK && c.Advisory:
			word = "warning"
		case !c.OK:
			word = "FAILS"
		}
		t.add("  "+word, c.Name, clean(c.Why))
	}
	return b.String() + t.text()
}
