package script

import (
	"errors"
	"fmt"
	"math"
	"mime"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.starlark.net/starlark"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// action is what a script can do, and where.
type action struct {
	name string
	do   builtin
	// at are the stages that have it; none: all.
	at []Stage
}

var (
	beforeContent = []Stage{Connect, Auth, Recipient}
	atContent     = []Stage{Content}
	withRecipient = []Stage{Recipient, Content}
)

// allActions returns what a script can do.
func allActions() []action {
	return []action{
		{"accept", accept, nil},
		{"reject", final(Reject, "text"), nil},
		{"defer", final(Defer, "text"), nil},
		{"quarantine", final(Quarantine, "reason"), atContent},
		{"discard", final(Discard, "reason"), atContent},
		{"drop", final(Drop, "reason"), beforeContent},
		{"score", score, []Stage{Connect, Recipient, Content}},
		{"delay", delay, beforeContent},
		{"mark", mark, atContent},
		{"deliver", deliver, withRecipient},
		{"add_header", addHeader, atContent},
		{"header", addHeader, atContent},
		{"remove_header", removeHeader, atContent},
		{"set_subject", setSubject, atContent},
		{"add_recipient", addRecipient, atContent},
		{"redirect", redirect, atContent},
		{"echo", echo, nil},
	}
}

// actions puts them into the environment, each with a look at the stage.
func actions(env starlark.StringDict) {
	for _, a := range allActions() {
		env[a.name] = bind(a.name, func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			if c.in == nil {
				return nil, errors.New(a.name + "() outside of a stage function has no effect")
			}
			if a.at != nil && !slices.Contains(a.at, c.in.Stage) {
				return nil, wrongStage(a, c.in.Stage)
			}
			return a.do(c, args, kwargs)
		})
	}
}

// wrongStage says where an action belongs.
func wrongStage(a action, s Stage) error {
	list := make([]string, len(a.at))
	for i, at := range a.at {
		list[i] = "def " + string(at) + "(s)"
	}
	return fmt.Errorf("%s() is not possible at %s; it belongs in %s", a.name, s, strings.Join(list, " or "))
}

func accept(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var reason, user string
	var senders *starlark.List
	if len(args)+len(kwargs) > 0 {
		if err := starlark.UnpackArgs("accept", args, kwargs, "reason?", &reason, "user?", &user, "senders?", &senders); err != nil {
			return nil, err
		}
	}
	if (user != "" || senders != nil) && c.in.Stage != Auth {
		return nil, errors.New("accept(user=…, senders=…) belongs in def auth(s)")
	}
	list, err := texts(senders)
	if err != nil {
		return nil, fmt.Errorf("senders: %w", err)
	}
	c.result.User, c.result.Senders = user, list
	return c.finish(Accept, "", reason)
}

// final is an action that ends the script; what says what its argument is.
func final(verb Verb, what string) builtin {
	return func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		said, err := oneText(string(verb), what, args, kwargs)
		if err != nil {
			return nil, err
		}
		if what == "text" {
			return c.finish(verb, replyText(c.clean(said, maxReason)), said)
		}
		return c.finish(verb, "", said)
	}
}

func (c *call) finish(verb Verb, text, reason string) (starlark.Value, error) {
	c.result.Verb, c.result.Text, c.result.Reason = verb, text, c.clean(reason, maxReason)
	return nil, errEnd
}

// oneText unpacks the only argument of an action, which may be left out.
func oneText(name, what string, args starlark.Tuple, kwargs []starlark.Tuple) (string, error) {
	if len(kwargs) == 0 && len(args) == 1 {
		if s, ok := args[0].(starlark.String); ok {
			return string(s), nil
		}
	}
	var s string
	err := starlark.UnpackArgs(name, args, kwargs, what+"?", &s)
	return s, err
}

// replyText makes one line of printable ASCII of what a client is told, without
// codes in front: these follow from the action.
func replyText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	for hasCode(s) {
		s = strings.TrimSpace(s[4:])
	}
	return s[:min(len(s), maxReply)]
}

func hasCode(s string) bool {
	return len(s) >= 4 && strings.Trim(s[:3], "0123456789") == "" && (s[3] == ' ' || s[3] == '-')
}

func score(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var n starlark.Value
	var why string
	if err := starlark.UnpackArgs("score", args, kwargs, "n", &n, "why?", &why); err != nil {
		return nil, err
	}
	f, ok := starlark.AsFloat(n)
	if !ok {
		return nil, fmt.Errorf("score: want a number, got %s", n.Type())
	}
	return starlark.None, c.score(f, why)
}

func delay(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var n starlark.Value
	if err := starlark.UnpackArgs("delay", args, kwargs, "seconds", &n); err != nil {
		return nil, err
	}
	f, ok := starlark.AsFloat(n)
	if !ok || math.IsNaN(f) || f < 0 {
		return nil, errors.New("delay: want a number of seconds, 0 or more")
	}
	c.result.Delay = min(time.Duration(min(f, maxDelay.Seconds())*float64(time.Second)), maxDelay)
	return starlark.None, nil
}

func mark(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	tag, err := oneText("mark", "tag", args, kwargs)
	if err != nil {
		return nil, err
	}
	c.result.Mark = true
	return starlark.None, c.tag(tag)
}

func setSubject(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var prefix string
	if err := starlark.UnpackArgs("set_subject", args, kwargs, "prefix", &prefix); err != nil {
		return nil, err
	}
	return starlark.None, c.tag(prefix)
}

