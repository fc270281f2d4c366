package queue

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Errors of the operations. ErrSelector wraps what is wrong with a selector or
// a pause target: the caller's mistake, not a failure of the queue.
var (
	ErrSelector     = errors.New("bad selector")
	ErrNotFound     = errors.New("no such queue item")
	ErrNoTransport  = errors.New("no such transport")
	ErrNotPaused    = errors.New("not paused")
	errEmptySelect  = fmt.Errorf("%w: it is empty; say all if you mean every item", ErrSelector)
	errNothingToDo  = fmt.Errorf("%w: neither transport nor domain", ErrSelector)
	errUnknownState = fmt.Errorf("%w: state is none of incoming, active, deferred, hold", ErrSelector)
)

// Selector chooses queue items. All fields that are set must hold.
type Selector struct {
	// IDs are messages ("ID", all its items) or items ("ID:n").
	IDs []string `json:"ids,omitempty"`
	// Sender and Recipient are "user@domain", or "@domain" for all of a domain;
	// Sender may be "<>". A recipient that is done does not count.
	Sender    string `json:"sender,omitempty"`
	Recipient string `json:"recipient,omitempty"`
	// Domain is the domain of a recipient that is not done.
	Domain    string          `json:"domain,omitempty"`
	Transport string          `json:"transport,omitempty"`
	State     mail.QueueState `json:"state,omitempty"`
	// OlderThan and NewerThan bound the age of the item, in nanoseconds.
	OlderThan time.Duration `json:"older_than,omitempty"`
	NewerThan time.Duration `json:"newer_than,omitempty"`
	// Error is a regular expression (RE2) that the last error must match.
	Error string `json:"error,omitempty"`
	// All must be set to select every item.
	All bool `json:"all,omitempty"`
}

// Empty reports whether the selector chooses nothing by any field.
func (s Selector) Empty() bool {
	return len(s.IDs) == 0 && s.Sender == "" && s.Recipient == "" && s.Domain == "" && s.Transport == "" &&
		s.State == "" && s.OlderThan == 0 && s.NewerThan == 0 && s.Error == "" && !s.All
}

// matcher is a selector that was checked and made ready.
type matcher struct {
	sel       Selector
	ids       []mail.QueueID // N == 0: every item of the message
	sender    string         // a key, "@domain" or "<>"
	recipient string
	domain    string
	lastError *regexp.Regexp
	now       time.Time
}

// compile checks the selector.
func (s Selector) compile() (*matcher, error) {
	m := &matcher{sel: s, now: time.Now()}
	for _, text := range s.IDs {
		id, err := parseEitherID(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSelector, err)
		}
		m.ids = append(m.ids, id)
	}
	slices.SortFunc(m.ids, compareIDs)
	m.ids = slices.Compact(m.ids)
	var err error
	if m.sender, err = addressPattern(s.Sender); err != nil {
		return nil, fmt.Errorf("%w: sender %q: %w", ErrSelector, s.Sender, err)
	}
	if m.recipient, err = addressPattern(s.Recipient); err != nil {
		return nil, fmt.Errorf("%w: recipient %q: %w", ErrSelector, s.Recipient, err)
	}
	if s.Domain != "" {
		if m.domain, err = smtp.CanonicalDomain(s.Domain); err != nil {
			return nil, fmt.Errorf("%w: domain %q: %w", ErrSelector, s.Domain, err)
		}
	}
	switch s.State {
	case "", mail.QueueIncoming, mail.QueueActive, mail.QueueDeferred, mail.QueueHold:
	default:
		return nil, errUnknownState
	}
	if s.Error != "" {
		if m.lastError, err = regexp.Compile(s.Error); err != nil {
			return nil, fmt.Errorf("%w: error: %w", ErrSelector, err)
		}
	}
	return m, nil
}

// compileFor is compile for operations that change something.
func (s Selector) compileFor() (*matcher, error) {
	if s.Empty() {
		return nil, errEmptySelect
	}
	return s.compile()
}

