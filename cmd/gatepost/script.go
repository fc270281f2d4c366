package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"gatepost/internal/config"
	"gatepost/internal/policy"
	"gatepost/internal/script"
)

// scriptSource is a script of the configuration with what it may cost.
type scriptSource struct {
	file   config.Path
	text   string
	limits config.ScriptLimits
}

// program compiles a script, or takes it over.
func (a *app) program(g, old *generation, s scriptSource) (*script.Program, error) {
	parts, err := a.scriptParts(g, old)
	if err != nil {
		return nil, err
	}
	var transports []string
	for name := range g.transports {
		transports = append(transports, name)
	}
	slices.Sort(transports)
	key := fmt.Sprintf("script %s %+v %v %p\n%s", s.file, s.limits, transports, parts, s.text)
	return keep(g, old, key, func() (*script.Program, *keptPart, error) {
		p, err := script.Compile(script.Config{
			Name: filepath.Base(string(s.file)), Source: s.text, Lookups: parts.Lookups, Transports: transports, Log: a.logger("Script"),
			Limits: script.Limits{
				Steps: uint64(s.limits.Steps), Time: s.limits.Time, Memory: int64(s.limits.Memory),
				Lookup: s.limits.Lookup, Lookups: s.limits.Lookups,
			},
		})
		return p, nil, err
	})
}

// runs makes a block of a script that has a function for the stage.
func (a *app) runs(g, old *generation, s scriptSource, stage script.Stage, key string) (*script.Block, error) {
	p, err := a.program(g, old, s)
	if err != nil {
		return nil, err
	}
	if !p.Has(stage) {
		return nil, fmt.Errorf("%s has no function %s", s.file, stage)
	}
	return script.NewBlock(p, key, a.logger("Script")), nil
}

// scriptBlock is a block "script" of the stages connect and recipient.
func (a *app) scriptBlock(g, old *generation, p *config.ScriptBlock, stage policy.Stage, key string) (policy.Block, error) {
	b, err := a.runs(g, old, scriptSource{p.File, p.Source, p.Limits}, script.Stage(stage), key)
	if err != nil {
		return policy.Block{}, err
	}
	return policy.Block{Key: key, Use: script.Module, Check: b, Scope: policy.PerRecipient}, nil
}

// scriptBackend is a block "script" of the stage auth.
func (a *app) scriptBackend(g, old *generation, p *config.ScriptBlock) (policy.AuthBackend, error) {
	return a.runs(g, old, scriptSource{p.File, p.Source, p.Limits}, script.Auth, "")
}

// scriptModule is a block "script" of content flows.
func (a *app) scriptModule(g, old *generation, p *config.ContentScriptBlock, key string) (*builtModule, error) {
	b, err := a.runs(g, old, scriptSource{p.File, p.Source, p.Limits}, script.Content, key)
	if err != nil {
		return nil, err
	}
	return &builtModule{Module: b, after: true}, nil
}
