package admin

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/config"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// Configuration is the configuration file and the files that it names, as something
// that is looked at and changed while the gateway runs. All but Try is change.Keeper.
type Configuration interface {
	Status() (*change.Status, error)
	Check(change.Change) (*change.Checked, error)
	Apply(context.Context, change.Change) (*change.Applied, error)
	Files() ([]change.File, error)
	File(path string) (*change.Opened, error)
	Revisions(before, n int) []change.Revision
	Revision(id int) (*change.Detail, error)
	CheckRollback(id int) (*change.Checked, error)
	Rollback(ctx context.Context, id int, c change.Change) (*change.Applied, error)
	// Try goes through the flows of a changed configuration, or where c says nothing of
	// the one in use, as Flows does; nothing is applied.
	Try(ctx context.Context, c change.Change, q FlowQuery, body io.Reader) (any, error)
	// TestWebhook sends a test event to a webhook of a changed configuration, or where c
	// says nothing of the one in use. The error is why it was not taken.
	TestWebhook(ctx context.Context, c change.Change, name string) error
	// TestScript runs the test functions of a script, which may be one of c.Files.
	TestScript(ctx context.Context, c change.Change, path string) (*ScriptTests, error)
}

// ScriptTests is how the tests of a script went.
type ScriptTests struct {
	Passed int `json:"passed"`
	Failed int `json:"failed"`
	// Output has a line for each test: "ok" with its name, or "FAIL" with the place.
	Output string `json:"output,omitempty"`
	// Mistakes are those of a script that cannot run.
	Mistakes []ScriptMistake `json:"mistakes,omitempty"`
}

// ScriptMistake is a mistake of a script. Line and Column count from 1.
type ScriptMistake struct {
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Text   string `json:"text"`
}

// ConfigTest is what is to be tested of a change: a webhook by its name, or a script by
// its path.
type ConfigTest struct {
	Change ConfigChange `json:"change,omitzero"`
	Name   string       `json:"name,omitempty"`
	Path   string       `json:"path,omitempty"`
}

// ConfigChange is a change as programs send it: a whole text, or operations on the text
// that Base names.
type ConfigChange struct {
	change.Change
	Ops []edit.Op `json:"ops,omitempty"`
}

// ConfigTry is an envelope, and perhaps a message, to try a change with.
type ConfigTry struct {
	Change ConfigChange `json:"change"`
	FlowQueryText
	Message string `json:"message,omitempty"`
}

// ConfigFailure is the answer to a change that was not made, and why.
type ConfigFailure struct {
	Failure
	// Checked is there where the change is not valid, or needs a restart.
	Checked *change.Checked `json:"checked,omitempty"`
	// Path, Version and Diff are of a file that has changed since.
	Path    string `json:"path,omitempty"`
	Version string `json:"version,omitempty"`
	Diff    string `json:"diff,omitempty"`
}

// maxConfigBody bounds a change, in bytes.
const maxConfigBody = 20 << 20

func (s *Server) routeConfig(r *router) {
	if s.cfg.Configuration == nil {
		return
	}
	read := func(path, summary string, out any, do Handler, query ...string) {
		r.add(Route{Method: "GET", Path: "/api/v1/config" + path, Permission: accounts.ConfigRead, Do: do, Doc: &Doc{Summary: summary, Out: out, Query: query}})
	}
	// What only looks is read by those who may see the configuration; it is a POST
	// because it sends a text.
	ask := func(path, summary string, in, out any, do Handler) {
		r.add(Route{Method: "POST", Path: "/api/v1/config" + path, Permission: accounts.ConfigRead, MaxBody: maxConfigBody, Quiet: true, Do: do, Doc: &Doc{Summary: summary, In: in, Out: out}})
	}
	write := func(path, act, summary string, in, out any, do Handler) {
		r.add(Route{Method: "POST", Path: "/api/v1/config" + path, Permission: accounts.ConfigWrite, Act: act, MaxBody: maxConfigBody, Do: do, Doc: &Doc{Summary: summary, In: in, Out: out}})
	}
	read("", "Show the configuration, with marks in the place of secrets", change.Status{}, s.configStatus)
	read("/schema", "Describe every key and block", config.Schema{}, configSchema)
	read("/files", "List the files that the configuration names", []change.File{}, s.configFiles)
	read("/file", "Show a file that the configuration names", change.Opened{}, s.configFile, "path: as the list has it")
	read("/revisions", "List changes, the newest first", []change.Revision{}, s.revisions, "before: only those below this number", "limit: how many, 50 by default")
	read("/revisions/{id}", "Show a change", change.Detail{}, s.revision)
	read("/revisions/{id}/rollback", "Say what a rollback would do", change.Checked{}, s.checkRollback)
	ask("/check", "Say what a change would do", ConfigChange{}, change.Checked{}, s.checkConfig)
	ask("/edit", "Carry out operations on the text, which is not written", ConfigChange{}, change.FileText{}, s.editConfig)
	ask("/try", "Go through the flows of a changed configuration with an envelope or a message", ConfigTry{}, map[string]any{}, s.tryConfig)
	write("/test-webhook", "test webhook", "Send a test event to a webhook", ConfigTest{}, map[string]bool{}, s.testWebhook)
	write("/test-script", "test script", "Run the test functions of a script", ConfigTest{}, ScriptTests{}, s.testScript)
	write("/apply", "change configuration", "Make a change", ConfigChange{}, change.Applied{}, s.applyConfig)
	write("/revisions/{id}/rollback", "roll configuration back", "Make everything as it was after a change", change.Change{}, change.Applied{}, s.rollback)
}

