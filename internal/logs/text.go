package logs

import (
	"encoding"
	"fmt"
	"log/slog"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// textHandler formats a record as
//
//	2026-01-02T15:04:05.000+01:00 info Queue delivered id=… host="mx1.example.org [192.0.2.1]:25"
//
// time, level, component, message, then key=value. A value is quoted when it
// holds a space, a quote, "=" or anything that does not print.
type textHandler struct {
	component string
	maxValue  int
	prefix    string // the open groups: "request.client."
	fixed     []byte // attributes of With, formatted
}

func (h textHandler) withAttrs(attrs []slog.Attr) textHandler {
	fixed := append([]byte(nil), h.fixed...)
	for _, a := range attrs {
		fixed = h.appendAttr(fixed, h.prefix, a)
	}
	h.fixed = fixed
	return h
}

func (h textHandler) withGroup(name string) textHandler {
	if name != "" {
		h.prefix += name + "."
	}
	return h
}

// appendRecord appends the record as one line that ends in '\n'.
func (h *textHandler) appendRecord(b []byte, r slog.Record) []byte {
	t := r.Time
	if t.IsZero() {
		t = time.Now()
	}
	b = t.AppendFormat(b, timeLayout)
	b = append(b, ' ')
	b = append(b, levelName(r.Level)...)
	b = append(b, ' ')
	b = append(b, h.component...)
	b = append(b, ' ')
	b = appendMessage(b, r.Message, h.maxValue)
	b = append(b, h.fixed...)
	r.Attrs(func(a slog.Attr) bool {
		b = h.appendAttr(b, h.prefix, a)
		return true
	})
	return append(b, '\n')
}

// appendMessage appends the message as plain words, escaped where it must be.
func appendMessage(b []byte, s string, limit int) []byte {
	if len(s) <= limit && prints(s, " =\"") {
		return append(b, s...)
	}
	return appendQuoted(b, s, limit)
}

func (h *textHandler) appendAttr(b []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			b = h.appendAttr(b, prefix, member)
		}
		return b
	}
	if a.Equal(slog.Attr{}) {
		return b
	}
	b = append(b, ' ')
	b = appendKey(b, prefix)
	b = appendKey(b, a.Key)
	b = append(b, '=')
	if secretKey(a.Key) {
		return append(b, secretMark...)
	}
	return appendValue(b, v, h.maxValue)
}

// appendKey appends a key. Keys are constants of ours; one that is not a plain
// word can still not break the line.
func appendKey(b []byte, key string) []byte {
	if prints(key, "") {
		return append(b, key...)
	}
	return strconv.AppendQuote(b, key)
}

func appendValue(b []byte, v slog.Value, limit int) []byte {
	switch v.Kind() {
	case slog.KindString:
		return appendString(b, v.String(), limit)
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindFloat64:
		return strconv.AppendFloat(b, v.Float64(), 'g', -1, 64)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindDuration:
		return append(b, v.Duration().String()...)
	case slog.KindTime:
		return v.Time().AppendFormat(b, timeLayout)
	}
	start := len(b)
	b = appendAny(b, v.Any())
	if text := b[start:]; len(text) == 0 || len(text) > limit || !prints(string(text), "") {
		return appendQuoted(b[:start], string(text), limit)
	}
	return b
}

// appendAny appends the text of a value of any type, not yet quoted. A method
// that panics, as String of a nil pointer may, costs the value and not the line.
func appendAny(b []byte, v any) (out []byte) {
	start := len(b)
	defer func() {
		if p := recover(); p != nil {
			out = fmt.Appendf(b[:start], "!PANIC: %v", p)
		}
	}()
	switch v := v.(type) {
	case nil:
		return append(b, "<nil>"...)
	case error:
		return append(b, v.Error()...)
	case []byte:
		return append(b, v...)
	case encoding.TextAppender:
		if text, err := v.AppendText(b); err == nil {
			return text
		}
	case encoding.TextMarshaler:
		if text, err := v.MarshalText(); err == nil {
			return append(b, text...)
		}
	}
	return fmt.Appendf(b, "%+v", v)
}

func appendString(b []byte, s string, limit int) []byte {
	if s != "" && len(s) <= limit && prints(s, "") {
		return append(b, s...)
	}
	return appendQuoted(b, s, limit)
}

// appendQuoted quotes as Go does: strconv escapes everything that does not
// print, among it ESC, U+2028 and the marks that turn the direction of text.
func appendQuoted(b []byte, s string, limit int) []byte {
	if len(s) > limit {
		s = string(appendCut(nil, s, limit))
	}
	return strconv.AppendQuote(b, s)
}

// appendCut appends the first limit bytes of s, less a torn character, and says
// how much is missing.
func appendCut(b []byte, s string, limit int) []byte {
	if len(s) <= limit {
		return append(b, s...)
	}
	n := limit
	for n > max(0, limit-utf8.UTFMax) && !utf8.RuneStart(s[n]) {
		n--
	}
	b = append(b, s[:n]...)
	return fmt.Appendf(b, "…(+%d bytes)", len(s)-n)
}

// prints reports whether s can stand unquoted: printing characters only, and
// none of space, quote, backslash and "=" unless also allows it.
func prints(s, also string) bool {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f || (c == ' ' || c == '"' || c == '=' || c == '\\') && !allowed(also, c) {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
		i += n
	}
	return true
}

func allowed(set string, c byte) bool {
	for i := range len(set) {
		if set[i] == c {
			return true
		}
	}
	return false
}
