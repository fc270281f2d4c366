package main

import (
	"fmt"

	"gatepost/internal/config"
)

// checkCmd checks a configuration file.
type checkCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration file."`
	JSON   bool   `help:"Print the problems as a JSON array."`
}

// Help is the long help text.
func (*checkCmd) Help() string {
	return `Reads the configuration and every file that it names, and reports everything that
is wrong in one run, one line for each:

  file:line:column: path: what is wrong; hint

It opens no port and changes nothing, so it can run beside a running gateway,
before a reload for example:

  gatepost check -c /etc/gatepost/gatepost.toml && systemctl reload gatepost`
}

// problem is one problem as JSON shows it.
type problem struct {
	Severity string `json:"severity"` // error or warning
	Rule     string `json:"rule"`
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Path     string `json:"path,omitempty"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
}

// Run implements the subcommand.
func (c *checkCmd) Run(t *terminal) error {
	cfg, problems := config.Load(c.Config)
	if c.JSON {
		if err := t.json(problemsForJSON(problems)); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			fmt.Fprintln(t.err, p)
		}
	}
	if config.HasErrors(problems) {
		return errSaid
	}
	if c.JSON {
		return nil
	}
	return t.print(fmt.Sprintf("%s: OK (%s, %s, %s)\n", c.Config,
		plural(len(cfg.Listeners), "listener"), plural(len(cfg.Domains), "domain"), plural(len(cfg.Transports), "transport")))
}

func problemsForJSON(problems []config.Problem) []problem {
	list := make([]problem, 0, len(problems))
	for _, p := range problems {
		severity := "error"
		if p.Severity == config.Warning {
			severity = "warning"
		}
		list = append(list, problem{
			Severity: severity, Rule: p.Rule, File: p.File, Line: p.Line, Column: p.Column,
			Path: p.Path, Message: p.Message, Hint: p.Hint,
		})
	}
	return list
}

// plural is "1 item", "2 items".
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
