package script

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// Stage is when a function of a script runs. It is the function's name.
type Stage string

// The stages.
const (
	Connect   Stage = "connect"   // a client is there, and was not greeted yet
	Auth      Stage = "auth"      // a client gave a name and a password
	Recipient Stage = "recipient" // each RCPT
	Content   Stage = "content"   // the whole message is here
)

// Stages returns all stages in the order in which a session meets them.
func Stages() []Stage { return []Stage{Connect, Auth, Recipient, Content} }

// Config is a script and what it may use.
type Config struct {
	// Name is how messages call the file: "recipient.star".
	Name   string
	Source string
	Limits Limits
	// Lookups is what the script can ask. A member that is nil makes its functions
	// fail with "not configured".
	Lookups Lookups
	// Transports are the names that deliver(transport=…) may give; nil: any.
	Transports []string
	// Log is told what goes wrong beside a call; nil: nobody.
	Log *slog.Logger
}

// Limits bound one call. A zero field takes its default.
type Limits struct {
	// Steps is how much is computed; 200,000. A step is about 10 ns.
	Steps uint64
	// Time is how long may be computed, look-ups not counted; 1 s.
	Time time.Duration
	// Memory is how many bytes all values may take that are made, also those that
	// are no longer needed; 32 MiB.
	Memory int64
	// Lookup is how long one look-up may take; 10 s. What the script was given in
	// all is the end of the context.
	Lookup time.Duration
	// Lookups is how many look-ups a call may do; 50.
	Lookups int
}

func (l Limits) withDefaults() Limits {
	l.Steps = cmp.Or(l.Steps, 200_000)
	l.Time = cmp.Or(l.Time, time.Second)
	l.Memory = cmp.Or(l.Memory, 32<<20)
	l.Lookup = cmp.Or(l.Lookup, 10*time.Second)
	l.Lookups = cmp.Or(l.Lookups, 50)
	return l
}

// maxSource bounds a script in bytes.
const maxSource = 256 << 10

// Program is a compiled script. Its methods may be called by many goroutines.
type Program struct {
	name       string
	limits     Limits
	lookups    Lookups
	transports []string
	stages     map[Stage]*starlark.Function
	tests      []*starlark.Function
	patterns   *patterns
	// absolute are the absolute paths that stand in the source.
	absolute map[string]bool
	pool     sync.Pool // of *call
}

// Error is one mistake in a script.
type Error struct {
	File         string
	Line, Column int // from 1; 0 where it is about the file as a whole
	Text         string
}

// Error is "file:line:column: text".
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
}

// Errors are all mistakes that were found in a script, in their order.
type Errors []*Error

// Error has a line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Compile reads a script, checks it and runs what stands outside of functions.
// The error is of type Errors.
func Compile(cfg Config) (*Program, error) {
	p := &Program{
		name: cfg.Name, limits: cfg.Limits.withDefaults(), lookups: cfg.Lookups, transports: cfg.Transports,
		stages: map[Stage]*starlark.Function{}, patterns: newPatterns(), absolute: map[string]bool{},
	}
	if len(cfg.Source) > maxSource {
		return nil, Errors{{File: cfg.Name, Text: fmt.Sprintf("the script is larger than %d KiB", maxSource>>10)}}
	}
	// Sets, while and recursion stay off: lists, dicts and for do, and end.
	options := &syntax.FileOptions{TopLevelControl: true}
	file, err := options.Parse(cfg.Name, cfg.Source, 0)
	if err != nil {
		return nil, p.mistakes(err)
	}
	if errs := p.check(file); len(errs) > 0 {
		return nil, errs
	}
	rewrite(file)
	env := environment()
	compiled, err := starlark.FileProgram(file, env.Has)
	if err != nil {
		return nil, p.mistakes(err)
	}
	if err := p.load(compiled, env); err != nil {
		return nil, err
	}
	return p, nil
}

// load runs the top level and takes the functions out of it.
func (p *Program) load(compiled *starlark.Program, env starlark.StringDict) error {
	c := newCall(p)
	c.begin(context.Background(), nil)
	var globals starlark.StringDict
	err := c.guarded(func() (err error) {
		globals, err = compiled.Init(&c.thread, env)
		return err
	})
	if err != nil {
		f := c.failure(err)
		return Errors{{File: p.name, Line: f.Line, Column: f.Column, Text: f.Text}}
	}
	for _, name := range globals.Keys() {
		if _, err := weigh(globals[name], c.limits().Memory); err != nil {
			return Errors{{File: p.name, Text: fmt.Sprintf("%s: %v", name, err)}}
		}
		globals[name].Freeze()
		f, ok := globals[name].(*starlark.Function)
		if !ok {
			continue
		}
		if strings.HasPrefix(name, testPrefix) {
			p.tests = append(p.tests, f)
		}
		if slices.Contains(Stages(), Stage(name)) {
			p.stages[Stage(name)] = f
		}
	}
	slices.SortFunc(p.tests, func(a, b *starlark.Function) int { return cmp.Compare(a.Position().Line, b.Position().Line) })
	return nil
}

// Stages returns the stages for which the script has a function.
func (p *Program) Stages() []Stage {
	var list []Stage
	for _, s := range Stages() {
		if p.stages[s] != nil {
			list = append(list, s)
		}
	}
	return list
}

// Has reports whether the script has a function for the stage.
func (p *Program) Has(s Stage) bool { return p.stages[s] != nil }

// Name returns the name under which the script was compiled.
func (p *Program) Name() string { return p.name }

// mistakes makes Errors of what the parser and the resolver say.
func (p *Program) mistakes(err error) Errors {
	var one syntax.Error
	var more resolve.ErrorList
	switch {
	case errors.As(err, &one):
		return Errors{p.mistake(one.Pos, one.Msg)}
	case errors.As(err, &more):
		errs := make(Errors, len(more))
		for i := range more {
			errs[i] = p.mistake(more[i].Pos, more[i].Msg)
		}
		return errs
	}
	return Errors{{File: p.name, Text: err.Error()}}
}

func (p *Program) mistake(pos syntax.Position, text string) *Error {
	return &Error{File: p.name, Line: int(pos.Line), Column: int(pos.Col), Text: text}
}
