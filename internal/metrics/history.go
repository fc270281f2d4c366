package metrics

import "github.com/prometheus/client_golang/prometheus"

// HistoryStats is the history at the moment of a scrape.
type HistoryStats struct {
	Waiting  int   // events in memory
	Outbox   int64 // bytes that the spool keeps for it
	Size     int64 // bytes in the store
	Segments int64
	Watching int
	// Dropped, Written and Missed count events since the start.
	Dropped, Written, Missed int64
}

// WatchHistory asks stats for the history at each scrape. It is called once.
func (m *Metrics) WatchHistory(stats func() HistoryStats) {
	m.registry.MustRegister(&historyCollector{
		stats:    stats,
		waiting:  m.desc("gauge", "gatepost_history_waiting_events", "Events in memory that are not in the history yet."),
		outbox:   m.desc("gauge", "gatepost_history_outbox_bytes", "Bytes of events that the spool keeps until they are in the history."),
		size:     m.desc("gauge", "gatepost_history_bytes", "Bytes that the history takes, as this node knows."),
		segments: m.desc("gauge", "gatepost_history_segments", "Segments of the history, as this node knows."),
		watching: m.desc("gauge", "gatepost_history_watchers", "Who watches live events."),
		events:   m.desc("counter", "gatepost_history_events_total", "Events by what became of them: written, dropped (lost), or missed by a slow watcher.", "fate"),
	})
}

type historyCollector struct {
	stats                                             func() HistoryStats
	waiting, outbox, size, segments, watching, events *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *historyCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.waiting, c.outbox, c.size, c.segments, c.watching, c.events} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *historyCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(c.waiting, float64(s.Waiting))
	gauge(c.outbox, float64(s.Outbox))
	gauge(c.size, float64(s.Size))
	gauge(c.segments, float64(s.Segments))
	gauge(c.watching, float64(s.Watching))
	for fate, n := range map[string]int64{"written": s.Written, "dropped": s.Dropped, "missed": s.Missed} {
		ch <- prometheus.MustNewConstMetric(c.events, prometheus.CounterValue, float64(n), fate)
	}
}
