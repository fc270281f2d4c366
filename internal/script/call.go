package script

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// Input is what a script is told. Nothing in it is changed.
type Input struct {
	Stage   Stage
	Session *mail.Session
	// Envelope is nil at Connect and Auth; its Sender is that of the transaction.
	Envelope *mail.Envelope
	// Recipient is the one of this RCPT; at Content the one for whom the script is
	// asked, nil for all at once.
	Recipient *mail.Recipient
	// Findings is what checks and modules saw so far, Score their sum as the flow
	// counts it.
	Findings []mail.Finding
	Score    float64
	// Message is set at Content.
	Message *scan.Input
	// Login and Password are what the client gave at Auth.
	Login, Password string
}

// callKey is where a call is found in its thread.
const callKey = "call"

// stride is after how many steps the clock is looked at.
const stride = 5_000

// The reasons for which a call is stopped.
var (
	errSteps    = errors.New("too many steps")
	errTime     = errors.New("it computed for too long")
	errMemory   = errors.New("too much memory")
	errDeadline = errors.New("the time for this check is over")
	// errEnd ends a script that said its last word; it is no failure.
	errEnd = errors.New("end")
)

// call is one run of a script. It is used again for the next run of the same
// program: values that a script made cannot outlive it, for the only ones that
// stay, the globals, are frozen.
type call struct {
	thread starlark.Thread
	prog   *Program
	ctx    context.Context
	in     *Input
	result *Result
	self   session
	args   [1]starlark.Value
	// test is set in the test functions of a script and in what they run.
	test *trial

	begun   time.Time
	waited  time.Duration // in look-ups
	lookups int
	steps   uint64 // where the thread asks again
	bytes   int64
	cause   error // why it was stopped
}

func newCall(p *Program) *call {
	c := &call{prog: p}
	c.thread.Name = p.name
	c.thread.SetLocal(callKey, c)
	c.thread.OnMaxSteps = func(*starlark.Thread) { c.look() }
	c.thread.Print = func(_ *starlark.Thread, text string) { c.echo(text) }
	return c
}

// callOf returns the call that a built-in function is in.
func callOf(t *starlark.Thread) *call { return t.Local(callKey).(*call) }

func (c *call) begin(ctx context.Context, in *Input) {
	c.ctx, c.in, c.result = ctx, in, &Result{}
	c.begun, c.waited, c.lookups, c.bytes, c.cause = time.Now(), 0, 0, 0, nil
	c.thread.Steps = 0
	c.thread.Uncancel()
	c.self = session{c: c}
	c.ask()
}

func (c *call) limits() *Limits { return &c.prog.limits }

// ask sets when the thread asks again whether it may go on.
func (c *call) ask() {
	c.steps = min(c.thread.Steps+stride, c.limits().Steps)
	c.thread.SetMaxExecutionSteps(c.steps)
}

// look stops the call if a limit is reached.
func (c *call) look() {
	switch {
	case c.cause != nil:
		return
	case c.thread.Steps >= c.limits().Steps:
		c.cause = errSteps
	case c.ctx.Err() != nil:
		c.cause = errDeadline
	case time.Since(c.begun)-c.waited > c.limits().Time:
		c.cause = errTime
	default:
		c.ask()
		return
	}
	c.thread.Cancel(c.cause.Error())
}

// charge counts what an operation will make, in bytes, before it does. An error
// ends the call.
func (c *call) charge(bytes int64) error {
	c.bytes += bytes
	if c.cause == nil && c.bytes > c.limits().Memory {
		c.cause = errMemory
	}
	if bytes >= 64 {
		if c.thread.Steps += uint64(bytes) / 64; c.thread.Steps >= c.steps {
			c.look()
		}
	}
	return c.cause
}

// Run asks the script about one event. It returns what the script said until ctx
// ends or a limit is reached; a script without a function for the stage says
// nothing.
func (p *Program) Run(ctx context.Context, in *Input) *Result {
	return p.run(ctx, in, nil)
}

func (p *Program) run(ctx context.Context, in *Input, t *trial) *Result {
	f := p.stages[in.Stage]
	if f == nil {
		return &Result{}
	}
	c, ok := p.pool.Get().(*call)
	if !ok {
		c = newCall(p)
	}
	c.begin(ctx, in)
	c.test = t
	err := c.guarded(func() error {
		c.args[0] = &c.self
		_, err := starlark.Call(&c.thread, f, c.args[:], nil)
		return err
	})
	c.end(err)
	r := c.result
	c.ctx, c.in, c.result, c.test, c.self, c.args[0] = nil, nil, nil, nil, session{}, nil
	p.pool.Put(c)
	return r
}

