package pdf

import (
	"bytes"
	"encoding/binary"
	"io"
	"unicode/utf16"
)

// want is what a value that was found is for; it is looked up when all objects
// are known.
type want uint8

const (
	wantScript want = iota
	wantFile
	wantForm // XFA
	wantURI
	wantTarget // of Launch, GoToR, GoToE, SubmitForm, ImportData
	wantOpening
)

type wanted struct {
	what  want
	value any
	names []string
	text  string
}

func (s *scanner) want(w wanted) {
	if o, ok := w.value.(owned); ok {
		if text, ok := o.value.(str); ok {
			s.kept += len(text)
		}
	}
	if len(s.todo) >= maxInteresting || s.kept > maxKept {
		s.events.Found(Damaged, "more actions and files than are looked at")
		return
	}
	s.todo = append(s.todo, w)
}

// inspect looks through a value for what matters. Num and gen are of the object
// that it belongs to, since its strings are encrypted with them; -1 is an object
// stream, which is encrypted as a whole.
func (s *scanner) inspect(v any, num, gen, depth int) {
	if depth > maxNesting {
		return
	}
	switch v := v.(type) {
	case array:
		for _, e := range v {
			s.inspect(e, num, gen, depth+1)
		}
	case dict:
		if len(v) > 0 {
			s.dictionary(v, num, gen)
		}
		for _, e := range v {
			s.inspect(e, num, gen, depth+1)
		}
	}
}

// dictionary looks at the keys of one dictionary.
func (s *scanner) dictionary(d dict, num, gen int) {
	own := func(v any) any { return owned{v, num, gen} }
	if js, ok := d["JS"]; ok {
		s.events.Found(JavaScript, "a script")
		s.want(wanted{what: wantScript, value: own(js)})
	}
	if uri, ok := d["URI"]; ok {
		s.want(wanted{what: wantURI, value: own(uri)})
	}
	switch xfa := d["XFA"].(type) {
	case ref:
		s.want(wanted{what: wantForm, value: xfa})
	case array:
		for _, part := range xfa[:min(len(xfa), 64)] {
			if _, ok := part.(ref); ok {
				s.want(wanted{what: wantForm, value: part})
			}
		}
	}
	switch opening := d["OpenAction"].(type) {
	case ref:
		s.want(wanted{what: wantOpening, value: opening})
	case dict:
		s.opening(opening)
	}
	if ef, ok := d["EF"].(dict); ok {
		names := s.fileNames(d, num, gen)
		for _, f := range ef {
			s.want(wanted{what: wantFile, value: f, names: names})
		}
	}
	action, _ := d["S"].(name)
	switch action {
	case "JavaScript":
		s.events.Found(JavaScript, "a script")
	case "Launch":
		s.events.Found(Launch, "an action that starts a program")
		s.target(d, "launch", num, gen)
	case "GoToR", "GoToE":
		s.target(d, "file", num, gen)
	case "SubmitForm", "ImportData":
		s.events.Found(Submit, "a form that sends or takes data")
		s.target(d, "submit", num, gen)
	}
}

// owned is a value with the object whose key encrypts its strings.
type owned struct {
	value    any
	num, gen int
}

func (s *scanner) target(d dict, kind string, num, gen int) {
	for _, key := range []name{"F", "Win", "Mac", "Unix"} {
		switch v := d[key].(type) {
		case dict:
			for _, n := range []name{"UF", "F", "DOS", "Unix", "Mac"} {
				s.want(wanted{what: wantTarget, value: owned{v[n], num, gen}, text: kind})
			}
		case nil:
		default:
			s.want(wanted{what: wantTarget, value: owned{v, num, gen}, text: kind})
		}
	}
}

// fileNames are the names in a file specification (ISO 32000-1 §7.11.3).
func (s *scanner) fileNames(d dict, num, gen int) []string {
	var names []string
	for _, key := range []name{"UF", "F", "DOS", "Unix", "Mac"} {
		if v, ok := d[key].(str); ok {
			names = append(names, s.text(v, num, gen))
		}
	}
	return names
}

// text decrypts and decodes a text string (ISO 32000-1 §7.9.2.2).
func (s *scanner) text(v str, num, gen int) string {
	b := []byte(v)
	if s.crypt != nil && num > 0 {
		b = s.crypt.text(b, num, gen)
	}
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte("\xfe\xff")):
		order = binary.BigEndian
	case bytes.HasPrefix(b, []byte("\xff\xfe")):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return string(b[3:])
	default:
		return string(b)
	}
	var units []uint16
	for b = b[2:]; len(b) > 1; b = b[2:] {
		units = append(units, order.Uint16(b))
	}
	return string(utf16.Decode(units))
}

// found is a value that a reference led to.
type found struct {
	value    any
	stream   *stream
	num, gen int
}

