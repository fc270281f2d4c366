package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gatepost/internal/config"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
	"gatepost/internal/script"
)

// scriptCmd is about scripts of flows.
type scriptCmd struct {
	Test scriptTestCmd `cmd:"" help:"Run the tests that a script has of itself."`
}

// scriptTestCmd runs the tests of scripts.
type scriptTestCmd struct {
	Config string   `short:"c" placeholder:"FILE" help:"Configuration file: its transports are those that there are, and lists in files are looked for beside it."`
	Files  []string `arg:"" name:"file" help:"Scripts."`
}

// Help is the long help text.
func (*scriptTestCmd) Help() string {
	return `Runs the functions of a script whose names begin with test_ and prints a line for
each: "ok" with its name, or "FAIL" with the place and what was not as expected.
Nobody is asked over the network: look-ups answer what the test says (with_dns and
the like); lists in files are the real ones, beside the script or the configuration.
The exit status is 0 where all tests passed, 1 where one did not or a script has a
mistake.

  gatepost script test -c /etc/gatepost/gatepost.toml recipient.star`
}

// Run implements the subcommand.
func (c *scriptTestCmd) Run(t *terminal) error {
	cfg := script.Config{}
	if c.Config != "" {
		loaded, problems := config.Load(c.Config)
		if loaded == nil {
			return fmt.Errorf("%s cannot be read: see gatepost check -c %s", c.Config, c.Config)
		}
		if config.HasErrors(problems) {
			fmt.Fprintf(t.err, "gatepost: %s has mistakes: see gatepost check -c %s\n", c.Config, c.Config)
		}
		for i := range loaded.Transports {
			cfg.Transports = append(cfg.Transports, string(loaded.Transports[i].Name))
		}
		cfg.Lookups.Files = script.NewLists(filepath.Dir(c.Config), nil)
	}
	temp, err := os.MkdirTemp("", "gatepost-script")
	if err != nil {
		return err
	}
	options := script.TestOptions{Out: t.out, Scan: scan.Options{Unpacker: archive.New(archive.Config{Temp: archive.DirTemp(temp)})}}
	failed := false
	for _, file := range c.Files {
		sum, err := script.TestFile(context.Background(), file, cfg, options)
		if err != nil {
			failed = true
			fmt.Fprintf(t.err, "%s\n", inDir(err, filepath.Dir(file)))
			continue
		}
		failed = failed || len(sum.Failed) > 0
		if err := t.print(fmt.Sprintf("%s: %s passed, %d failed\n", file, plural(sum.Passed, "test"), len(sum.Failed))); err != nil {
			return errors.Join(err, os.RemoveAll(temp))
		}
	}
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if failed {
		return errSaid
	}
	return nil
}

// inDir names the mistakes of a script by the path under which it was given.
func inDir(err error, dir string) error {
	var list script.Errors
	if dir == "." || !errors.As(err, &list) {
		return err
	}
	for _, e := range list {
		e.File = filepath.Join(dir, e.File)
	}
	return list
}
