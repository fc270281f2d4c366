package reputation

import (
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

// Kinds of sources. They are the symbols of the findings and, with a colon, the
// beginnings of the keys.
const (
	kindNetwork = "net"
	kindFrom    = "from"
	kindDKIM    = "dkim"
)

// maxSigners bounds how many signing domains of one message count.
const maxSigners = 3

// source is something that a message came from.
type source struct {
	kind, name, key string
}

func newSource(kind, name string) source {
	return source{kind: kind, name: name, key: kind + ":" + name}
}

// sourcesOf returns where a message came from, as far as that is certain. What
// users of our own send says nothing about anybody else, and the client of a POP3
// session is the one who reads.
func sourcesOf(in *scan.Input) []source {
	if in.Direction == scan.Outbound || in.Message.Envelope == nil {
		return nil
	}
	session := &in.Message.Envelope.Session
	if in.Direction != scan.POP3 && session.MayRelay() {
		return nil
	}
	var sources []source
	if in.Direction == scan.Inbound {
		if s, ok := clientSource(session); ok {
			sources = append(sources, s)
		}
	}
	if domain := fromDomain(in); domain != "" {
		sources = append(sources, newSource(kindFrom, domain))
	}
	signers := passed(in, "dkim:pass")
	for _, domain := range signers[:min(len(signers), maxSigners)] {
		sources = append(sources, newSource(kindDKIM, domain))
	}
	return sources
}

// clientSource is the network of the client.
func clientSource(s *mail.Session) (source, bool) {
	if s.MayRelay() {
		return source{}, false
	}
	p, ok := network(s.Client.Addr())
	return newSource(kindNetwork, p.String()), ok
}

// fromDomain is the domain that stands behind the message: that of From where
// DMARC proved it, else that of the envelope sender where SPF did. SPF of the
// HELO name alone proves nothing about the sender.
func fromDomain(in *scan.Input) string {
	if domains := passed(in, "dmarc:pass"); len(domains) > 0 {
		return domains[0]
	}
	sender := organisation(in.Message.Envelope.GivenSender().Domain)
	for _, domain := range passed(in, "spf:pass") {
		if domain == sender {
			return domain
		}
	}
	return ""
}

// passed returns the domains for which authres has such a finding, each once.
func passed(in *scan.Input, symbol string) []string {
	var domains []string
	for i := range in.Reports {
		for _, f := range in.Reports[i].Findings {
			if f.Module != "authres" || f.Symbol != symbol {
				continue
			}
			domain := organisation(f.Name)
			if domain != "" && !slices.Contains(domains, domain) {
				domains = append(domains, domain)
			}
		}
	}
	return domains
}

// organisation is the domain that somebody registered: names below it cost
// nothing, and a spammer takes a new one for each message. "" for what is no
// domain.
func organisation(domain string) string {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if domain == "" || len(domain) > 253 {
		return ""
	}
	for i := range len(domain) {
		c := domain[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return ""
		}
	}
	registered, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return "" // a public suffix itself belongs to nobody
	}
	return registered
}
