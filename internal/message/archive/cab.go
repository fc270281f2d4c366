package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"gatepost/internal/message/archive/cabfile"
)

// unpackCabinet gives the members of a cabinet. Each folder is unpacked once and
// kept, and the members are pieces of it, in whatever order they stand there.
func unpackCabinet(s *scope) error {
	c, err := cabfile.Read(s.body, s.body.Size(), s.w.budget.filesLeft()+1)
	if errors.Is(err, cabfile.ErrNoCabinet) || c == nil {
		return s.orEnded(err)
	}
	s.claim(0, c.Size)
	if c.Spans {
		s.note(symVolumes, "one of a set of cabinets")
	}
	byFolder := map[int][]cabfile.Member{}
	for _, m := range c.Members {
		byFolder[m.Folder] = append(byFolder[m.Folder], m)
	}
	for i := range c.Folders {
		if err := s.cabFolder(c, i, byFolder[i]); err != nil {
			return err
		}
		delete(byFolder, i)
	}
	for _, members := range byFolder {
		for _, m := range members {
			if err := s.bare(cabEntry(m)); err != nil {
				return err
			}
		}
	}
	if c.More && err == nil {
		return s.tooMany()
	}
	return s.orEnded(err)
}

func cabEntry(m cabfile.Member) entry {
	return entry{raws: []string{m.Name}, claimed: m.Size, packed: -1}
}

// cabFolder gives the members of one folder.
func (s *scope) cabFolder(c *cabfile.Cabinet, folder int, members []cabfile.Member) error {
	slices.SortStableFunc(members, func(a, b cabfile.Member) int { return cmp.Compare(a.Offset, b.Offset) })
	end := int64(0)
	for _, m := range members {
		end = max(end, m.Offset+m.Size)
	}
	k := s.w.newKeeper()
	defer k.close()
	err := s.fillFolder(k, c, folder, end)
	if errors.Is(err, errEnded) {
		return err
	}
	if err != nil {
		s.failed(err)
	}
	content := k.body()
	for _, m := range members {
		e := cabEntry(m)
		start := min(m.Offset, content.Size())
		size := min(m.Size, content.Size()-start)
		e.cut = size < m.Size
		if err := s.section(e, io.NewSectionReader(content, start, size)); err != nil {
			return err
		}
	}
	return nil
}

// fillFolder unpacks as much of a folder as its members need. What comes is
// counted with the members; here only the ratio is watched.
func (s *scope) fillFolder(k *keeper, c *cabfile.Cabinet, folder int, end int64) error {
	r, err := c.Open(folder)
	if errors.Is(err, cabfile.ErrMethod) {
		return fmt.Errorf("%w: %w", errMethod, err)
	}
	if err != nil {
		return err
	}
	g := &guarded{r: io.LimitReader(r, min(end, s.w.budget.bytesLeft()))}
	chunk := s.w.chunk()
	defer s.w.putChunk(chunk)
	m := &meter{in: s.body.Size()}
	for {
		n, err := g.Read(*chunk)
		if werr := k.write((*chunk)[:n]); werr != nil {
			return werr
		}
		if m.add(int64(n), &s.w.budget.limits) != nil {
			s.note(symRatio, "expands to more than %d times its size", s.w.budget.limits.Ratio)
			return nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return s.orEnded(err)
		}
		if err := s.w.alive(); err != nil {
			return err
		}
	}
}
