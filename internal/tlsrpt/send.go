package tlsrpt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Resolver is what is asked of the name service; *dns.Resolver has it.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
}

// Config is what a Collector is made of.
type Config struct {
	// Dir is where counts are kept; made if it does not exist.
	Dir string
	// Hostname, Organization and From say who reports. From is also who is written to
	// with questions; the domain of it should sign with DKIM (RFC 8460 §5.3).
	Hostname, Organization string
	From                   mail.Address
	Resolver               Resolver
	// Submit sends a mail.
	Submit func(ctx context.Context, to mail.Address, text io.Reader) error
	// Client posts reports; nil: one of its own, with a timeout of a minute.
	Client *http.Client
	// Spread is within what time after midnight (UTC) reports are sent, so that not all
	// gateways of the world send theirs at once; default 4 h, RFC 8460 §4.1.
	Spread time.Duration
	// Every is how often counts are written and days looked at; default 5 min.
	Every time.Duration
	// Domains is of how many domains a day is remembered; default 20,000.
	Domains int
	Log     *slog.Logger
}

// Open reads what was kept.
func Open(cfg Config) (*Collector, error) {
	if cfg.Submit == nil || cfg.Resolver == nil || cfg.Dir == "" || cfg.From.Domain == "" {
		return nil, errors.New("open TLS reports: a part is missing")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Client == nil {
		cfg.Client = newClient()
	}
	cfg.Spread, cfg.Every = cmp.Or(cfg.Spread, 4*time.Hour), cmp.Or(cfg.Every, 5*time.Minute)
	cfg.Domains, cfg.Organization = cmp.Or(cfg.Domains, defaultDomains), cmp.Or(cfg.Organization, cfg.From.Domain)
	c := &Collector{cfg: cfg, days: make(map[string]*day)}
	return c, c.load()
}

// newClient makes a client for places that strangers name: it goes to addresses of the
// internet only, follows nothing, and takes a minute at most.
func newClient() *http.Client {
	d := &net.Dialer{Timeout: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if a := at.Addr().Unmap(); err != nil || !a.IsGlobalUnicast() || a.IsPrivate() {
			return errNotPublic
		}
		return nil
	}}
	return &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true, TLSHandshakeTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

var errNotPublic = errors.New("not an address of the internet")

// Run writes counts and sends reports until ctx ends; then it writes them once more.
func (c *Collector) Run(ctx context.Context) {
	wait := time.NewTimer(firstLook)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := c.save(); err != nil {
				c.cfg.Log.Error("counts for TLS reports are not safe", "error", err)
			}
			return
		case <-wait.C:
		}
		c.sendDue(ctx)
		if err := c.save(); err != nil {
			c.cfg.Log.Error("counts for TLS reports are not safe", "error", err)
		}
		wait.Reset(c.cfg.Every)
	}
}

// firstLook is how long it waits at the start, until those are there who take reports.
const firstLook = 5 * time.Second

// Reports that cannot be sent are tried again so often, so far apart: RFC 8460 §5.5
// ends it after a day.
const (
	maxTries = 8
	pause    = 3 * time.Hour
)

// sendDue reports the days that are over.
func (c *Collector) sendDue(ctx context.Context) {
	now := time.Now()
	for _, d := range c.over(now) {
		if d.Tries == 0 && d.Next.IsZero() {
			c.plan(d)
			if now.Before(d.Next) {
				continue
			}
		}
		left := c.sendDay(ctx, d)
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		d.Tries++
		d.Next, d.dirty = now.Add(pause), true
		done := left == 0 || d.Tries >= maxTries
		c.mu.Unlock()
		if !done {
			continue
		}
		if left > 0 {
			c.cfg.Log.Warn("TLS reports given up", "date", d.Date, "reports", left)
		}
		if err := c.forget(d.Date); err != nil {
			c.cfg.Log.Error("TLS reports were sent, and may be again", "error", err)
		}
	}
}

// plan draws when a day is reported. One that was over long ago is reported now.
func (c *Collector) plan(d *day) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begin, err := time.Parse(time.DateOnly, d.Date)
	if err != nil {
		return
	}
	d.Next, d.dirty = begin.Add(24*time.Hour+rand.N(c.cfg.Spread)), true
}

