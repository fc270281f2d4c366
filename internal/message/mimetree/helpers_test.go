package mimetree

import (
	"strings"
	"testing"
)

// text is a message in memory.
type text string

func (t text) Size() int64 { return int64(len(t)) }

func (t text) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(string(t)).ReadAt(p, off)
}

// read reads a message with the default limits.
func read(t testing.TB, msg string) *Tree {
	t.Helper()
	tree, err := Read(t.Context(), text(msg), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}
