// Command standards writes docs/standards.md from the RFC citations in the
// code. It is run by "go generate"; a test in internal/lint fails when the page
// is out of date.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"gatepost/internal/lint"
)

func main() {
	root := flag.String("root", ".", "root of the repository")
	flag.Parse()
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "standards:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	tree, err := lint.Load(os.DirFS(root))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, "docs"), 0o755); err != nil {
		return fmt.Errorf("make docs directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(root, "docs", "standards.md"), []byte(tree.Standards()), 0o644); err != nil {
		return fmt.Errorf("write standards: %w", err)
	}
	return nil
}
