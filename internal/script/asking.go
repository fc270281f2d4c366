package script

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"
)

// lookupFunctions puts what asks others into the environment.
func lookupFunctions(env starlark.StringDict) {
	for name, f := range map[string]builtin{
		"dns": dnsLookup, "dnsbl": dnsblLookup, "ldap_bind": ldapBind, "ldap_search": ldapSearch,
		"smtp_auth": smtpAuth, "smtp_rcpt": smtpRcpt, "http": httpGet,
		"in_file": inFile, "file_value": fileValue, "in_network": inNetwork,
		"rate": rateOver, "cache_get": cacheGet, "cache_set": cacheSet,
	} {
		env[name] = bind(name, f)
	}
}

// orDefault gives what the script wants where nobody can say: without default=
// that is an error, for which the block's on_unknown stands.
func orDefault(c *call, v starlark.Value, err error, otherwise starlark.Value) (starlark.Value, error) {
	if err == nil {
		n, err := c.weigh(v)
		if err != nil {
			return nil, err
		}
		return v, c.charge(n)
	}
	if otherwise != nil && c.ctx != nil && c.ctx.Err() == nil {
		c.echo(err.Error())
		return otherwise, nil
	}
	return nil, err
}

func stringList(list []string) starlark.Value {
	values := make([]starlark.Value, len(list))
	for i, s := range list {
		values[i] = starlark.String(s)
	}
	return starlark.NewList(values)
}

var kinds = []string{"A", "AAAA", "MX", "PTR", "TXT"}

func dnsLookup(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	kind := "A"
	var otherwise starlark.Value
	if err := starlark.UnpackArgs("dns", args, kwargs, "name", &name, "type?", &kind, "default?", &otherwise); err != nil {
		return nil, err
	}
	if kind = strings.ToUpper(kind); !slices.Contains(kinds, kind) {
		return nil, fmt.Errorf("dns: unknown type %q; there are %s", short(kind), strings.Join(kinds, ", "))
	}
	source := c.sources().DNS
	if source == nil {
		return nil, errNotConfigured("dns")
	}
	list, err := ask(c, "dns", func(ctx context.Context) ([]string, error) { return source.Lookup(ctx, name, kind) })
	return orDefault(c, stringList(list), err, otherwise)
}

func dnsblLookup(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var zone, address string
	var otherwise starlark.Value
	if err := starlark.UnpackArgs("dnsbl", args, kwargs, "zone", &zone, "address?", &address, "default?", &otherwise); err != nil {
		return nil, err
	}
	addr, err := c.addrOr(address)
	if err != nil {
		return nil, fmt.Errorf("dnsbl: %w", err)
	}
	source := c.sources().DNSBL
	if source == nil {
		return nil, errNotConfigured("dnsbl")
	}
	list, err := ask(c, "dnsbl", func(ctx context.Context) ([]string, error) { return source.Listed(ctx, zone, addr) })
	return orDefault(c, stringList(list), err, otherwise)
}

