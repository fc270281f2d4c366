package senders

import (
	"context"
	"errors"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	gmail "gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
	"gatepost/internal/scan/authres/dmarc"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// Use is the name of the block.
const Use = "senders"

// The symbols of the findings.
const (
	SymbolAllowed  = "allowed"
	SymbolBlocked  = "blocked"
	SymbolUnproven = "unproven" // allowed, but anybody could have sent it
)

// Store looks entries up: *store.Store.
type Store interface {
	MatchSenders(ctx context.Context, owners, patterns []string) ([]store.SenderEntry, error)
}

// Config is what a block is made of.
type Config struct {
	Store Store
	// Unproven lets an entry that allows count without proof of who sent the message.
	Unproven bool
	// Timeout bounds the question to the store; default 2 s.
	Timeout time.Duration
}

// Module is a block "senders". It implements scan.Module, with scan.Block.After.
type Module struct {
	cfg Config
	// rests is when, in Unix nanoseconds, a store that did not answer is asked again.
	rests atomic.Int64
}

// rest is how long a store that did not answer is left alone, so that not every message
// waits for it.
const rest = 5 * time.Second

var errRests = errors.New("the store did not answer a moment ago")

// New returns a module.
func New(cfg Config) *Module {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Second
	}
	return &Module{cfg: cfg}
}

// Bounds of one question to the store. A message with more recipients asks several times.
const (
	maxAuthors    = 4
	recipientsOf  = 200 // of one question
	maxAddressLen = 320 // RFC 5321 §4.5.3.1: 64 + 1 + 255
)

