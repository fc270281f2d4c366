package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/config/edit"
)

// plan is a change on its way: what each file is, and what it becomes.
type plan struct {
	revision Revision
	steps    []*step
	checked  Checked
	dir      string            // where files stand that are not written yet
	staged   map[string]string // absolute paths, to those files
	cfg      *config.Config    // with the staged paths; nil where it is not valid
	later    bool
}

// step is one file.
type step struct {
	path   string // as in File
	kind   config.FileKind
	before content
	text   string // with its secrets
	main   bool   // it is the configuration itself
}

// Check says what would follow from a change, and changes nothing.
func (k *Keeper) Check(c Change) (*Checked, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, err := k.prepare(c)
	if err != nil {
		return nil, err
	}
	return &p.checked, p.unstage()
}

// Candidate makes a Config of a change that is not applied, for trying it out, and the
// function that has to be called when it is not used any more. With problems in it the
// error is an InvalidError.
func (k *Keeper) Candidate(c Change) (*config.Config, func() error, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, err := k.prepare(c)
	if err != nil {
		return nil, nil, err
	}
	if p.cfg == nil {
		return nil, nil, errors.Join(&InvalidError{&p.checked}, p.unstage())
	}
	return p.cfg, p.unstage, nil
}

// Apply makes a change.
func (k *Keeper) Apply(ctx context.Context, c Change) (*Applied, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, err := k.prepare(c)
	if err != nil {
		return nil, err
	}
	p.revision.How = ByChange
	return k.run(ctx, p)
}

// Rollback makes everything as it was after a revision, by a new one.
func (k *Keeper) Rollback(ctx context.Context, id int, c Change) (*Applied, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, err := k.prepareRollback(id, c)
	if err != nil {
		return nil, err
	}
	p.revision.How = Back
	return k.run(ctx, p)
}

// CheckRollback says what would follow from a rollback.
func (k *Keeper) CheckRollback(id int) (*Checked, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, err := k.prepareRollback(id, Change{})
	if err != nil {
		return nil, err
	}
	return &p.checked, p.unstage()
}

// prepare reads what a change is about, and judges it.
func (k *Keeper) prepare(c Change) (*plan, error) {
	p := &plan{revision: Revision{By: c.By, Why: c.Why}, later: c.Later}
	if c.Text != nil {
		s, err := k.mainStep(*c.Text, c.Base)
		if err != nil {
			return nil, err
		}
		p.steps = append(p.steps, s)
	}
	for _, f := range c.Files {
		s, err := k.fileStep(f)
		if err != nil {
			return nil, err
		}
		p.steps = append(p.steps, s)
	}
	if len(p.steps) == 0 {
		return nil, badf("the change says nothing")
	}
	return p, k.judge(p)
}

// mainStep is the change of the configuration itself.
func (k *Keeper) mainStep(text, base string) (*step, error) {
	now, err := k.readConfig()
	if err != nil {
		return nil, err
	}
	path := filepath.Base(k.cfg.File)
	if err := checkText(path, text); err != nil {
		return nil, err
	}
	if base != now.version {
		return nil, k.conflict(path, kindConfig, base, now)
	}
	if text, err = k.mask.reveal(kindConfig, text, now.text); err != nil {
		return nil, err
	}
	return &step{path: path, kind: kindConfig, before: now, text: text, main: true}, nil
}

// fileStep is the change of another file.
func (k *Keeper) fileStep(f FileText) (*step, error) {
	path := filepath.FromSlash(f.Path)
	if !filepath.IsLocal(path) || path != filepath.Clean(path) || strings.ContainsAny(path, "\x00\n\r\\") {
		return nil, fmt.Errorf("%q: %w", f.Path, ErrNotFound)
	}
	rel, why := k.inside(filepath.Join(k.dir, path))
	if why != "" {
		return nil, badf("%s cannot be changed here: %s", rel, why)
	}
	if err := checkText(rel, f.Text); err != nil {
		return nil, err
	}
	kind := k.kindOf(rel)
	now, err := k.read(rel, kind.Secret())
	if err != nil {
		return nil, err
	}
	if f.Base != now.version {
		return nil, k.conflict(rel, kind, f.Base, now)
	}
	text, err := k.mask.reveal(kind, f.Text, now.text)
	if err != nil {
		return nil, err
	}
	return &step{path: rel, kind: kind, before: now, text: text}, nil
}

// conflict says how what is there came to differ from what the author saw.
func (k *Keeper) conflict(path string, kind config.FileKind, base string, now content) error {
	e := &ConflictError{Path: path, Version: now.version}
	if old, err := k.journal.text(base); err == nil && !kind.Secret() && base != "" && filepath.IsLocal(base) && len(base) == 64 {
		e.Diff = edit.Diff("what you saw", k.mask.hide(kind, old), "what is there", k.mask.hide(kind, now.text))
	}
	return e
}

// stageDir holds the directories of plans.
func (k *Keeper) stageDir() string { return filepath.Join(k.journal.dir, "staged") }

