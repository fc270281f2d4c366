package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gatepost/internal/mail"
)

// Build says which Gatepost this is.
type Build struct{ Version, Revision, GoVersion string }

// Metrics is everything that is counted.
type Metrics struct {
	registry *prometheus.Registry
	table    []Def

	sessions     *prometheus.CounterVec
	openSessions *prometheus.GaugeVec
	sessionTime  *prometheus.HistogramVec
	replies      *family[replyKey, prometheus.Counter]
	received     *prometheus.CounterVec

	attempts       *prometheus.CounterVec
	attemptTime    *prometheus.HistogramVec
	bounces        *prometheus.CounterVec
	reportsDropped *prometheus.CounterVec

	commits    *prometheus.CounterVec
	commitTime prometheus.Histogram

	scan      scanMetrics
	stages    stageMetrics
	logins    *prometheus.CounterVec
	upstreams upstreamMetrics
	leaving   leavingMetrics
	pop       popMetrics
	// heldForUsers counts what exceeded a limit of its user.
	heldForUsers *prometheus.CounterVec

	reloads      *prometheus.CounterVec
	reloadOK     prometheus.Gauge
	lastReloadAt prometheus.Gauge
}

// New makes the metrics and registers those of the Go runtime and the process.
func New(build Build) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	m.gaugeVec("gatepost_build_info", "Always 1; its labels say which Gatepost this is.", "version", "revision", "go_version").
		WithLabelValues(build.Version, build.Revision, build.GoVersion).Set(1)
	m.addSessions()
	m.addQueue()
	m.addSpool()
	m.addScan()
	m.addStages()
	m.addLogins()
	m.addUpstreams()
	m.addLeaving()
	m.addPOP()
	m.reloads = m.counterVec("gatepost_config_reloads_total", "Reloads of the configuration, by result: ok or error.", "result")
	m.reloadOK = m.gauge("gatepost_config_last_reload_successful", "Whether the last load of the configuration worked: 1 or 0.")
	m.lastReloadAt = m.gauge("gatepost_config_last_success_timestamp_seconds", "When the configuration in use was loaded, Unix time.")
	return m
}

func (m *Metrics) addSessions() {
	m.sessions = m.counterVec("gatepost_smtp_sessions_total", "SMTP sessions that were started.", "listener")
	m.openSessions = m.gaugeVec("gatepost_smtp_sessions_open", "SMTP sessions that are open.", "listener")
	m.sessionTime = m.histogramVec("gatepost_smtp_session_duration_seconds", "How long SMTP sessions lasted.",
		[]float64{.01, .1, 1, 10, 60, 300, 1800}, "listener")
	replies := m.counterVec("gatepost_smtp_replies_total",
		"SMTP replies, by the verb that was answered (CONNECT for the banner, MESSAGE for the end of data, other for unknown ones) and code.",
		"listener", "verb", "code")
	m.replies = newFamily(func(k replyKey) prometheus.Counter {
		return replies.WithLabelValues(k.listener, k.verb, codeLabel(k.code))
	})
	m.received = m.counterVec("gatepost_smtp_received_bytes_total", "Bytes of messages that were answered 2xx.", "listener")
}

func (m *Metrics) addQueue() {
	m.attempts = m.counterVec("gatepost_delivery_attempts_total", "Delivery attempts, counted per recipient, by outcome: delivered, deferred or failed.", "transport", "status")
	m.attemptTime = m.histogramVec("gatepost_delivery_duration_seconds", "How long delivery attempts took.",
		[]float64{.001, .005, .025, .1, .5, 1, 5, 30, 120, 600}, "transport")
	m.bounces = m.counterVec("gatepost_delivery_bounces_total", "Recipients that failed for good and whose sender was told so by a DSN.", "transport")
	m.reportsDropped = m.counterVec("gatepost_delivery_reports_dropped_total", "DSNs that were due and not sent: over the rate limit, or to a sender that must not be told.", "transport")
}

func (m *Metrics) addSpool() {
	m.commits = m.counterVec("gatepost_spool_commits_total", "Messages made durable, by result: ok or error.", "result")
	m.commitTime = m.histogram("gatepost_spool_commit_duration_seconds", "How long it took to make a message durable.",
		[]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5})
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry:            m.registry,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	})
}

// SessionStarted counts a new session.
func (m *Metrics) SessionStarted(listener string) {
	m.sessions.WithLabelValues(listener).Inc()
	m.openSessions.WithLabelValues(listener).Inc()
}

// SessionEnded counts the end of a session that lasted d.
func (m *Metrics) SessionEnded(listener string, d time.Duration) {
	m.openSessions.WithLabelValues(listener).Dec()
	m.sessionTime.WithLabelValues(listener).Observe(d.Seconds())
}

// Replied counts a reply to a verb.
func (m *Metrics) Replied(listener, verb string, code int) {
	m.replies.get(replyKey{listener, verbLabel(verb), boundCode(code)}).Inc()
}

// Received counts the bytes of an accepted message.
func (m *Metrics) Received(listener string, bytes int64) {
	m.received.WithLabelValues(listener).Add(float64(max(bytes, 0)))
}

// Attempted counts the outcome of a delivery attempt for one recipient.
func (m *Metrics) Attempted(transport string, status mail.OutcomeStatus, d time.Duration) {
	m.attempts.WithLabelValues(transport, string(status)).Inc()
	m.attemptTime.WithLabelValues(transport).Observe(d.Seconds())
}

// Bounced counts a recipient whose sender is told of the failure.
func (m *Metrics) Bounced(transport string) { m.bounces.WithLabelValues(transport).Inc() }

// ReportDropped counts a report that was due and not sent.
func (m *Metrics) ReportDropped(transport string) {
	m.reportsDropped.WithLabelValues(transport).Inc()
}

// Committed counts a message that was made durable, or was not.
func (m *Metrics) Committed(d time.Duration, err error) {
	m.commits.WithLabelValues(result(err)).Inc()
	m.commitTime.Observe(d.Seconds())
}

// ConfigLoaded counts a reload of the configuration, and the load at start.
func (m *Metrics) ConfigLoaded(err error) {
	m.reloads.WithLabelValues(result(err)).Inc()
	if err != nil {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.lastReloadAt.SetToCurrentTime()
}

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}