// Scan implements scan.Module: a finding for each recipient whose lists know the sender.
func (m *Module) Scan(ctx context.Context, in *scan.Input) ([]gmail.Finding, error) {
	env := in.Message.Envelope
	if env == nil || in.Direction == scan.Outbound {
		return nil, nil
	}
	authors := authorsOf(in)
	if len(authors) == 0 {
		return nil, nil
	}
	var patterns []string
	for _, a := range authors {
		patterns = append(patterns, a.patterns...)
	}
	slices.Sort(patterns)
	patterns = slices.Compact(patterns)
	if time.Now().UnixNano() < m.rests.Load() {
		return nil, errRests
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	var findings []gmail.Finding
	for group := range slices.Chunk(env.Recipients, recipientsOf) {
		entries, err := m.cfg.Store.MatchSenders(ctx, ownersOf(group), patterns)
		if err != nil {
			if caller.Err() == nil {
				m.rests.Store(time.Now().Add(rest).UnixNano())
			}
			return findings, err
		}
		if len(entries) == 0 {
			continue
		}
		index := make(map[store.SenderKey]*store.SenderEntry, len(entries))
		for i := range entries {
			index[entries[i].SenderKey] = &entries[i]
		}
		for i := range group {
			if f, ok := m.judge(in, index, &group[i], authors); ok {
				findings = append(findings, f)
			}
		}
	}
	return findings, nil
}

// author is an address that a message says it is from.
type author struct {
	key      string
	patterns []string
	envelope bool
}

// authorsOf are the envelope sender and the authors in From.
func authorsOf(in *scan.Input) []author {
	var authors []author
	add := func(a gmail.Address, envelope bool) {
		key := a.Key()
		if a.IsNull() || slices.ContainsFunc(authors, func(o author) bool { return o.key == key }) {
			return
		}
		authors = append(authors, author{key: key, patterns: patternsOf(key), envelope: envelope})
	}
	add(in.Message.Envelope.GivenSender(), true)
	if in.Header == nil {
		return authors
	}
	for _, f := range in.Header.Fields() {
		if !f.Is("From") {
			continue
		}
		for _, text := range addressesIn(f.Value()) {
			if a, err := smtp.ParseAddress(text); err == nil && len(authors) < maxAuthors {
				add(a, false)
			}
		}
	}
	return authors
}

var looksLikeAddress = regexp.MustCompile(`[^\s<>,;:"()\[\]]+@[^\s<>,;:"()\[\]]+`)

// addressesIn are the addresses of a field; of one that is malformed whatever looks like
// one, because readers show that.
func addressesIn(value string) (found []string) {
	if list, err := mail.ParseAddressList(value); err == nil {
		for _, a := range list {
			found = append(found, a.Address)
		}
		return found
	}
	for _, text := range looksLikeAddress.FindAllString(value, maxAuthors) {
		if len(text) <= maxAddressLen {
			found = append(found, text)
		}
	}
	return found
}

// ownersOf are the lists of recipients, and that of everybody.
func ownersOf(recipients []gmail.Recipient) []string {
	owners := []string{""}
	for i := range recipients {
		owners = append(owners, listsOf(&recipients[i])...)
	}
	slices.Sort(owners)
	return slices.Compact(owners)
}

// listsOf are the lists of a recipient, the most specific first.
func listsOf(r *gmail.Recipient) []string {
	lists := []string{r.Address.Key()}
	if o := r.Original; !o.IsNull() && o.Key() != lists[0] {
		lists = append(lists, o.Key())
	}
	for _, key := range slices.Clone(lists) {
		if _, domain, ok := strings.Cut(key, "@"); ok && !slices.Contains(lists, "@"+domain) {
			lists = append(lists, "@"+domain)
		}
	}
	return append(lists, "")
}

// judge says what the lists of one recipient say.
func (m *Module) judge(in *scan.Input, index map[store.SenderKey]*store.SenderEntry, r *gmail.Recipient, authors []author) (gmail.Finding, bool) {
	unproven := gmail.Finding{}
	for _, owner := range listsOf(r) {
		entry, who := best(index, owner, authors)
		if entry == nil {
			continue
		}
		f := gmail.Finding{Module: Use, Symbol: SymbolBlocked, Result: gmail.Match, Name: entry.Pattern, Recipients: []string{r.Address.Key()},
			Reason: message.SafeText(whose(owner)+" has "+entry.Pattern+" as blocked"+note(entry), 300)}
		if entry.Kind == store.SenderBlocked {
			return f, true
		}
		f.Symbol = SymbolAllowed
		f.Reason = message.SafeText(whose(owner)+" has "+entry.Pattern+" as allowed"+note(entry), 300)
		if m.cfg.Unproven || proven(in, who) {
			return f, true
		}
		// A list above may still block it.
		if unproven.Symbol == "" {
			f.Symbol, f.Result = SymbolUnproven, gmail.Clean
			f.Reason += ", but nothing proves that it is from there"
			unproven = f
		}
	}
	return unproven, unproven.Symbol != ""
}

// whose names a list.
func whose(owner string) string {
	if owner == "" {
		return "the list for everybody"
	}
	return "the list of " + owner
}

func note(e *store.SenderEntry) string {
	if e.Note == "" {
		return ""
	}
	return " (" + e.Note + ")"
}

// best is the entry of one list that counts: the most specific one, of equals the one
// that blocks.
func best(index map[store.SenderKey]*store.SenderEntry, owner string, authors []author) (found *store.SenderEntry, who author) {
	at := -1
	for _, a := range authors {
		for _, p := range a.patterns {
			e := index[store.SenderKey{Owner: owner, Pattern: p}]
			if e == nil {
				continue
			}
			// The longer pattern is the more specific one; an address beats any domain.
			weight := len(p)
			if !strings.HasPrefix(p, "@") {
				weight = maxAddressLen
			}
			if weight > at || weight == at && e.Kind == store.SenderBlocked {
				found, who, at = e, a, weight
			}
			break // those behind are less specific
		}
	}
	return found, who
}

// proven reports whether it is certain that a message is from the domain of an author:
// RFC 7489 §3.1 calls that alignment, here in its relaxed form.
func proven(in *scan.Input, a author) bool {
	_, domain, _ := strings.Cut(a.key, "@")
	org := dmarc.OrgDomain(domain)
	// SPF proves the envelope. Where the author that readers see is another, and a
	// forged one, that is no reason to let the message through.
	if _, forged := in.Finding("authres", "dmarc:fail"); forged || org == "" {
		return false
	}
	for i := range in.Reports {
		for _, f := range in.Reports[i].Findings {
			if f.Module != "authres" || dmarc.OrgDomain(strings.ToLower(f.Name)) != org {
				continue
			}
			switch {
			case f.Symbol == "dmarc:pass", f.Symbol == "dkim:pass":
				return true
			case f.Symbol == "spf:pass" && a.envelope && slices.ContainsFunc(f.Properties, func(p gmail.Property) bool { return p.Name == "smtp.mailfrom" }):
				return true
			}
		}
	}
	return false
}