// unstage removes what stage made.
func (p *plan) unstage() error {
	if p.dir == "" {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// judge has the change checked by what reads the configuration at the start. It leaves
// staged files behind, for unstage.
func (k *Keeper) judge(p *plan) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, p.unstage())
		}
	}()
	text, err := k.stage(p)
	if err != nil {
		return err
	}
	cfg, problems := config.LoadText(k.cfg.File, []byte(text), p.staged)
	p.cfg = cfg
	p.checked = Checked{OK: cfg != nil, Problems: k.problems(problems, p), Diffs: []FileDiff{}}
	if cfg != nil {
		if err := k.settleKinds(p); err != nil {
			return err
		}
		p.checked.Restart = k.restart(p)
	}
	for _, s := range p.steps {
		switch {
		case s.before.exists && s.before.text == s.text:
		case s.kind.Secret():
			p.checked.Diffs = append(p.checked.Diffs, FileDiff{Path: s.path, Secret: true})
		default:
			p.checked.Diffs = append(p.checked.Diffs, k.diff(s.path, s.kind, s.before.text, s.text))
		}
	}
	return nil
}

// restart asks what a running gateway can't change to. That other files stand for some
// is no difference.
func (k *Keeper) restart(p *plan) []string {
	back := make(map[string]string, len(p.staged))
	for real, other := range p.staged {
		back[other] = real
	}
	p.cfg.Stage(back)
	defer p.cfg.Stage(p.staged)
	return k.cfg.NeedsRestart(p.cfg)
}

// stage writes the files that the change has beside those that are in use, and returns
// the text of the configuration.
func (k *Keeper) stage(p *plan) (text string, err error) {
	now, err := k.readConfig()
	if err != nil {
		return "", err
	}
	text = now.text
	if err := errors.Join(p.unstage(), os.MkdirAll(k.stageDir(), 0o700)); err != nil {
		return "", fmt.Errorf("make room to check the change: %w", err)
	}
	if p.dir, err = os.MkdirTemp(k.stageDir(), ""); err != nil {
		return "", fmt.Errorf("make room to check the change: %w", err)
	}
	p.staged = map[string]string{}
	for i, s := range p.steps {
		if s.main {
			text = s.text
			continue
		}
		// Under its own name, which scripts have in what they say.
		name := filepath.Join(p.dir, strconv.Itoa(i), filepath.Base(s.path))
		if err := errors.Join(os.Mkdir(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(s.text), 0o600)); err != nil {
			return "", fmt.Errorf("make room to check the change: %w", err)
		}
		p.staged[filepath.Join(k.dir, s.path)] = name
	}
	return text, nil
}

// settleKinds wants that the configuration, as it will be, names every file of the
// change: nothing else is written here.
func (k *Keeper) settleKinds(p *plan) error {
	kinds := map[string]config.FileKind{}
	for _, f := range p.cfg.Files() {
		kinds[f.Path] = f.Kind
	}
	for _, s := range p.steps {
		if s.main {
			continue
		}
		kind, ok := kinds[p.staged[filepath.Join(k.dir, s.path)]]
		switch {
		case !ok:
			return badf("the configuration names no file %s", s.path)
		case kind == config.FileData:
			return badf("%s is a database and cannot be written here", s.path)
		}
		s.kind = kind
	}
	return nil
}

// problems are those of a check, without quotations from files that are not to be shown:
// whoever names a file in a configuration must not read it by that.
func (k *Keeper) problems(list []config.Problem, p *plan) []Problem {
	shown := map[string]string{k.cfg.File: filepath.Base(k.cfg.File)}
	for _, s := range p.steps {
		shown[filepath.Join(k.dir, s.path)] = s.path
	}
	for _, f := range k.cfg.InUse().Files() {
		if rel, why := k.inside(f.Path); why == "" && !f.Kind.Secret() {
			shown[f.Path] = rel
		}
	}
	all := make([]Problem, 0, len(list))
	for _, x := range list {
		one := Problem{
			Severity: "error", Rule: x.Rule, File: x.File, Line: x.Line, Column: x.Column, Path: x.Path,
			Message: k.mask.blot(k.mask.hide(kindConfig, x.Message), p.steps), Hint: k.mask.blot(k.mask.hide(kindConfig, x.Hint), p.steps),
		}
		if x.Severity == config.Warning {
			one.Severity = "warning"
		}
		if rel, ok := shown[x.File]; ok {
			one.File = rel
		} else if x.Line > 0 {
			one.Message = "this line cannot be used"
		}
		all = append(all, one)
	}
	return all
}

