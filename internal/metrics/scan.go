package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatepost/internal/mail"
)

// scanMetrics is what is counted of scanning.
type scanMetrics struct {
	answers  *prometheus.CounterVec
	times    *prometheus.HistogramVec
	verdicts *prometheus.CounterVec
}

// stageMetrics is what is counted before content.
type stageMetrics struct {
	answers   *prometheus.CounterVec
	times     *prometheus.HistogramVec
	decisions *prometheus.CounterVec
}

func (m *Metrics) addScan() {
	m.scan.answers = m.counterVec("gatepost_scan_answers_total", "Answers of blocks of content flows, one for each message: clean, match or unknown.", "block", "result")
	m.scan.times = m.histogramVec("gatepost_scan_duration_seconds", "How long blocks of content flows took.",
		[]float64{.0001, .0005, .001, .005, .025, .1, .5, 1, 5, 30}, "block")
	m.scan.verdicts = m.counterVec("gatepost_verdicts_total", "Verdicts of content flows, one for each recipient.", "flow", "action", "threat")
}

// Scanned counts the answer of a block.
func (m *Metrics) Scanned(use string, worst mail.Result, took time.Duration) {
	m.scan.answers.WithLabelValues(use, string(worst)).Inc()
	m.scan.times.WithLabelValues(use).Observe(took.Seconds())
}

// Decided counts a verdict.
func (m *Metrics) Decided(flow string, action mail.Action, threat mail.Threat) {
	m.scan.verdicts.WithLabelValues(flow, string(action), string(threat)).Inc()
}

// addStages makes what is counted before content.
func (m *Metrics) addStages() {
	m.stages.answers = m.counterVec("gatepost_check_answers_total", "Answers of blocks of flows before content: clean, match or unknown.", "stage", "block", "result")
	m.stages.times = m.histogramVec("gatepost_check_duration_seconds", "How long blocks of flows before content took.",
		[]float64{.0001, .001, .01, .1, .5, 1, 5, 30}, "stage", "block")
	m.stages.decisions = m.counterVec("gatepost_stage_decisions_total", "Decisions of flows before content: accept, defer, reject or drop, and the block that made it.", "flow", "block", "decision")
}

// Checked counts the answer of a block before content.
func (m *Metrics) Checked(stage, use string, result mail.Result, took time.Duration) {
	m.stages.answers.WithLabelValues(stage, use, string(result)).Inc()
	m.stages.times.WithLabelValues(stage, use).Observe(took.Seconds())
}

// StageDecided counts what a flow before content decided.
func (m *Metrics) StageDecided(flow, by string, act mail.Act) {
	m.stages.decisions.WithLabelValues(flow, by, act.String()).Inc()
}

// WatchChecks asks for the parts that may be down without mail stopping: the
// database, scanners. It is called once.
func (m *Metrics) WatchChecks(list func() map[string]bool) {
	m.registry.MustRegister(&checkCollector{
		list: list,
		up:   m.desc("gauge", "gatepost_part_up", "1 while a part that mail does not depend on is well (the database, a scanner), else 0.", "part"),
	})
}

type checkCollector struct {
	list func() map[string]bool
	up   *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *checkCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.up }

// Collect implements prometheus.Collector.
func (c *checkCollector) Collect(ch chan<- prometheus.Metric) {
	for part, up := range c.list() {
		ch <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, number(up), part)
	}
}
