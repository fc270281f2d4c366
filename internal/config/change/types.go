package change

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"gatepost/internal/config"
)

// Change is what somebody wants to be different. At least one of Text and Files is
// there.
type Change struct {
	// By is who wants it, Why the reason.
	By  string `json:"by,omitempty"`
	Why string `json:"why"`
	// Base is the version of the configuration that Text was made from.
	Base string `json:"base,omitempty"`
	// Text is the whole configuration, with marks for secrets; nil: as it is.
	Text *string `json:"text,omitempty"`
	// Files are files that the configuration, as it will be, names.
	Files []FileText `json:"files,omitempty"`
	// Later has a change written that the running gateway cannot load: it comes into
	// use with the next start.
	Later bool `json:"later,omitempty"`
}

// FileText is the content of a file that the configuration names.
type FileText struct {
	// Path is as in File.
	Path string `json:"path"`
	// Base is the version that it was made from, "" for a file that is new.
	Base string `json:"base,omitempty"`
	Text string `json:"text"`
}

// Problem is one thing that is wrong with a text.
type Problem struct {
	Severity string `json:"severity"` // error or warning
	Rule     string `json:"rule"`
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Path     string `json:"path,omitempty"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
}

// FileDiff is what changes in a file.
type FileDiff struct {
	Path string `json:"path"`
	// Diff is unified, with marks for secrets; "" for a file that is never shown.
	Diff   string `json:"diff"`
	Secret bool   `json:"secret,omitempty"`
}

// Checked says what would follow from a change.
type Checked struct {
	OK       bool       `json:"ok"`
	Problems []Problem  `json:"problems"`
	Diffs    []FileDiff `json:"diffs"`
	// Restart are the keys that a running gateway cannot change.
	Restart []string `json:"restart,omitempty"`
}

// Applied is the outcome of a change.
type Applied struct {
	Revision int   `json:"revision"` // 0: there was nothing to change
	State    State `json:"state"`
	Checked
}

// State is what became of a revision.
type State string

// The states. A change that was begun and not finished when the process died is settled
// by the next one.
const (
	Begun   State = "begun"
	InUse   State = "applied"
	Waiting State = "waits for restart"
)

// How a revision came to be.
type How string

// The ways.
const (
	First    How = "first"    // how everything was when the first record was made
	ByChange How = "change"   // through this package
	ByHand   How = "hand"     // somebody edited the file
	Back     How = "rollback" // to an older revision
)

// Revision is one change that was made.
type Revision struct {
	ID    int          `json:"id"`
	When  time.Time    `json:"when"`
	By    string       `json:"by,omitempty"`
	Why   string       `json:"why,omitempty"`
	How   How          `json:"how"`
	State State        `json:"state"`
	Files []FileChange `json:"files"`
}

// FileChange names the content of a file before and after; "" is no file.
type FileChange struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Secret contents are not kept, and named by nothing.
	Secret bool `json:"secret,omitempty"`
}

// Detail is a revision with what it changed.
type Detail struct {
	Revision
	Diffs []FileDiff `json:"diffs"`
}

// Status is the configuration as it is on disk, and how that relates to what is in use.
type Status struct {
	File string `json:"file"`
	// Version names the text, for Change.Base.
	Version string `json:"version"`
	Text    string `json:"text"`
	// Unloaded says that the text on disk is not what is in use, Diff what differs.
	Unloaded bool   `json:"unloaded"`
	Diff     string `json:"diff,omitempty"`
	// Waiting is the revision that waits for a restart, 0 for none.
	Waiting int `json:"waiting,omitempty"`
	// Writable is "" where changes can be written, else why not.
	Writable string `json:"not_writable,omitempty"`
}

// File is a file that the configuration names.
type File struct {
	// Path is relative to the directory of the configuration where it lies below it.
	Path   string          `json:"path"`
	Kind   config.FileKind `json:"kind"`
	Keys   []string        `json:"keys"`
	Stages []string        `json:"stages,omitempty"`
	// Exists says that it is there; then Size and Modified are known.
	Exists   bool      `json:"exists"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified,omitzero"`
	Version  string    `json:"version,omitempty"`
	// Secret files can be replaced and are never shown.
	Secret bool `json:"secret"`
	// Elsewhere is why it can be neither shown nor changed here, "" where it can.
	Elsewhere string `json:"elsewhere,omitempty"`
}

// Opened is a file with its text, in which marks stand for secrets.
type Opened struct {
	File
	Text string `json:"text"`
}

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("there is no such thing")
	ErrNothing  = errors.New("nothing would change")
)

// BadError is a change that makes no sense as it was sent.
type BadError struct{ Text string }

// Error implements error.
func (e *BadError) Error() string { return e.Text }

func badf(format string, args ...any) error { return &BadError{fmt.Sprintf(format, args...)} }

// ConflictError is a change to something that has changed since.
type ConflictError struct {
	Path string
	// Version is the present one, Diff how it came to differ from the base, "" where
	// that is not known any more.
	Version, Diff string
}

// Error implements error.
func (e *ConflictError) Error() string {
	return e.Path + " has changed since: look at what is there now, and make the change to that"
}

// InvalidError is a change that the gateway could not load.
type InvalidError struct{ Checked *Checked }

// Error implements error.
func (e *InvalidError) Error() string {
	var lines []string
	for _, p := range e.Checked.Problems {
		if p.Severity == "error" {
			lines = append(lines, fmt.Sprintf("%s:%d: %s", p.File, p.Line, strings.TrimPrefix(p.Path+": "+p.Message, ": ")))
		}
	}
	return fmt.Sprintf("the configuration would have %d errors:\n%s", len(lines), strings.Join(lines, "\n"))
}

// RestartError is a change that comes into use with a restart only, which nobody has
// asked for.
type RestartError struct{ Checked *Checked }

// Error implements error.
func (e *RestartError) Error() string {
	return "a change of " + strings.Join(e.Checked.Restart, ", ") + " needs a restart; nothing was changed. It can be saved for the next start"
}

// RefusedError is a change that was valid, but could not be loaded; it was put back.
type RefusedError struct{ Err error }

// Error implements error.
func (e *RefusedError) Error() string {
	return "the gateway could not load it, so everything was put back: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }
