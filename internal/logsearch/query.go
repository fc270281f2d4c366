package logsearch

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Help says what can be searched for, for people.
const Help = `Words, all of which must stand in a line; -word for what must not.

  ID           lines of a message or a session
  ID:n         lines of one queue item, and those of the message that are about no other
  /re/         a regular expression
  "two words"  as they stand, in any case, as all words
  since:2h  since:2026-11-22  until:today   times, as gatepost history takes them`

// Query is a search that was understood.
type Query struct {
	since, until time.Time
	tests        []test
}

// test is one condition.
type test struct {
	not   bool
	match func(line, lower []byte) bool
}

// TimeParser reads a time as people write it: history.ParseTime.
type TimeParser func(text string, now time.Time) (time.Time, error)

// maxQuery bounds a search.
const maxQuery = 2000

// idSlack is how long before a message its session may have begun.
const idSlack = 2 * time.Hour

// ParseQuery reads a search. Its errors say where.
func ParseQuery(text string, now time.Time, parseTime TimeParser) (*Query, error) {
	if len(text) > maxQuery {
		return nil, fmt.Errorf("a search has at most %d characters", maxQuery)
	}
	q := &Query{}
	for pos := 0; ; {
		for pos < len(text) && (text[pos] == ' ' || text[pos] == '\t') {
			pos++
		}
		if pos == len(text) {
			return q, nil
		}
		at := pos
		word, end, err := readWord(text, pos)
		if err != nil {
			return nil, fmt.Errorf("at character %d: %w", at+1, err)
		}
		pos = end
		if err := q.add(word, now, parseTime); err != nil {
			return nil, fmt.Errorf("at character %d: %w", at+1, err)
		}
	}
}

// word is one condition as it was typed.
type word struct {
	not, regex, quoted bool
	text               string
}

func readWord(text string, pos int) (w word, end int, err error) {
	if text[pos] == '-' && pos+1 < len(text) && text[pos+1] != ' ' {
		w.not = true
		pos++
	}
	if q := text[pos]; q == '"' || q == '/' {
		var b strings.Builder
		for i := pos + 1; i < len(text); i++ {
			switch {
			case text[i] == '\\' && i+1 < len(text) && text[i+1] == q:
				i++
				b.WriteByte(q)
			case text[i] == q:
				w.text, w.regex, w.quoted = b.String(), q == '/', q == '"'
				if w.text == "" {
					return w, 0, fmt.Errorf("there is nothing to look for")
				}
				return w, i + 1, nil
			default:
				b.WriteByte(text[i])
			}
		}
		return w, 0, fmt.Errorf("the closing %c is missing", q)
	}
	n := strings.IndexAny(text[pos:], " \t")
	if n < 0 {
		n = len(text) - pos
	}
	w.text = text[pos : pos+n]
	return w, pos + n, nil
}

// add adds a condition.
func (q *Query) add(w word, now time.Time, parseTime TimeParser) error {
	if w.regex {
		re, err := regexp.Compile(w.text)
		if err != nil {
			return fmt.Errorf("the regular expression does not compile: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		q.tests = append(q.tests, test{w.not, func(line, _ []byte) bool { return re.Match(line) }})
		return nil
	}
	if key, value, ok := strings.Cut(w.text, ":"); ok && !w.quoted && (key == "since" || key == "until") {
		if value == "" || w.not {
			return fmt.Errorf("%s: needs a time", key)
		}
		t, err := parseTime(value, now)
		if err != nil {
			return err
		}
		if key == "since" {
			q.since = t
		} else {
			q.until = t
		}
		return nil
	}
	if id, err := mail.ParseID(w.text); err == nil && !w.quoted {
		q.addID(w, id, "")
		return nil
	}
	if id, err := mail.ParseQueueID(w.text); err == nil && !w.quoted {
		q.addID(w, id.Message, id.String())
		return nil
	}
	text := []byte(strings.ToLower(w.text))
	q.tests = append(q.tests, test{w.not, func(_, lower []byte) bool { return bytes.Contains(lower, text) }})
	return nil
}

// addID finds the lines of a message, or of one of its items. An ID knows when it was
// made: what is older need not be read.
func (q *Query) addID(w word, id mail.ID, item string) {
	whole, part := []byte(id.String()), []byte(item)
	q.tests = append(q.tests, test{w.not, func(line, _ []byte) bool {
		for {
			i := bytes.Index(line, whole)
			if i < 0 {
				return false
			}
			rest := line[i+len(whole):]
			other := len(rest) > 1 && rest[0] == ':' && '0' <= rest[1] && rest[1] <= '9'
			if item == "" || !other || bytes.HasPrefix(line[i:], part) && !digitAt(line, i+len(part)) {
				return true
			}
			line = rest
		}
	}})
	if begun := id.Time().Add(-idSlack); !w.not && q.since.Before(begun) {
		q.since = begun
	}
}

func digitAt(b []byte, i int) bool { return i < len(b) && '0' <= b[i] && b[i] <= '9' }

// verdict is what a look at a line says.
type verdict uint8

const (
	notIt verdict = iota
	found
	tooLate
)

// lateSlack is how much later than others a line may stand that is older.
const lateSlack = time.Minute

// look decides about a line.
func (q *Query) look(line []byte) verdict {
	if !q.since.IsZero() || !q.until.IsZero() {
		t, ok := timeOf(line)
		switch {
		case !ok:
			return notIt
		case !q.until.IsZero() && !t.Before(q.until):
			if t.Sub(q.until) > lateSlack {
				return tooLate
			}
			return notIt
		case t.Before(q.since):
			return notIt
		}
	}
	var lower []byte
	for i := range q.tests {
		if lower == nil {
			lower = bytes.ToLower(line)
		}
		if q.tests[i].match(line, lower) == q.tests[i].not {
			return notIt
		}
	}
	return found
}

// timeOf reads the time of a line, text or JSON.
func timeOf(line []byte) (time.Time, bool) {
	if len(line) > 0 && line[0] == '{' {
		const key = `"time":"`
		i := bytes.Index(line[:min(len(line), 200)], []byte(key))
		if i < 0 {
			return time.Time{}, false
		}
		line = line[i+len(key):]
		if i = bytes.IndexByte(line[:min(len(line), 40)], '"'); i < 0 {
			return time.Time{}, false
		}
		line = line[:i]
	} else if i := bytes.IndexByte(line[:min(len(line), 40)], ' '); i > 0 {
		line = line[:i]
	}
	t, err := time.Parse(time.RFC3339Nano, string(line))
	return t, err == nil
}
