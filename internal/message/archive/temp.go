package archive

import (
	"fmt"
	"io"
	"os"
)

// Temp keeps the members that do not fit into memory while a walk looks at them.
type Temp interface {
	// Create returns an empty file. Its name, if it has one, owes nothing to what
	// will be written.
	Create() (TempFile, error)
}

// TempFile is written once from start to end and then read anywhere. Close
// removes it.
type TempFile interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// DirTemp returns a Temp that makes files in dir. They have no name from the
// moment they exist, so none outlives the process.
func DirTemp(dir string) Temp { return dirTemp(dir) }

type dirTemp string

func (d dirTemp) Create() (TempFile, error) {
	f, err := os.CreateTemp(string(d), "part-*")
	if err != nil {
		return nil, fmt.Errorf("create temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("unlink temporary file: %w", err)
	}
	return f, nil
}
