package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"gatepost/internal/message"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/srs"
)

// rewriteTable is one table of [rewrite].
type rewriteTable struct {
	key   string
	parts *[]TableSource
}

// tables returns the tables in their order.
func (r *Rewrite) tables() []rewriteTable {
	var all []rewriteTable
	fields := reflect.ValueOf(r).Elem()
	for _, k := range keysOf(fields.Type()) {
		if parts, ok := fields.Field(k.index).Addr().Interface().(*[]TableSource); ok {
			all = append(all, rewriteTable{k.name, parts})
		}
	}
	return all
}

// stage is what the entries of the table are read as.
func (t rewriteTable) stage() rewrite.Stage {
	for _, side := range []string{"sender_", "recipient_"} {
		t.key = strings.TrimPrefix(t.key, side)
	}
	return rewrite.Stage(t.key)
}

func (v *validator) checkRewrite() {
	r := &v.cfg.Rewrite
	for _, t := range r.tables() {
		unique(v, ruleDuplicateElement, *t.parts)
		for i := range *t.parts {
			v.checkTable(t, &(*t.parts)[i])
		}
	}
	for i := range r.Masquerade {
		name := strings.TrimPrefix(r.Masquerade[i], "!")
		if domain, f := parseDomain(name); f != nil || domain == "" || domain == "*" {
			v.report(ruleBadDomain, &r.Masquerade[i], fmt.Sprintf("%q is no domain", r.Masquerade[i]), `such as "example.com", or "!lab.example.com" for one that stays`)
		}
	}
	unique(v, ruleDuplicateElement, r.Masquerade)
	unique(v, ruleDuplicateElement, r.CanonicalClasses)
	unique(v, ruleDuplicateElement, r.MasqueradeClasses)
	if len(r.Masquerade) == 0 && v.ok(&r.Masquerade) {
		v.useless("nothing is masqueraded", &r.MasqueradeExceptions, &r.MasqueradeClasses)
	}
	if len(r.Generic) == 0 && v.ok(&r.Generic) {
		v.useless("there is no generic", &r.GenericTransports)
	}
	names := v.transportNames()
	for i := range r.GenericTransports {
		v.named(ruleDanglingTransport, &r.GenericTransports[i], "transport", names)
	}
	if strings.Trim(r.RecipientDelimiter, delimiters) != "" {
		v.report(ruleBadDelimiter, &r.RecipientDelimiter, fmt.Sprintf("%q is no delimiter", r.RecipientDelimiter), `usually it is "+"`)
	}
}

// useless reports keys that have no effect, because of what is missing.
func (v *validator) useless(why string, fields ...any) {
	for _, f := range fields {
		if v.isSet(f) {
			v.report(ruleUnusedKey, f, "is set, but "+why, "take it out")
		}
	}
}

func (v *validator) transportNames() []Name {
	names := make([]Name, 0, len(v.cfg.Transports))
	for i := range v.cfg.Transports {
		names = append(names, v.cfg.Transports[i].Name)
	}
	return names
}

// checkTable checks a part of a table, and reads its file.
func (v *validator) checkTable(t rewriteTable, s *TableSource) {
	names := v.transportNames()
	known := func(name string) bool { return slices.Contains(names, Name(name)) || slices.Contains(names, "") }
	switch s.Kind {
	case "inline":
		if text := rewrite.CheckLine(t.stage(), s.Arg, known); text != "" {
			v.report(ruleBadTable, s, message.SafeText(text, maxMessage), "")
		}
	case "ldap", "http":
		v.sourceNamed(s.Kind, s.Arg, s)
	case "file":
		v.checkTableFile(t, s, known)
	}
}

func (v *validator) checkTableFile(t rewriteTable, s *TableSource, known func(string) bool) {
	_, bad, err := rewrite.CheckFile(t.stage(), s.Arg, known)
	switch {
	case errors.Is(err, rewrite.ErrNotFile):
		v.report(ruleFileKind, s, fmt.Sprintf("%s can't be read: %v", s.Arg, rewrite.ErrNotFile), "")
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
		v.report(ruleFileMissing, s, fmt.Sprintf("%s can't be read: %s", s.Arg, fileError(err)), "")
	case err != nil:
		v.report(ruleBadTable, s, message.SafeText(fmt.Sprintf("%s can't be read: %v", s.Arg, err), maxMessage), "")
	}
	for i, line := range bad {
		if i == maxReported {
			break
		}
		text := message.SafeText(line.Message, maxMessage)
		if i == maxReported-1 && len(bad) > maxReported {
			text += fmt.Sprintf(" (and %d more bad lines)", len(bad)-maxReported)
		}
		v.problems = append(v.problems, Problem{
			Rule: string(ruleBadTable), File: s.Arg, Line: line.Number, Column: 1, Path: v.places[s].path,
			Message: text, Hint: `a line is "pattern result" or a # comment`,
		})
	}
}

// checkSRS wants secrets that can't be guessed.
func (v *validator) checkSRS() {
	s := &v.cfg.SRS
	if s.SecretFile == "" {
		if v.ok(&s.SecretFile) {
			v.useless("without secret_file no sender is rewritten", &s.MaxAge, &s.HashLength)
			if v.isSet(&s.Domain) {
				v.report(ruleUnusedKey, &s.Domain, "is set, but without secret_file no sender is rewritten", "take it out")
			}
		}
		return
	}
	data, ok := v.read(&s.SecretFile)
	if !ok {
		return
	}
	v.private(&s.SecretFile)
	found := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		secret := string(bytes.TrimSpace(line))
		if secret == "" {
			continue
		}
		found++
		if _, err := srs.New(srs.Config{Secrets: []string{secret}, Domain: "x.example"}); err != nil {
			v.problems = append(v.problems, Problem{
				Rule: string(ruleBadSecret), File: string(s.SecretFile), Line: i + 1, Column: 1, Path: v.places[&s.SecretFile].path,
				Message: "the secret is too short", Hint: "write 16 characters or more that nobody can guess",
			})
		}
	}
	if found == 0 {
		v.report(ruleFileEmpty, &s.SecretFile, fmt.Sprintf("%s has no secret", s.SecretFile), "")
	}
}

// checkUsers wants limits of users that do not contradict each other.
func (v *validator) checkUsers() {
	u := &v.cfg.Users
	g := &u.Guard
	if v.ok(&g.NetworkFailures, &g.AccountFailures) && g.NetworkFailures <= g.AccountFailures {
		at := &g.NetworkFailures
		if !v.isSet(at) {
			at = &g.AccountFailures
		}
		v.report(ruleLimits, at, fmt.Sprintf("network_failures is %d, account_failures is %d: who guesses at one account would lock out its whole network", g.NetworkFailures, g.AccountFailures), "make network_failures the greater one")
	}
	for _, c := range []struct {
		name, most string
		at, limit  *int
	}{
		{"recipients_per_message", "recipients_per_hour", &u.RecipientsPerMessage, &u.RecipientsPerHour},
		{"recipients_per_hour", "recipients_per_day", &u.RecipientsPerHour, &u.RecipientsPerDay},
		{"messages_per_hour", "recipients_per_hour", &u.MessagesPerHour, &u.RecipientsPerHour},
	} {
		if *c.at > *c.limit && *c.limit > 0 && v.ok(c.at, c.limit) {
			v.report(ruleLimits, c.at, fmt.Sprintf("%s is %d, but %s is %d: it would never be reached", c.name, *c.at, c.most, *c.limit), "")
		}
	}
}
