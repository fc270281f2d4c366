package dkim

import (
	"hash"
	"strings"

	"gatepost/internal/message"
)

// fieldIndex finds the fields of a header section by name, so that a signature
// over thousands of names costs no more than it is long.
type fieldIndex struct {
	fields []message.Field
	places map[string][]int // by lower-case name, from the top down
}

// nowhere is the place of no field.
const nowhere = -1

func indexFields(header *message.Header) *fieldIndex {
	x := &fieldIndex{fields: header.Fields(), places: make(map[string][]int)}
	for i, f := range x.fields {
		if f.Name != "" {
			name := strings.ToLower(f.Name)
			x.places[name] = append(x.places[name], i)
		}
	}
	return x
}

// hashFields hashes the instances of names, which are in lower case, from the
// bottom of the header section up; an instance that does not exist is the empty
// string (RFC 6376 §5.4.2). The field at the place except, if there is one, is
// passed over: a signature that is checked was not there when it was made.
func (x *fieldIndex) hashFields(h hash.Hash, canon Canon, names []string, except int) {
	left := make(map[string]int, min(len(names), len(x.places))) // how many are above the last one taken
	var buf []byte
	for _, name := range names {
		places := x.places[name]
		if len(places) == 0 {
			continue
		}
		n, ok := left[name]
		if !ok {
			n = len(places)
		}
		if n > 0 && places[n-1] == except {
			n--
		}
		if n > 0 {
			n--
			buf = canon.appendField(buf[:0], x.fields[places[n]].Raw())
			h.Write(buf)
		}
		left[name] = n
	}
}

// isAmbiguous reports a header section that readers may split in another way: a
// CR or LF alone ends a line for some of them, and a line that is no field ends
// the header section. What a signature covers is then not what is shown. An mbox
// "From " line on top is harmless.
func (x *fieldIndex) isAmbiguous() bool {
	for i, f := range x.fields {
		if f.Name == "" && !(i == 0 && strings.HasPrefix(f.Raw(), "From ")) {
			return true
		}
		if hasLoneEnd(f.Raw()) {
			return true
		}
	}
	return false
}

func hasLoneEnd(s string) bool {
	for {
		i := strings.IndexAny(s, "\r\n")
		if i < 0 {
			return false
		}
		if !strings.HasPrefix(s[i:], crlf) {
			return true
		}
		s = s[i+len(crlf):]
	}
}
