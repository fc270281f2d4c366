package rspamd

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

const (
	// maxScore is more than any honest score.
	maxScore = 100_000
	// notes is how many symbols are findings, maxSymbol how long a name may be.
	notes     = 10
	maxSymbol = 60
)

// answer is what rspamd says of a message.
type answer struct {
	Score    *float64          `json:"score"`
	Required float64           `json:"required_score"`
	Action   string            `json:"action"`
	Skipped  bool              `json:"is_skipped"`
	Symbols  map[string]symbol `json:"symbols"`
	Error    string            `json:"error"`
}

// symbol is one rule that matched.
type symbol struct {
	Name        string  `json:"-"`
	Score       float64 `json:"score"`
	Description string  `json:"description"`
}

// actions are what rspamd may want, and what that means here. The rest of what it
// can do to a message is a matter of scores.
var actions = map[string]mail.Result{
	"no action":       mail.Clean,
	"greylist":        mail.Clean, // it is too late for that
	"add header":      mail.Clean,
	"rewrite subject": mail.Clean,
	"soft reject":     mail.Unknown,
	"reject":          mail.Match,
	"discard":         mail.Match,
	"quarantine":      mail.Match,
}

// parse reads an answer, which must be one whole object.
func parse(text []byte) (*answer, error) {
	a := &answer{}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(a); err != nil {
		return nil, fmt.Errorf("it answers no JSON as it should be: %s", message.SafeText(err.Error(), maxText))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it answers more than one object")
	}
	_, known := actions[a.Action]
	switch {
	case a.Error != "":
		return nil, fmt.Errorf("it answers an error: %s", message.SafeText(a.Error, maxText))
	case a.Score == nil || a.Action == "":
		return nil, errors.New("it answers without a score or an action")
	case !known:
		return nil, fmt.Errorf("it answers an action that is not known here: %q", message.SafeText(a.Action, maxText))
	case math.Abs(*a.Score) > maxScore:
		return nil, errors.New("it answers an absurd score")
	}
	return a, nil
}

// complaint is what an answer says that is none, as the end of a sentence.
func complaint(text []byte) string {
	a := answer{}
	if err := json.Unmarshal(text, &a); err != nil || a.Error == "" {
		return ""
	}
	return ": " + message.SafeText(a.Error, maxText)
}

// findings says what an answer means.
func (s *Scanner) findings(a *answer) []mail.Finding {
	top := a.strongest()
	f := mail.Finding{Module: use, Symbol: strings.ReplaceAll(a.Action, " ", "-"), Result: actions[a.Action], Score: *a.Score * s.cfg.Scale}
	f.Reason = fmt.Sprintf("rspamd scores %s of %s: %s", number(*a.Score), number(a.Required), a.Action)
	if a.Skipped {
		f.Reason += " (it was told not to look)"
	}
	list := []mail.Finding{f}
	var words []string
	for _, y := range top {
		words = append(words, y.Name+" "+number(y.Score))
		note := mail.Finding{Module: use, Symbol: y.Name, Result: mail.Clean, Reason: "rspamd: " + number(y.Score)}
		if text := message.SafeText(y.Description, maxText); text != "" {
			note.Reason += " for " + text
		}
		list = append(list, note)
	}
	if len(words) > 0 {
		list[0].Reason += "; " + strings.Join(words, ", ")
	}
	return list
}

// strongest are the symbols that moved the score most.
func (a *answer) strongest() []symbol {
	all := make([]symbol, 0, len(a.Symbols))
	for _, name := range slices.Sorted(maps.Keys(a.Symbols)) {
		y := a.Symbols[name]
		// A colon would make it a class.
		if y.Name = strings.ReplaceAll(message.SafeText(name, maxSymbol), ":", "_"); y.Name != "" && y.Score != 0 {
			all = append(all, y)
		}
	}
	slices.SortStableFunc(all, func(a, b symbol) int { return cmp.Compare(math.Abs(b.Score), math.Abs(a.Score)) })
	return all[:min(len(all), notes)]
}

func number(v float64) string { return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) }
