package history

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// An event is kept as one line of JSON: what encoding/json makes of it, so that it
// can be read with that. It is written by hand because each message has two or three
// of them, and reflection took as long as all the rest together. The line begins with
// the ID at a fixed place (lineID).

// encoder appends members of a JSON object.
type encoder struct{ b []byte }

// appendEvent appends the JSON of an event, without a line end.
func appendEvent(b []byte, e *mail.Event) []byte {
	w := encoder{append(b, `{"id":"`...)}
	w.b = e.ID.Append(w.b)
	w.b = append(w.b, '"')
	w.time("time", e.Time)
	w.text("node", e.Node)
	w.text("kind", string(e.Kind))
	w.text("result", string(e.Result))
	w.id("session", e.Session)
	w.id("message", e.Message)
	w.number("item", int64(e.Item))
	w.id("related", e.Related)
	w.client(e)
	w.text("sender", e.Sender)
	if len(e.Recipients) > 0 {
		list(&w, "recipients", e.Recipients, (*encoder).addressee)
	}
	w.text("subject", e.Subject)
	w.text("message_id", e.MessageID)
	w.number("size", e.Size)
	w.text("stage", e.Stage)
	w.text("reply", e.Reply)
	w.flag("remote", e.Remote)
	w.text("host", e.Host)
	w.text("reason", e.Reason)
	if len(e.Findings) > 0 {
		list(&w, "findings", e.Findings, (*encoder).finding)
	}
	w.text("verdict", string(e.Action))
	w.text("threat", string(e.Threat))
	w.float("score", e.Score)
	w.text("transport", e.Transport)
	w.text("next_hop", e.NextHop)
	w.number("attempt", int64(e.Attempt))
	w.time("next", e.Next)
	w.text("actor", e.Actor)
	w.number("took_ns", int64(e.Took))
	if len(e.Details) > 0 {
		list(&w, "details", e.Details, (*encoder).property)
	}
	return append(w.b, '}')
}

// client writes what is known of the connection.
func (w *encoder) client(e *mail.Event) {
	w.text("protocol", string(e.Protocol))
	w.text("listener", e.Listener)
	w.addr("client", e.Client)
	if e.Original.IsValid() {
		w.text("original", e.Original.String())
	}
	w.text("name", e.Name)
	w.text("helo", e.Helo)
	if e.TLS.Active() {
		w.key("tls")
		w.b = append(w.b, '{')
		w.first("version", e.TLS.Version)
		w.text("cipher", e.TLS.Cipher)
		w.flag("verified", e.TLS.Verified)
		w.b = append(w.b, '}')
	}
	w.text("user", e.User)
	w.text("server", e.Server)
}

func (w *encoder) addressee(r *mail.Addressee) {
	w.first("address", r.Address)
	w.text("original", r.Original)
	w.text("domain", r.Domain)
	w.number("item", int64(r.Item))
	w.text("transport", r.Transport)
	w.text("next_hop", r.NextHop)
	w.text("flow", r.Flow)
	w.text("verdict", string(r.Action))
	w.text("threat", string(r.Threat))
	w.text("block", r.Block)
	w.text("rule", r.Rule)
	w.text("reason", r.Reason)
	w.float("score", r.Score)
	w.text("status", string(r.Status))
	w.text("reply", r.Reply)
	w.flag("remote", r.Remote)
	w.text("stage", r.Stage)
	w.text("host", r.Host)
	w.text("cause", r.Cause)
}

func (w *encoder) finding(f *mail.Finding) {
	w.first("module", f.Module)
	w.text("symbol", f.Symbol)
	w.key("result")
	w.b = appendString(w.b, string(f.Result))
	w.float("score", f.Score)
	w.text("reason", f.Reason)
	w.text("part", f.Part)
	w.text("name", f.Name)
	if len(f.Recipients) > 0 {
		w.key("recipients")
		for i, r := range f.Recipients {
			w.b = append(w.b, "[,"[min(i, 1)])
			w.b = appendString(w.b, r)
		}
		w.b = append(w.b, ']')
	}
	if len(f.Properties) > 0 {
		list(w, "properties", f.Properties, (*encoder).property)
	}
}

func (w *encoder) property(p *mail.Property) {
	w.first("name", p.Name)
	w.key("value")
	w.b = appendString(w.b, p.Value)
}

// list writes an array of objects.
func list[T any](w *encoder, key string, all []T, one func(*encoder, *T)) {
	w.key(key)
	for i := range all {
		w.b = append(w.b, "[,"[min(i, 1)], '{')
		one(w, &all[i])
		w.b = append(w.b, '}')
	}
	w.b = append(w.b, ']')
}

// first writes the first member of an object, even if it is empty.
func (w *encoder) first(key, v string) {
	w.b = append(append(append(w.b, '"'), key...), '"', ':')
	w.b = appendString(w.b, v)
}

func (w *encoder) key(key string) {
	w.b = append(append(append(w.b, ',', '"'), key...), '"', ':')
}

// text and those below write a member unless it is zero.
func (w *encoder) text(key, v string) {
	if v != "" {
		w.key(key)
		w.b = appendString(w.b, v)
	}
}

func (w *encoder) number(key string, v int64) {
	if v != 0 {
		w.key(key)
		w.b = strconv.AppendInt(w.b, v, 10)
	}
}

func (w *encoder) float(key string, v float64) {
	if v != 0 {
		w.key(key)
		w.b = strconv.AppendFloat(w.b, v, 'g', -1, 64)
	}
}

func (w *encoder) flag(key string, v bool) {
	if v {
		w.key(key)
		w.b = append(w.b, "true"...)
	}
}

func (w *encoder) id(key string, v mail.ID) {
	if !v.IsZero() {
		w.key(key)
		w.b = append(v.Append(append(w.b, '"')), '"')
	}
}

func (w *encoder) addr(key string, v netip.Addr) {
	if v.IsValid() {
		w.key(key)
		w.b = append(v.AppendTo(append(w.b, '"')), '"')
	}
}

func (w *encoder) time(key string, v time.Time) {
	if !v.IsZero() {
		w.key(key)
		w.b = append(v.UTC().AppendFormat(append(w.b, '"'), time.RFC3339Nano), '"')
	}
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string. What is no UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' && c != 0x7f {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(append(b, s[start:i]...), "\ufffd"...)
			start = i + 1
		}
		i += n
	}
	return append(append(b, s[start:]...), '"')
}

// lineID reads the ID at the begin of a line.
func lineID(line []byte) (mail.ID, bool) {
	const at, length = len(`{"id":"`), 26
	if len(line) < at+length {
		return mail.ID{}, false
	}
	id, err := mail.ParseID(string(line[at : at+length]))
	return id, err == nil
}
