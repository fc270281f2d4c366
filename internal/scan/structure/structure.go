// Package structure is the block "structure": it reports what is wrong with the
// shape of a message and of what it carries. Mail programs that would disagree
// about it, archives that need a password, what is damaged or goes over a limit,
// programs in documents. It is part of every content flow, because what could not
// be looked at must not count as clean.
//
// Invariants:
//   - It only translates: the observations are made by mimetree, archive and
//     textview. Each becomes a finding whose symbol begins with its class, so that
//     a flow can say what is to happen with that class.
//   - Each observation is named once per file, with the reason as it was given.
package structure

import (
	"context"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/scan"
)

// The classes of findings: the part of a symbol before the colon.
const (
	Ambiguous = "ambiguous" // programs would disagree about what it holds
	Encrypted = "encrypted" // needs a password
	Damaged   = "damaged"   // broken, or in a form that is not understood
	Limit     = "limit"     // over a limit: not all of it was looked at
	Macro     = "macro"     // programs and actions in documents
)

// Config tunes the module.
type Config struct {
	// MaxSize is the size in bytes above which a message is not scanned; 0: no
	// such limit.
	MaxSize int64
}

// Module is the block "structure".
type Module struct {
	cfg Config
	// ambiguous are the symbols of a tree that make programs disagree.
	ambiguous map[string]bool
}

// New returns the module.
func New(cfg Config) *Module {
	m := &Module{cfg: cfg, ambiguous: make(map[string]bool)}
	for _, s := range mimetree.Symbols() {
		m.ambiguous[s.Name] = s.Ambiguous
	}
	return m
}

// Scan implements scan.Module.
func (m *Module) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	var all []mail.Finding
	if size := in.Message.Body.Size(); m.cfg.MaxSize > 0 && size > m.cfg.MaxSize {
		all = append(all, mail.Finding{Module: use, Symbol: Limit + ":size", Result: mail.Unknown, Reason: "the message is larger than what is scanned (max_scan_size)"})
	}
	for _, f := range in.Tree.Findings {
		all = append(all, m.ofTree(f))
	}
	files, err := in.Files(ctx)
	if err != nil {
		return all, err
	}
	for _, f := range files.Findings {
		all = append(all, ofFile(f))
	}
	text, err := in.Text(ctx)
	if err != nil {
		return all, err
	}
	for _, f := range text.Findings {
		f.Module, f.Symbol = use, f.Module+":"+f.Symbol
		all = append(all, f)
	}
	return all, nil
}

// use is the name of the block in the configuration.
const use = "structure"

// ofTree is a finding of the MIME tree with its class.
func (m *Module) ofTree(f mail.Finding) mail.Finding {
	class := "mime"
	switch {
	case m.ambiguous[f.Symbol]:
		class = Ambiguous
	case f.Result == mail.Unknown && strings.HasPrefix(f.Symbol, "limit"):
		class = Limit
	case f.Result == mail.Unknown:
		class = Damaged
	}
	f.Module, f.Symbol = use, class+":"+f.Symbol
	return f
}

// rule is the class of an observation about a file, and what it adds to the score.
type rule struct {
	class string
	score float64
}

// fileRules are the observations of package archive. The scores are small but for
// what honest senders have no use for: they are meant to add up with others.
var fileRules = map[string]rule{
	"archive:encrypted":   {Encrypted, 0},
	"archive:damaged":     {Damaged, 0},
	"archive:method":      {Damaged, 0},
	"archive:unsupported": {Damaged, 0},
	"archive:volumes":     {Damaged, 0},
	"archive:depth":       {Limit, 0},
	"archive:files":       {Limit, 0},
	"archive:bytes":       {Limit, 0},
	"archive:ratio":       {Limit, 0},
	"archive:time":        {Limit, 0},
	"archive:memory":      {Limit, 0},
	"archive:mismatch":    {Ambiguous, 0},
	"archive:hidden":      {Ambiguous, 0},
	"archive:overlap":     {Ambiguous, 0},
	"archive:ambiguous":   {Ambiguous, 0},
	"archive:prefixed":    {"archive", 0},
	"archive:name":        {Ambiguous, 0},
	"office:macro":        {Macro, 1},
	"office:autorun":      {Macro, 2.5},
	"office:xlm":          {Macro, 2.5},
	"office:object":       {Macro, 1},
	"office:equation":     {Macro, 5},
	"office:activex":      {Macro, 1.5},
	"office:template":     {Macro, 2},
	"office:link":         {Macro, 0.5},
	"office:dde":          {Macro, 4},
	"office:encrypted":    {Encrypted, 0},
	"office:damaged":      {Damaged, 0},
	"pdf:javascript":      {Macro, 1},
	"pdf:launch":          {Macro, 4},
	"pdf:action":          {Macro, 0.5},
	"pdf:embedded":        {Macro, 0.5},
	"pdf:submit":          {Macro, 0.5},
	"pdf:encrypted":       {Encrypted, 0},
	"pdf:damaged":         {Damaged, 0},
}

// ofFile is a finding about an archive or a document with its class. What no rule
// names is treated by its result, so that a new symbol is never lost.
func ofFile(f mail.Finding) mail.Finding {
	r, ok := fileRules[f.Module+":"+f.Symbol]
	if !ok {
		r.class = f.Module
		if f.Result == mail.Unknown {
			r.class = Damaged
		}
	}
	f.Symbol = r.class + ":" + f.Module + "-" + f.Symbol
	f.Module, f.Score = use, r.score
	return f
}
