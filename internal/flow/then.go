package flow

import (
	"errors"
	"fmt"
	"math"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// The verbs of filters beside the actions of a verdict.
const (
	VerbRedirect = "redirect" // redirect:ADDRESS
	VerbCopy     = "copy"     // copy:ADDRESS
	VerbStrip    = "strip"
	VerbScore    = "score"   // score:N
	VerbHeader   = "header"  // header:"X-Foo: bar"
	VerbSubject  = "subject" // subject:"[EXTERNAL] "
	// VerbDisclaimer puts a text at the end: disclaimer:NAME
	VerbDisclaimer = "disclaimer"
)

// FilterAction is one action of a filter.
type FilterAction struct {
	// Verb is one of the verbs, or a mail.Action; Arg what stood behind the colon.
	Verb string
	Arg  string
	// Address is the argument of redirect and copy, Score of score, Field of
	// header: a whole field without line end, ASCII. Tag is that of subject.
	Address mail.Address
	Score   float64
	Field   string
	Tag     string
}

// Limits of what a filter may say.
const (
	maxReply      = 200
	maxField      = 800
	maxSubjectTag = 100
	maxScore      = 1000
)

// Final reports whether the action ends the flow.
func (a FilterAction) Final() bool {
	switch mail.Action(a.Verb) {
	case mail.ActionDeliver, mail.ActionQuarantine, mail.ActionDiscard, mail.ActionReject, mail.ActionDefer:
		return true
	}
	return false
}

// ParseThen reads one action as the configuration has it: "quarantine",
// "redirect:abuse@example.com", "score:2.5", `header:"X-Foo: bar"`.
func ParseThen(s string) (FilterAction, error) {
	verb, arg, hasArg := strings.Cut(s, ":")
	a := FilterAction{Verb: strings.TrimSpace(verb), Arg: unquote(strings.TrimSpace(arg))}
	switch a.Verb {
	case VerbRedirect, VerbCopy, VerbScore, VerbHeader, VerbSubject, VerbDisclaimer:
		if a.Arg == "" {
			return FilterAction{}, fmt.Errorf("%s needs something behind the colon: %s", a.Verb, usage[a.Verb])
		}
		return a, a.parse()
	case VerbStrip, string(mail.ActionMark), string(mail.ActionDeliver), string(mail.ActionQuarantine),
		string(mail.ActionDiscard), string(mail.ActionReject), string(mail.ActionDefer):
		if hasArg {
			return FilterAction{}, fmt.Errorf("%s takes nothing behind a colon", a.Verb)
		}
		return a, nil
	}
	return FilterAction{}, fmt.Errorf("unknown action %q; there are deliver, mark, quarantine, discard, reject, defer, redirect:ADDRESS, copy:ADDRESS, strip, score:N, header:\"X-Foo: bar\", subject:\"[TAG] \", disclaimer:NAME", short(a.Verb))
}

var usage = map[string]string{
	VerbRedirect: "redirect:user@example.com",
	VerbCopy:     "copy:user@example.com",
	VerbScore:    "score:2.5",
	VerbHeader:   `header:"X-Foo: bar"`,
	VerbSubject:  `subject:"[EXTERNAL] "`,

	VerbDisclaimer: "disclaimer:legal",
}

// parse reads the argument.
func (a *FilterAction) parse() (err error) {
	switch a.Verb {
	case VerbRedirect, VerbCopy:
		if a.Address, err = smtp.ParseAddress(a.Arg); err != nil {
			return fmt.Errorf("%s: %q is not an address", a.Verb, short(a.Arg))
		}
	case VerbScore:
		a.Score, err = strconv.ParseFloat(a.Arg, 64)
		if err != nil || math.IsNaN(a.Score) || math.Abs(a.Score) > maxScore {
			return fmt.Errorf("score: %q is not a number from -%d to %d", short(a.Arg), maxScore, maxScore)
		}
	case VerbHeader:
		a.Field, err = parseField(a.Arg)
	case VerbSubject:
		if len(a.Arg) > maxSubjectTag || !printable(a.Arg) {
			return fmt.Errorf("subject: the tag must be printable and at most %d bytes long", maxSubjectTag)
		}
		a.Tag = a.Arg
	}
	return err
}

// unquote takes one pair of quotes away; blanks inside of them stay.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// oneOnly are the fields that a message has at most one of (RFC 5322 §3.6) and
// those that say how it is to be read: a second one makes it ambiguous.
var oneOnly = []string{
	"from", "sender", "reply-to", "to", "cc", "bcc", "date", "message-id", "in-reply-to",
	"references", "subject", "mime-version", "return-path",
}

// parseField reads "Name: value" for a field that is added in front.
func parseField(s string) (string, error) {
	name, value, ok := strings.Cut(s, ":")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || !isToken(name) {
		return "", fmt.Errorf("header: %q is not a field: write header:\"X-Foo: bar\"", short(s))
	}
	lower := strings.ToLower(name)
	if slices.Contains(oneOnly, lower) || strings.HasPrefix(lower, "content-") {
		return "", fmt.Errorf("header: a second %s would make the message ambiguous; use a name of your own, like X-%s", name, name)
	}
	for _, ours := range []string{"x-gatepost", "received", "authentication-results", "arc-", "dkim-"} {
		if strings.HasPrefix(lower, ours) {
			return "", fmt.Errorf("header: %s is written by mail servers only", name)
		}
	}
	if !printable(value) {
		return "", errors.New("header: the value must be printable")
	}
	// One blank at a time: a run of them could be folded to a line of nothing else.
	value = strings.Join(strings.Fields(value), " ")
	// RFC 2047 §5: what is not ASCII travels as encoded words.
	field := name + ": " + mime.QEncoding.Encode("utf-8", value)
	if len(field) > maxField {
		return "", fmt.Errorf("header: longer than %d bytes", maxField)
	}
	return field, nil
}

// isToken reports a field name that every program reads alike.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			continue
		}
		return false
	}
	return s != "" && len(s) <= 64
}

// CheckThen reports what is wrong with the actions of one filter taken together.
func CheckThen(then []FilterAction) error {
	if len(then) == 0 {
		return errors.New("a filter needs at least one action")
	}
	final := ""
	for _, a := range then {
		switch {
		case !a.Final():
		case final != "":
			return fmt.Errorf("%s and %s both end the flow: a filter has only one such action", final, a.Verb)
		default:
			final = a.Verb
		}
	}
	return nil
}

// CheckReply reports what is wrong with the reply of a filter: it is the text
// behind the codes of a reject or defer, printable ASCII (a client without
// SMTPUTF8 gets it too) of at most 200 bytes.
func CheckReply(s string) error {
	if len(s) > maxReply {
		return fmt.Errorf("reply has %d bytes, at most %d", len(s), maxReply)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return errors.New("reply must be one line of printable ASCII")
		}
	}
	if len(s) >= 4 && isDigits(s[:3]) && (s[3] == ' ' || s[3] == '-') {
		return errors.New("reply is the text behind the code only; the code follows from the action")
	}
	return nil
}

func isDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// printable reports one line without control, invisible or broken characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
}

// short cuts what an error repeats.
func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
