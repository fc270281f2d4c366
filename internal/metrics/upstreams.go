package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// upstreamMetrics is what is counted of mail that is passed through.
type upstreamMetrics struct {
	sessions *prometheus.CounterVec
	opening  *prometheus.HistogramVec
	failures *prometheus.CounterVec
	waits    *prometheus.CounterVec
}

func (m *Metrics) addUpstreams() {
	u := &m.upstreams
	u.sessions = m.counterVec("gatepost_upstream_sessions_total", "Transactions that were given a session with an upstream, by whether it was open already.", "transport", "host", "reused")
	u.opening = m.histogramVec("gatepost_upstream_open_duration_seconds", "How long it took to open a session with an upstream.",
		[]float64{.001, .005, .025, .1, .5, 1, 5, 30}, "transport")
	u.failures = m.counterVec("gatepost_upstream_failures_total", "Sessions with upstreams that could not be opened or broke off, by the command.", "transport", "host", "stage")
	u.waits = m.counterVec("gatepost_upstream_waits_total", "Transactions that waited because all sessions were in use, by whether they got one in time.", "transport", "granted")
}

// Upstream counts for one transport.
type Upstream struct {
	m         *Metrics
	transport string
}

// Upstream returns what counts for a transport.
func (m *Metrics) Upstream(transport string) Upstream { return Upstream{m, transport} }

// Session counts a session that a transaction was given.
func (u Upstream) Session(host string, reused bool, took time.Duration) {
	u.m.upstreams.sessions.WithLabelValues(u.transport, host, strconv.FormatBool(reused)).Inc()
	if !reused {
		u.m.upstreams.opening.WithLabelValues(u.transport).Observe(took.Seconds())
	}
}

// Failed counts a session that failed.
func (u Upstream) Failed(host, stage string) {
	u.m.upstreams.failures.WithLabelValues(u.transport, host, stage).Inc()
}

// Waited counts a transaction that waited for a session.
func (u Upstream) Waited(_ time.Duration, granted bool) {
	u.m.upstreams.waits.WithLabelValues(u.transport, strconv.FormatBool(granted)).Inc()
}

// UpstreamStats are the sessions with one upstream at the moment of a scrape.
type UpstreamStats struct {
	Transport, Host, Address string
	Open, Idle               int
}

// WatchUpstreams asks for the sessions with upstreams. It is called once.
func (m *Metrics) WatchUpstreams(list func() []UpstreamStats) {
	m.registry.MustRegister(&upstreamCollector{
		list: list,
		open: m.desc("gauge", "gatepost_upstream_sessions", "Sessions with an upstream: busy with a transaction, or idle.", "transport", "host", "address", "state"),
	})
}

type upstreamCollector struct {
	list func() []UpstreamStats
	open *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *upstreamCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.open }

// Collect implements prometheus.Collector.
func (c *upstreamCollector) Collect(ch chan<- prometheus.Metric) {
	for _, u := range c.list() {
		for state, n := range map[string]int{"busy": u.Open - u.Idle, "idle": u.Idle} {
			ch <- prometheus.MustNewConstMetric(c.open, prometheus.GaugeValue, float64(n), u.Transport, u.Host, u.Address, state)
		}
	}
}
