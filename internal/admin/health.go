package admin

import (
	"net/http"
)

// Health knows how the parts are.
type Health interface {
	// Checks returns the state of every part that can fail. It answers at once.
	Checks() []Check
}

// Check is the state of one part.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Why says what is wrong.
	Why string `json:"why,omitempty"`
	// Advisory says that mail flows all the same: someone should look, but a
	// load balancer should not take the gateway out.
	Advisory bool `json:"advisory,omitempty"`
}

// Required is the check of a part without which mail is not accepted; a nil
// error is good.
func Required(name string, err error) Check { return check(name, err, false) }

// Advisory is the check of a part whose trouble does not stop mail.
func Advisory(name string, err error) Check { return check(name, err, true) }

func check(name string, err error, advisory bool) Check {
	c := Check{Name: name, OK: err == nil, Advisory: advisory}
	if err != nil {
		c.Why = err.Error()
	}
	return c
}

// HealthReport is the answer of /healthz.
type HealthReport struct {
	// Ready says that no required check fails.
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
}

// Report runs the checks.
func Report(h Health) HealthReport {
	r := HealthReport{Ready: true, Checks: h.Checks()}
	for _, c := range r.Checks {
		r.Ready = r.Ready && (c.OK || c.Advisory)
	}
	return r
}

// everything lets the whole answer be read by anyone who can ask.
func everything(*http.Request) bool { return true }

// health answers 200 when ready and 503 when not. Reasons name files and hosts,
// so they are left out for those who may not read the metrics either.
func (s *Server) health(mayReadWhy func(*http.Request) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		report := Report(s.cfg.Health)
		if !mayReadWhy(r) {
			for i := range report.Checks {
				report.Checks[i].Why = ""
			}
		}
		status := http.StatusOK
		if !report.Ready {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, report)
	}
}
