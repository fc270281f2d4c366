package authres

import (
	"cmp"
	"context"
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"time"

	"gatepost/internal/dkim"
	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/scan/authres/dmarc"
	"gatepost/internal/scan/authres/spf"
)

// Name is the name of the module, as its findings carry it.
const Name = "authres"

// Resolver looks things up, with a cache. *dns.Resolver is one.
type Resolver = dns.Lookups

// Config is how messages are authenticated. Only Resolver is needed.
type Config struct {
	Resolver Resolver
	// MaxSignatures bounds the DKIM signatures that are verified; default 8.
	MaxSignatures int
	// Timeout bounds all lookups of a message together; default 10 s. A tenth of
	// it is kept for telling the result.
	Timeout time.Duration
	// ARCTrusted are the domains of forwarders whose seals are believed where
	// DMARC fails, in lower case. Domains below them are not meant.
	ARCTrusted []string
}

// Module implements scan.Module.
type Module struct {
	timeout  time.Duration
	trusted  map[string]bool
	spf      *spf.Checker
	verifier *dkim.Verifier
	finder   *dmarc.Finder
}

// New returns a module.
func New(cfg Config) *Module {
	timeout := cmp.Or(cfg.Timeout, 10*time.Second)
	timeout -= timeout / 10
	m := &Module{
		timeout:  timeout,
		trusted:  make(map[string]bool, len(cfg.ARCTrusted)),
		spf:      spf.New(spf.Config{Resolver: dns.Settled{R: cfg.Resolver}, Timeout: timeout}),
		verifier: dkim.NewVerifier(dkim.VerifierConfig{Resolver: cfg.Resolver, MaxSignatures: cfg.MaxSignatures, LookupTimeout: timeout}),
		finder:   dmarc.NewFinder(dns.Settled{R: cfg.Resolver}),
	}
	for _, domain := range cfg.ARCTrusted {
		m.trusted[strings.ToLower(domain)] = true
	}
	return m
}

// facts are what was found out about a message, before anything is made of it.
type facts struct {
	env *mail.Envelope
	// hidden is why the client's address tells nothing, "" where it does.
	hidden    string
	spf       spf.Result
	found     *dkim.Verification
	authors   []string
	authorErr error
	published []dmarc.Published
	dmarc     dmarc.Result
	// vouched says that a trusted forwarder saw DMARC pass.
	vouched bool
}

// Scan implements scan.Module.
func (m *Module) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	f := &facts{env: in.Message.Envelope, hidden: hiddenClient(in)}
	f.authors, f.authorErr = dmarc.Authors(in.Header)
	lookups, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { f.spf = m.checkSPF(lookups, f) })
	wg.Go(func() { f.published = m.finder.Find(lookups, f.authors) })
	var err error
	f.found, err = m.verifier.Verify(ctx, dkim.Input{Body: in.Message.Body, Header: in.Header, Received: f.env.Received})
	wg.Wait()
	if err != nil {
		return nil, err
	}
	m.judge(f)
	return f.findings(), nil
}

// sharedAddresses are those between a provider and its customers (RFC 6598).
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

// hiddenClient returns why the address that the message came from says nothing
// about its sender, or "".
func hiddenClient(in *scan.Input) string {
	session := &in.Message.Envelope.Session
	client := session.Client.Addr().Unmap()
	switch {
	case in.Direction == scan.POP3:
		return "the message was fetched from a mailbox"
	case session.MayRelay():
		return "the client is trusted"
	case !client.IsValid():
		return "the client's address is not known"
	case !client.IsGlobalUnicast() || client.IsPrivate() || sharedAddresses.Contains(client):
		return "the client's address is private"
	}
	return ""
}

func (m *Module) checkSPF(ctx context.Context, f *facts) spf.Result {
	q := spf.Query{Client: f.env.Session.Client.Addr(), Sender: f.env.GivenSender(), Helo: f.env.Session.Helo}
	if f.hidden == "" {
		return m.spf.Check(ctx, q)
	}
	r := spf.Result{Status: spf.None, Reason: f.hidden}
	r.Domain, r.Helo = q.Identity()
	return r
}

// judge compares what SPF and DKIM found with what the author's domain asks for.
func (m *Module) judge(f *facts) {
	var evidence []dmarc.Identity
	switch f.spf.Status {
	case spf.Pass, spf.TempError:
		evidence = append(evidence, dmarc.Identity{Domain: f.spf.Domain, SPF: true, Temporary: f.spf.Status == spf.TempError})
	}
	for i := range f.found.Signatures {
		switch s := &f.found.Signatures[i]; s.Status {
		case dkim.Pass, dkim.TempError:
			evidence = append(evidence, dmarc.Identity{Domain: s.Domain, Temporary: s.Status == dkim.TempError})
		}
	}
	f.dmarc = dmarc.Judge(f.published, f.authorErr, evidence, sample(f.env.ID))
	if f.dmarc.Status != dmarc.Fail {
		return
	}
	if f.hidden != "" {
		// Half of the evidence is missing.
		f.dmarc.Status, f.dmarc.Policy, f.dmarc.Reason = dmarc.None, "", f.hidden
		return
	}
	m.overrule(f)
}

// sample is a number from 0 to 99 that stays the same for a message, so that all
// flows, and all tries after a restart, judge it alike.
func sample(id mail.ID) int {
	return int(binary.BigEndian.Uint32(id[len(id)-4:]) % 100)
}