func (s *Server) configStatus(w http.ResponseWriter, _ *http.Request, _ *Actor) {
	answerConfig(w)(s.cfg.Configuration.Status())
}

func configSchema(w http.ResponseWriter, _ *http.Request, _ *Actor) {
	answerConfig(w)(config.NewSchema())
}

func (s *Server) configFiles(w http.ResponseWriter, _ *http.Request, _ *Actor) {
	answerConfig(w)(s.cfg.Configuration.Files())
}

func (s *Server) configFile(w http.ResponseWriter, r *http.Request, _ *Actor) {
	answerConfig(w)(s.cfg.Configuration.File(r.URL.Query().Get("path")))
}

func (s *Server) revisions(w http.ResponseWriter, r *http.Request, _ *Actor) {
	v := r.URL.Query()
	before, err := strconv.Atoi(cmp.Or(v.Get("before"), "0"))
	limit, limitErr := strconv.Atoi(cmp.Or(v.Get("limit"), "50"))
	if err := errors.Join(err, limitErr); err != nil {
		failWith(w, badRequest(err))
		return
	}
	answer(w, http.StatusOK, s.cfg.Configuration.Revisions(before, min(max(limit, 1), 1000)))
}

// revisionID reads the number in a path; what is no number is no revision.
func revisionID(r *http.Request) int {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		return 0
	}
	return id
}

func (s *Server) revision(w http.ResponseWriter, r *http.Request, _ *Actor) {
	answerConfig(w)(s.cfg.Configuration.Revision(revisionID(r)))
}

func (s *Server) checkRollback(w http.ResponseWriter, r *http.Request, _ *Actor) {
	answerConfig(w)(s.cfg.Configuration.CheckRollback(revisionID(r)))
}

// configChange reads a change, and carries its operations out.
func (s *Server) configChange(w http.ResponseWriter, r *http.Request) (ConfigChange, bool) {
	var c ConfigChange
	if !decodeUpTo(w, r, &c, maxConfigBody) {
		return c, false
	}
	if err := s.operate(&c); err != nil {
		failConfig(w, err)
		return c, false
	}
	return c, true
}

// operate makes a text of operations.
func (s *Server) operate(c *ConfigChange) error {
	if len(c.Ops) == 0 {
		return nil
	}
	if c.Text != nil {
		return &change.BadError{Text: "send a text or operations, not both"}
	}
	now, err := s.cfg.Configuration.Status()
	if err != nil {
		return err
	}
	if c.Base == "" {
		c.Base = now.Version // operations say themselves what they are about
	}
	if c.Base != now.Version {
		return &change.ConflictError{Path: now.File, Version: now.Version}
	}
	d, err := edit.Parse(now.Text)
	if err == nil {
		err = change.Do(d, c.Ops...)
	}
	if err != nil {
		return &change.BadError{Text: err.Error()}
	}
	text := d.Text()
	c.Text = &text
	return nil
}

func (s *Server) checkConfig(w http.ResponseWriter, r *http.Request, _ *Actor) {
	if c, ok := s.configChange(w, r); ok {
		answerConfig(w)(s.cfg.Configuration.Check(c.Change))
	}
}

func (s *Server) editConfig(w http.ResponseWriter, r *http.Request, _ *Actor) {
	c, ok := s.configChange(w, r)
	if !ok {
		return
	}
	if c.Text == nil {
		fail(w, http.StatusBadRequest, "there are no operations")
		return
	}
	answer(w, http.StatusOK, change.FileText{Base: c.Base, Text: *c.Text})
}

