package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// The language of searches: words with spaces between, all of which must hold.
//
//	sender:bob@example.com   an address, "@domain", "<>", or a local part or domain
//	client:192.0.2.0/24      an address or a network
//	subject:invoice          a word of the subject; "two words" stand next to each other
//	verdict:reject,defer     one of several
//	-kind:session            not so
//	since:2h until:today     times, see ParseTime
//	text:"mailbox full"      anywhere in an event: this is slow, and so are /…/ and *
//	anything else            a word that is an address, a domain, an ID, a word of the
//	                         subject, a symbol, a host or the like
//
// QueryHelp has all of it for people.

// Query is a search that was understood.
type Query struct {
	// Since and Until bound the time; zero: nothing does. Until itself is out.
	Since, Until time.Time
	clauses      []clause
}

// clause is one condition.
type clause struct {
	not bool
	// any are terms of which an event has one; none: every event may match.
	any []term
	// check is what terms cannot tell; nil: they say it all.
	check func(*mail.Event) bool
	// raw is a first look at the line, before it is decoded; nil: none.
	raw func(line []byte) bool
}

// QueryError is what is wrong with a search.
type QueryError struct {
	// At is where, in bytes from 0.
	At   int    `json:"at"`
	Text string `json:"text"`
}

// Error implements error.
func (e *QueryError) Error() string { return fmt.Sprintf("at character %d: %s", e.At+1, e.Text) }

// maxQuery and maxClauses bound a search.
const (
	maxQuery   = 2000
	maxClauses = 30
)

// ParseQuery reads a search. now is what "today" and "2h" start from; its location is
// that of dates without one.
func ParseQuery(text string, now time.Time) (*Query, error) {
	if len(text) > maxQuery {
		return nil, &QueryError{maxQuery, fmt.Sprintf("a search has at most %d characters", maxQuery)}
	}
	q := &Query{}
	l := lexer{text: text}
	for {
		w, ok, err := l.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			return q, nil
		}
		if len(q.clauses) == maxClauses {
			return nil, &QueryError{w.at, fmt.Sprintf("a search has at most %d conditions", maxClauses)}
		}
		if err := q.add(w, now); err != nil {
			return nil, err
		}
	}
}

// word is one condition as it was typed.
type word struct {
	at     int
	not    bool
	field  string // "" for free text
	value  string
	valAt  int
	quoted bool
	regex  bool
}

// lexer splits a search into words.
type lexer struct {
	text string
	pos  int
}

func (l *lexer) next() (w word, ok bool, err error) {
	for l.pos < len(l.text) && (l.text[l.pos] == ' ' || l.text[l.pos] == '\t' || l.text[l.pos] == '\n') {
		l.pos++
	}
	if l.pos == len(l.text) {
		return w, false, nil
	}
	w.at = l.pos
	if l.text[l.pos] == '-' && l.pos+1 < len(l.text) && l.text[l.pos+1] != ' ' {
		w.not = true
		l.pos++
	}
	for i := l.pos; i < len(l.text); i++ {
		c := l.text[i] | 0x20
		if l.text[i] == ':' && i > l.pos {
			w.field = strings.ToLower(l.text[l.pos:i])
			l.pos = i + 1
			break
		}
		if (c < 'a' || c > 'z') && c != '-'|0x20 && l.text[i] != '_' {
			break
		}
	}
	w.valAt = l.pos
	return w, true, l.value(&w)
}

// value reads what stands behind the field: to the next space, or in quotes.
func (l *lexer) value(w *word) error {
	if l.pos < len(l.text) && (l.text[l.pos] == '"' || l.text[l.pos] == '/') {
		end := l.text[l.pos]
		var b strings.Builder
		for i := l.pos + 1; i < len(l.text); i++ {
			switch c := l.text[i]; {
			case c == '\\' && i+1 < len(l.text) && (l.text[i+1] == end || end == '"' && l.text[i+1] == '\\'):
				i++
				b.WriteByte(l.text[i])
			case c == end:
				w.value, w.quoted, w.regex = b.String(), end == '"', end == '/'
				l.pos = i + 1
				return nil
			default:
				b.WriteByte(c)
			}
		}
		return &QueryError{l.pos, fmt.Sprintf("the closing %c is missing", end)}
	}
	n := strings.IndexAny(l.text[l.pos:], " \t\n")
	if n < 0 {
		n = len(l.text) - l.pos
	}
	w.value = l.text[l.pos : l.pos+n]
	l.pos += n
	return nil
}

