package script

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go.starlark.net/starlark"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/smtp"
)

// given is what a test says to run(…).
type given struct {
	stage, client, name, helo, user, listener, sender, recipient, message, login, password string

	recipients, findings *starlark.List
	trusted, tls         bool
	size                 int
	score                starlark.Value
}

func runScript(c *call, t *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	g := given{client: "192.0.2.1", helo: "client.example", listener: "inbound", sender: "sender@client.example"}
	if err := starlark.UnpackArgs("run", args, kwargs, "stage?", &g.stage, "client?", &g.client, "name?", &g.name, "helo?", &g.helo,
		"user?", &g.user, "listener?", &g.listener, "sender?", &g.sender, "recipient?", &g.recipient, "recipients?", &g.recipients,
		"message?", &g.message, "login?", &g.login, "password?", &g.password, "trusted?", &g.trusted, "tls?", &g.tls,
		"size?", &g.size, "findings?", &g.findings, "score?", &g.score); err != nil {
		return nil, err
	}
	in, err := t.input(&g)
	if err != nil {
		return nil, err
	}
	if !t.prog.Has(in.Stage) {
		return nil, fmt.Errorf("the script has no def %s(s)", in.Stage)
	}
	r := t.prog.run(t.ctx, in, t)
	t.last = r.Failed
	return &outcome{c: c, r: r}, nil
}

// stageOf is the stage that a test means: the one it names, or else the one that
// what it gives belongs to.
func (t *trial) stageOf(g *given) Stage {
	switch stages := t.prog.Stages(); {
	case g.stage != "":
		return Stage(g.stage)
	case len(stages) == 1:
		return stages[0]
	case g.message != "":
		return Content
	case g.login != "":
		return Auth
	case g.recipient != "":
		return Recipient
	}
	return Connect
}

func (t *trial) input(g *given) (*Input, error) {
	addr, err := netip.ParseAddr(g.client)
	if err != nil {
		return nil, fmt.Errorf("client: %q is no address", short(g.client))
	}
	s := &mail.Session{
		Client: netip.AddrPortFrom(addr, 25), Listener: g.listener, Helo: g.helo, ESMTP: true,
		User: g.user, Trusted: g.trusted, Name: g.name,
	}
	if g.tls {
		s.TLS = mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
	}
	in := &Input{Stage: t.stageOf(g), Session: s, Login: g.login, Password: g.password}
	if in.Findings, err = findingsOf(g.findings); err != nil {
		return nil, err
	}
	for i := range in.Findings {
		in.Score += in.Findings[i].Score
	}
	if g.score != nil {
		f, ok := starlark.AsFloat(g.score)
		if !ok {
			return nil, errors.New("score: want a number")
		}
		in.Score = f
	}
	if in.Stage == Recipient || in.Stage == Content {
		err = t.envelope(g, in)
	}
	return in, err
}

// envelope fills in what is known from MAIL on.
func (t *trial) envelope(g *given, in *Input) error {
	env := &mail.Envelope{Session: *in.Session, Size: int64(g.size)}
	in.Envelope = env
	var err error
	if env.Sender, err = addressOf(g.sender); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	list, err := texts(g.recipients)
	if err != nil {
		return fmt.Errorf("recipients: %w", err)
	}
	if g.recipient == "" && len(list) == 0 {
		g.recipient = "user@example.com"
	}
	for _, s := range list {
		a, err := addressOf(s)
		if err != nil {
			return fmt.Errorf("recipients: %w", err)
		}
		env.Recipients = append(env.Recipients, mail.Recipient{Address: a})
	}
	if g.recipient != "" {
		a, err := addressOf(g.recipient)
		if err != nil {
			return fmt.Errorf("recipient: %w", err)
		}
		in.Recipient = &mail.Recipient{Address: a}
		if in.Stage == Content && len(list) == 0 {
			env.Recipients = append(env.Recipients, *in.Recipient)
		}
	}
	if in.Stage != Content {
		return nil
	}
	body := body{strings.NewReader(strings.ReplaceAll(strings.ReplaceAll(g.message, "\r\n", "\n"), "\n", "\r\n"))}
	if env.Size == 0 {
		env.Size = body.Size()
	}
	in.Message, err = scan.NewInput(t.ctx, mail.Message{Envelope: env, Body: body}, scan.Inbound, t.scan)
	return err
}

