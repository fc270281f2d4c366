package mtasts

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Config is what a Cache is made of. Only Resolver is needed.
type Config struct {
	// Dir is where policies are kept; made if it does not exist. "": in memory only.
	Dir      string
	Resolver Resolver
	// Roots are who may sign certificates of policy hosts; nil: those of the system.
	Roots *x509.CertPool
	// Dial connects to policy hosts; nil stands for the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds one fetch; default 15 s. Pause is how long a domain is left alone
	// after a failure; default 5 min. Fresh is after how long a policy that still holds
	// is fetched again; default 24 h.
	Timeout, Pause, Fresh time.Duration
	// Max is of how many domains policies are remembered; default 10,000.
	Max int
	Log *slog.Logger
}

// Found is what is known of a domain.
type Found struct {
	// Policy is what the domain asks for; nil: nothing.
	Policy *Policy
	// Err is why there is no newer policy, or none at all, where the domain announces
	// one.
	Err *Error
}

// Cache knows the policies of domains. It may be used by any number of goroutines.
type Cache struct {
	cfg     Config
	client  *http.Client
	flights singleflight.Group

	mu      sync.Mutex
	domains map[string]*entry
}

// entry is what is known of one domain. It is never changed, but replaced.
type entry struct {
	ID      string    `json:"id"`
	Fetched time.Time `json:"fetched"`
	Policy  *Policy   `json:"policy,omitempty"` // nil: none is known

	asked time.Time // when a fetch was tried last
	err   *Error    // how that failed
}

// holds reports whether the policy is still good.
func (e *entry) holds(now time.Time) bool {
	return e != nil && e.Policy != nil && now.Before(e.Fetched.Add(e.Policy.MaxAge))
}

// New makes a cache. It reads what is in Dir when it is asked for.
func New(cfg Config) (*Cache, error) {
	cfg.Timeout, cfg.Pause = cmp.Or(cfg.Timeout, defaultTimeout), cmp.Or(cfg.Pause, defaultPause)
	cfg.Fresh, cfg.Max = cmp.Or(cfg.Fresh, defaultFresh), cmp.Or(cfg.Max, defaultMax)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Resolver == nil {
		return nil, errors.New("make MTA-STS cache: no resolver")
	}
	c := &Cache{cfg: cfg, client: newClient(&cfg), domains: make(map[string]*entry)}
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("make MTA-STS cache: %w", err)
		}
		return c, c.sweep()
	}
	return c, nil
}

// Policy says what a domain asks for. It asks the name service, and the policy host
// where there is a new policy; a domain that has none, and one whose policy cannot be
// had, gets nil.
func (c *Cache) Policy(ctx context.Context, domain string) Found {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if !isName(domain) || !strings.Contains(domain, ".") {
		return Found{}
	}
	e := c.known(domain)
	texts, err := c.cfg.Resolver.TXT(ctx, "_mta-sts."+domain)
	id, announced := "", false
	if err == nil {
		id, announced = parseRecord(texts)
	}
	now := time.Now()
	if !announced {
		// RFC 8461 §5.1, §10.2: a policy that is known holds without its record.
		return e.found(now)
	}
	stale := !e.holds(now) || e.ID != id || now.Sub(e.Fetched) >= c.cfg.Fresh
	if stale && (e == nil || now.Sub(e.asked) >= c.cfg.Pause) {
		e = c.renew(ctx, domain, id)
	}
	return e.found(now)
}

// found is what an entry says. Mode none is no policy.
func (e *entry) found(now time.Time) Found {
	if e == nil {
		return Found{}
	}
	f := Found{Err: e.err}
	if e.holds(now) && e.Policy.Mode != None {
		f.Policy = e.Policy
	}
	return f
}

