package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/rewrite"
	"gatepost/internal/route"
)

// routeCmd explains where mail for an address goes.
type routeCmd struct {
	control   `embed:""`
	Listener  string   `placeholder:"NAME" help:"The listener that the mail comes in through (default: the first)."`
	Client    string   `placeholder:"IP" help:"The client's address: decides whether it may relay (default: a stranger)."`
	User      string   `placeholder:"NAME" help:"The user who has logged in."`
	Addresses []string `arg:"" name:"address" help:"Recipients."`
}

// Help is the long help text.
func (*routeCmd) Help() string {
	return `Tells what the running gateway would do with RCPT for an address, step by step: aliases,
rewriting, whether the recipient exists, and where the mail would go. Tables and
directories are asked as for mail; nothing is sent.

  gatepost route anna@example.com
  gatepost route --client 10.0.0.7 someone@elsewhere.example`
}

// Run implements the subcommand.
func (c *routeCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	all := []route.Explanation{}
	for _, address := range c.Addresses {
		if _, err := canonicalAddress(address); err != nil {
			return usageError{err}
		}
		values := url.Values{"address": {address}, "listener": {c.Listener}, "client": {c.Client}, "user": {c.User}}
		var x route.Explanation
		if err := g.get("/api/v1/route", values, &x); err != nil {
			return err
		}
		all = append(all, x)
	}
	if c.JSON {
		return t.json(all)
	}
	for i := range all {
		if err := t.print(routeText(&all[i])); err != nil {
			return err
		}
	}
	return nil
}

// routeText is an explanation for people.
func routeText(x *route.Explanation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on listener %s: %s\n", x.Address, x.Listener, x.Action)
	if x.Reply != "" {
		fmt.Fprintf(&b, "  answer:  %s\n", x.Reply)
	}
	if x.Reason != "" {
		fmt.Fprintf(&b, "  reason:  %s\n", x.Reason)
	}
	for i := range x.Steps {
		b.WriteString("  " + stepText(&x.Steps[i]) + "\n")
	}
	for _, d := range x.Recipients {
		fmt.Fprintf(&b, "  to %s by transport %s", d.Address, d.Transport)
		if d.NextHop != "" {
			fmt.Fprintf(&b, " (mail hosts of %s)", d.NextHop)
		}
		if d.Sent != "" && d.Sent != d.Address {
			fmt.Fprintf(&b, ", leaves as %s", d.Sent)
		}
		if d.Flow != "" {
			fmt.Fprintf(&b, ", content flow %s", d.Flow)
		}
		if d.Copy {
			b.WriteString(", a copy")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// stepText is one step in a line.
func stepText(s *rewrite.Step) string {
	text := fmt.Sprintf("%-13s %s", s.Stage+":", s.Address)
	if len(s.Result) > 0 {
		text += " -> " + strings.Join(s.Result, ", ")
	}
	if s.Text != "" {
		text += "; " + s.Text
	}
	if s.Table != "" {
		text += fmt.Sprintf(" (%s", s.Table)
		if s.Pattern != "" {
			text += ", entry " + s.Pattern
		}
		text += ")"
	}
	return text
}

// routingAPI explains routes for the API.
type routingAPI struct{ *app }

// Route implements admin.Routing.
func (r routingAPI) Route(ctx context.Context, q admin.RouteQuery) (any, error) {
	state := r.state.Load()
	if state == nil {
		return nil, errors.New("not started yet")
	}
	l, err := listenerNamed(state.gen.cfg, q.Listener)
	if err != nil {
		return nil, err
	}
	s := clientOf(l, q.Client, q.User)
	x := state.gen.routes.Explain(ctx, string(l.Name), s, q.Address)
	return x, nil
}

// listenerNamed is a listener of the configuration; "" is the first one.
func listenerNamed(cfg *config.Config, name string) (*config.Listener, error) {
	for i := range cfg.Listeners {
		if name == "" || string(cfg.Listeners[i].Name) == name {
			return &cfg.Listeners[i], nil
		}
	}
	return nil, fmt.Errorf("there is no listener %q", cmp.Or(name, "at all"))
}

// clientOf is a session as a client of a listener would have it.
func clientOf(l *config.Listener, client netip.Addr, user string) *mail.Session {
	s := &mail.Session{ID: mail.NewID(), Listener: string(l.Name), User: user}
	if client.IsValid() {
		s.Client = netip.AddrPortFrom(client, 0)
		s.Trusted = slices.ContainsFunc(l.TrustedNetworks, func(p netip.Prefix) bool { return p.Contains(client.Unmap()) })
	}
	return s
}