// parseEitherID reads "ID" (N is then 0) or "ID:n".
func parseEitherID(s string) (mail.QueueID, error) {
	if strings.Contains(s, ":") {
		return mail.ParseQueueID(s)
	}
	id, err := mail.ParseID(s)
	return mail.QueueID{Message: id}, err
}

// addressPattern returns what addresses are compared with.
func addressPattern(s string) (string, error) {
	if s == "" || s == "<>" {
		return s, nil
	}
	if domain, ok := strings.CutPrefix(s, "@"); ok {
		d, err := smtp.CanonicalDomain(domain)
		return "@" + d, err
	}
	a, err := smtp.ParseAddress(strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">"))
	return a.Key(), err
}

func addressMatches(pattern string, a mail.Address) bool {
	switch {
	case pattern == "":
		return true
	case pattern == "<>":
		return a.IsNull()
	case pattern[0] == '@':
		return a.Domain == pattern[1:]
	}
	return a.Key() == pattern
}

// match reports whether the item is selected. state is how it stands in the
// scheduler, which alone knows what is being tried.
func (m *matcher) match(item *mail.QueueItem, env *mail.Envelope, state mail.QueueState) bool {
	age := m.now.Sub(item.Created)
	switch {
	case !m.matchID(item.ID),
		m.sel.Transport != "" && item.Transport != m.sel.Transport,
		m.sel.State != "" && state != m.sel.State,
		m.sel.OlderThan != 0 && age < m.sel.OlderThan,
		m.sel.NewerThan != 0 && age > m.sel.NewerThan,
		!addressMatches(m.sender, env.Sender),
		!m.matchRecipients(item),
		m.lastError != nil && !m.lastError.MatchString(lastError(item)):
		return false
	}
	return true
}

func (m *matcher) matchID(id mail.QueueID) bool {
	if len(m.ids) == 0 {
		return true
	}
	whole := mail.QueueID{Message: id.Message}
	if _, ok := slices.BinarySearchFunc(m.ids, whole, compareIDs); ok {
		return true
	}
	_, ok := slices.BinarySearchFunc(m.ids, id, compareIDs)
	return ok
}

func (m *matcher) matchRecipients(item *mail.QueueItem) bool {
	if m.recipient == "" && m.domain == "" {
		return true
	}
	for i := range item.Recipients {
		r := &item.Recipients[i]
		if r.Done() {
			continue
		}
		if addressMatches(m.recipient, r.Address) && (m.domain == "" || r.Address.Domain == m.domain) {
			return true
		}
	}
	return false
}

// lastError is the last outcome of the first recipient that failed or was
// deferred, on one line.
func lastError(item *mail.QueueItem) string {
	for i := range item.Recipients {
		if o := &item.Recipients[i].Last; o.Status == mail.Deferred || o.Status == mail.Failed {
			return outcomeText(o)
		}
	}
	return ""
}

// outcomeText is an outcome on one line: the host where one was reached, the
// reply, and the cause in brackets.
func outcomeText(o *mail.Outcome) string {
	var parts []string
	if o.Host != "" {
		parts = append(parts, o.Host+":")
	}
	if !o.Reply.IsZero() {
		parts = append(parts, o.Reply.String())
	}
	if o.Cause != "" {
		parts = append(parts, "("+o.Cause+")")
	}
	return strings.Join(parts, " ")
}

func compareIDs(a, b mail.QueueID) int {
	if c := slices.Compare(a.Message[:], b.Message[:]); c != 0 {
		return c
	}
	return int(a.N) - int(b.N)
}

// nextID returns the smallest ID after id, false after the last of all.
func nextID(id mail.QueueID) (mail.QueueID, bool) {
	if id.N < 1<<16-1 {
		id.N++
		return id, true
	}
	id.N = 0
	for i := len(id.Message) - 1; i >= 0; i-- {
		id.Message[i]++
		if id.Message[i] != 0 {
			return id, true
		}
	}
	return id, false
}