// addrOr reads an address; "" is the client's.
func (c *call) addrOr(s string) (netip.Addr, error) {
	if s == "" && c.in != nil {
		return c.in.Session.Client.Addr().Unmap(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is no address", short(s))
	}
	return addr.Unmap().WithZone(""), nil
}

func ldapBind(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var server, name, password string
	var otherwise starlark.Value
	known, values, err := splitParams(kwargs, "server", "name", "password", "default")
	if err != nil {
		return nil, fmt.Errorf("ldap_bind: %w", err)
	}
	if err := starlark.UnpackArgs("ldap_bind", args, known, "server", &server, "name", &name, "password", &password, "default?", &otherwise); err != nil {
		return nil, err
	}
	if name, err = fill(name, values, escapeDN); err != nil {
		return nil, fmt.Errorf("ldap_bind: %w", err)
	}
	if password == "" {
		// RFC 4513 §5.1.2: a bind with a name and no password succeeds for everybody.
		return starlark.False, nil
	}
	source := c.sources().LDAP
	if source == nil {
		return nil, errNotConfigured("ldap_bind")
	}
	ok, err := ask(c, "ldap_bind", func(ctx context.Context) (bool, error) { return source.Bind(ctx, server, name, password) })
	return orDefault(c, starlark.Bool(ok), err, otherwise)
}

func ldapSearch(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var server, filter string
	var attributes *starlark.List
	var otherwise starlark.Value
	known, values, err := splitParams(kwargs, "server", "filter", "attributes", "default")
	if err != nil {
		return nil, fmt.Errorf("ldap_search: %w", err)
	}
	if err := starlark.UnpackArgs("ldap_search", args, known, "server", &server, "filter", &filter, "attributes?", &attributes, "default?", &otherwise); err != nil {
		return nil, err
	}
	if filter, err = fill(filter, values, escapeFilter); err != nil {
		return nil, fmt.Errorf("ldap_search: %w", err)
	}
	names, err := texts(attributes)
	if err != nil {
		return nil, fmt.Errorf("ldap_search: attributes: %w", err)
	}
	source := c.sources().LDAP
	if source == nil {
		return nil, errNotConfigured("ldap_search")
	}
	entries, err := ask(c, "ldap_search", func(ctx context.Context) ([]map[string][]string, error) {
		return source.Search(ctx, server, filter, names)
	})
	return orDefault(c, entryList(entries), err, otherwise)
}

func entryList(entries []map[string][]string) starlark.Value {
	list := make([]starlark.Value, len(entries))
	for i, e := range entries {
		d := starlark.NewDict(len(e))
		for k, v := range e {
			// A string as key of a fresh dict cannot fail.
			_ = d.SetKey(starlark.String(strings.ToLower(k)), stringList(v))
		}
		list[i] = d
	}
	return starlark.NewList(list)
}

func smtpAuth(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var transport, user, password string
	var otherwise starlark.Value
	if err := starlark.UnpackArgs("smtp_auth", args, kwargs, "transport", &transport, "user", &user, "password", &password, "default?", &otherwise); err != nil {
		return nil, err
	}
	source := c.sources().SMTP
	if source == nil {
		return nil, errNotConfigured("smtp_auth")
	}
	ok, err := ask(c, "smtp_auth", func(ctx context.Context) (bool, error) { return source.Auth(ctx, transport, user, password) })
	return orDefault(c, starlark.Bool(ok), err, otherwise)
}

func smtpRcpt(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var transport, address string
	var otherwise starlark.Value
	if err := starlark.UnpackArgs("smtp_rcpt", args, kwargs, "transport", &transport, "address", &address, "default?", &otherwise); err != nil {
		return nil, err
	}
	source := c.sources().SMTP
	if source == nil {
		return nil, errNotConfigured("smtp_rcpt")
	}
	ok, err := ask(c, "smtp_rcpt", func(ctx context.Context) (bool, error) { return source.Rcpt(ctx, transport, address) })
	return orDefault(c, starlark.Bool(ok), err, otherwise)
}

// response is what http(…) gives.
type response struct {
	object
	status int
	body   string
}

var responseAttrs = attrNames{"body", "ok", "status"}

func (v *response) String() string       { return fmt.Sprintf("<response %d>", v.status) }
func (v *response) Type() string         { return "response" }
func (v *response) Truth() starlark.Bool { return v.status/100 == 2 }
func (v *response) AttrNames() []string  { return responseAttrs }

// Attr implements starlark.HasAttrs.
func (v *response) Attr(name string) (starlark.Value, error) {
	switch name {
	case "status":
		return starlark.MakeInt(v.status), nil
	case "ok":
		return v.Truth(), nil
	case "body":
		return starlark.String(v.body), nil
	}
	return nil, nil
}

func httpGet(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var url string
	var otherwise starlark.Value
	known, values, err := splitParams(kwargs, "url", "default")
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	if err := starlark.UnpackArgs("http", args, known, "url", &url, "default?", &otherwise); err != nil {
		return nil, err
	}
	t, err := parseTemplate(url)
	if err != nil {
		return nil, err
	}
	if url, err = fill(t, values, escapeURL); err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	source := c.sources().HTTP
	if source == nil {
		return nil, errNotConfigured("http")
	}
	r, err := ask(c, "http", func(ctx context.Context) (*response, error) {
		status, body, err := source.Get(ctx, url)
		return &response{status: status, body: body[:min(len(body), maxBody)]}, err
	})
	if err == nil {
		err = c.charge(int64(len(r.body)))
	}
	return orDefault(c, r, err, otherwise)
}

// maxBody bounds what a script sees of an answer, in bytes.
const maxBody = 64 << 10

// path refuses absolute paths that do not stand in the script itself: they could
// come from a message.
func (c *call) path(name, path string) error {
	if strings.HasPrefix(path, "/") && !c.prog.absolute[path] {
		return fmt.Errorf("%s: an absolute path must be written out in the script", name)
	}
	return nil
}

func inFile(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var path, value string
	var otherwise starlark.Value
	if err := starlark.UnpackArgs("in_file", args, kwargs, "path", &path, "value", &value, "default?", &otherwise); err != nil {
		return nil, err
	}
	source := c.sources().Files
	if source == nil {
		return nil, errNotConfigured("in_file")
	}
	if err := c.path("in_file", path); err != nil {
		return nil, err
	}
	ok, err := ask(c, "in_file", func(ctx context.Context) (bool, error) { return source.Has(ctx, path, value) })
	return orDefault(c, starlark.Bool(ok), err, otherwise)
}

func fileValue(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var path, key string
	var otherwise starlark.Value
	if err := starlark.UnpackArgs("file_value", args, kwargs, "path", &path, "key", &key, "default?", &otherwise); err != nil {
		return nil, err
	}
	source := c.sources().Files
	if source == nil {
		return nil, errNotConfigured("file_value")
	}
	if err := c.path("file_value", path); err != nil {
		return nil, err
	}
	v, err := ask(c, "file_value", func(ctx context.Context) (starlark.Value, error) {
		text, ok, err := source.Value(ctx, path, key)
		if !ok && err == nil {
			return starlark.None, nil
		}
		return starlark.String(text), err
	})
	if v == starlark.None && otherwise != nil {
		return otherwise, nil
	}
	return orDefault(c, v, err, otherwise)
}

func inNetwork(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var address, path string
	var networks, otherwise starlark.Value
	if err := starlark.UnpackArgs("in_network", args, kwargs, "address", &address, "networks?", &networks, "file?", &path, "default?", &otherwise); err != nil {
		return nil, err
	}
	addr, err := c.addrOr(address)
	if err != nil {
		return nil, fmt.Errorf("in_network: %w", err)
	}
	if networks != nil {
		ok, err := anyNetwork(networks, addr)
		if ok || err != nil || path == "" {
			return starlark.Bool(ok), err
		}
	}
	if path == "" {
		return nil, errors.New("in_network: want networks or file=")
	}
	source := c.sources().Files
	if source == nil {
		return nil, errNotConfigured("in_network")
	}
	if err := c.path("in_network", path); err != nil {
		return nil, err
	}
	ok, err := ask(c, "in_network", func(ctx context.Context) (bool, error) { return source.InNetwork(ctx, path, addr) })
	return orDefault(c, starlark.Bool(ok), err, otherwise)
}

// anyNetwork reports whether one of the networks, a string or a list of strings,
// has the address.
func anyNetwork(v starlark.Value, addr netip.Addr) (bool, error) {
	if s, ok := v.(starlark.String); ok {
		p, err := parseNetwork(string(s))
		return err == nil && p.Contains(addr), err
	}
	list, ok := v.(starlark.Indexable)
	if !ok {
		return false, fmt.Errorf("in_network: want a network or a list of them, got %s", v.Type())
	}
	for i := range list.Len() {
		s, ok := list.Index(i).(starlark.String)
		if !ok {
			return false, fmt.Errorf("in_network: want a list of strings, got a %s in it", list.Index(i).Type())
		}
		p, err := parseNetwork(string(s))
		if err != nil {
			return false, err
		}
		if p.Contains(addr) {
			return true, nil
		}
	}
	return false, nil
}

// parseNetwork reads "192.0.2.0/24" or one address.
func parseNetwork(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is no network", short(s))
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

func rateOver(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key, limit string
	var otherwise starlark.Value
	if err := starlark.UnpackArgs("rate", args, kwargs, "key", &key, "limit", &limit, "default?", &otherwise); err != nil {
		return nil, err
	}
	n, per, err := parseRate(limit)
	if err != nil {
		return nil, fmt.Errorf("rate: %w", err)
	}
	source := c.sources().Rates
	if source == nil {
		return nil, errNotConfigured("rate")
	}
	over, err := ask(c, "rate", func(ctx context.Context) (bool, error) { return source.Over(ctx, c.scope(key), n, per) })
	return orDefault(c, starlark.Bool(over), err, otherwise)
}

// scope keeps the keys of one script from those of another, and bounds them.
func (c *call) scope(key string) string {
	return c.prog.name + "\x00" + key[:min(len(key), 1000)]
}

func cacheGet(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	if err := starlark.UnpackArgs("cache_get", args, kwargs, "key", &key); err != nil {
		return nil, err
	}
	source := c.sources().Cache
	if source == nil {
		return nil, errNotConfigured("cache_get")
	}
	v, err := ask(c, "cache_get", func(ctx context.Context) (starlark.Value, error) {
		text, ok, err := source.Get(ctx, c.scope(key))
		if err != nil || !ok {
			return starlark.None, err
		}
		return decodeJSON(text)
	})
	return orDefault(c, v, err, nil)
}

// maxCached bounds one value in the cache, in bytes; maxTTL how long it stays.
const (
	maxCached = 16 << 10
	maxTTL    = 30 * 24 * time.Hour
)

func cacheSet(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var key string
	var value starlark.Value
	ttl := starlark.Value(starlark.MakeInt(300))
	if err := starlark.UnpackArgs("cache_set", args, kwargs, "key", &key, "value", &value, "ttl?", &ttl); err != nil {
		return nil, err
	}
	seconds, ok := starlark.AsFloat(ttl)
	if !ok || !(seconds > 0) {
		return nil, errors.New("cache_set: ttl must be a number of seconds above 0")
	}
	if n, err := c.weigh(value); err != nil || n > maxCached*4 {
		return nil, cmpErr(err, errBigValue)
	}
	text, err := encodeJSON(value)
	if err != nil {
		return nil, fmt.Errorf("cache_set: %w", err)
	}
	if len(text) > maxCached {
		return nil, errBigValue
	}
	source := c.sources().Cache
	if source == nil {
		return nil, errNotConfigured("cache_set")
	}
	keep := time.Duration(min(seconds, maxTTL.Seconds()) * float64(time.Second))
	return ask(c, "cache_set", func(ctx context.Context) (starlark.Value, error) {
		return starlark.None, source.Set(ctx, c.scope(key), text, keep)
	})
}

var errBigValue = fmt.Errorf("cache_set: a value of more than %d KiB", maxCached>>10)

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
