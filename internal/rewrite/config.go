package rewrite

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"gatepost/internal/lookup"
	"gatepost/internal/smtp"
)

// Stage is one of the steps, under the name of its table in the configuration.
type Stage string

// The stages that look into tables.
const (
	Canonical    Stage = "canonical"
	BCC          Stage = "bcc"
	Virtual      Stage = "virtual"
	TransportMap Stage = "transport_map"
	Relocated    Stage = "relocated"
	Generic      Stage = "generic"
)

// Lookup is a table elsewhere: in LDAP, behind HTTP.
type Lookup interface {
	// Lookup returns the results for a key ("user@example.com", "user",
	// "@example.com"), none where there is no entry. An error says that it can't
	// tell now.
	Lookup(ctx context.Context, key string) ([]string, error)
}

// Table is one table: exactly one of File, Lines and Lookup is set.
type Table struct {
	// File is a file of lines "pattern result". It is read again when it has changed.
	File string
	// Lines are such lines in the configuration itself.
	Lines []string
	// Lookup is asked under a name for logs, "ldap:ad"; its answers are kept as Keep
	// says.
	Lookup Lookup
	Name   string
	Keep   lookup.Config
}

// Class is a set of places in which addresses stand.
type Class uint8

// The places.
const (
	EnvelopeSender Class = 1 << iota
	EnvelopeRecipient
	HeaderSender
	HeaderRecipient
)

// Clients says for whose mail the header is rewritten.
type Clients string

// The choices. The zero value is ClientsTrusted.
const (
	ClientsTrusted Clients = "trusted" // in trusted_networks, or authenticated
	ClientsAll     Clients = "all"
	ClientsNone    Clients = "none"
)

// Config is what an Engine is made of. Without any table it changes nothing.
type Config struct {
	// SenderCanonical and RecipientCanonical are looked into before Canonical, which
	// is for both.
	Canonical, SenderCanonical, RecipientCanonical []Table
	// CanonicalClasses says where; 0 stands for everywhere.
	CanonicalClasses Class

	// Masquerade lists domains whose hosts are hidden: a.b.example.com becomes
	// example.com. "!sub.example.com" leaves that domain as it is. The first that
	// fits counts.
	Masquerade []string
	// MasqueradeExceptions are local parts that stay, such as "root".
	MasqueradeExceptions []string
	// MasqueradeClasses says where; 0 stands for everywhere but envelope recipients.
	MasqueradeClasses Class

	// BCC adds recipients by sender and by recipient, SenderBCC and RecipientBCC by
	// one of them.
	BCC, SenderBCC, RecipientBCC []Table
	// Virtual replaces a recipient by one or many.
	Virtual []Table
	// TransportMap sends addresses and domains to a transport: "name" or "name:domain".
	TransportMap []Table
	// Relocated holds those who have moved; the result is their new address.
	Relocated []Table
	// Generic rewrites all addresses of mail that leaves through one of
	// GenericTransports; none: through any.
	Generic           []Table
	GenericTransports []string

	// Delimiters are the characters between a user and an extension, such as "+";
	// "" for none. The extension is put to the result of an entry without one.
	Delimiters string
	// Origin is the domain of results without one; "" is that of the address that
	// was looked up.
	Origin string
	// Ours tells the domains in which an entry for "user" counts; nil: in none.
	Ours func(domain string) bool
	// Parent is the domain of which the given one is an alias, "" for none. An
	// address that no table names is looked up there, too. Nil: there are none.
	Parent func(domain string) string
	// HasTransport tells the transports that exist; nil: any name will do.
	HasTransport func(name string) bool

	HeaderClients Clients
	// ExpansionLimit is how many recipients one may become, RecursionLimit how many
	// entries may be followed on the way; both 1000 by default.
	ExpansionLimit, RecursionLimit int
	// CheckInterval is how often a file is looked at; default 10 s.
	CheckInterval time.Duration
	// Log gets a line when a file was read again, or can't be; nil: none.
	Log *slog.Logger
}

// defaultLimit is Postfix's for expansion and recursion.
const defaultLimit = 1000

