package script

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.starlark.net/starlark"
)

// fakes are the look-ups of one test. What a test does not provide is not
// configured, but for lists in files.
type fakes struct {
	lookups Lookups
	files   *fileFake
}

// testTime is what now() says in a test that says nothing else: a Wednesday.
const testTime = "2026-01-07T12:00:00Z"

var errDown = errors.New("no answer")

func newFakes(real *Lookups) fakes {
	f := fakes{files: &fileFake{real: real.Files, lists: map[string]*content{}}}
	at, _ := time.Parse(time.RFC3339, testTime)
	f.lookups = Lookups{
		Files: f.files, Cache: NewMemoryCache(1000), Rates: &rateFake{seen: map[string]int{}},
		Now: func() time.Time { return at },
	}
	return f
}

// stringsOf reads a string or a list of strings.
func stringsOf(v starlark.Value) ([]string, error) {
	switch v := v.(type) {
	case starlark.String:
		return []string{string(v)}, nil
	case *starlark.List:
		return texts(v)
	}
	return nil, fmt.Errorf("want a string or a list of strings, got %s", v.Type())
}

// answers is what a source says to each question; a nil list is that it is down.
type answers map[string][]string

// answersOf reads {"question": ["answer", …], "other": None}.
func answersOf(d *starlark.Dict) (answers, error) {
	a := answers{}
	for k, v := range d.Entries() {
		key, ok := starlark.AsString(k)
		if !ok {
			return nil, fmt.Errorf("want strings as keys, got %s", k.Type())
		}
		if v == starlark.None {
			a[key] = nil
			continue
		}
		list, err := stringsOf(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		a[key] = append([]string{}, list...)
	}
	return a, nil
}

func (a answers) get(question string) ([]string, error) {
	list, ok := a[question]
	if ok && list == nil {
		return nil, errDown
	}
	return list, nil
}

type dnsFake struct{ a answers }

// Lookup answers "TXT example.org", or any type by the name alone.
func (f dnsFake) Lookup(_ context.Context, name, kind string) ([]string, error) {
	if _, ok := f.a[kind+" "+name]; ok {
		return f.a.get(kind + " " + name)
	}
	return f.a.get(name)
}

func oneDict(name string, args starlark.Tuple, kwargs []starlark.Tuple) (answers, error) {
	var d *starlark.Dict
	if err := starlark.UnpackPositionalArgs(name, args, kwargs, 1, &d); err != nil {
		return nil, err
	}
	a, err := answersOf(d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return a, nil
}

func withDNS(_ *call, t *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	a, err := oneDict("with_dns", args, kwargs)
	t.fakes.lookups.DNS = dnsFake{a}
	return starlark.None, err
}

type dnsblFake struct{ a answers }

func (f dnsblFake) Listed(_ context.Context, zone string, addr netip.Addr) ([]string, error) {
	list, err := f.a.get(zone)
	for _, s := range list {
		if p, err := parseNetwork(s); err == nil && p.Contains(addr) {
			return []string{"127.0.0.2"}, nil
		}
	}
	return nil, err
}

func withDNSBL(_ *call, t *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	a, err := oneDict("with_dnsbl", args, kwargs)
	t.fakes.lookups.DNSBL = dnsblFake{a}
	return starlark.None, err
}

type httpFake struct{ a answers }

// Get answers 200 with the text of the URL, and 404 where there is none.
func (f httpFake) Get(_ context.Context, url string) (int, string, error) {
	list, err := f.a.get(url)
	if err != nil {
		return 0, "", err
	}
	if len(list) == 0 {
		return 404, "", nil
	}
	return 200, list[0], nil
}

func withHTTP(_ *call, t *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	a, err := oneDict("with_http", args, kwargs)
	t.fakes.lookups.HTTP = httpFake{a}
	return starlark.None, err
}

type smtpFake struct {
	users      answers
	recipients []string
	down       bool
}

func (f smtpFake) Auth(_ context.Context, _, user, password string) (bool, error) {
	if f.down {
		return false, errDown
	}
	return len(f.users[user]) == 1 && f.users[user][0] == password, nil
}

func (f smtpFake) Rcpt(_ context.Context, _, address string) (bool, error) {
	if f.down {
		return false, errDown
	}
	for _, r := range f.recipients {
		if strings.EqualFold(r, address) {
			return true, nil
		}
	}
	return false, nil
}

func withSMTP(_ *call, t *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var f smtpFake
	users := starlark.NewDict(0)
	var recipients *starlark.List
	err := starlark.UnpackArgs("with_smtp", args, kwargs, "users?", &users, "recipients?", &recipients, "down?", &f.down)
	if err != nil {
		return nil, err
	}
	if f.users, err = answersOf(users); err != nil {
		return nil, err
	}
	f.recipients, err = texts(recipients)
	t.fakes.lookups.SMTP = f
	return starlark.None, err
}

type ldapFake struct {
	users   answers
	entries map[string][]map[string][]string
	down    bool
}

func (f ldapFake) Bind(_ context.Context, _, name, password string) (bool, error) {
	if f.down {
		return false, errDown
	}
	return len(f.users[name]) == 1 && f.users[name][0] == password, nil
}

func (f ldapFake) Search(_ context.Context, _, filter string, _ []string) ([]map[string][]string, error) {
	if f.down {
		return nil, errDown
	}
	return f.entries[filter], nil
}

func withLDAP(_ *call, t *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	f := ldapFake{entries: map[string][]map[string][]string{}}
	users, entries := starlark.NewDict(0), starlark.NewDict(0)
	err := starlark.UnpackArgs("with_ldap", args, kwargs, "users?", &users, "entries?", &entries, "down?", &f.down)
	if err != nil {
		return nil, err
	}
	if f.users, err = answersOf(users); err != nil {
		return nil, err
	}
	for k, v := range entries.Entries() {
		filter, _ := starlark.AsString(k)
		list, ok := v.(*starlark.List)
		if !ok {
			return nil, fmt.Errorf("with_ldap: entries: want a list of dicts for %s", k)
		}
		for i := range list.Len() {
			d, ok := list.Index(i).(*starlark.Dict)
			if !ok {
				return nil, fmt.Errorf("with_ldap: entries: want a list of dicts for %s", k)
			}
			e, err := answersOf(d)
			if err != nil {
				return nil, err
			}
			f.entries[filter] = append(f.entries[filter], e)
		}
	}
	t.fakes.lookups.LDAP = f
	return starlark.None, nil
}

// fileFake answers from the lists of a test, and from the real ones for others.
type fileFake struct {
	real  Files
	lists map[string]*content // by kind and path
}

func (f *fileFake) get(path string, k kind) *content { return f.lists[string(rune(k))+path] }

func (f *fileFake) missing(path string) error {
	return fmt.Errorf("there is no list %q; give one by with_file", short(path))
}

func (f *fileFake) Has(ctx context.Context, path, value string) (bool, error) {
	switch c := f.get(path, entries); {
	case c != nil:
		return c.has(value), nil
	case f.real != nil:
		return f.real.Has(ctx, path, value)
	}
	return false, f.missing(path)
}

func (f *fileFake) Value(ctx context.Context, path, key string) (string, bool, error) {
	switch c := f.get(path, pairs); {
	case c != nil:
		v, ok := c.values[strings.ToLower(key)]
		return v, ok, nil
	case f.real != nil:
		return f.real.Value(ctx, path, key)
	}
	return "", false, f.missing(path)
}

func (f *fileFake) InNetwork(ctx context.Context, path string, addr netip.Addr) (bool, error) {
	switch c := f.get(path, nets); {
	case c != nil:
		return c.nets.Contains(addr), nil
	case f.real != nil:
		return f.real.InNetwork(ctx, path, addr)
	}
	return false, f.missing(path)
}

func withFile(_ *call, t *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var path string
	var list *starlark.List
	if err := starlark.UnpackPositionalArgs("with_file", args, kwargs, 2, &path, &list); err != nil {
		return nil, err
	}
	lines, err := texts(list)
	if err != nil {
		return nil, fmt.Errorf("with_file: %w", err)
	}
	// What is no list of one kind may be one of another.
	for _, k := range []kind{entries, pairs, nets} {
		if c, err := parseList(strings.NewReader(strings.Join(lines, "\n")), k); err == nil {
			t.fakes.files.lists[string(rune(k))+path] = c
		}
	}
	return starlark.None, nil
}

// rateFake counts without forgetting: a test is over before any time is.
type rateFake struct {
	mu   sync.Mutex
	seen map[string]int
}

func (f *rateFake) Over(_ context.Context, key string, n int, _ time.Duration) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[key]++
	return f.seen[key] > n, nil
}

// countryFake knows the countries of networks.
type countryFake struct{ a answers }

// Country implements Countries.
func (f countryFake) Country(addr netip.Addr) string {
	for network, country := range f.a {
		if p, err := parseNetwork(network); err == nil && p.Contains(addr) && len(country) == 1 {
			return country[0]
		}
	}
	return ""
}

func withCountry(_ *call, t *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	a, err := oneDict("with_country", args, kwargs)
	t.fakes.lookups.Countries = countryFake{a}
	return starlark.None, err
}

func withNow(_ *call, t *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var text string
	if err := starlark.UnpackPositionalArgs("with_now", args, kwargs, 1, &text); err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, fmt.Errorf("with_now: %q is no time like %s", short(text), testTime)
	}
	t.fakes.lookups.Now = func() time.Time { return at }
	return starlark.None, nil
}
