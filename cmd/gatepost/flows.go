package main

import (
	"fmt"
	"slices"

	"gatepost/internal/config"
	"gatepost/internal/flow"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/message/archive"
	"gatepost/internal/message/footer"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/message/textview"
	"gatepost/internal/scan"
	"gatepost/internal/scan/authres"
	"gatepost/internal/scan/milter"
)

// buildContent makes the content flows of a generation. Modules of old that are
// asked for in the same way are taken over, with their connections.
func (a *app) buildContent(g, old *generation) error {
	g.modules = make(map[string]*builtModule)
	g.content = gateway.Content{
		Flows: make(map[string]gateway.Flow),

		Disclaimers: make(map[string]*footer.Footer),

		Options:  a.scanOptions(g.cfg),
		Budget:   g.cfg.Limits.ScanTimeout,
		MaxSize:  int64(g.cfg.Limits.MaxScanSize),
		Observer: a.metrics,
		Learn:    a.learn,
		Edits:    milter.Edits,
		Fields:   func(env *mail.Envelope) []byte { return authres.Field(string(g.cfg.Hostname), env.Findings) },
	}
	for i := range g.cfg.Disclaimers {
		d := &g.cfg.Disclaimers[i]
		g.content.Disclaimers[string(d.Name)] = footer.New(footer.Options{Text: d.Text, HTML: d.HTML, Signed: d.BreakDKIM, Repeat: d.Repeat})
	}
	for i := range g.cfg.Flows {
		f := &g.cfg.Flows[i]
		if f.Stage != "content" {
			continue
		}
		built, err := a.buildFlow(g, old, f)
		if err != nil {
			return fmt.Errorf("make flow %s: %w", f.Name, err)
		}
		g.content.Flows[string(f.Name)] = built
	}
	return nil
}

// scanOptions are how messages are read for scanning.
func (a *app) scanOptions(cfg *config.Config) scan.Options {
	l := &cfg.Limits
	return scan.Options{
		Tree:      mimetree.Limits{Depth: l.MIMEDepth, Parts: l.MIMEParts},
		Text:      textview.Limits{Text: int64(l.ScanText)},
		MaxHeader: int64(l.MaxHeaderSize),
		Unpacker: archive.New(archive.Config{
			Limits: archive.Limits{Depth: l.ArchiveDepth, Files: l.ArchiveFiles, Bytes: int64(l.ArchiveBytes)},
			Temp:   archive.DirTemp(string(l.ScanTemp)),
		}),
	}
}

// buildFlow makes one flow: what observes for it, and what decides.
func (a *app) buildFlow(g, old *generation, f *config.Flow) (gateway.Flow, error) {
	built := gateway.Flow{Decide: &flow.Flow{Name: string(f.Name), Observe: f.Mode == "observe"}}
	for i := range f.Blocks {
		b := &f.Blocks[i]
		decide, err := a.buildBlock(g, b)
		if err != nil {
			return built, fmt.Errorf("block %s: %w", b.Use, err)
		}
		built.Decide.Blocks = append(built.Decide.Blocks, decide)
		if decide.Score != nil {
			continue // it observes nothing
		}
		observe, err := a.moduleFor(g, old, b, decide.Key)
		if err != nil {
			return built, fmt.Errorf("block %s: %w", b.Use, err)
		}
		built.Blocks = append(built.Blocks, observe)
	}
	return built, nil
}

// buildBlock is what package flow needs to know of a block.
func (a *app) buildBlock(g *generation, b *config.Block) (flow.Block, error) {
	d := flow.Defaults(b.Use)
	d.Key, d.Observe = blockKey(g.cfg, b), b.Mode == "observe"
	switch p := b.Params.(type) {
	case *config.StructureBlock:
		d.OnUnknown = p.OnUnknown
		d.Actions = map[string]mail.Action{
			flow.ClassAmbiguous: p.OnAmbiguous, flow.ClassEncrypted: p.OnEncrypted, flow.ClassDamaged: p.OnDamaged,
			flow.ClassLimit: p.OnLimit, flow.ClassMacro: p.OnMacro,
		}
	case *config.ClamAVBlock:
		d.OnMatch, d.OnUnknown = p.OnMatch, p.OnUnknown
		d.Actions = map[string]mail.Action{
			flow.ClassEncrypted: p.OnEncrypted, flow.ClassLimit: p.OnLimit, flow.ClassHeuristic: p.OnHeuristic,
		}
	case *config.AuthResBlock:
		d.DMARC, d.OnUnknown = p.DMARC, p.OnUnknown
	case *config.FiltersBlock:
		d.OnUnknown = p.OnUnknown
		for _, f := range filtersOf(g.cfg, p) {
			d.Filters = append(d.Filters, flow.FilterRule{Name: f.Name, Then: f.Actions, Reply: f.Reply})
		}
	case *config.SendersBlock:
		d.OnMatch, d.OnUnknown = p.OnMatch, p.OnUnknown
	case *config.BayesBlock:
		d.OnUnknown = p.OnUnknown
	case *config.ReputationBlock, *config.LinksBlock:
	case *config.MilterBlock:
		d.OnMatch, d.OnUnknown = p.OnMatch, p.OnUnknown
	case *config.RspamdBlock:
		d.OnMatch, d.OnUnknown = p.OnMatch, p.OnUnknown
	case *config.SpamdBlock:
		d.OnUnknown = p.OnUnknown
	case *config.ICAPBlock:
		d.OnMatch, d.OnUnknown = p.OnMatch, p.OnUnknown
	case *config.ContentScriptBlock:
		d.OnUnknown = p.OnUnknown
	case *config.ScoreBlock:
		d.Score = &flow.Thresholds{
			Mark: threshold(p.Mark), Quarantine: threshold(p.Quarantine), Reject: threshold(p.Reject), SubjectTag: p.SubjectTag,
		}
	default:
		return d, fmt.Errorf("no such block: %T", p)
	}
	return d, nil
}

// threshold is a threshold of the configuration, where 0 stands for never.
func threshold(v float64) *float64 {
	if v == 0 {
		return nil
	}
	return &v
}

// filtersOf are the filters that a block applies, in the order of the file.
func filtersOf(cfg *config.Config, p *config.FiltersBlock) []config.Filter {
	if len(p.Names) == 0 {
		return cfg.Filters
	}
	return slices.DeleteFunc(slices.Clone(cfg.Filters), func(f config.Filter) bool { return !slices.Contains(p.Names, f.Name) })
}