// Engine rewrites addresses. It is safe for concurrent use.
type Engine struct {
	cfg        Config
	masquerade []string
	tables     map[role][]table
	// here is the engine without tables that need a network.
	here *Engine
}

// role tells tables of one stage apart.
type role struct {
	stage Stage
	of    Class // EnvelopeSender, EnvelopeRecipient; 0 for both
}

// New opens the tables, or returns everything that is wrong with them.
func New(cfg Config) (*Engine, []error) {
	if cfg.CanonicalClasses == 0 {
		cfg.CanonicalClasses = EnvelopeSender | EnvelopeRecipient | HeaderSender | HeaderRecipient
	}
	if cfg.MasqueradeClasses == 0 {
		cfg.MasqueradeClasses = EnvelopeSender | HeaderSender | HeaderRecipient
	}
	if cfg.ExpansionLimit <= 0 {
		cfg.ExpansionLimit = defaultLimit
	}
	if cfg.RecursionLimit <= 0 {
		cfg.RecursionLimit = defaultLimit
	}
	e := &Engine{cfg: cfg, tables: map[role][]table{}}
	errs := e.readNames()
	for _, set := range []struct {
		role
		tables []Table
	}{
		{role{Canonical, 0}, cfg.Canonical}, {role{Canonical, EnvelopeSender}, cfg.SenderCanonical}, {role{Canonical, EnvelopeRecipient}, cfg.RecipientCanonical},
		{role{BCC, EnvelopeSender}, join(cfg.SenderBCC, cfg.BCC)}, {role{BCC, EnvelopeRecipient}, join(cfg.RecipientBCC, cfg.BCC)},
		{role{Virtual, 0}, cfg.Virtual}, {role{TransportMap, 0}, cfg.TransportMap}, {role{Relocated, 0}, cfg.Relocated}, {role{Generic, 0}, cfg.Generic},
	} {
		for _, t := range set.tables {
			open, err := e.open(set.stage, t)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", set.stage, err))
				continue
			}
			e.tables[set.role] = append(e.tables[set.role], open)
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	e.here = e.withoutNetwork()
	return e, nil
}

func join(a, b []Table) []Table { return append(a[:len(a):len(a)], b...) }

// readNames checks what is written in the configuration itself.
func (e *Engine) readNames() []error {
	var errs []error
	for _, name := range e.cfg.Masquerade {
		bare := strings.TrimLeft(name, "!")
		domain, err := smtp.CanonicalDomain(bare)
		if err != nil || strings.HasPrefix(domain, "[") {
			errs = append(errs, fmt.Errorf("masquerade: %q is no domain", name))
			continue
		}
		e.masquerade = append(e.masquerade, name[:len(name)-len(bare)]+domain)
	}
	if e.cfg.Origin != "" {
		domain, err := smtp.CanonicalDomain(e.cfg.Origin)
		if err != nil {
			errs = append(errs, fmt.Errorf("origin: %q is no domain", e.cfg.Origin))
		}
		e.cfg.Origin = domain
	}
	switch e.cfg.HeaderClients {
	case "":
		e.cfg.HeaderClients = ClientsTrusted
	case ClientsTrusted, ClientsAll, ClientsNone:
	default:
		errs = append(errs, fmt.Errorf("header_clients: %q is not one of trusted, all, none", e.cfg.HeaderClients))
	}
	return errs
}

// WithoutNetwork returns an engine in which the tables that must be asked over a
// network have no entries.
func (e *Engine) WithoutNetwork() *Engine { return e.here }

func (e *Engine) withoutNetwork() *Engine {
	here := &Engine{cfg: e.cfg, masquerade: e.masquerade, tables: map[role][]table{}}
	here.here = here
	for r, tables := range e.tables {
		for _, t := range tables {
			if _, asks := t.(*askedTable); !asks {
				here.tables[r] = append(here.tables[r], t)
			}
		}
	}
	return here
}

// LookupFunc is a Lookup that is one function.
type LookupFunc func(ctx context.Context, key string) ([]string, error)

// Lookup implements Lookup.
func (f LookupFunc) Lookup(ctx context.Context, key string) ([]string, error) { return f(ctx, key) }
