// Package links is the module "links": it looks at every link of a message, in
// every reading of its texts and in its documents. It says where a link pretends
// to be another, and asks lists in the DNS about the domains.
//
//	zone, err := links.ParseZone("dbl.example.org=127.0.1.2-99*4")
//	module := links.New(links.Config{Zones: []links.Zone{zone}, Resolver: resolver})
//
// Invariants:
//   - What a link looks like is a hint and scores little; only a listing scores
//     much. One finding for each symbol, however many links show it.
//   - A list that does not answer, or answers that it won't, is a finding with the
//     result "unknown" and never a listing.
//   - No more than Config.MaxLookups questions are asked about a message, whatever
//     it holds, and no more than Config.Parallel at a time. Links that a reader
//     can click come first.
package links

import (
	"context"
	"net/netip"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message/textview"
	"gatepost/internal/scan"
)

// Resolver asks for A records; *dns.Resolver does.
type Resolver interface {
	IPv4(ctx context.Context, name string) ([]netip.Addr, error)
}

// Config says which lists are asked. The zero Config asks none.
type Config struct {
	// Zones are the lists; without Resolver they are not asked.
	Zones    []Zone
	Resolver Resolver
	// MaxLookups is how many questions one message may cost; 0: 50, below 0: none.
	MaxLookups int
	// Parallel is how many of them are asked at the same time; default 10.
	Parallel int
}

// Module is the block "links".
type Module struct{ cfg Config }

// New returns the module.
func New(cfg Config) *Module {
	if cfg.MaxLookups == 0 {
		cfg.MaxLookups = 50
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = 10
	}
	if cfg.Resolver == nil || cfg.MaxLookups < 0 {
		cfg.Zones = nil
	}
	return &Module{cfg: cfg}
}

// use is the name of the block in the configuration.
const use = "links"

// Scan implements scan.Module.
func (m *Module) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	text, err := in.Text(ctx)
	if err != nil {
		return nil, err
	}
	files, err := in.Files(ctx)
	if err != nil {
		return nil, err
	}
	urls := text.URLs
	for _, l := range files.Links {
		if u, ok := textview.Parse(l.URL); ok {
			u.From, u.Text = "document", strings.Join(l.Path, " > ")
			urls = append(urls[:len(urls):len(urls)], u)
		}
	}
	findings := judge(urls, ownDomains(in, text.From))
	if len(m.cfg.Zones) > 0 {
		findings = append(findings, m.ask(ctx, urls)...)
	}
	return findings, nil
}

// ownDomains are the domains that a reader of the message knows and trusts: those
// of the recipients and of the sender that is shown.
func ownDomains(in *scan.Input, from string) []string {
	var list []string
	add := func(domain string) {
		domain = strings.ToLower(domain)
		if d := textview.Registered(domain); d != "" {
			domain = d
		}
		for _, known := range list {
			if known == domain {
				return
			}
		}
		if strings.Contains(domain, ".") && !strings.HasPrefix(domain, "[") {
			list = append(list, domain)
		}
	}
	const enough = 20
	if e := in.Message.Envelope; e != nil {
		for i := range e.Recipients[:min(len(e.Recipients), enough)] {
			add(e.Recipients[i].Address.Domain)
			add(e.Recipients[i].Original.Domain)
		}
		add(e.Sender.Domain)
	}
	add(fromDomain(from))
	return list
}

// fromDomain is the domain of the last address in a shown From.
func fromDomain(from string) string {
	domain := from[strings.LastIndexByte(from, '@')+1:]
	if len(domain) == len(from) {
		return ""
	}
	if i := strings.IndexAny(domain, "> \t,;\""); i >= 0 {
		domain = domain[:i]
	}
	return domain
}
