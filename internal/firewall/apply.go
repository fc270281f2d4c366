package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// commandTimeout bounds each command. They wait for nobody but the kernel.
const commandTimeout = 30 * time.Second

// Script is the plan as a shell script, which may be run any number of times.
func (p *Plan) Script() string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\nset -e\n")
	for _, argv := range p.Stale {
		fmt.Fprintf(&b, "%s 2>/dev/null || true\n", strings.Join(argv, " "))
	}
	for _, argv := range p.Routing {
		if again := slices.Index(argv, "add"); again >= 0 {
			del := slices.Concat(argv[:again], []string{"del"}, argv[again+1:])
			fmt.Fprintf(&b, "%s 2>/dev/null || true\n", strings.Join(del, " "))
		}
		b.WriteString(strings.Join(argv, " ") + "\n")
	}
	fmt.Fprintf(&b, "nft -f - <<'EOF'\n%sEOF\n", p.Rules)
	return b.String()
}

// Apply puts the plan in place of what another plan with the same numbers left
// behind. Routing comes first: without it, diverted packets would be lost. What
// the plan does not have goes last. It needs CAP_NET_ADMIN. After an error the
// plan may be in place in part, and Apply or Remove may be called again.
func (p *Plan) Apply(ctx context.Context) error {
	for _, argv := range p.Routing {
		// The same rule twice is refused, so it is there already.
		if err := command(ctx, "", argv...); err != nil && !says(err, "File exists") {
			return fmt.Errorf("apply firewall rules: %w", err)
		}
	}
	if err := command(ctx, p.Rules, "nft", "-f", "-"); err != nil {
		return fmt.Errorf("apply firewall rules: %w", err)
	}
	if err := removeAll(ctx, p.Stale); err != nil {
		return fmt.Errorf("apply firewall rules: %w", err)
	}
	return nil
}

// Remove takes away what any plan with the same numbers has made, and nothing
// else; it is no error if nothing is there. Of the Config only DivertMark, Table
// and Priority matter. It needs CAP_NET_ADMIN.
func Remove(ctx context.Context, c Config) error {
	c = c.withDefaults()
	if err := c.checkRouting(); err != nil {
		return fmt.Errorf("remove firewall rules: %w", err)
	}
	err := command(ctx, removal(table), "nft", "-f", "-")
	if err = errors.Join(err, removeAll(ctx, c.clearing("-4", "-6")), removeAll(ctx, [][]string{removeBridged})); err != nil {
		return fmt.Errorf("remove firewall rules: %w", err)
	}
	return nil
}

// removeAll removes what may be there. What is not there is refused in several ways, by
// IP family and kernel.
func removeAll(ctx context.Context, commands [][]string) error {
	var errs []error
	for _, argv := range commands {
		err := command(ctx, "", argv...)
		if err != nil && !says(err, "No such file or directory", "No such process", "FIB table does not exist",
			"not supported") {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// commandError is a command that failed, with what it said.
type commandError struct {
	command, output string
	err             error
}

func (e *commandError) Error() string {
	if says(e, "Operation not permitted", "you must be root") {
		return fmt.Sprintf("%s: not permitted: run it as root (needs CAP_NET_ADMIN)", e.command)
	}
	return fmt.Sprintf("%s: %v: %s", e.command, e.err, strings.Join(strings.Fields(e.output), " "))
}

func (e *commandError) Unwrap() error { return e.err }

func says(err error, texts ...string) bool {
	var e *commandError
	return errors.As(err, &e) && slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(e.output, t) })
}

// packageOf is where a program comes from, on Debian for example.
func packageOf(program string) string {
	if program == "ip" {
		return "iproute2"
	}
	return "nftables"
}

// command runs a program of the administrator's directories.
func command(ctx context.Context, stdin string, argv ...string) error {
	path := find(argv[0])
	if path == "" {
		return fmt.Errorf("%s is not installed; it is in the package %s", argv[0], packageOf(argv[0]))
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return &commandError{command: strings.Join(argv, " "), output: out.String(), err: err}
	}
	return nil
}

// find looks in the path, then where these programs are although ordinary
// users' paths do not name it; "" if there is none.
func find(name string) string {
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if info, err := os.Stat(dir + name); err == nil && info.Mode()&fs.FileMode(0o111) != 0 {
			return dir + name
		}
	}
	return ""
}