// renew fetches the policy, once for all who want it now.
func (c *Cache) renew(ctx context.Context, domain, id string) *entry {
	got := c.flights.DoChan(domain, func() (any, error) {
		// Not ctx: others wait for the same answer. The client has a timeout.
		p, failure := c.fetch(context.WithoutCancel(ctx), domain)
		now := time.Now()
		if failure != nil {
			c.cfg.Log.Warn("MTA-STS policy not fetched", "domain", domain, "error", failure)
			fresh := &entry{asked: now, err: failure}
			if old := c.known(domain); old != nil {
				fresh.ID, fresh.Fetched, fresh.Policy = old.ID, old.Fetched, old.Policy
			}
			return c.keep(domain, fresh, false), nil
		}
		c.cfg.Log.Info("MTA-STS policy fetched", "domain", domain, "mode", string(p.Mode), "max_age", p.MaxAge, "mx", strings.Join(p.MX, " "))
		return c.keep(domain, &entry{ID: id, Fetched: now, Policy: p, asked: now}, true), nil
	})
	select {
	case r := <-got:
		return r.Val.(*entry)
	case <-ctx.Done():
		return c.known(domain)
	}
}

// keep remembers an entry, on disk where it is new.
func (c *Cache) keep(domain string, e *entry, write bool) *entry {
	c.mu.Lock()
	if _, ok := c.domains[domain]; !ok && len(c.domains) >= c.cfg.Max {
		c.forgetOne(time.Now())
	}
	c.domains[domain] = e
	c.mu.Unlock()
	if write && c.cfg.Dir != "" {
		if err := c.write(domain, e); err != nil {
			c.cfg.Log.Error("MTA-STS policy not kept over a restart", "domain", domain, "error", err)
		}
	}
	return e
}

// forgetOne makes room in memory: for one that holds no policy if there is such a one.
// A file of a policy that holds stays where it is, and is found again.
func (c *Cache) forgetOne(now time.Time) {
	victim := ""
	for domain, e := range c.domains {
		victim = domain
		if !e.holds(now) {
			break
		}
	}
	delete(c.domains, victim)
}

// known is the entry of a domain: from memory, or from its file.
func (c *Cache) known(domain string) *entry {
	c.mu.Lock()
	e := c.domains[domain]
	c.mu.Unlock()
	if e != nil || c.cfg.Dir == "" {
		return e
	}
	text, err := os.ReadFile(c.file(domain))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	e = &entry{}
	if err == nil {
		err = json.Unmarshal(text, e)
	}
	if err != nil || e.Policy == nil {
		c.cfg.Log.Warn("a kept MTA-STS policy can't be read; it is fetched anew", "domain", domain, "error", err)
		return nil
	}
	return c.keep(domain, e, false)
}

func (c *Cache) file(domain string) string { return filepath.Join(c.cfg.Dir, domain+".json") }

// write puts an entry on disk, whole or not at all.
func (c *Cache) write(domain string, e *entry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(c.cfg.Dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), c.file(domain))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// sweep removes what a crash left behind and files of policies that hold no longer, so
// that the directory does not grow for ever. At most so many files as there may be
// domains stay.
func (c *Cache) sweep() error {
	list, err := os.ReadDir(c.cfg.Dir)
	if err != nil {
		return fmt.Errorf("read kept MTA-STS policies: %w", err)
	}
	kept := 0
	for _, f := range list {
		if !f.Type().IsRegular() {
			continue // whatever it is, it is not ours
		}
		name := filepath.Join(c.cfg.Dir, f.Name())
		domain, ok := strings.CutSuffix(f.Name(), ".json")
		e := &entry{}
		text, err := os.ReadFile(name)
		if ok && err == nil && isName(domain) && json.Unmarshal(text, e) == nil && e.holds(time.Now()) && kept < c.cfg.Max {
			kept++
			continue
		}
		if err := os.Remove(name); err != nil {
			// It is in nobody's way: no reason not to start.
			c.cfg.Log.Warn("old MTA-STS policy not removed", "file", name, "error", err)
		}
	}
	return nil
}

// Close ends idle connections.
func (c *Cache) Close() { c.client.CloseIdleConnections() }
