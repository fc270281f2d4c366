package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/logs"
	"gatepost/internal/mail"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/leaving"
	"gatepost/internal/route"
)

// routeCmd explains where mail for an address goes.
type routeCmd struct {
	control   `embed:""`
	Listener  string   `placeholder:"NAME" help:"The listener that the mail comes in through (default: the first)."`
	Client    string   `placeholder:"IP" help:"The client's address: decides whether it may relay (default: a stranger)."`
	User      string   `placeholder:"NAME" help:"The user who has logged in."`
	From      string   `placeholder:"ADDRESS" help:"The sender: shows what becomes of that address, too, and who gets copies of his mail."`
	Offline   bool     `help:"Read the configuration file and ask no running gateway: what it would do after a reload."`
	Addresses []string `arg:"" name:"address" help:"Recipients."`
}

// Help is the long help text.
func (*routeCmd) Help() string {
	return `Tells what the running gateway would do with RCPT for an address, step by step: aliases,
rewriting, whether the recipient exists, and where the mail would go. Tables and
directories are asked as for mail; nothing is sent. With --offline no gateway has to run.

  gatepost route anna@example.com
  gatepost route --from boss@example.net --client 10.0.0.7 someone@elsewhere.example
  gatepost route --offline -c new.toml anna@example.com`
}

