package milter

import (
	"cmp"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// The symbols of edits. The Name of such a finding is that of the field; Reason
// shows the value to people. What Edits reads are the properties:
//
//	value  the value as a Go string literal in ASCII; lines are joined by \n
//	index  change-header and delete-header: which of that name, from 1;
//	       insert-header: before which field, 0 being the top
const (
	symbolAdd    = "add-header"
	symbolInsert = "insert-header"
	symbolChange = "change-header"
	symbolDelete = "delete-header"
)

const (
	maxFieldName = 100
	maxValue     = 16 << 10
	// maxLine is RFC 5322 §2.1.1, and maxIndex more fields than there can be.
	maxLine  = 998
	maxIndex = 1 << 20
)

// edit is one edit of the header section.
type edit struct {
	symbol, name string
	index        int
	value        string // lines are joined by "\n"
}

// finding describes the edit.
func (e edit) finding() mail.Finding {
	f := mail.Finding{Module: use, Symbol: e.symbol, Result: mail.Clean, Name: e.name, Reason: message.SafeText(e.value, maxText)}
	if e.symbol != symbolAdd {
		f.Properties = append(f.Properties, mail.Property{Name: "index", Value: strconv.Itoa(e.index)})
	}
	if e.symbol != symbolDelete {
		f.Properties = append(f.Properties, mail.Property{Name: "value", Value: strconv.QuoteToASCII(e.value)})
	} else {
		f.Reason = "the field goes"
	}
	return f
}

// editOf understands a finding.
func editOf(f *mail.Finding) (e edit, ok bool) {
	if f.Module != use || f.Result != mail.Clean || refusedField(f.Name) != "" {
		return e, false
	}
	e = edit{symbol: f.Symbol, name: f.Name, index: -1}
	valued := false
	for _, p := range f.Properties {
		var err error
		switch p.Name {
		case "index":
			e.index, err = strconv.Atoi(p.Value)
		case "value":
			valued = true
			if e.value, err = strconv.Unquote(p.Value); err == nil {
				e.value, err = cleanValue(e.name, e.value)
			}
		}
		if err != nil {
			return e, false
		}
	}
	switch e.symbol {
	case symbolAdd:
		return e, valued
	case symbolInsert:
		return e, valued && e.index >= 0
	case symbolChange:
		return e, valued && e.index >= 1
	case symbolDelete:
		return e, e.index >= 1
	}
	return e, false
}

// Edits returns what the findings of milters mean for a message with that header:
// whole fields to put in front of it, each without its last line end but folded
// with CRLF where it is long, and the fields that go, in ascending order. A field
// that is changed goes and comes back in front. Of several edits of one field the
// last counts. Findings that are not about edits are passed over; several milters
// all speak of the message as it came.
func Edits(findings []mail.Finding, header *message.Header) (prepend []string, cut []mail.Span) {
	type replaced struct {
		span  mail.Span
		field string
	}
	var inserted, added []string
	var places []replaced
	for i := range findings {
		e, ok := editOf(&findings[i])
		if !ok {
			continue
		}
		switch e.symbol {
		case symbolAdd:
			added = append(added, e.field())
		case symbolInsert:
			inserted = append(inserted, e.field())
		case symbolChange, symbolDelete:
			span, ok := nth(header, e.name, e.index)
			if !ok {
				continue
			}
			r := replaced{span: span}
			if e.symbol == symbolChange {
				r.field = e.field()
			}
			places = slices.DeleteFunc(places, func(p replaced) bool { return p.span == span })
			places = append(places, r)
		}
	}
	// Each was put above what stood there before.
	slices.Reverse(inserted)
	prepend = inserted
	slices.SortFunc(places, func(a, b replaced) int { return cmp.Compare(a.span.Start, b.span.Start) })
	for _, p := range places {
		if p.field != "" {
			prepend = append(prepend, p.field)
		}
		cut = append(cut, p.span)
	}
	return append(prepend, added...), cut
}

// nth finds the n-th field of that name, from 1.
func nth(header *message.Header, name string, n int) (mail.Span, bool) {
	for _, f := range header.Fields() {
		if f.Is(name) {
			if n--; n == 0 {
				return f.Span, true
			}
		}
	}
	return mail.Span{}, false
}

func (e edit) field() string { return e.name + ": " + strings.ReplaceAll(e.value, "\n", "\r\n") }

// refusedField says why a field of that name is not edited, "" where it may be.
// What says how to read the body has been scanned as it is; the rest is for
// Gatepost to say.
func refusedField(name string) string {
	if name == "" || len(name) > maxFieldName {
		return "its name has no proper length"
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' { // RFC 5322 §2.2
			return "its name has characters that no name has"
		}
	}
	lower := strings.ToLower(name)
	switch {
	case strings.HasPrefix(lower, "content-"), lower == "mime-version":
		return "it says how the body is read, and was scanned as it is"
	case strings.HasPrefix(lower, "x-gatepost-"):
		return "only Gatepost writes it"
	case lower == "received", lower == "return-path":
		return "it says which way the message came"
	}
	return ""
}