// guarded turns a panic of a built-in function into an error: one message cannot
// take the gateway down.
func (c *call) guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return f()
}

// end completes the result.
func (c *call) end(err error) {
	r := c.result
	if err == nil || errors.Is(err, errEnd) && c.cause == nil {
		if r.Verb == Accept && c.in.Stage != Auth {
			c.finding(mail.Finding{Module: Module, Symbol: "allow", Result: mail.Clean, Reason: r.Reason})
		}
		return
	}
	f := c.failure(err)
	f.Text = c.clean(f.Text, maxReason)
	// What it scored counts as far as it came; what it had in mind to do is not done.
	*r = Result{Score: r.Score, Findings: r.Findings, Personal: r.Personal, Log: r.Log, Failed: f}
	where := c.prog.name
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", where, f.Line, f.Column)
	}
	c.finding(mail.Finding{Module: Module, Symbol: f.Symbol, Result: mail.Unknown, Reason: where + ": " + f.Text})
	for _, line := range f.Traceback {
		r.Log = append(r.Log, "at "+line)
	}
	r.Log = append(r.Log, f.Text)
}

func (c *call) finding(f mail.Finding) {
	c.result.Findings = append(c.result.Findings, f)
}

// failure says where and why a script failed.
func (c *call) failure(err error) *Failure {
	f := &Failure{Symbol: "error", Text: err.Error()}
	if c.cause != nil {
		f.Text = c.cause.Error()
		switch c.cause {
		case errSteps:
			f.Symbol, f.Text = "steps", fmt.Sprintf("%s: more than %d", f.Text, c.limits().Steps)
		case errTime:
			f.Symbol, f.Text = "time", fmt.Sprintf("%s: more than %v", f.Text, c.limits().Time)
		case errMemory:
			f.Symbol, f.Text = "memory", fmt.Sprintf("%s: more than %d bytes", f.Text, c.limits().Memory)
		case errDeadline:
			f.Symbol = "timeout"
		}
	}
	if c.cause == nil && c.ctx.Err() != nil {
		f.Symbol = "timeout"
	}
	var e *starlark.EvalError
	if !errors.As(err, &e) {
		return f
	}
	for i := range e.CallStack {
		frame := e.CallStack.At(i)
		if frame.Pos.Line == 0 {
			continue // a built-in function
		}
		if f.Line == 0 {
			f.Line, f.Column = int(frame.Pos.Line), int(frame.Pos.Col)
		}
		if len(f.Traceback) < maxTraceback {
			f.Traceback = append(f.Traceback, frame.Pos.String()+" in "+frame.Name)
		}
	}
	return f
}

// clean makes what a script says fit for logs: one printable line without the
// password.
func (c *call) clean(text string, limit int) string {
	if c.in != nil && c.in.Password != "" {
		text = strings.ReplaceAll(text, c.in.Password, "[password]")
	}
	return message.SafeText(text, limit)
}

// echo adds a line to the log of the message.
func (c *call) echo(text string) {
	switch r := c.result; {
	case len(r.Log) < maxLogLines:
		r.Log = append(r.Log, c.clean(text, maxLogLine))
	case len(r.Log) == maxLogLines:
		r.Log = append(r.Log, "…")
	}
}

// score adds to the score of the message.
func (c *call) score(n float64, why string) error {
	if math.IsNaN(n) || math.Abs(n) > maxScore {
		return fmt.Errorf("the score must be from -%d to %d", maxScore, maxScore)
	}
	if len(c.result.Findings) >= maxFindings {
		return fmt.Errorf("more than %d scores", maxFindings)
	}
	why = c.clean(why, maxReason)
	c.result.Score += n
	c.finding(mail.Finding{Module: Module, Symbol: symbol(why), Result: mail.Match, Score: n, Reason: why})
	return nil
}

// symbol makes a word of a reason. It has no colon: what stands before one is a
// class to flows.
func symbol(why string) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_':
			return r
		}
		return '-'
	}, why)
	s = strings.Trim(s, "-")
	for strings.Contains(s, "--") {
		s = strings.ReplaceAll(s, "--", "-")
	}
	if s == "" {
		return "score"
	}
	return s[:min(len(s), 48)]
}