// Run implements the subcommand.
func (c *routeCmd) Run(t *terminal) error {
	for _, address := range append(slices.Clone(c.Addresses), c.From) {
		if _, err := canonicalAddress(address); err != nil && address != "" {
			return usageError{err}
		}
	}
	if c.Client != "" {
		if _, err := netip.ParseAddr(c.Client); err != nil {
			return usageError{fmt.Errorf("--client %s: it is no address", c.Client)}
		}
	}
	ask, done, err := c.asker(t)
	if err != nil {
		return err
	}
	defer done()
	all := []routeExplained{}
	for _, address := range c.Addresses {
		x, err := ask(address)
		if err != nil {
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

// asker is who explains: the running gateway, or this process.
func (c *routeCmd) asker(t *terminal) (ask func(address string) (routeExplained, error), done func(), err error) {
	if c.Offline {
		return c.offline(t)
	}
	g, done, err := c.open()
	if err != nil {
		return nil, nil, err
	}
	return func(address string) (x routeExplained, err error) {
		values := url.Values{"address": {address}, "listener": {c.Listener}, "client": {c.Client}, "user": {c.User}, "from": {c.From}}
		return x, g.get("/api/v1/route", values, &x)
	}, done, nil
}

// offline makes of the configuration what routes are made of, and nothing else.
func (c *routeCmd) offline(t *terminal) (func(string) (routeExplained, error), func(), error) {
	cfg, err := loadConfig(c.Config, func(string) {})
	if err != nil {
		return nil, nil, err
	}
	log, err := logs.Open(logs.Config{Level: slog.LevelError, Stderr: t.err})
	if err != nil {
		return nil, nil, err
	}
	a := &app{logs: log}
	g := &generation{cfg: cfg, transports: make(map[string]builtTransport), parts: make(map[string]*keptPart),
		directories: make(map[string]*directory), webs: make(map[string]*web)}
	done := func() {
		if err := errors.Join(g.close(), log.Close()); err != nil {
			fmt.Fprintf(t.err, "gatepost: %v\n", err)
		}
	}
	for _, step := range []func(g, old *generation) error{a.buildTransports, a.buildLookups, a.buildRoutes} {
		if err := step(g, nil); err != nil {
			done()
			return nil, nil, err
		}
	}
	return func(address string) (routeExplained, error) {
		q := admin.RouteQuery{Listener: c.Listener, User: c.User}
		// Run has looked at them.
		q.Address, _ = canonicalAddress(address)
		q.Client, _ = netip.ParseAddr(c.Client)
		if c.From != "" {
			q.Sender, _ = canonicalAddress(c.From)
		}
		x, err := g.explainRoute(context.Background(), q)
		if err != nil {
			return routeExplained{}, usageError{err}
		}
		return x, nil
	}, done, nil
}

// routeExplained is what happens to a recipient and, where one was given, to the
// sender.
type routeExplained struct {
	route.Explanation
	// Sender is what the sender becomes as the mail comes in.
	Sender string `json:"sender,omitempty"`
}

// routeText is an explanation for people.
func routeText(x *routeExplained) string {
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
	if x.Sender != "" {
		fmt.Fprintf(&b, "  sender:  %s\n", x.Sender)
	}
	for _, d := range x.Recipients {
		fmt.Fprintf(&b, "  to %s by transport %s", d.Address, d.Transport)
		if d.Proxy {
			b.WriteString(", passed through")
		}
		switch {
		case d.Original:
			b.WriteString(" (the server that the client connected to)")
		case d.NextHop != "":
			fmt.Fprintf(&b, " (mail hosts of %s)", d.NextHop)
		}
		if d.Sent != "" && d.Sent != d.Address {
			fmt.Fprintf(&b, ", leaves as %s", d.Sent)
		}
		if d.From != "" && d.From != x.Sender {
			fmt.Fprintf(&b, ", from %s", d.From)
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
	return state.gen.explainRoute(ctx, q)
}

// explainRoute goes the way of one recipient, and of his sender.
func (g *generation) explainRoute(ctx context.Context, q admin.RouteQuery) (routeExplained, error) {
	l, err := listenerNamed(g.cfg, q.Listener)
	if err != nil {
		return routeExplained{}, err
	}
	s := clientOf(l, q.Client, q.User)
	x := routeExplained{Explanation: g.routes.Explain(ctx, string(l.Name), s, q.Address)}
	for i := range x.Recipients {
		d := &x.Recipients[i]
		d.Original = l.Intercepts() && g.transports[d.Transport].kind == "original" && !d.Copy && d.NextHop == q.Address.Domain
		d.Proxy = d.Proxy && (d.Original || g.transports[d.Transport].kind != "original")
	}
	if q.Sender.IsNull() || x.Action != mail.Accept.String() {
		return x, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := g.explainSender(ctx, q.Sender, &x); err != nil {
		x.Action, x.Reply, x.Reason = mail.Defer.String(), mail.ReplyLookupFailed.Reply().String(), err.Error()
		x.Recipients = []route.Destination{}
	}
	return x, nil
}

// explainSender adds what becomes of the sender, and who gets a copy because of him.
func (g *generation) explainSender(ctx context.Context, sender mail.Address, x *routeExplained) (err error) {
	trace := &rewrite.Trace{Steps: x.Steps}
	var copies []mail.Address
	if g.rewriting != nil {
		if sender, err = g.rewriting.Sender(ctx, sender, trace); err != nil {
			return err
		}
		if copies, err = g.rewriting.SenderCopies(ctx, sender, trace); err != nil {
			return err
		}
	}
	x.Sender, x.Steps = sender.String(), trace.Steps
	for _, c := range copies {
		way, err := g.routes.ResolveInternal(ctx, c)
		if err != nil || slices.ContainsFunc(x.Recipients, func(d route.Destination) bool { return d.Address == c.String() }) {
			continue
		}
		x.Recipients = append(x.Recipients, route.Destination{
			Address: c.String(), Domain: way.Domain, Transport: way.Transport, NextHop: way.NextHop, Flow: x.Recipients[0].Flow, Copy: true,
		})
	}
	for i := range x.Recipients {
		d := &x.Recipients[i]
		d.From = sender.String()
		l, leaves := g.transports[d.Transport].queued.Transport.(*leaving.Leaving)
		to, err := canonicalAddress(d.Address)
		if !leaves || err != nil {
			continue
		}
		from, _, err := l.Addresses(ctx, sender, to)
		if err != nil {
			return err
		}
		d.From = from.String()
	}
	return nil
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
