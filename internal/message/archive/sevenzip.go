package archive

import (
	"errors"
	"fmt"
	"io"

	"gatepost/internal/message/archive/sevenheader"
	"gatepost/internal/message/archive/zipfile"

	"github.com/bodgit/sevenzip"
)

// sevenLimits bound what is given to the library; the members that are shown are
// bounded by the budget.
var sevenLimits = sevenheader.Limits{Header: 16 << 20, Files: 50_000}

func unpackSevenZip(s *scope) error {
	info, err := checkSevenZip(s)
	if err != nil {
		return err
	}
	s.claim(0, info.End)
	var z *sevenzip.Reader
	err = safely(func() (err error) {
		z, err = sevenzip.NewReader(io.NewSectionReader(s.body, 0, info.End), info.End)
		return err
	})
	if err != nil {
		return s.orEnded(err)
	}
	a := &sevenArchive{scope: s, info: info, folder: -1}
	for _, f := range z.File {
		if err := a.member(f); err != nil {
			return err
		}
	}
	return nil
}

func checkSevenZip(s *scope) (*sevenheader.Info, error) {
	var info *sevenheader.Info
	// Own code, but the header may be compressed, and that decoder is not.
	err := safely(func() (err error) {
		info, err = sevenheader.Check(s.body, s.body.Size(), sevenLimits)
		return err
	})
	switch {
	case err == nil:
		return info, nil
	case errors.Is(err, sevenheader.ErrEncrypted):
		s.quiet = false
		return nil, fmt.Errorf("%w: %w", errPassword, err)
	case errors.Is(err, sevenheader.ErrMethod):
		return nil, fmt.Errorf("%w: %w", errMethod, err)
	case errors.Is(err, sevenheader.ErrLimit):
		return nil, fmt.Errorf("%w: %w", errMemory, err)
	}
	return nil, s.orEnded(err)
}

// sevenArchive gives the members of a 7z archive. Those of a folder are one
// compressed stream: the first one that breaks ends the folder.
type sevenArchive struct {
	*scope
	info   *sevenheader.Info
	folder int
	before int64 // decoder memory before the folder
	broken bool
}

func (a *sevenArchive) member(f *sevenzip.File) error {
	e := entry{raws: []string{f.Name}, claimed: int64(f.UncompressedSize), packed: -1}
	if f.FileInfo().IsDir() {
		e.kind = Directory
		return a.bare(e)
	}
	if f.UncompressedSize == 0 {
		return a.bare(e)
	}
	if f.Stream < 0 || f.Stream >= len(a.info.Folders) {
		return a.bare(e)
	}
	if f.Stream != a.folder {
		a.enter(f.Stream)
	}
	folder := a.info.Folders[f.Stream]
	switch {
	case folder.Encrypted:
		e.encrypted = true
		return a.bare(e)
	case a.broken:
		e.cut = true
		return a.bare(e)
	}
	var opened io.ReadCloser
	whole, err := a.stream(e, func() (io.Reader, error) {
		if folder.Unknown != "" {
			return nil, fmt.Errorf("7z %w: %s", errMethod, folder.Unknown)
		}
		var err error
		if opened, err = f.Open(); err != nil {
			return nil, err
		}
		want := zipfile.Reading{Size: e.claimed, CRC: f.CRC32, HasCRC: f.CRC32 != 0}
		return &zipContent{r: opened, want: want}, nil
	})
	if opened != nil {
		// Closing keeps the decoder for the next member. Its errors are those that
		// reading had.
		_ = safely(opened.Close)
	}
	a.broken = !whole
	return err
}

// enter begins a folder and takes the memory that it needs.
func (a *sevenArchive) enter(folder int) {
	if a.folder >= 0 {
		a.releaseTo(a.before)
	}
	a.folder, a.before, a.broken = folder, a.held, false
	f := a.info.Folders[folder]
	if f.Encrypted || f.Unknown != "" {
		return
	}
	if err := a.reserve(f.Memory); err != nil {
		a.failed(err)
		a.broken = true
	}
}
