package metrics

import "github.com/prometheus/client_golang/prometheus"

// leavingMetrics is what is counted of mail that leaves.
type leavingMetrics struct {
	signed, sealed, secured *prometheus.CounterVec
}

func (m *Metrics) addLeaving() {
	l := &m.leaving
	l.signed = m.counterVec("gatepost_dkim_messages_total",
		"Messages of our own people that left through a transport with DKIM keys: signed, or unsigned as no key is for the domain of their author.", "transport", "result")
	l.sealed = m.counterVec("gatepost_arc_seals_total", "ARC sets that were added to messages passed on, by the state of the chain before: none, pass or fail.", "transport", "cv")
	l.secured = m.counterVec("gatepost_delivery_tls_sessions_total",
		"New sessions with next hops, by what asked for their encryption (off, opportunistic, require, verify, dane, mta-sts, mta-sts-testing, requiretls) and what came of it: verified, encrypted, clear or failed.",
		"transport", "policy", "result")
}

// Signed counts a message that leaves where there are keys.
func (m *Metrics) Signed(transport string, signed bool) {
	result := "unsigned"
	if signed {
		result = "signed"
	}
	m.leaving.signed.WithLabelValues(transport, result).Inc()
}

// Sealed counts an ARC set.
func (m *Metrics) Sealed(transport, cv string) { m.leaving.sealed.WithLabelValues(transport, cv).Inc() }

// Secured counts a new session with a next hop.
func (m *Metrics) Secured(transport, policy, result string) {
	m.leaving.secured.WithLabelValues(transport, policy, result).Inc()
}
