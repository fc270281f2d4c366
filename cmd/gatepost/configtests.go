package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	changes "gatepost/internal/config/change"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
	"gatepost/internal/script"
)

// testTime bounds a test that somebody waits for.
const testTime = time.Minute

// with calls use with the configuration that a change would make, or where it says
// nothing with the one in use.
func (c configAPI) with(what changes.Change, use func(*config.Config) error) (err error) {
	if what.Text == nil && len(what.Files) == 0 {
		return use(c.app.state.Load().gen.cfg)
	}
	cfg, release, err := c.Candidate(what)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	return use(cfg)
}

// TestWebhook implements admin.Configuration.
func (c configAPI) TestWebhook(ctx context.Context, what changes.Change, name string) error {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	return c.with(what, func(cfg *config.Config) error {
		i := slices.IndexFunc(cfg.Admin.Webhooks, func(w config.AdminWebhook) bool { return string(w.Name) == name })
		if i < 0 {
			return &changes.BadError{Text: fmt.Sprintf("there is no webhook %q", name)}
		}
		hook, web, err := c.app.makeWebhook(&cfg.Admin.Webhooks[i], "")
		if err != nil {
			return &changes.BadError{Text: err.Error()}
		}
		if err := hook.Test(ctx); err != nil {
			return errors.Join(&changes.BadError{Text: fmt.Sprintf("webhook %s does not take events: %v", name, err)}, web.Close())
		}
		return web.Close()
	})
}

// TestScript implements admin.Configuration, as gatepost script test does.
func (c configAPI) TestScript(ctx context.Context, what changes.Change, path string) (*admin.ScriptTests, error) {
	f, err := c.File(path)
	if err != nil {
		return nil, err
	}
	if f.Kind != config.FileScript || f.Elsewhere != "" {
		return nil, &changes.BadError{Text: path + " is no script"}
	}
	text := f.Text
	for _, sent := range what.Files {
		if sent.Path == path {
			text = sent.Text
		}
	}
	temp, err := os.MkdirTemp("", "gatepost-script")
	if err != nil {
		return nil, fmt.Errorf("make room to test the script: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	sc := script.Config{Name: filepath.Base(path), Source: text, Transports: c.app.transportNames()}
	sc.Lookups.Files = script.NewLists(filepath.Dir(c.app.file), nil)
	out := runScriptTests(ctx, sc, script.TestOptions{Scan: scan.Options{Unpacker: archive.New(archive.Config{Temp: archive.DirTemp(temp)})}})
	return out, os.RemoveAll(temp)
}

func runScriptTests(ctx context.Context, cfg script.Config, o script.TestOptions) *admin.ScriptTests {
	var lines strings.Builder
	o.Out = &lines
	p, err := script.Compile(cfg)
	if err != nil {
		return &admin.ScriptTests{Mistakes: scriptMistakes(err)}
	}
	sum := p.Test(ctx, o)
	return &admin.ScriptTests{Passed: sum.Passed, Failed: len(sum.Failed), Output: lines.String()}
}

// scriptMistakes are those of a script that does not compile.
func scriptMistakes(err error) []admin.ScriptMistake {
	var all script.Errors
	if !errors.As(err, &all) {
		return []admin.ScriptMistake{{Text: err.Error()}}
	}
	var list []admin.ScriptMistake
	for _, e := range all {
		list = append(list, admin.ScriptMistake{Line: e.Line, Column: e.Column, Text: e.Text})
	}
	return list
}
