package main

import (
	"fmt"
	"os"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/ldap"
	"gatepost/internal/lookup"
	"gatepost/internal/weblookup"
)

// directory is an [[ldap]] that others look things up in.
type directory struct {
	*ldap.Directory
	filter     ldap.Template // the zero Template where the configuration has none
	hasFilter  bool
	attributes []string
	keep       lookup.Config
}

// web is an [[http]] that others ask.
type web struct {
	*weblookup.Client
	request weblookup.Request
	expect  weblookup.Expect
	keep    lookup.Config
}

// buildLookups makes the directories and web services of a generation.
func (a *app) buildLookups(g, old *generation) error {
	for i := range g.cfg.LDAP {
		c := &g.cfg.LDAP[i]
		d, err := buildDirectory(g, old, c)
		if err != nil {
			return fmt.Errorf("make ldap %s: %w", c.Name, err)
		}
		g.directories[string(c.Name)] = d
	}
	for i := range g.cfg.HTTP {
		c := &g.cfg.HTTP[i]
		w, err := buildWeb(g, old, c)
		if err != nil {
			return fmt.Errorf("make http %s: %w", c.Name, err)
		}
		g.webs[string(c.Name)] = w
	}
	return nil
}

// keepFor is how long answers are kept: 0 is not at all, where package lookup takes it
// for its default.
func keepFor(positive, negative time.Duration) lookup.Config {
	never := func(d time.Duration) time.Duration {
		if d == 0 {
			return -1
		}
		return d
	}
	return lookup.Config{Positive: never(positive), Negative: never(negative)}
}

// contents is what files hold, for the keys of parts that read them; "" is no file.
func contents(files ...config.Path) (string, error) {
	var all string
	for _, f := range files {
		if f == "" {
			continue
		}
		text, err := os.ReadFile(string(f))
		if err != nil {
			return "", err
		}
		all += fmt.Sprintf("|%d:%s", len(text), text)
	}
	return all, nil
}

func buildDirectory(g, old *generation, c *config.LDAP) (*directory, error) {
	files, err := contents(c.PasswordFile, c.TLSCAFile)
	if err != nil {
		return nil, err
	}
	return keep(g, old, fmt.Sprintf("ldap %+v%s", *c, files), func() (*directory, *keptPart, error) {
		password, err := firstLine(c.PasswordFile)
		if err != nil {
			return nil, nil, err
		}
		d := &directory{attributes: c.Attributes, keep: keepFor(c.CacheFor, c.NegativeCacheFor)}
		if c.Filter != "" {
			if d.filter, err = ldap.ParseFilter(c.Filter); err != nil {
				return nil, nil, err
			}
			d.hasFilter = true
		}
		d.Directory, err = ldap.New(ldap.Config{
			URLs: c.URL, StartTLS: c.StartTLS, CAFile: string(c.TLSCAFile), TLSName: string(c.TLSName),
			BindDN: c.BindDN, Password: password, Base: c.Base, Scope: c.Scope,
			ConnectTimeout: c.ConnectTimeout, Timeout: c.Timeout, Sessions: c.Sessions, Idle: c.Idle, MaxEntries: c.MaxEntries,
		})
		if err != nil {
			return nil, nil, err
		}
		return d, &keptPart{close: d.Close}, nil
	})
}

func buildWeb(g, old *generation, c *config.HTTP) (*web, error) {
	files, err := contents(c.TokenFile, c.TLSCAFile)
	if err != nil {
		return nil, err
	}
	return keep(g, old, fmt.Sprintf("http %+v%s %+v", *c, files, g.cfg.DNS), func() (*web, *keptPart, error) {
		token, err := firstLine(c.TokenFile)
		if err != nil {
			return nil, nil, err
		}
		w := &web{
			request: weblookup.Request{URL: c.URL, Method: c.Method, Body: c.Body, ContentType: c.ContentType, Header: make(map[string]string)},
			expect:  weblookup.Expect{Status: c.OKStatus, Body: c.OKBody, Prefix: c.OKPrefix},
			keep:    keepFor(c.CacheFor, c.NegativeCacheFor),
		}
		for name, value := range c.Headers {
			w.request.Header[name] = value
		}
		if token != "" {
			w.request.Header["Authorization"] = "Bearer " + token
		}
		w.Client, err = weblookup.New(weblookup.Config{
			AllowPrivate: c.AllowPrivate, Timeout: c.Timeout, MaxBody: int64(c.MaxBody), Connections: c.Sessions,
			CAFile: string(c.TLSCAFile), Resolver: g.resolver,
		})
		if err != nil {
			return nil, nil, err
		}
		return w, &keptPart{close: w.Close}, nil
	})
}
