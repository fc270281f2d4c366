package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// versionCmd prints which Gatepost this is.
type versionCmd struct {
	JSON bool `help:"Print a JSON object."`
}

// Help is the long help text.
func (*versionCmd) Help() string {
	return `Prints the version, the commit it was built from, and the Go version.

  gatepost version
  gatepost version --json`
}

// buildVersion says what this binary was built from.
type buildVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	// Time is when the commit was made, RFC 3339.
	Time string `json:"time,omitempty"`
	// Modified says that the tree differed from the commit.
	Modified  bool   `json:"modified,omitempty"`
	GoVersion string `json:"go_version"`
	Platform  string `json:"platform"`
}

// readVersion reads what the Go tool put into the binary.
func readVersion() buildVersion {
	v := buildVersion{Version: "devel", GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// String is the version on one line.
func (v buildVersion) String() string {
	s := "gatepost " + v.Version
	if v.Revision != "" {
		s += fmt.Sprintf(" (commit %.12s", v.Revision)
		if v.Time != "" {
			s += " of " + v.Time
		}
		if v.Modified {
			s += ", modified"
		}
		s += ")"
	}
	return s + " " + v.GoVersion + " " + v.Platform
}

// Run implements the subcommand.
func (c *versionCmd) Run(t *terminal) error {
	if c.JSON {
		return t.json(readVersion())
	}
	return t.print(readVersion().String() + "\n")
}

// json prints v as indented JSON.
func (t *terminal) json(v any) error {
	e := json.NewEncoder(t.out)
	e.SetEscapeHTML(false) // addresses stand in <>
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// print prints text.
func (t *terminal) print(text string) error {
	_, err := t.out.Write([]byte(text))
	return err
}