// sendDay sends the reports of a day and returns how many are left.
func (c *Collector) sendDay(ctx context.Context, d *day) (left int) {
	for name, policies := range c.openDomains(d) {
		done, err := c.sendTo(ctx, d, name, policies)
		if err != nil {
			c.cfg.Log.Warn("TLS report not sent", "domain", name, "date", d.Date, "error", err)
		}
		if !done {
			left++
			continue
		}
		c.mu.Lock()
		delete(d.Domains, name)
		d.dirty = true
		c.mu.Unlock()
	}
	return left
}

// openDomains are those that were not told yet. Nothing is added to a day that is over.
func (c *Collector) openDomains(d *day) map[string][]*tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string][]*tally, len(d.Domains))
	for name, of := range d.Domains {
		all[name] = of.Policies
	}
	return all
}

// sendTo reports to one domain, at all places that it names.
func (c *Collector) sendTo(ctx context.Context, d *day, name string, policies []*tally) (done bool, err error) {
	texts, err := c.cfg.Resolver.TXT(ctx, "_smtp._tls."+name)
	if err != nil {
		// A domain that wants no reports is done; one that cannot be asked is not.
		notFound, ok := errors.AsType[interface {
			error
			NotFound() bool
		}](err)
		if ok && notFound.NotFound() {
			return true, nil
		}
		return false, err
	}
	places := parseRecord(texts)
	if len(places) == 0 {
		return true, nil
	}
	r, err := c.report(d.Date, name, policies)
	if err != nil {
		return true, err
	}
	packed, err := r.compressed()
	if err != nil {
		return true, err
	}
	var errs []error
	for _, place := range places {
		if c.isDone(d, name, place) {
			continue
		}
		if err := c.sendOne(ctx, r, name, place, packed); err != nil {
			errs = append(errs, err)
			continue
		}
		c.cfg.Log.Info("TLS report sent", "domain", name, "date", d.Date, "to", place, "report", r.ID)
		c.setDone(d, name, place)
	}
	return len(errs) == 0, errors.Join(errs...)
}

func (c *Collector) isDone(d *day, name, place string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(d.Domains[name].Done, place)
}

func (c *Collector) setDone(d *day, name, place string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.Domains[name].Done = append(d.Domains[name].Done, place)
	d.dirty = true
}

// sendOne brings a report to one place.
func (c *Collector) sendOne(ctx context.Context, r *Report, name, place string, packed []byte) error {
	u, err := url.Parse(place)
	if err != nil {
		return fmt.Errorf("report to %s: %w", place, err)
	}
	if u.Scheme == "https" {
		return c.post(ctx, place, packed)
	}
	text, err := url.PathUnescape(u.Opaque)
	if err != nil {
		return fmt.Errorf("report to %s: %w", place, err)
	}
	to, err := smtp.ParseAddress(text)
	if err != nil {
		return fmt.Errorf("report to %s: %w", place, err)
	}
	return c.cfg.Submit(ctx, to, bytes.NewReader(c.mail(r, name, to, packed)))
}

// post is RFC 8460 §5.4.
func (c *Collector) post(ctx context.Context, place string, packed []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, place, bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("post report: %w", err)
	}
	req.Header.Set("Content-Type", "application/tlsrpt+gzip")
	resp, err := c.cfg.Client.Do(req)
	if err != nil {
		return fmt.Errorf("post report: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("post report to %s: answered %d", place, resp.StatusCode)
	}
	return nil
}

// maxPlaces is at how many places one domain is told.
const maxPlaces = 5

// parseRecord reads the record _smtp._tls of a domain (RFC 8460 §3): where it wants
// reports, mailto: and https:. None where it has no such record, or several.
func parseRecord(texts []string) []string {
	found := ""
	for _, text := range texts {
		version, rest, _ := strings.Cut(text, ";")
		if strings.TrimSpace(version) != "v=TLSRPTv1" {
			continue
		}
		if found != "" {
			return nil
		}
		found = rest
	}
	var places []string
	for field := range strings.SplitSeq(found, ";") {
		key, value, ok := strings.Cut(field, "=")
		if !ok || strings.TrimSpace(key) != "rua" {
			continue
		}
		for place := range strings.SplitSeq(value, ",") {
			u, err := url.Parse(strings.TrimSpace(place))
			if err != nil || len(places) == maxPlaces {
				continue
			}
			if u.Scheme == "mailto" && u.Opaque != "" || u.Scheme == "https" && u.Host != "" {
				places = append(places, u.String())
			}
		}
	}
	return places
}
