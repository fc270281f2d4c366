package gatepost

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Held is a message in the quarantine, as "gatepost quarantine list --json" has it.
type Held struct {
	ID, State, Sender, Subject, Threat, Reason, Block, Rule, Node string
	Recipients                                                    []string
	Size                                                          int64
	Score                                                         float64
	Entries                                                       []struct{ Recipient, State, Threat, Reason string }
	// ReleasedAs is in the answer to a release only.
	ReleasedAs string `json:"released_as"`
}

// Quarantine is what "gatepost quarantine list --json" says, the latest first.
func (g *Instance) Quarantine(args ...string) ([]Held, error) {
	var list []Held
	return list, g.Ask(&list, append([]string{"quarantine", "list", "--json"}, args...)...)
}

// Ask runs a subcommand that prints JSON and decodes it.
func (g *Instance) Ask(v any, args ...string) error {
	out, err := g.Run(args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("gatepost %q prints %q: %w", args, out, err)
	}
	return nil
}

// Check is a line of /healthz.
type Check struct {
	Name, Why string
	OK        bool
}

// Checks are the lines of /healthz by their names.
func (g *Instance) Checks() (map[string]Check, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + g.Admin + "/healthz")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var health struct{ Checks []Check }
	if err := json.Unmarshal(body, &health); err != nil {
		return nil, fmt.Errorf("read healthz %q: %w", body, err)
	}
	all := make(map[string]Check, len(health.Checks))
	for _, c := range health.Checks {
		all[c.Name] = c
	}
	return all, nil
}