// isOurs reports whether the value of an Authentication-Results field names host.
// It would rather say so once too often: what is quoted or escaped here, no
// honest milter writes.
func isOurs(value, host string) bool {
	if host == "" {
		return false
	}
	depth := 0
	var id strings.Builder
	for _, c := range value {
		switch {
		case c == '\\' || c == '"':
			return true
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == ';' && depth == 0:
			return names(id.String(), host)
		case depth == 0:
			id.WriteRune(c)
		}
	}
	return depth > 0 || names(id.String(), host)
}

// names reports whether "id version" is about host.
func names(id, host string) bool {
	fields := strings.Fields(id)
	return len(fields) > 0 && strings.EqualFold(strings.TrimSuffix(fields[0], "."), host)
}

// errLongLine says that a value can't be folded.
var errLongLine = errors.New("it has a line that is too long")

// cleanValue makes a value that is safe in a field of that name: lines joined by
// "\n", each behind the first beginning with white space and none empty, nothing
// but printable ASCII and tabs. What is UTF-8 becomes encoded words (RFC 2047), so
// that the message needs no SMTPUTF8 because of it. The name must be one that
// refusedField allows.
func cleanValue(name, value string) (string, error) {
	if len(value) > maxValue {
		return "", fmt.Errorf("it has %d bytes", len(value))
	}
	value = strings.ReplaceAll(strings.ReplaceAll(value, "\r\n", "\n"), "\r", "\n")
	var lines []string
	for l := range strings.SplitSeq(value, "\n") {
		l = cleanLine(l)
		switch text := strings.Trim(l, " \t"); {
		case text == "":
		case len(lines) == 0:
			lines = append(lines, text)
		default:
			if l[0] != ' ' && l[0] != '\t' {
				l = "\t" + l
			}
			lines = append(lines, strings.TrimRight(l, " \t"))
		}
	}
	var folded []string
	room := maxLine - len(name) - len(": ")
	for _, l := range lines {
		for len(l) > room {
			at := strings.LastIndexAny(l[:room+1], " \t")
			if at <= 0 || strings.Trim(l[:at], " \t") == "" {
				return "", errLongLine
			}
			folded = append(folded, strings.TrimRight(l[:at], " \t"))
			l = l[at:]
			room = maxLine
		}
		folded = append(folded, l)
		room = maxLine
	}
	if value = strings.Join(folded, "\n"); len(value) > maxValue {
		return "", fmt.Errorf("it has %d bytes when encoded", len(value))
	}
	return value, nil
}

func cleanLine(l string) string {
	if !mail.IsASCII(l) && utf8.ValidString(l) {
		indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		l = indent + mime.QEncoding.Encode("utf-8", l[len(indent):])
	}
	b := []byte(l)
	for i, c := range b {
		if c < ' ' && c != '\t' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}