// add adds a condition.
func (q *Query) add(w word, now time.Time) error {
	if w.value == "" {
		if w.field == "" {
			return &QueryError{w.at, "there is nothing to look for"}
		}
		return &QueryError{w.valAt, w.field + ": needs a value"}
	}
	switch w.field {
	case "since", "until", "before", "after":
		if w.not {
			return &QueryError{w.at, w.field + " can't be turned round; use since and until"}
		}
		t, err := ParseTime(w.value, now)
		if err != nil {
			return &QueryError{w.valAt, err.Error()}
		}
		if w.field == "since" || w.field == "after" {
			q.Since = t
		} else {
			q.Until = t
		}
		return nil
	case "":
		return q.addFree(w)
	}
	make, ok := conditions()[canonicalField(w.field)]
	if !ok {
		return &QueryError{w.at, fmt.Sprintf("there is no field %q; there are %s; put quotes around text with a colon", w.field, strings.Join(Fields(), ", "))}
	}
	if w.regex {
		return &QueryError{w.valAt, "a regular expression looks at the whole event: write it without a field"}
	}
	c := clause{not: w.not}
	// Several values with commas between are alternatives.
	values := []string{w.value}
	if !w.quoted && w.field != "subject" && w.field != "text" {
		values = strings.Split(w.value, ",")
	}
	var alternatives []clause
	for _, v := range values {
		one, err := make(v, w.quoted)
		if err != nil {
			return &QueryError{w.valAt, err.Error()}
		}
		alternatives = append(alternatives, one)
	}
	c = joinAlternatives(c, alternatives)
	q.clauses = append(q.clauses, c)
	return nil
}

// joinAlternatives makes one clause of several of which one must hold.
func joinAlternatives(c clause, all []clause) clause {
	if len(all) == 1 {
		all[0].not = c.not
		return all[0]
	}
	simple := !slices.ContainsFunc(all, func(a clause) bool { return a.check != nil || a.raw != nil || a.any == nil })
	indexed := !slices.ContainsFunc(all, func(a clause) bool { return a.any == nil })
	for _, a := range all {
		if indexed {
			c.any = append(c.any, a.any...)
		}
	}
	if !simple {
		c.check = func(e *mail.Event) bool {
			return slices.ContainsFunc(all, func(a clause) bool { return a.holds(e) })
		}
	}
	return c
}

// addFree adds a word without a field, or a regular expression.
func (q *Query) addFree(w word) error {
	if w.regex {
		re, err := regexp.Compile("(?i)" + w.value)
		if err != nil {
			return &QueryError{w.valAt, "the regular expression does not compile: " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")}
		}
		q.clauses = append(q.clauses, clause{not: w.not, check: func(e *mail.Event) bool { return re.Match(appendEvent(nil, e)) }, raw: rawUnless(w.not, re.Match)})
		return nil
	}
	if !w.quoted && strings.Contains(w.value, "*") || w.quoted && strings.ContainsAny(w.value, " \t*") {
		c, err := textCondition(w.value, w.quoted)
		if err != nil {
			return &QueryError{w.valAt, err.Error()}
		}
		if c.not = w.not; c.not {
			c.raw = nil
		}
		q.clauses = append(q.clauses, c)
		return nil
	}
	q.clauses = append(q.clauses, clause{not: w.not, any: freeTerms(w.value)})
	return nil
}

// rawUnless is a first look that says nothing about a condition that is turned round.
func rawUnless(not bool, match func([]byte) bool) func([]byte) bool {
	if not {
		return nil
	}
	return match
}

// holds reports whether the condition, not turned round, is true of an event.
func (c *clause) holds(e *mail.Event) bool {
	if c.any != nil {
		terms := termsOf(e)
		if !slices.ContainsFunc(c.any, func(t term) bool { _, ok := slices.BinarySearch(terms, t); return ok }) {
			return false
		}
	}
	return c.check == nil || c.check(e)
}

// Matches reports whether an event is what the query looks for.
func (q *Query) Matches(e *mail.Event) bool {
	if !q.Since.IsZero() && e.Time.Before(q.Since) || !q.Until.IsZero() && !e.Time.Before(q.Until) {
		return false
	}
	for i := range q.clauses {
		if q.clauses[i].holds(e) == q.clauses[i].not {
			return false
		}
	}
	return true
}

// textCondition finds a text anywhere in an event, with "*" for whatever stands
// between. It knows no index.
func textCondition(value string, quoted bool) (clause, error) {
	var parts [][]byte
	pieces := []string{value}
	if !quoted {
		pieces = strings.Split(value, "*")
	}
	for _, p := range pieces {
		if p == "" {
			continue
		}
		// As it stands in the line.
		js, err := json.Marshal(strings.ToLower(p))
		if err != nil {
			return clause{}, err
		}
		js = bytes.ReplaceAll(js, []byte(`\u003c`), []byte("<"))
		js = bytes.ReplaceAll(js, []byte(`\u003e`), []byte(">"))
		js = bytes.ReplaceAll(js, []byte(`\u0026`), []byte("&"))
		parts = append(parts, js[1:len(js)-1])
	}
	if len(parts) == 0 {
		return clause{}, fmt.Errorf("%q would find everything", value)
	}
	match := func(line []byte) bool {
		line = bytes.ToLower(line)
		for _, p := range parts {
			i := bytes.Index(line, p)
			if i < 0 {
				return false
			}
			line = line[i+len(p):]
		}
		return true
	}
	return clause{raw: match, check: func(e *mail.Event) bool { return match(appendEvent(nil, e)) }}, nil
}
