package archive

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
)

// maxResync bounds how often reading a damaged tar begins again.
const maxResync = 16

// unpackTar gives the members of a tar. Where a header is damaged it goes on at
// the next one that is whole, as "tar --ignore-zeros" and most other programs can.
func unpackTar(s *scope) error {
	at := int64(0)
	for range maxResync {
		end, err := s.tarFrom(at)
		if err == nil || errors.Is(err, errEnded) || errors.Is(err, errEnough) {
			s.claim(0, end)
			return err
		}
		s.failed(err)
		if at, err = s.nextTarHeader(end); err != nil || at < 0 {
			return err
		}
	}
	return nil
}

// tarFrom reads members from an offset on, and returns where it stopped.
func (s *scope) tarFrom(at int64) (end int64, err error) {
	in := io.NewSectionReader(s.body, at, s.body.Size()-at)
	position := func() int64 {
		off, _ := in.Seek(0, io.SeekCurrent) // cannot fail
		return at + off
	}
	var t *tar.Reader
	err = safely(func() error {
		t = tar.NewReader(in)
		return nil
	})
	for err == nil {
		var h *tar.Header
		err = safely(func() (err error) {
			h, err = t.Next()
			return err
		})
		if err == tar.ErrInsecurePath {
			err = nil
		}
		if err == nil {
			err = s.tarMember(t, h, position())
		}
	}
	switch {
	case s.w.ended:
		err = errEnded
	case err == io.EOF:
		err = nil
	}
	return position(), err
}

// tarMember gives the member whose content begins at data.
func (s *scope) tarMember(t *tar.Reader, h *tar.Header, data int64) error {
	e := entry{raws: []string{h.Name}, link: h.Linkname, claimed: h.Size, packed: h.Size}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
	case tar.TypeDir:
		e.kind = Directory
	case tar.TypeSymlink:
		e.kind = Symlink
	case tar.TypeLink:
		e.kind = Hardlink
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		e.kind = Device
	}
	switch {
	case e.kind != File && h.Size == 0:
		return s.bare(e)
	case sparse(h):
		// Holes are not in the archive, so what is expanded is metered by the
		// archive's own size.
		e.packed = -1
		_, err := s.stream(e, func() (io.Reader, error) { return t, nil })
		return err
	}
	// A link or a directory with content is shown as the file that it may become.
	e.kind = File
	size := min(h.Size, s.body.Size()-data)
	if err := s.section(e, io.NewSectionReader(s.body, data, size)); err != nil {
		return err
	}
	if size < h.Size {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// sparse reports a member with holes, in any of the formats for it.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// nextTarHeader looks for the next block that is a header, -1 for none.
func (s *scope) nextTarHeader(from int64) (int64, error) {
	const block = 512
	chunk := s.w.chunk()
	defer s.w.putChunk(chunk)
	for at := from - from%block; at <= s.body.Size()-block; {
		n, err := s.body.ReadAt(*chunk, at)
		if err != nil && err != io.EOF {
			return -1, err
		}
		b := (*chunk)[:n-n%block]
		for i := 0; i < len(b); i += block {
			if isTar(b[i:]) {
				return at + int64(i), nil
			}
		}
		at += max(int64(len(b)), block)
	}
	return -1, nil
}
