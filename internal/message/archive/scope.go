package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"gatepost/internal/mail"
)

// scope is what the code for one format gets: an object to take apart, and the
// way to hand over what is in it.
type scope struct {
	w      *walk
	node   *node
	format Format
	// body is the object from the offset of the format on, which is base.
	body *io.SectionReader
	base int64
	// quiet says that the format was guessed from a few bytes inside other data:
	// failing is no finding then.
	quiet   bool
	meter   *meter
	claimed []mail.Span
	count   int
	// inspect, where set, looks at every member before the visitor does.
	inspect func(*node, *Member)
	// held is the decoder memory that is reserved.
	held int64
}

// entry is what an archive says about a member.
type entry struct {
	// raws are the names that the headers give, the most trusted first.
	raws []string
	kind Kind
	link string
	// claimed and packed are -1 where unknown.
	claimed, packed int64
	encrypted       bool
	derived         bool
	// cut says that there is content, but that it cannot be had.
	cut bool
}

// claim says that the bytes from start to end of s.body belong to the format.
func (s *scope) claim(start, end int64) {
	s.claimed = []mail.Span{{Start: s.base + start, End: s.base + end}}
}

// note records a finding about the object.
func (s *scope) note(sym symbol, format string, args ...any) {
	if !s.quiet {
		s.w.note(s.node.path, sym, fmt.Sprintf(format, args...))
	}
}

// link records a place elsewhere.
func (s *scope) link(kind, url string) {
	const maxURL = 2048
	if r := s.w.result; url != "" && len(url) <= maxURL && len(r.Links) < s.w.budget.limits.Links {
		r.Links = append(r.Links, Link{URL: url, Kind: kind, Path: s.node.path})
	}
}

// failed records that the object could not be read to its end.
func (s *scope) failed(err error) {
	s.w.noteError(s.node.path, s.format.module(), err)
}

// noteError turns an error of a decoder into a finding.
func (w *walk) noteError(path []string, module string, err error) {
	sym := symDamaged
	switch {
	case errors.Is(err, errMemory):
		sym = symMemory
	case errors.Is(err, errMethod):
		sym = symMethod
	case errors.Is(err, errVolumes):
		sym = symVolumes
	case errors.Is(err, errPassword):
		sym = symEncrypted
	}
	sym.module = module
	w.note(path, sym, shorten(err.Error(), 200))
}

// Errors that have findings of their own.
var (
	errMemory   = errors.New("needs too much memory")
	errMethod   = errors.New("compression method not supported")
	errVolumes  = errors.New("continues in another volume")
	errPassword = errors.New("needs a password")
)

// child makes the node and the Member for an entry and counts it. The error is
// errEnded.
func (s *scope) child(e entry) (*node, *Member, error) {
	w := s.w
	if err := w.alive(); err != nil {
		return nil, nil, err
	}
	if !w.budget.takeFile() {
		return nil, nil, s.tooMany()
	}
	// The first member means that the format was guessed right.
	s.quiet = false
	s.count++
	readings := names(e.raws...)
	if len(readings) == 0 {
		readings = []string{"part-" + strconv.Itoa(s.count)}
	}
	path := make([]string, 0, len(s.node.path)+1)
	path = append(append(path, s.node.path...), readings[0])
	n := &node{path: path, name: readings[0], depth: s.node.depth + 1, body: bytes.NewReader(nil)}
	m := &Member{
		Path: path, Name: readings[0], Names: readings, In: s.format, Kind: e.kind, Link: e.link,
		Claimed: e.claimed, Packed: e.packed, Encrypted: e.encrypted, Derived: e.derived, Cut: e.cut, Content: n.body,
	}
	if len(e.raws) > 0 {
		m.RawName = e.raws[0][:min(len(e.raws[0]), maxRawName)]
	}
	for _, raw := range e.raws {
		if why := deceit(raw); why != "" {
			w.note(path, symName, why)
			break
		}
	}
	w.result.Members++
	return n, m, nil
}

// tooMany ends the walk because there are more members than allowed.
func (s *scope) tooMany() error {
	s.w.note(s.node.path, symFiles, fmt.Sprintf("more than %d members", s.w.budget.limits.Files))
	return s.w.end(nil)
}

// bare gives a member without content: a directory, a link, or one that is
// encrypted.
func (s *scope) bare(e entry) error {
	n, m, err := s.child(e)
	if err != nil {
		return err
	}
	if e.encrypted {
		s.w.note(n.path, symEncrypted, "needs a password")
	}
	return s.show(n, m)
}