func addressOf(s string) (mail.Address, error) {
	if s == "" || s == "<>" {
		return mail.Address{}, nil
	}
	a, err := smtp.ParseAddress(s)
	if err != nil {
		return a, fmt.Errorf("%q is no address", short(s))
	}
	return a, nil
}

// body is a message in memory.
type body struct{ *strings.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

// findingsOf reads a list of dicts.
func findingsOf(list *starlark.List) ([]mail.Finding, error) {
	if list == nil {
		return nil, nil
	}
	out := make([]mail.Finding, list.Len())
	for i := range out {
		d, ok := list.Index(i).(*starlark.Dict)
		if !ok {
			return nil, fmt.Errorf("findings: want a list of dicts, got a %s in it", list.Index(i).Type())
		}
		f := mail.Finding{Result: mail.Match}
		for k, v := range d.Entries() {
			name, _ := starlark.AsString(k)
			text, isText := starlark.AsString(v)
			number, isNumber := starlark.AsFloat(v)
			switch {
			case name == "module" && isText:
				f.Module = text
			case name == "symbol" && isText:
				f.Symbol = text
			case name == "result" && isText:
				f.Result = mail.Result(text)
			case name == "reason" && isText:
				f.Reason = text
			case name == "name" && isText:
				f.Name = text
			case name == "score" && isNumber:
				f.Score = number
			default:
				return nil, fmt.Errorf("findings: there are module, symbol, result, reason, name and score, not %s: %s", k, v)
			}
		}
		out[i] = f
	}
	return out, nil
}

// outcome is what run(…) gives a test.
type outcome struct {
	object
	c *call
	r *Result
}

var outcomeAttrs = attrNames{"action", "copies", "delay", "error", "error_line", "headers", "log", "marked", "reason", "redirects", "removed", "score", "senders", "symbols", "tag", "text", "transport", "user"}

func (v *outcome) String() string      { return "<result " + string(v.r.Verb) + ">" }
func (v *outcome) Type() string        { return "result" }
func (v *outcome) AttrNames() []string { return outcomeAttrs }

// Attr implements starlark.HasAttrs.
func (v *outcome) Attr(name string) (starlark.Value, error) {
	r := v.r
	switch name {
	case "action":
		return starlark.String(r.Verb), nil
	case "text":
		return starlark.String(r.Text), nil
	case "reason":
		return starlark.String(r.Reason), nil
	case "user":
		return starlark.String(r.User), nil
	case "marked":
		return starlark.Bool(r.Mark), nil
	case "transport":
		return starlark.String(r.Transport), nil
	case "delay":
		return starlark.Float(r.Delay.Seconds()), nil
	case "score":
		return starlark.Float(r.Score), nil
	case "tag":
		return starlark.String(r.Edits.SubjectTag), nil
	case "error", "error_line":
		return v.failure(name == "error_line"), nil
	}
	return v.lists(name)
}

func (v *outcome) failure(line bool) starlark.Value {
	f := v.r.Failed
	if f == nil {
		f = &Failure{}
	}
	if line {
		return starlark.MakeInt(f.Line)
	}
	return starlark.String(f.Text)
}

func (v *outcome) lists(name string) (starlark.Value, error) {
	r := v.r
	switch name {
	case "headers":
		return v.c.list(r.Edits.Fields, 0)
	case "removed":
		return v.c.list(r.Edits.Remove, 0)
	case "copies":
		return v.c.list(keys(r.Edits.Copy), 0)
	case "redirects":
		return v.c.list(keys(r.Edits.Redirect), 0)
	case "log":
		return v.c.list(r.Log, 0)
	case "senders":
		return v.c.list(r.Senders, 0)
	case "symbols":
		symbols := make([]string, len(r.Findings))
		for i := range symbols {
			symbols[i] = r.Findings[i].Symbol
		}
		return v.c.list(symbols, 0)
	}
	return nil, nil
}

func keys(list []mail.Address) []string {
	out := make([]string, len(list))
	for i := range out {
		out[i] = list[i].Key()
	}
	return out
}
