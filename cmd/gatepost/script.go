package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"gatepost/internal/config"
	"gatepost/internal/mail"
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
	if s.text == "" {
		return nil, fmt.Errorf("script %s is empty", s.file)
	}
	key := fmt.Sprintf("script %s %+v %s\n%s", s.file, s.limits, a.scriptSurroundings(g), s.text)
	return keep(g, old, key, func() (*script.Program, *keptPart, error) {
		look, err := a.scriptLookups(g, old)
		if err != nil {
			return nil, nil, err
		}
		var transports []string
		for name := range g.transports {
			transports = append(transports, name)
		}
		p, err := script.Compile(script.Config{
			Name: filepath.Base(string(s.file)), Source: s.text, Lookups: look, Transports: transports, Log: a.logger("Script"),
			Limits: script.Limits{
				Steps: uint64(s.limits.Steps), Time: s.limits.Time, Memory: int64(s.limits.Memory),
				Lookup: s.limits.Lookup, Lookups: s.limits.Lookups,
			},
		})
		return p, nil, err
	})
}

// scriptBlock is a block "script" of the stages connect and recipient.
func (a *app) scriptBlock(g, old *generation, p *config.ScriptBlock, stage policy.Stage, key string) (policy.Block, error) {
	program, err := a.program(g, old, scriptSource{p.File, p.Source, p.Limits})
	if err != nil {
		return policy.Block{}, err
	}
	if !program.Has(script.Stage(stage)) {
		return policy.Block{}, fmt.Errorf("%s has no function %s", p.File, stage)
	}
	return policy.Block{Key: key, Use: script.Module, Check: scriptCheck{program}, Scope: policy.PerRecipient}, nil
}

type scriptCheck struct{ program *script.Program }

// Check implements policy.Check.
func (c scriptCheck) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	return nil, errors.New("the script was not asked")
}

// scriptBackend is a block "script" of the stage auth.
func (a *app) scriptBackend(g, old *generation, p *config.ScriptBlock) (policy.AuthBackend, error) {
	program, err := a.program(g, old, scriptSource{p.File, p.Source, p.Limits})
	if err != nil {
		return nil, err
	}
	if !program.Has(script.Auth) {
		return nil, fmt.Errorf("%s has no function auth", p.File)
	}
	return scriptLogin{program}, nil
}

type scriptLogin struct{ program *script.Program }

// Authenticate implements policy.AuthBackend.
func (l scriptLogin) Authenticate(ctx context.Context, s *mail.Session, user, password string) (policy.AuthAnswer, error) {
	return l.program.Run(ctx, &script.Input{Stage: script.Auth, Session: s, Findings: s.Findings, Login: user, Password: password}).Answer(), nil
}

func (a *app) scriptSurroundings(*generation) string { return "" }

func (a *app) scriptLookups(g, old *generation) (script.Lookups, error) { return script.Lookups{}, nil }
