package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// popMetrics is what is counted of POP3.
type popMetrics struct {
	sessions  *prometheus.CounterVec
	open      *prometheus.GaugeVec
	times     *prometheus.HistogramVec
	replies   *family[popReplyKey, prometheus.Counter]
	messages  *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	scanTimes *prometheus.HistogramVec
}

type popReplyKey struct {
	listener, verb string
	ok             bool
}

func (m *Metrics) addPOP() {
	m.pop.sessions = m.counterVec("gatepost_pop3_sessions_total", "POP3 sessions that were started.", "listener")
	m.pop.open = m.gaugeVec("gatepost_pop3_sessions_open", "POP3 sessions that are open.", "listener")
	m.pop.times = m.histogramVec("gatepost_pop3_session_duration_seconds", "How long POP3 sessions lasted.",
		[]float64{.01, .1, 1, 10, 60, 300, 1800}, "listener")
	replies := m.counterVec("gatepost_pop3_replies_total", "POP3 replies to clients, by the verb that was answered (CONNECT for the greeting, other for unknown ones) and result: ok or err.", "listener", "verb", "result")
	m.pop.replies = newFamily(func(k popReplyKey) prometheus.Counter {
		result := "err"
		if k.ok {
			result = "ok"
		}
		return replies.WithLabelValues(k.listener, k.verb, result)
	})
	m.pop.messages = m.counterVec("gatepost_pop3_messages_total", "Messages that POP3 clients asked for, by what they got: passed, replaced (a notice), unscanned, refused (too large) or failed.", "listener", "result")
	m.pop.bytes = m.counterVec("gatepost_pop3_retrieved_bytes_total", "Bytes of messages that were fetched from POP3 servers.", "listener")
	m.pop.scanTimes = m.histogramVec("gatepost_pop3_scan_duration_seconds", "How long it took to judge messages that POP3 clients fetched.",
		[]float64{.001, .005, .025, .1, .5, 1, 5, 15, 30, 60, 300}, "listener")
}

// POPSessionStarted counts a new session of POP3.
func (m *Metrics) POPSessionStarted(listener string) {
	m.pop.sessions.WithLabelValues(listener).Inc()
	m.pop.open.WithLabelValues(listener).Inc()
}

// POPSessionEnded counts the end of a session that lasted d.
func (m *Metrics) POPSessionEnded(listener string, d time.Duration) {
	m.pop.open.WithLabelValues(listener).Dec()
	m.pop.times.WithLabelValues(listener).Observe(d.Seconds())
}

// POPReplied counts a reply of POP3.
func (m *Metrics) POPReplied(listener, verb string, ok bool) {
	m.pop.replies.get(popReplyKey{listener, popVerbLabel(verb), ok}).Inc()
}

// POPRetrieved counts what a client got who asked for a message. took is how long it took
// to judge it, 0 where it was not.
func (m *Metrics) POPRetrieved(listener, result string, bytes int64, took time.Duration) {
	m.pop.messages.WithLabelValues(listener, result).Inc()
	m.pop.bytes.WithLabelValues(listener).Add(float64(max(bytes, 0)))
	if took > 0 {
		m.pop.scanTimes.WithLabelValues(listener).Observe(took.Seconds())
	}
}

// popVerbLabel keeps the verbs that exist.
func popVerbLabel(verb string) string {
	switch verb {
	case "CONNECT", "APOP", "AUTH", "CAPA", "DELE", "LANG", "LAST", "LIST", "NOOP", "PASS", "QUIT", "RETR", "RSET", "STAT", "STLS", "TOP", "UIDL", "USER", "UTF8":
		return verb
	}
	return "other"
}
