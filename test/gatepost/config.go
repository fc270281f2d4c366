package gatepost

import (
	"fmt"
	"strings"
)

// Trusted is the client address that the harness's listener trusts: a test
// chooses trust by the address that it connects from (wire.Options.Source).
const Trusted = "127.0.0.2"

// Domain is the relay domain of the harness's configuration.
const Domain = "in.example"

// Settings are what tests vary in the configuration. The zero Settings relay
// in.example for everybody, and any domain for Trusted, to Next.
type Settings struct {
	// Next is the address of the next hop; "" discards all mail.
	Next string
	// Limits, Listener, Transport and Global are lines of TOML for [limits], for
	// the [[listener]], for the [[transport]] "next", and for the top.
	Limits, Listener, Transport, Global string
	// Internet is lines for the [[domain]] "*".
	Internet string
	// Retry is the transport's list of delays; default one second.
	Retry string
	// TLS is the listener's tls; default "starttls".
	TLS string
	// More is appended: further tables.
	More string
}

// config is the text of the configuration file.
func (s Settings) config(smtp, admin, data, logs string) string {
	next := "kind = \"discard\""
	if s.Next != "" {
		next = fmt.Sprintf("kind = \"smtp\"\nhosts = [%q]", s.Next)
	}
	retry := s.Retry
	if retry == "" {
		retry = `delays = ["1s"], give_up_after = "1h", warn_after = "50m"`
	}
	tls := s.TLS
	if tls == "" {
		tls = "starttls"
	}
	limits := s.Limits
	if !strings.Contains(limits, "free_disk") {
		limits += "\nfree_disk = \"1MiB\""
	}
	return fmt.Sprintf(`hostname = "gw.example.com"
data_dir = %q
log_dir = %q
postmaster = "postmaster@in.example"
%s

[admin]
listen = %q

[limits]
%s

[[listener]]
name = "inbound"
protocol = "smtp"
address = [%q]
tls = %q
trusted_networks = ["%s/32"]
%s

[[domain]]
name = "%s"
transport = "next"

[[domain]]
name = "*"
transport = "next"
%s

[[transport]]
name = "next"
%s
retry = { %s }
%s

%s
`, data, logs, s.Global, admin, limits, smtp, tls, Trusted, s.Listener, Domain, s.Internet, next, retry, s.Transport, s.More)
}
