package archive

import (
	"io"

	"gatepost/internal/message/archive/iso9660"
)

// unpackISO gives the files of an ISO 9660 image.
func unpackISO(s *scope) error {
	image, err := iso9660.Read(s.body, s.body.Size(), s.w.budget.filesLeft()+1)
	if err != nil {
		return s.orEnded(err)
	}
	s.claim(0, image.Size)
	if image.Damaged != "" {
		s.note(symDamaged, "%s", image.Damaged)
	}
	for i := range image.Entries {
		if err := s.isoEntry(&image.Entries[i]); err != nil {
			return err
		}
	}
	if image.More {
		return s.tooMany()
	}
	return nil
}

func (s *scope) isoEntry(f *iso9660.Entry) error {
	e := entry{raws: f.Names, claimed: f.Size, packed: f.Size, link: f.Link}
	size := int64(0)
	for _, x := range f.Extents {
		size += x.Size
	}
	e.cut = size < f.Size
	switch {
	case f.Dir:
		e.kind = Directory
		return s.bare(e)
	case f.Link != "":
		e.kind = Symlink
		return s.bare(e)
	case len(f.Extents) == 1:
		x := f.Extents[0]
		return s.section(e, io.NewSectionReader(s.body, x.Start, x.Size))
	}
	_, err := s.stream(e, func() (io.Reader, error) {
		readers := make([]io.Reader, 0, len(f.Extents))
		for _, x := range f.Extents {
			readers = append(readers, io.NewSectionReader(s.body, x.Start, x.Size))
		}
		return io.MultiReader(readers...), nil
	})
	return err
}