func (s *Server) applyConfig(w http.ResponseWriter, r *http.Request, a *Actor) {
	c, ok := s.configChange(w, r)
	if !ok {
		return
	}
	c.By = a.By(c.By)
	if !noteOK(w, c.By, c.Why) {
		return
	}
	done, err := s.cfg.Configuration.Apply(r.Context(), c.Change)
	NoteChange(a, done, c.Why)
	answerConfig(w)(done, err)
}

func (s *Server) rollback(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c change.Change
	if !decode(w, r, &c) {
		return
	}
	c.By = a.By(c.By)
	if !noteOK(w, c.By, c.Why) {
		return
	}
	done, err := s.cfg.Configuration.Rollback(r.Context(), revisionID(r), c)
	a.Note("to revision " + r.PathValue("id"))
	NoteChange(a, done, c.Why)
	answerConfig(w)(done, err)
}

// noteOK refuses notes that are too long.
func noteOK(w http.ResponseWriter, notes ...string) bool {
	for _, n := range notes {
		if len(n) > maxNote {
			fail(w, http.StatusBadRequest, "by and why have at most "+strconv.Itoa(maxNote)+" bytes")
			return false
		}
	}
	return true
}

// NoteChange says in the audit log what was changed, and why.
func NoteChange(a *Actor, done *change.Applied, why string) {
	if done == nil {
		return
	}
	a.Note("revision " + strconv.Itoa(done.Revision))
	for _, f := range done.Diffs {
		a.Note(f.Path)
	}
	if why != "" {
		a.Note(why)
	}
}

func (s *Server) tryConfig(w http.ResponseWriter, r *http.Request, _ *Actor) {
	var t ConfigTry
	if !decodeUpTo(w, r, &t, maxConfigBody) {
		return
	}
	q, err := t.Parse()
	if err != nil {
		err = &change.BadError{Text: err.Error()}
	} else {
		err = s.operate(&t.Change)
	}
	if err != nil {
		failConfig(w, err)
		return
	}
	var body io.Reader
	if t.Message != "" {
		body = strings.NewReader(t.Message)
	}
	answerConfig(w)(s.cfg.Configuration.Try(r.Context(), t.Change.Change, q, body))
}

// configTest reads what is to be tested.
func (s *Server) configTest(w http.ResponseWriter, r *http.Request) (ConfigTest, bool) {
	var t ConfigTest
	if !decodeUpTo(w, r, &t, maxConfigBody) {
		return t, false
	}
	if err := s.operate(&t.Change); err != nil {
		failConfig(w, err)
		return t, false
	}
	return t, true
}

func (s *Server) testWebhook(w http.ResponseWriter, r *http.Request, a *Actor) {
	t, ok := s.configTest(w, r)
	if !ok {
		return
	}
	a.Note(t.Name)
	if err := s.cfg.Configuration.TestWebhook(r.Context(), t.Change.Change, t.Name); err != nil {
		failConfig(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]bool{"taken": true})
}

func (s *Server) testScript(w http.ResponseWriter, r *http.Request, a *Actor) {
	if t, ok := s.configTest(w, r); ok {
		a.Note(t.Path)
		answerConfig(w)(s.cfg.Configuration.TestScript(r.Context(), t.Change.Change, t.Path))
	}
}

// answerConfig answers with what a method of Configuration returns.
func answerConfig(w http.ResponseWriter) func(any, error) {
	return func(v any, err error) {
		if err != nil {
			failConfig(w, err)
			return
		}
		answer(w, http.StatusOK, v)
	}
}

// failConfig answers with everything that is known of why.
func failConfig(w http.ResponseWriter, err error) {
	f := ConfigFailure{Failure: Failure{Error: err.Error()}}
	var (
		bad      *change.BadError
		conflict *change.ConflictError
		invalid  *change.InvalidError
		restart  *change.RestartError
		refused  *change.RefusedError
	)
	switch {
	case errors.As(err, &conflict):
		f.Path, f.Version, f.Diff = conflict.Path, conflict.Version, conflict.Diff
		answer(w, http.StatusConflict, f)
	case errors.As(err, &invalid):
		f.Checked = invalid.Checked
		answer(w, http.StatusUnprocessableEntity, f)
	case errors.As(err, &restart):
		f.Checked = restart.Checked
		answer(w, http.StatusConflict, f)
	case errors.As(err, &refused):
		answer(w, http.StatusUnprocessableEntity, f)
	case errors.As(err, &bad), errors.Is(err, change.ErrNothing):
		answer(w, http.StatusBadRequest, f)
	case errors.Is(err, change.ErrNotFound):
		answer(w, http.StatusNotFound, f)
	default:
		failWith(w, err)
	}
}
