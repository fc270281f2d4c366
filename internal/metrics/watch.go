package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// QueueStats is the queue at the moment of a scrape.
type QueueStats struct {
	// States is the number of items by state: incoming, active, deferred, hold.
	States map[string]int
	// Oldest is when the oldest item was made; zero for an empty queue.
	Oldest time.Time
	// Suspended says that nothing is tried because outcomes cannot be stored.
	Suspended bool
	// Transports sums up the destinations of each transport. Destinations have
	// no series of their own: remote domains would make them without bound.
	Transports map[string]TransportStats
}

// TransportStats sums up the destinations of one transport.
type TransportStats struct {
	Active, Ready, Waiting, Hold int // items
	Dead, Paused                 int // destinations
}

// Certificate is what WatchCertificates needs of one.
type Certificate struct {
	File     string
	NotAfter time.Time
}

// WatchQueue asks stats for the queue at each scrape. It is called once.
func (m *Metrics) WatchQueue(stats func() QueueStats) {
	m.registry.MustRegister(&queueCollector{
		stats:        stats,
		items:        m.desc("gauge", "gatepost_queue_items", "Queue items, by state: incoming, active, deferred or hold.", "state"),
		oldest:       m.desc("gauge", "gatepost_queue_oldest_age_seconds", "Age of the oldest queue item; 0 for an empty queue."),
		suspended:    m.desc("gauge", "gatepost_queue_suspended", "1 while nothing is tried because outcomes cannot be stored, else 0."),
		transport:    m.desc("gauge", "gatepost_queue_transport_items", "Queue items of a transport: active, ready (due, waiting for their turn), waiting (for their time or the end of a pause) or hold.", "transport", "state"),
		destinations: m.desc("gauge", "gatepost_queue_destinations", "Destinations of a transport that are dead (resting after failures) or paused.", "transport", "condition"),
	})
}

type queueCollector struct {
	stats                                             func() QueueStats
	items, oldest, suspended, transport, destinations *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *queueCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.items, c.oldest, c.suspended, c.transport, c.destinations} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *queueCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := c.stats()
	for state, n := range s.States {
		gauge(c.items, float64(n), state)
	}
	age := 0.0
	if !s.Oldest.IsZero() {
		age = max(0, time.Since(s.Oldest).Seconds())
	}
	gauge(c.oldest, age)
	gauge(c.suspended, number(s.Suspended))
	for name, t := range s.Transports {
		gauge(c.transport, float64(t.Active), name, "active")
		gauge(c.transport, float64(t.Ready), name, "ready")
		gauge(c.transport, float64(t.Waiting), name, "waiting")
		gauge(c.transport, float64(t.Hold), name, "hold")
		gauge(c.destinations, float64(t.Dead), name, "dead")
		gauge(c.destinations, float64(t.Paused), name, "paused")
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// WatchLogs asks for the number of lines that were lost. It is called once.
func (m *Metrics) WatchLogs(dropped func() uint64) {
	const name, help = "gatepost_log_lines_dropped_total", "Log lines that were lost because a log file could not be written."
	m.note("counter", name, help, nil)
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
		func() float64 { return float64(dropped()) }))
}

// WatchReady asks whether the gateway is ready. It is called once.
func (m *Metrics) WatchReady(ready func() bool) {
	const name, help = "gatepost_ready", "1 while /healthz says ready, else 0."
	m.note("gauge", name, help, nil)
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
		func() float64 { return number(ready()) }))
}

// WatchCertificates asks for the certificates in use. It is called once.
func (m *Metrics) WatchCertificates(list func() []Certificate) {
	m.registry.MustRegister(&certCollector{
		list:   list,
		expiry: m.desc("gauge", "gatepost_tls_certificate_expiry_timestamp_seconds", "When a certificate ends, Unix time.", "file"),
	})
}

type certCollector struct {
	list   func() []Certificate
	expiry *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *certCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.expiry }

// Collect implements prometheus.Collector.
func (c *certCollector) Collect(ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, cert := range c.list() {
		if seen[cert.File] {
			continue // two listeners may share a file; two series of one name may not
		}
		seen[cert.File] = true
		ch <- prometheus.MustNewConstMetric(c.expiry, prometheus.GaugeValue, float64(cert.NotAfter.Unix()), cert.File)
	}
}