// section gives a member whose content stands in the object as it is.
func (s *scope) section(e entry, content *io.SectionReader) error {
	n, m, err := s.child(e)
	if err != nil {
		return err
	}
	size := content.Size()
	if got := s.w.budget.takeBytes(size); got < size {
		content, m.Cut = io.NewSectionReader(content, 0, got), true
	}
	n.meter = &meter{in: size, outer: s.meter}
	n.body, m.Content = content, content
	// Sections of the same bytes may add up without end, so they are metered too.
	over := n.meter.add(content.Size(), &s.w.budget.limits)
	if err := s.show(n, m); err != nil {
		return err
	}
	if content.Size() < size {
		return s.outOfBytes(n)
	}
	if e.cut {
		s.w.noteError(n.path, symDamaged.module, io.ErrUnexpectedEOF)
	}
	if err := s.overRatio(n, over); !errors.Is(err, errCut) {
		return err
	}
	return nil
}

// stream gives a member whose content open decodes. Whole says that all of it
// came; where it did not, the reason was recorded, and what follows in the same
// compressed stream cannot be trusted. The error is errEnded or errEnough.
func (s *scope) stream(e entry, open func() (io.Reader, error)) (whole bool, err error) {
	n, m, err := s.child(e)
	if err != nil {
		return false, err
	}
	in := e.packed
	if in < 0 {
		in = s.body.Size()
	}
	n.meter = &meter{in: in, outer: s.meter}
	k := s.w.newKeeper()
	defer k.close()
	held := s.held
	end := s.fill(n, k, open)
	s.releaseTo(held)
	m.Cut = end != nil
	m.Encrypted = m.Encrypted || errors.Is(end, errPassword)
	n.body = k.body()
	m.Content = n.body
	if err := s.show(n, m); err != nil {
		return false, err
	}
	switch {
	case end == nil:
		return true, nil
	case errors.Is(end, errEnded), errors.Is(end, errEnough):
		return false, end
	case !errors.Is(end, errCut):
		s.w.noteError(n.path, symDamaged.module, end)
	}
	return false, nil
}

// fill decodes into k. The error says why k does not hold all of it: errEnded,
// errEnough (the object must not be read further), errCut, or the decoder's.
func (s *scope) fill(n *node, k *keeper, open func() (io.Reader, error)) error {
	r, err := guard(open)
	if err != nil {
		return s.orEnded(err)
	}
	chunk := s.w.chunk()
	defer s.w.putChunk(chunk)
	for empty := 0; ; {
		if err := s.w.alive(); err != nil {
			return err
		}
		got, rerr := r.Read(*chunk)
		if got > 0 {
			empty = 0
			if err := s.keep(n, k, (*chunk)[:got]); err != nil {
				return err
			}
		}
		switch {
		case rerr == io.EOF:
			return nil
		case rerr != nil:
			return s.orEnded(rerr)
		case got == 0:
			// A decoder may return nothing a few times, not for ever.
			if empty++; empty > 100 {
				return io.ErrNoProgress
			}
		}
	}
}

// errCut ends one member that is over the ratio; the others go on.
var errCut = errors.New("member cut")

// keep writes p to k as far as the limits allow.
func (s *scope) keep(n *node, k *keeper, p []byte) error {
	allowed := s.w.budget.takeBytes(int64(len(p)))
	if err := k.write(p[:allowed]); err != nil {
		return err
	}
	if allowed < int64(len(p)) {
		return s.outOfBytes(n)
	}
	return s.overRatio(n, n.meter.add(allowed, &s.w.budget.limits))
}

func (s *scope) outOfBytes(n *node) error {
	s.w.note(n.path, symBytes, "more than "+strconv.FormatInt(s.w.budget.limits.Bytes>>20, 10)+" MiB unpacked")
	return s.w.end(nil)
}

// overRatio acts on the meter that went over the ratio; nil is none.
func (s *scope) overRatio(n *node, over *meter) error {
	if over == nil {
		return nil
	}
	s.w.note(n.path, symRatio, fmt.Sprintf("expands to more than %d times its size", s.w.budget.limits.Ratio))
	switch over {
	case n.meter:
		return errCut
	case s.meter:
		return errEnough
	}
	return s.w.end(nil)
}

// orEnded returns errEnded where the walk ended, since a decoder may have wrapped
// or replaced it.
func (s *scope) orEnded(err error) error {
	if s.w.ended {
		return errEnded
	}
	return err
}

// show calls the visitor and then opens the member itself.
func (s *scope) show(n *node, m *Member) error {
	w := s.w
	var hits []hit
	if n.body.Size() > 0 && m.Kind == File {
		hits = w.detect(n)
		m.Formats = n.formats
	}
	if s.inspect != nil && m.Kind == File && n.body.Size() > 0 && !w.ended {
		s.inspect(n, m)
	}
	w.visiting = true
	err := w.visit(m)
	w.visiting = false
	switch {
	case err != nil:
		return w.end(err)
	case w.ended:
		// Over a limit the walk still shows the member at hand, but opens no more.
		return errEnded
	case n.body.Size() == 0 || m.Kind != File:
		return nil
	}
	return w.unpack(n, hits)
}
