package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"gatepost/internal/recipients"
)

func (v *validator) checkDomains() {
	c := v.cfg
	transports := v.transportNames()
	listeners := make([]Name, 0, len(c.Listeners))
	for i := range c.Listeners {
		listeners = append(listeners, c.Listeners[i].Name)
	}
	for i := range c.Domains {
		d := &c.Domains[i]
		v.named(ruleDanglingTransport, &d.Transport, "transport", transports)
		if d.Listener != "*" {
			v.named(ruleDanglingListener, &d.Listener, "listener", listeners)
		}
		v.checkDomain(d)
	}
	v.checkDomainNames()
	v.checkRecipientFiles()
}

// delimiters are what may stand between a user's name and an extension.
const delimiters = "+-_=.#~"

func (v *validator) checkDomain(d *Domain) {
	if d.Name == "*" {
		if len(d.Aliases) > 0 {
			v.report(ruleAnyDomain, &d.Aliases, `"*" is every other domain: it has no aliases`, "")
		}
		if len(d.Recipients) > 0 {
			v.report(ruleAnyDomain, &d.Recipients, `"*" is every other domain: its recipients can't be listed`, "")
		}
	}
	if c, size := utf8.DecodeRuneInString(d.RecipientDelimiter); d.RecipientDelimiter != "" && (size != len(d.RecipientDelimiter) || !strings.ContainsRune(delimiters, c)) {
		v.report(ruleBadDelimiter, &d.RecipientDelimiter, fmt.Sprintf("%q is no delimiter", d.RecipientDelimiter), `it is one character, usually "+"`)
	}
	v.checkSources(d)
	if d.RecipientDelimiter != "" && len(d.Recipients) == 0 {
		v.report(ruleUnusedKey, &d.RecipientDelimiter, "is set, but there are no recipients to compare with", "add recipients, or take it out")
	}
	unique(v, ruleDuplicateElement, d.Recipients)
	for i := range v.cfg.Transports {
		t := &v.cfg.Transports[i]
		if t.Name == d.Transport && t.Kind == "mx" && d.Name != "*" && t.Lookup.Zone == "" && len(t.Lookup.Query) == 0 {
			v.warn(ruleWarnOwnMX, &d.Transport, fmt.Sprintf("sends mail for %s to the MX of %s, which usually is this host", d.Name, d.Name), `use a transport of kind "smtp" with the mail server as its host`)
		}
	}
}

// checkSources wants that whoever is asked about recipients is there.
func (v *validator) checkSources(d *Domain) {
	if !d.CatchAll.IsNull() && v.ok(&d.Recipients) {
		switch {
		case d.Name == "*":
			v.report(ruleAnyDomain, &d.CatchAll, `"*" is every other domain: who is unknown there is not yours to say`, "")
		case len(d.Recipients) == 0:
			v.report(ruleUnusedKey, &d.CatchAll, "is set, but without recipients nobody is unknown", "add recipients, or take it out")
		}
	}
	for i := range d.Recipients {
		s := &d.Recipients[i]
		v.sourceNamed(s.Kind, s.Arg, s)
		if s.Kind != "callout" {
			continue
		}
		for j := range v.cfg.Transports {
			t := &v.cfg.Transports[j]
			if t.Name == d.Transport && t.Name != "" && (t.Kind == "maildir" || t.Kind == "discard") {
				v.report(ruleNoCallout, s, fmt.Sprintf("the transport %q is of kind %q: there is nobody to ask", t.Name, t.Kind), `list the recipients with "file:PATH"`)
			}
		}
	}
}

// checkDomainNames wants one entry at most for each domain of each listener;
// an alias counts as a domain.
func (v *validator) checkDomainNames() {
	type id struct {
		listener Name
		domain   DomainName
	}
	first := map[id]any{}
	claim := func(d *Domain, name *DomainName, kind string) {
		key := id{d.Listener, *name}
		if *name == "" {
			return
		}
		if have, ok := first[key]; ok {
			where := ""
			if d.Listener != "*" {
				where = fmt.Sprintf(" for listener %q", d.Listener)
			}
			v.report(ruleDuplicateDomain, name, fmt.Sprintf("the %s %s is configured a second time%s", kind, *name, where), fmt.Sprintf("the first is in line %d", v.places[have].line))
			return
		}
		first[key] = name
	}
	for i := range v.cfg.Domains {
		claim(&v.cfg.Domains[i], &v.cfg.Domains[i].Name, "domain")
	}
	for i := range v.cfg.Domains {
		d := &v.cfg.Domains[i]
		for j := range d.Aliases {
			claim(d, &d.Aliases[j], "alias")
		}
	}
}

// maxReported bounds the bad lines that are listed of one recipient file.
const maxReported = 20

func (v *validator) checkRecipientFiles() {
	seen := map[string]bool{}
	for i := range v.cfg.Domains {
		d := &v.cfg.Domains[i]
		for j := range d.Recipients {
			if s := &d.Recipients[j]; s.Kind == "file" && !seen[s.Arg] {
				seen[s.Arg] = true
				v.checkRecipientFile(s)
			}
		}
	}
}

func (v *validator) checkRecipientFile(s *Source) {
	list, bad, err := recipients.ReadFile(s.Arg)
	if err != nil {
		r := ruleFileMissing
		if errors.Is(err, recipients.ErrNotFile) {
			r, err = ruleFileKind, recipients.ErrNotFile
		}
		v.report(r, s, fmt.Sprintf("%s can't be read: %s", s.Arg, fileError(err)), "")
		return
	}
	path := v.places[s].path
	for i, line := range bad {
		if i == maxReported {
			break
		}
		message := line.Message
		if i == maxReported-1 && len(bad) > maxReported {
			message += fmt.Sprintf(" (and %d more bad lines)", len(bad)-maxReported)
		}
		v.problems = append(v.problems, Problem{
			Rule: string(ruleBadRecipients), File: s.Arg, Line: line.Number, Column: 1, Path: path,
			Message: message, Hint: "a line is user@domain, user, @domain or a # comment",
		})
	}
	if len(bad) == 0 && list.Len() == 0 {
		v.warn(ruleWarnNoEntries, s, fmt.Sprintf("%s lists nobody: all mail for the domain would be refused", s.Arg), "")
	}
}
