package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.starlark.net/starlark"

	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// TestOptions are how a script's own tests run.
type TestOptions struct {
	// Out gets a line for each test; nil: nobody reads them.
	Out io.Writer
	// Scan is how messages are read.
	Scan scan.Options
}

// TestSummary is how the tests of a script went.
type TestSummary struct {
	Passed int
	// Failed are those that did not pass, each with the place of the assertion.
	Failed []*Error
}

// TestFile compiles the script in a file and runs its tests. Lists in files are
// looked for beside it if cfg has no Files.
func TestFile(ctx context.Context, path string, cfg Config, o TestOptions) (TestSummary, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return TestSummary{}, fmt.Errorf("read script: %w", err)
	}
	cfg.Name, cfg.Source = filepath.Base(path), string(source)
	if cfg.Lookups.Files == nil {
		cfg.Lookups.Files = NewLists(filepath.Dir(path), cfg.Log)
	}
	p, err := Compile(cfg)
	if err != nil {
		return TestSummary{}, err
	}
	return p.Test(ctx, o), nil
}

// Test runs the functions of the script whose names begin with test_, in the
// order of the file. What they ask comes from what they provide (with_dns and the
// like), but for lists in files, which are the real ones.
func (p *Program) Test(ctx context.Context, o TestOptions) TestSummary {
	if o.Out == nil {
		o.Out = io.Discard
	}
	var sum TestSummary
	for _, f := range p.tests {
		failed := p.testOne(ctx, f, o.Scan)
		if failed == nil {
			sum.Passed++
			fmt.Fprintf(o.Out, "ok   %s\n", f.Name())
			continue
		}
		sum.Failed = append(sum.Failed, failed)
		fmt.Fprintf(o.Out, "FAIL %v\n", failed)
	}
	return sum
}

// trial is the state of one test function.
type trial struct {
	prog  *Program
	ctx   context.Context
	scan  scan.Options
	fakes fakes
	// last is why the script failed in the last run.
	last *Failure
}

func (p *Program) testOne(ctx context.Context, f *starlark.Function, o scan.Options) *Error {
	c := newCall(p)
	c.begin(ctx, nil)
	c.test = &trial{prog: p, ctx: ctx, scan: o, fakes: newFakes(&p.lookups)}
	err := c.guarded(func() error {
		_, err := starlark.Call(&c.thread, f, nil, nil)
		return err
	})
	if err == nil {
		return nil
	}
	why := c.failure(err)
	text := f.Name() + ": " + message.SafeText(why.Text, 4*maxReason)
	if last := c.test.last; last != nil {
		text += fmt.Sprintf(" (the script failed at %s:%d:%d: %s)", p.name, last.Line, last.Column, message.SafeText(last.Text, maxReason))
	}
	return &Error{File: p.name, Line: why.Line, Column: why.Column, Text: text}
}

// testFunctions puts what tests use into the environment. Scripts that are not
// tested may hold tests, so the names are always there.
func testFunctions(env starlark.StringDict) {
	for name, f := range map[string]func(*call, *trial, starlark.Tuple, []starlark.Tuple) (starlark.Value, error){
		"run": runScript, "assert_eq": assertEq, "assert_true": assertTrue,
		"with_dns": withDNS, "with_dnsbl": withDNSBL, "with_http": withHTTP, "with_smtp": withSMTP, "with_ldap": withLDAP,
		"with_file": withFile, "with_country": withCountry, "with_now": withNow,
	} {
		env[name] = bind(name, func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			if c.test == nil || c.in != nil {
				return nil, errors.New(name + " is for test functions only")
			}
			return f(c, c.test, args, kwargs)
		})
	}
}

func assertEq(c *call, _ *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var got, want starlark.Value
	if err := starlark.UnpackArgs("assert_eq", args, kwargs, "got", &got, "want", &want); err != nil {
		return nil, err
	}
	if _, err := c.weighAll(starlark.Tuple{got, want}, nil); err != nil {
		return nil, err
	}
	same, err := starlark.Equal(got, want)
	if err != nil {
		return nil, err
	}
	if !same {
		return nil, fmt.Errorf("got %s, want %s", got, want)
	}
	return starlark.None, nil
}

func assertTrue(_ *call, _ *trial, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var condition starlark.Value
	text := "it is not true"
	if err := starlark.UnpackArgs("assert_true", args, kwargs, "condition", &condition, "text?", &text); err != nil {
		return nil, err
	}
	if !condition.Truth() {
		return nil, errors.New(text)
	}
	return starlark.None, nil
}