// lookup follows references. An object may stand in the file several times.
func (s *scanner) lookup(v any, depth int) []found {
	num, gen := 0, 0
	if o, ok := v.(owned); ok {
		v, num, gen = o.value, o.num, o.gen
	}
	r, ok := v.(ref)
	if !ok {
		return []found{{value: v, num: num, gen: gen}}
	}
	const most, deepest = 8, 8
	if depth > deepest {
		return nil
	}
	var list []found
	for _, i := range s.index[r.num] {
		if len(list) >= most {
			break
		}
		f := s.read(s.places[i])
		if again, ok := f.value.(ref); ok {
			list = append(list, s.lookup(again, depth+1)...)
			continue
		}
		list = append(list, f)
	}
	return list
}

// read parses the object at a place once more.
func (s *scanner) read(p place) found {
	if p.in != 0 {
		return found{value: newLexer(bytes.NewReader(s.decoded(p.in)), p.off).value(0), num: -1}
	}
	num, gen, _ := s.header(p.off - 3)
	l := newLexer(s.r, p.off)
	f := found{value: l.value(0), num: num, gen: gen}
	if d, ok := f.value.(dict); ok {
		l.skipSpace()
		if l.value(0) == keyword("stream") {
			if st, err := s.stream(num, gen, d, l); err == nil {
				f.stream = &st
			}
		}
	}
	if l.err != nil && s.err == nil {
		s.err = l.err
	}
	return f
}

// decoded returns the content of the object stream that stands at off.
func (s *scanner) decoded(off int64) []byte {
	if b, ok := s.cached[off]; ok {
		return b
	}
	for _, st := range s.objectStreams {
		if st.off == off {
			b, _ := s.readAll(st, maxObjectStream) // what could be read
			s.cached = map[int64][]byte{off: b}
			return b
		}
	}
	return nil
}

// resolve looks up everything that was wanted.
func (s *scanner) resolve() error {
	files := map[int64]bool{}
	// Names first: a file that is found without its name has one elsewhere.
	for _, named := range []bool{true, false} {
		for _, w := range s.todo {
			if w.what == wantFile && (len(w.names) > 0) == named {
				if err := s.file(w, files); err != nil {
					return err
				}
			}
		}
	}
	for _, w := range s.todo {
		for _, f := range s.lookup(w.value, 0) {
			if err := s.resolved(w, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scanner) resolved(w wanted, f found) error {
	switch w.what {
	case wantScript:
		return s.script(f)
	case wantForm:
		return s.form(f)
	case wantURI:
		if u, ok := f.value.(str); ok {
			s.events.Link("uri", s.text(u, f.num, f.gen))
		}
	case wantTarget:
		s.resolveTarget(w, f)
	case wantOpening:
		if d, ok := f.value.(dict); ok {
			s.opening(d)
		}
	}
	return nil
}

// opening reports an action on opening, unless it only turns to a page.
func (s *scanner) opening(d dict) {
	switch d["S"] {
	case nil, name("GoTo"), name("Named"), name("GoTo3DView"):
	default:
		s.events.Found(Action, "an action on opening")
	}
}

func (s *scanner) resolveTarget(w wanted, f found) {
	switch v := f.value.(type) {
	case str:
		s.events.Link(w.text, s.text(v, f.num, f.gen))
	case dict:
		for _, n := range s.fileNames(v, f.num, f.gen) {
			s.events.Link(w.text, n)
		}
	}
}

// script gives the text of a script, which is a string or a stream.
func (s *scanner) script(f found) error {
	if f.stream == nil {
		if v, ok := f.value.(str); ok && len(v) > 0 {
			return s.events.Script([]byte(s.text(v, f.num, f.gen)))
		}
		return nil
	}
	b, err := s.readAll(*f.stream, maxScript)
	if len(b) == 0 {
		if err != nil {
			s.events.Found(Damaged, "a script cannot be decoded")
		}
		return nil
	}
	return s.events.Script(b)
}

// form looks for scripts in an XFA form, which is a stream or a list of names
// and streams.
func (s *scanner) form(f found) error {
	if list, ok := f.value.(array); ok {
		for _, v := range list[:min(len(list), 64)] {
			if _, ok := v.(ref); !ok {
				continue
			}
			for _, part := range s.lookup(v, 1) {
				if err := s.form(part); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if f.stream == nil {
		return nil
	}
	b, _ := s.readAll(*f.stream, maxScript) // what could be read
	if !bytes.Contains(b, []byte("<script")) && !bytes.Contains(b, []byte(":script")) {
		return nil
	}
	s.events.Found(JavaScript, "a script in a form")
	return s.events.Script(b)
}

// file gives an attached file once.
func (s *scanner) file(w wanted, done map[int64]bool) error {
	for _, f := range s.lookup(w.value, 0) {
		if f.stream == nil || done[f.stream.off] {
			continue
		}
		done[f.stream.off] = true
		text := "an attached file"
		if len(w.names) > 0 {
			text = w.names[0]
		}
		s.events.Found(Embedded, text)
		st := *f.stream
		if err := s.events.File(w.names, func() (io.Reader, error) { return s.open(st) }); err != nil {
			return err
		}
	}
	return nil
}
