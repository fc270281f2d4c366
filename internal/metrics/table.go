package metrics

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Def describes one metric.
type Def struct {
	Name, Kind string // the kind is counter, gauge or histogram
	Labels     []string
	Help       string
}

// Table lists the metrics of Gatepost's own, in the order of their making, less
// those of sources that were not watched.
func (m *Metrics) Table() []Def { return m.table }

// Markdown is the table for the documentation.
func (m *Metrics) Markdown() string {
	var b strings.Builder
	b.WriteString("| Metric | Kind | Labels | Meaning |\n| --- | --- | --- | --- |\n")
	for _, d := range m.table {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Name, d.Kind, strings.Join(d.Labels, ", "), d.Help)
	}
	return b.String()
}

func (m *Metrics) note(kind, name, help string, labels []string) {
	m.table = append(m.table, Def{Name: name, Kind: kind, Labels: labels, Help: help})
}

func (m *Metrics) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	m.note("counter", name, help, labels)
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	m.note("gauge", name, help, labels)
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	m.note("gauge", name, help, nil)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	m.registry.MustRegister(g)
	return g
}

func (m *Metrics) histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	m.note("histogram", name, help, labels)
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	m.note("histogram", name, help, nil)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

func (m *Metrics) desc(kind, name, help string, labels ...string) *prometheus.Desc {
	m.note(kind, name, help, labels)
	return prometheus.NewDesc(name, help, labels, nil)
}
