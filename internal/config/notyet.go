package config

import (
	"fmt"
	"slices"
	"strings"
)

// later is something that the configuration has a place for and this version
// does not do. It is refused with its name, because an administrator who
// writes it must not believe that it works. A later version takes its row out
// of the table and adds a field in types.go.
type later struct {
	// schema is the key: "listener.flows". A table stands for all of its keys
	// unless they have rows of their own.
	schema string
	// value is the one value of a known key that is refused, "" for an unknown
	// key; with a final ":" it is a prefix.
	value string
	// harmless are the literals that ask for nothing and are accepted.
	harmless string
	// what is missing: "this version does not have … yet".
	what string
}

// notYet is the table of what later versions will have.
var notYet = []later{
	{schema: "history.keep", harmless: `"90d"`, what: "a history"},
	{schema: "history", what: "a history"},

	{schema: "listener.protocol", value: "pop3", what: "the POP3 proxy"},
	{schema: "listener.upstream", harmless: `""`, what: "the POP3 proxy"},
	{schema: "listener.upstream_tls", harmless: `"off"`, what: "the POP3 proxy"},
	{schema: "listener.upstream_tls_ca_file", harmless: `""`, what: "the POP3 proxy"},
	{schema: "listener.interception", harmless: `"none"`, what: "transparent interception"},
	{schema: "listener.intercept_ports", harmless: "[25]", what: "transparent interception"},
	{schema: "listener.auth", harmless: "[]", what: "authentication of clients"},
	{schema: "listener.auth_without_tls", harmless: "false", what: "authentication of clients"},
	{schema: "listener.flows.connect", harmless: `""`, what: "flows of the stage connect: no client would be checked"},
	{schema: "listener.flows.auth", harmless: `""`, what: "flows of the stage auth: nobody could log in"},
	{schema: "listener.flows.recipient", harmless: `""`, what: "flows of the stage recipient: no recipient would be checked"},

	{schema: "domain.delivery", value: "proxy", what: "the pass-through proxy"},
	{schema: "domain.recipients", value: "ldap:", what: "recipients from LDAP"},
	{schema: "domain.recipients", value: "http:", what: "recipients from HTTP"},
	{schema: "domain.recipients", value: "callout", what: "recipient callouts"},
	{schema: "domain.catch_all", harmless: `""`, what: "catch-all addresses"},
	{schema: "domain.flows.connect", harmless: `""`, what: "flows of the stage connect: no client would be checked"},
	{schema: "domain.flows.auth", harmless: `""`, what: "flows of the stage auth: nobody could log in"},
	{schema: "domain.flows.recipient", harmless: `""`, what: "flows of the stage recipient: no recipient would be checked"},

	{schema: "transport.kind", value: "original", what: "transparent interception"},
	{schema: "transport.proxy_sessions", harmless: "1000", what: "the pass-through proxy"},
	{schema: "transport.spoof_client", harmless: "false", what: "transparent interception"},
	{schema: "transport.if_unreachable", harmless: `"defer"`, what: "the pass-through proxy"},

	{schema: "ldap", what: "LDAP lookups"},
	{schema: "http", what: "HTTP lookups"},

	{schema: "filter.direction", value: "pop3", what: "the POP3 proxy"},
	{schema: "flow.stage", value: "connect", what: "flows of the stage connect"},
	{schema: "flow.stage", value: "auth", what: "flows of the stage auth"},
	{schema: "flow.stage", value: "recipient", what: "flows of the stage recipient"},
	{schema: "flow.blocks.use", value: "access", what: "lists of clients"},
	{schema: "flow.blocks.use", value: "rate", what: "rate limits"},
	{schema: "flow.blocks.use", value: "dnsbl", what: "DNS lists of clients"},
	{schema: "flow.blocks.use", value: "tarpit", what: "the tarpit"},
	{schema: "flow.blocks.use", value: "bandwidth", what: "limits of bandwidth"},
	{schema: "flow.blocks.use", value: "auth-file", what: "authentication of clients"},
	{schema: "flow.blocks.use", value: "auth-smtp", what: "authentication of clients"},
	{schema: "flow.blocks.use", value: "auth-ldap", what: "authentication of clients"},
	{schema: "flow.blocks.use", value: "auth-http", what: "authentication of clients"},
	{schema: "flow.blocks.use", value: "helo", what: "checks of HELO"},
	{schema: "flow.blocks.use", value: "spf", what: "SPF before the message"},
	{schema: "flow.blocks.use", value: "verify-sender", what: "sender callouts"},
	{schema: "flow.blocks.use", value: "verify-recipient", what: "recipient callouts"},
	{schema: "flow.blocks.use", value: "greylist", what: "greylisting"},
	{schema: "flow.blocks.use", value: "script", what: "scripts"},

	{schema: "rewrite.canonical", harmless: "[]", what: "address rewriting"},
	{schema: "rewrite.masquerade", harmless: "[]", what: "address rewriting"},
	{schema: "rewrite.bcc", harmless: "[]", what: "address rewriting"},
	{schema: "rewrite.virtual", harmless: "[]", what: "address rewriting"},
	{schema: "rewrite.transport_map", harmless: "[]", what: "address rewriting"},
	{schema: "rewrite.relocated", harmless: "[]", what: "address rewriting"},
	{schema: "rewrite.generic", harmless: "[]", what: "address rewriting"},
	{schema: "rewrite", what: "address rewriting"},
}

func (l *later) fault() *fault {
	what, consequence, _ := strings.Cut(l.what, ": ")
	f := &fault{rule: ruleNotYet, message: "this version does not have " + what + " yet"}
	if consequence != "" {
		f.message += ", " + consequence
	}
	f.hint = "take it out"
	if l.harmless != "" {
		f.hint = fmt.Sprintf("take it out, or leave it at %s", l.harmless)
	}
	return f
}

// notYetRow finds the row of a key that no field has.
func notYetRow(schema string) *later {
	i := slices.IndexFunc(notYet, func(l later) bool { return l.value == "" && l.schema == schema })
	if i < 0 {
		return nil
	}
	return &notYet[i]
}

// notYetValue finds the row of a known key's value.
func notYetValue(schema, text string) *later {
	for i := range notYet {
		l := &notYet[i]
		if l.schema != schema || l.value == "" {
			continue
		}
		if text == l.value || strings.HasSuffix(l.value, ":") && strings.HasPrefix(text, l.value) {
			return l
		}
	}
	return nil
}

// notYetNames lists the keys of a section that later versions have.
func notYetNames(section string) []string {
	var names []string
	for _, l := range notYet {
		name := l.schema
		if section != "" {
			var ok bool
			if name, ok = strings.CutPrefix(l.schema, section+"."); !ok {
				continue
			}
		}
		if l.value == "" && !strings.Contains(name, ".") {
			names = append(names, name)
		}
	}
	return names
}

// notYetKey answers a key of a later version. A section whose keys have rows of
// their own is answered key by key, so that one with defaults only is fine.
func (b *binder) notYetKey(n *node, row *later, schema, path string) {
	rows := notYetNames(schema)
	if n.kind == kindTable && len(rows) > 0 {
		for _, name := range n.names {
			kidRow := notYetRow(schema + "." + name)
			if kidRow == nil {
				kidRow = row
			}
			b.notYetKey(n.kids[name], kidRow, schema+"."+name, path+"."+quoteKey(name))
		}
		return
	}
	if row.schema == schema && row.harmless != "" && n.literal() == row.harmless {
		return
	}
	b.problem(n.key, path, row.fault())
}

// shorten keeps a value from filling the screen.
func shorten(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