// tag puts a text in front of the subject.
func (c *call) tag(s string) error {
	tag := c.result.Edits.SubjectTag + printable(s)
	if len(tag) > maxTag {
		return fmt.Errorf("more than %d bytes in front of the subject", maxTag)
	}
	c.result.Edits.SubjectTag = tag
	return nil
}

// printable drops what must not stand in a line for people: control, invisible
// and broken characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

func deliver(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var transport string
	if err := starlark.UnpackArgs("deliver", args, kwargs, "transport", &transport); err != nil {
		return nil, err
	}
	if list := c.prog.transports; list != nil && !slices.Contains(list, transport) {
		return nil, fmt.Errorf("deliver: no transport is called %q", short(transport))
	}
	c.result.Transport = transport
	return starlark.None, nil
}

func addHeader(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name, value string
	if err := starlark.UnpackArgs("add_header", args, kwargs, "name", &name, "value", &value); err != nil {
		return nil, err
	}
	if err := checkField(name); err != nil {
		return nil, err
	}
	// One blank at a time: a run of them could be folded to a line of nothing else.
	value = strings.Join(strings.Fields(printable(strings.ReplaceAll(value, "\n", " "))), " ")
	// RFC 2047 §5: what is not ASCII travels as encoded words.
	field := name + ": " + mime.QEncoding.Encode("utf-8", value)
	if len(field) > maxField {
		return nil, fmt.Errorf("add_header: longer than %d bytes", maxField)
	}
	e := &c.result.Edits
	return starlark.None, add(&e.Fields, field)
}

// oneOnly are the fields that a message has at most one of (RFC 5322 §3.6) and
// those that say how it is to be read: a second one makes it ambiguous.
var oneOnly = []string{
	"from", "sender", "reply-to", "to", "cc", "bcc", "date", "message-id", "in-reply-to",
	"references", "subject", "mime-version", "return-path",
}

// checkField refuses names of fields that a script must not add.
func checkField(name string) error {
	lower := strings.ToLower(name)
	switch {
	case !isToken(name):
		return fmt.Errorf("add_header: %q is no name of a field", short(name))
	case slices.Contains(oneOnly, lower), strings.HasPrefix(lower, "content-"):
		return fmt.Errorf("add_header: a second %s would make the message ambiguous; use a name of your own, like X-%s", name, name)
	}
	for _, ours := range []string{"x-gatepost", "received", "authentication-results", "arc-", "dkim-"} {
		if strings.HasPrefix(lower, ours) {
			return fmt.Errorf("add_header: %s is written by mail servers only", name)
		}
	}
	return nil
}

// isToken reports a field name that every program reads alike.
func isToken(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

func removeHeader(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	if err := starlark.UnpackArgs("remove_header", args, kwargs, "name", &name); err != nil {
		return nil, err
	}
	if err := checkRemove(name); err != nil {
		return nil, err
	}
	e := &c.result.Edits
	return starlark.None, add(&e.Remove, name)
}

func checkRemove(name string) error {
	switch lower := strings.ToLower(name); {
	case !isToken(name):
		return fmt.Errorf("remove_header: %q is no name of a field", short(name))
	case lower == "received" || lower == "from" || lower == "date" || strings.HasPrefix(lower, "content-") || lower == "mime-version":
		return fmt.Errorf("remove_header: without %s the message could loop or not be read", name)
	}
	return nil
}

func addRecipient(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	e := &c.result.Edits
	return starlark.None, c.address("add_recipient", args, kwargs, &e.Copy)
}

func redirect(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	e := &c.result.Edits
	return starlark.None, c.address("redirect", args, kwargs, &e.Redirect)
}

func echo(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(kwargs) > 0 {
		return nil, fmt.Errorf("echo %w", errKeywords)
	}
	if len(c.result.Log) > maxLogLines {
		return starlark.None, nil
	}
	words := make([]string, len(args))
	for i, a := range args {
		if s, ok := a.(starlark.String); ok {
			words[i] = string(s)
			continue
		}
		n, err := c.weigh(a)
		if err == nil && n > maxString {
			err = errBigString
		}
		if err == nil {
			err = c.charge(n)
		}
		if err != nil {
			return nil, err
		}
		words[i] = a.String()
	}
	c.echo(strings.Join(words, " "))
	return starlark.None, nil
}

// add appends to a list of edits.
func add[T any](list *[]T, v T) error {
	if len(*list) >= maxEdits {
		return fmt.Errorf("more than %d of them", maxEdits)
	}
	*list = append(*list, v)
	return nil
}

// address unpacks an address and adds it to a list.
func (c *call) address(name string, args starlark.Tuple, kwargs []starlark.Tuple, list *[]mail.Address) error {
	var s string
	if err := starlark.UnpackArgs(name, args, kwargs, "address", &s); err != nil {
		return err
	}
	a, err := smtp.ParseAddress(s)
	if err != nil {
		return fmt.Errorf("%s: %q is no address", name, short(s))
	}
	return add(list, a)
}

// texts makes a slice of a list of strings.
func texts(list *starlark.List) ([]string, error) {
	if list == nil {
		return nil, nil
	}
	out := make([]string, list.Len())
	for i := range out {
		s, ok := starlark.AsString(list.Index(i))
		if !ok {
			return nil, fmt.Errorf("want a list of strings, got a %s in it", list.Index(i).Type())
		}
		out[i] = s
	}
	return out, nil
}

// short cuts what an error repeats.
func short(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}
