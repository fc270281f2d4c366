// Package peer finds the real programs that tests run against, and says what to
// do where one is missing.
//
// Invariants:
//   - On a developer's machine a test whose peer is missing is skipped with the
//     name of what to install. Where GATEPOST_REQUIRE_PEERS or CI is set, it
//     fails: a test that was skipped there by mistake would look like one that
//     passed.
package peer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Require skips or fails the test unless all programs are there. It looks in
// the directories for administrators too.
func Require(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if Find(p) == "" {
			Missing(t, p+" is not installed; scripts/deps installs what tests need")
		}
	}
}

// RequireRoot skips the test unless it runs as root: mounting, tracing and
// other users' processes are for root only.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		Missing(t, "this test must run as root")
	}
}

// Missing skips the test, or fails it where peers are required.
func Missing(t testing.TB, why string) {
	t.Helper()
	if required() {
		t.Fatal(why)
	}
	t.Skip(why)
}

func required() bool {
	ci := os.Getenv("CI")
	return os.Getenv("GATEPOST_REQUIRE_PEERS") == "1" || ci == "1" || ci == "true"
}

// Find is the path of a program, "" if it is not installed.
func Find(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range append([]string{"/usr/sbin", "/sbin", "/usr/local/sbin"}, unpacked()...) {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	return ""
}

// unpacked are the directories of programs that scripts/deps could not install
// beside others, and only unpacked below the root of the project.
func unpacked() []string {
	root, err := os.Getwd()
	if err != nil {
		return nil
	}
	for {
		if dirs, err := filepath.Glob(filepath.Join(root, ".tools/peers/*/usr/sbin")); err == nil && len(dirs) > 0 {
			return dirs
		}
		parent := filepath.Dir(root)
		if parent == root {
			return nil
		}
		root = parent
	}
}

// Result is what a program said.
type Result struct {
	Output string // standard output and error, as they came
	Status int
}

// Run runs a program to its end. A program that runs longer than a minute is
// killed, and the test fails.
func Run(t testing.TB, stdin, program string, args ...string) Result {
	t.Helper()
	// Clean-up runs programs too, when the test's own context has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, Find(program), args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s: %v\n%s", cmd, ctx.Err(), out.String())
	}
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(fmt.Errorf("run %s: %w", program, err))
	}
	return Result{out.String(), cmd.ProcessState.ExitCode()}
}