// run makes the change that was prepared.
func (k *Keeper) run(ctx context.Context, p *plan) (_ *Applied, err error) {
	defer func() { err = errors.Join(err, p.unstage()) }()
	out := &Applied{State: InUse, Checked: p.checked}
	switch {
	case p.cfg == nil:
		return nil, &InvalidError{&p.checked}
	case len(p.checked.Diffs) == 0:
		return out, nil
	case len(p.checked.Restart) > 0 && !p.later:
		return nil, &RestartError{&p.checked}
	}
	// What was edited by hand and comes into use with this is a revision of its own.
	now, err := k.readConfig()
	if err == nil {
		err = k.note(now)
	}
	if err != nil {
		return nil, err
	}
	if err := k.begin(p); err != nil {
		return nil, err
	}
	if err := k.write(p); err != nil {
		return nil, errors.Join(err, k.journal.drop(p.revision.ID))
	}
	if len(p.checked.Restart) > 0 {
		out.State = Waiting
	} else if err := k.cfg.Reload(ctx); err != nil {
		return nil, errors.Join(&RefusedError{err}, k.undo(p.steps), k.journal.drop(p.revision.ID))
	}
	for _, s := range p.steps {
		if s.main && out.State == InUse {
			k.running = version(s.text)
		}
	}
	p.revision.State = out.State
	if err := errors.Join(k.journal.put(p.revision), k.journal.prune()); err != nil {
		// It is in use, whatever the record says; settle finds that out.
		k.cfg.Log.Error("a change is in use, but its record is not complete", "revision", p.revision.ID, "error", err)
	}
	out.Revision = p.revision.ID
	return out, nil
}

// begin makes the revision durable, with what was and what will be.
func (k *Keeper) begin(p *plan) error {
	p.revision.ID, p.revision.When, p.revision.State = k.journal.next(), time.Now(), Begun
	p.revision.Files = nil
	for _, s := range p.steps {
		if s.before.exists && s.before.text == s.text {
			continue
		}
		f := FileChange{Path: s.path, Secret: s.kind.Secret()}
		if !f.Secret {
			var err error
			if s.before.exists {
				if f.Before, err = k.journal.keepText(s.before.text); err != nil {
					return err
				}
			}
			if f.After, err = k.journal.keepText(s.text); err != nil {
				return err
			}
		}
		p.revision.Files = append(p.revision.Files, f)
	}
	return k.journal.put(p.revision)
}

// write replaces the files: those that the configuration names first, so that it never
// names one that is not there.
func (k *Keeper) write(p *plan) error {
	var done []*step
	for _, main := range []bool{false, true} {
		for _, s := range p.steps {
			if s.main != main || s.before.exists && s.before.text == s.text {
				continue
			}
			if err := k.put(s, s.text); err != nil {
				return errors.Join(fmt.Errorf("write %s: %s", s.path, cause(err)), k.undo(done))
			}
			done = append(done, s)
		}
	}
	return nil
}

// put writes a file of a change. A configuration that is a link is replaced where it
// leads to.
func (k *Keeper) put(s *step, text string) error {
	if !s.main {
		return replace(k.root, s.path, []byte(text), 0o640&^secretBits(s.kind))
	}
	real, err := filepath.EvalSymlinks(k.cfg.File)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Dir(real))
	if err != nil {
		return err
	}
	defer root.Close()
	return replace(root, filepath.Base(real), []byte(text), 0o640)
}

// secretBits are the permissions that a new file with secrets does not get.
func secretBits(kind config.FileKind) fs.FileMode {
	if kind.Secret() || kind == config.FileUsers {
		return 0o077
	}
	return 0
}

// undo puts back what was there, the configuration first.
func (k *Keeper) undo(steps []*step) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		s := steps[i]
		switch {
		case s.before.exists:
			errs = append(errs, k.put(s, s.before.text))
		default:
			errs = append(errs, k.root.Remove(s.path))
		}
	}
	return errors.Join(errs...)
}

// prepareRollback is prepare for what was after a revision. Files that the old
// configuration does not name stay as they are, and so do secrets.
func (k *Keeper) prepareRollback(id int, c Change) (*plan, error) {
	if k.journal.find(id) == nil {
		return nil, fmt.Errorf("revision %d: %w", id, ErrNotFound)
	}
	p := &plan{revision: Revision{By: c.By, Why: c.Why}, later: c.Later}
	for path, v := range k.journal.at(id) {
		if v == "" {
			continue // it was not there; nobody will name it
		}
		text, err := k.journal.text(v)
		if err != nil {
			return nil, err
		}
		s := &step{path: path, kind: k.kindOf(path), text: text, main: path == filepath.Base(k.cfg.File)}
		if _, why := k.inside(filepath.Join(k.dir, path)); why != "" && !s.main {
			continue
		}
		if s.before, err = k.current(path, false); err != nil {
			return nil, err
		}
		p.steps = append(p.steps, s)
	}
	if len(p.steps) == 0 {
		return nil, fmt.Errorf("everything is as it was after revision %d: %w", id, ErrNothing)
	}
	return p, k.judgeRollback(p)
}

// judgeRollback leaves out what the old configuration does not name.
func (k *Keeper) judgeRollback(p *plan) error {
	text, err := k.stage(p)
	if err != nil {
		return err
	}
	if cfg, _ := config.LoadText(k.cfg.File, []byte(text), p.staged); cfg != nil {
		named := map[string]bool{}
		for _, f := range cfg.Files() {
			named[f.Path] = true
		}
		var steps []*step
		for _, s := range p.steps {
			if s.main || named[p.staged[filepath.Join(k.dir, s.path)]] {
				steps = append(steps, s)
			}
		}
		p.steps = steps
	}
	return k.judge(p)
}
