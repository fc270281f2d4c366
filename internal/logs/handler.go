package logs

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// timeLayout is RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// handler formats records as the configuration says at the moment, so that a
// reload can change the format under loggers that others hold. It keeps the
// attributes of With for both formats.
type handler struct {
	logs *Logs
	w    lineWriter
	text textHandler
	json slog.Handler
}

// lineWriter is where lines go: the sink of mail.log, and for transactions that
// of smtp_proxy.log too, while it is a file of its own.
type lineWriter struct {
	mail *sink
	also *sink
	both *atomic.Bool
}

// Write takes one line. slog's JSON handler calls it once for each record.
func (w lineWriter) Write(line []byte) (int, error) {
	w.mail.write(line)
	if w.also != nil && w.both.Load() {
		w.also.write(line)
	}
	return len(line), nil
}

func newHandler(l *Logs, component string, w lineWriter) *handler {
	options := &slog.HandlerOptions{
		// The level is decided in Enabled, and transactions are written at every level.
		Level:       slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr { return jsonAttr(groups, a, l.maxValue) },
	}
	return &handler{
		logs: l,
		w:    w,
		text: textHandler{component: component, maxValue: l.maxValue},
		json: slog.NewJSONHandler(w, options).WithAttrs([]slog.Attr{slog.String("component", component)}),
	}
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.logs.level.Level()
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{logs: h.logs, w: h.w, text: h.text.withAttrs(attrs), json: h.json.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{logs: h.logs, w: h.w, text: h.text.withGroup(name), json: h.json.WithGroup(name)}
}

// Handle implements slog.Handler. It never fails: what cannot be written is
// counted by the sink.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.logs.json.Load() {
		return h.json.Handle(ctx, r)
	}
	line := linePool.Get().(*[]byte)
	*line = h.text.appendRecord((*line)[:0], r)
	_, err := h.w.Write(*line)
	recycle(line)
	return err
}

// linePool holds the buffers in which lines are put together. It is the one
// thing in this package that all Logs share; it holds no state.
var linePool = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

func recycle(line *[]byte) {
	if cap(*line) <= 64<<10 {
		linePool.Put(line)
	}
}

// jsonAttr gives slog's JSON handler our names of levels, cuts long values and
// leaves secrets out.
func jsonAttr(groups []string, a slog.Attr, maxValue int) slog.Attr {
	if len(groups) == 0 {
		switch a.Key {
		case slog.LevelKey:
			if level, ok := a.Value.Any().(slog.Level); ok {
				return slog.String(slog.LevelKey, levelName(level))
			}
		case slog.TimeKey:
			if a.Value.Kind() == slog.KindTime {
				return slog.Time(slog.TimeKey, a.Value.Time().Truncate(time.Millisecond))
			}
		}
	}
	if secretKey(a.Key) {
		return slog.String(a.Key, secretMark)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); len(s) > maxValue {
			return slog.String(a.Key, string(appendCut(nil, s, maxValue)))
		}
	case slog.KindDuration:
		return slog.String(a.Key, a.Value.Duration().String())
	case slog.KindAny:
		if !a.Equal(slog.Attr{}) {
			return slog.String(a.Key, string(appendCut(nil, string(appendAny(nil, a.Value.Any())), maxValue)))
		}
	}
	return a
}

// secretMark stands for a value that must not be logged.
const secretMark = "[secret]"

// secretKey reports whether values under this key are never written. It is the
// second fence: callers must not log secrets in the first place.
func secretKey(key string) bool {
	switch len(key) {
	case len("token"), len("secret"), len("password"), len("credentials"), len("authorization"):
	default:
		return false
	}
	switch strings.ToLower(key) {
	case "token", "secret", "password", "credentials", "authorization", "passwd":
		return true
	}
	return false
}

// levelName is how a level stands in the log and in the configuration.
func levelName(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warn"
	}
	return "error"
}

// notice returns the maker of the line that says how many lines were lost.
func (l *Logs) notice(name string) func(uint64) []byte {
	text := textHandler{component: "Log", maxValue: l.maxValue}
	return func(lost uint64) []byte {
		if l.json.Load() {
			b, err := json.Marshal(struct {
				Time      time.Time `json:"time"`
				Level     string    `json:"level"`
				Component string    `json:"component"`
				Msg       string    `json:"msg"`
				File      string    `json:"file"`
				Lines     uint64    `json:"lines"`
			}{time.Now().Truncate(time.Millisecond), "warn", "Log", "lines were lost", name, lost})
			if err == nil {
				return append(b, '\n')
			}
		}
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "lines were lost", 0)
		r.AddAttrs(slog.String("file", name), slog.Uint64("lines", lost))
		return text.appendRecord(nil, r)
	}
}
