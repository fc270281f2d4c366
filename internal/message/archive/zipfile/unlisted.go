package zipfile

import (
	"bytes"
	"compress/flate"
	"io"
)

// unlisted looks for members that no directory mentions, in what the members and
// directories that are known do not occupy. Programs that read a zip from its
// start show them.
func (z *reader) unlisted() error {
	spans := z.spans()
	at := int64(0)
	for _, s := range append(spans, Span{z.size, z.size}) {
		if err := z.scanGap(at, s.Start); err != nil {
			return err
		}
		at = max(at, s.End)
	}
	return nil
}

// What is spent on members that no directory mentions.
const (
	// maxCandidates bounds how often four bytes look like a header and are none.
	maxCandidates = 10_000
	// maxProbe bounds what is decoded to find where members end, in bytes.
	maxProbe = 64 << 20
)

// scanGap looks for local headers between start and end.
func (z *reader) scanGap(start, end int64) error {
	for at := start; end-at >= localSize; {
		found, err := z.find(at, end, []byte(sigLocal))
		if err != nil || found < 0 {
			return err
		}
		h, err := z.localHeader(found)
		if err == errNoHeader || err == nil && !h.plausible(end) {
			if z.candidates++; z.candidates > maxCandidates {
				z.problem(Damaged, "", "too much that looks like a member and is none")
				return nil
			}
			at = found + 1
			continue
		}
		if err != nil {
			return err
		}
		if len(z.a.Entries) >= z.most {
			z.a.More = true
			return nil
		}
		next, err := z.addHidden(h, found, end)
		if err != nil {
			return err
		}
		at = max(next, found+localSize)
	}
	return nil
}

// plausible tells a header from four bytes that happen to stand in a program.
func (h *header) plausible(end int64) bool {
	return (h.method <= 19 || h.method >= 92 && h.method <= 99) && h.name != "" && h.data <= end &&
		(h.deferred() || h.packed <= end-h.data+localSize)
}

// addHidden adds the member whose local header stands at off, and returns where
// its data ends.
func (z *reader) addHidden(h *header, off, end int64) (int64, error) {
	e := Entry{Names: h.names(), Offset: off, Hidden: true, local: h}
	e.attributes()
	r := h.reading(h.data, end)
	if h.deferred() && h.packed == 0 {
		var err error
		if r.Packed, err = z.dataEnd(h, end); err != nil {
			return 0, err
		}
		r.Size, r.HasCRC = -1, false
		e.Dir = e.Dir && r.Packed == 0
	}
	e.Readings = []Reading{r}
	e.end = h.data + r.Packed
	if len(z.dirs) > 0 {
		z.problem(Hidden, h.name, "not in the directory")
	}
	z.a.Entries = append(z.a.Entries, e)
	return e.end, nil
}

// dataEnd returns how long the data of a member is whose header does not say:
// up to the end of the deflated stream, or else up to the next record.
func (z *reader) dataEnd(h *header, end int64) (int64, error) {
	if h.method == Deflate && h.flags&flagEncrypted == 0 {
		count := &byteCounter{r: io.NewSectionReader(z, h.data, end-h.data)}
		n, err := io.CopyN(io.Discard, flate.NewReader(count), maxProbe-z.probed)
		if z.probed += n; err == io.EOF {
			return count.n, nil
		}
		if count.err != nil {
			return 0, count.err
		}
	}
	for _, sig := range []string{sigLocal, sigCentral} {
		next, err := z.find(h.data, end, []byte(sig))
		if err != nil {
			return 0, err
		}
		if next >= 0 {
			end = next
		}
	}
	return end - h.data, nil
}

// byteCounter counts exactly what flate takes, since it implements ByteReader.
type byteCounter struct {
	r   *io.SectionReader
	buf [4 << 10]byte
	at  int
	end int
	n   int64
	err error
}

func (c *byteCounter) ReadByte() (byte, error) {
	if c.at == c.end {
		n, err := c.r.Read(c.buf[:])
		if n == 0 {
			if err != io.EOF {
				c.err = err
			}
			return 0, err
		}
		c.at, c.end = 0, n
	}
	b := c.buf[c.at]
	c.at++
	c.n++
	return b, nil
}

func (c *byteCounter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := c.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// find returns where pattern stands between start and end, or -1.
func (z *reader) find(start, end int64, pattern []byte) (int64, error) {
	for off := start; end-off >= int64(len(pattern)); off += int64(len(z.buf) - len(pattern) + 1) {
		b := z.buf[:min(int64(len(z.buf)), end-off)]
		if err := z.full(b, off); err != nil {
			return -1, err
		}
		if i := bytes.Index(b, pattern); i >= 0 {
			return off + int64(i), nil
		}
	}
	return -1, nil
}
