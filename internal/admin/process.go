package admin

import (
	"net/http"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/history"
	"gatepost/internal/upstream"
)

// Status is how the process is.
type Status struct {
	Version    string    `json:"version,omitempty"`
	Hostname   string    `json:"hostname,omitempty"`
	PID        int       `json:"pid,omitempty"`
	Started    time.Time `json:"started,omitzero"`
	ConfigFile string    `json:"config_file,omitempty"`
	// ConfigLoaded is when the configuration in use was loaded.
	ConfigLoaded time.Time `json:"config_loaded,omitzero"`
	// Listeners are the addresses that are listened on, by listener.
	Listeners map[string][]string `json:"listeners,omitempty"`
	// Interception is how connections are diverted to a listener, "tproxy from ports
	// 25, 587", for those to which they are.
	Interception map[string]string `json:"interception,omitempty"`
	// Upstreams are the sessions with those that mail is passed through to, by transport.
	Upstreams map[string]upstream.Health `json:"upstreams,omitempty"`
	// History is how the history is.
	History *history.Stats `json:"history,omitempty"`
	// Storage is what the directories take, as it was seen in the last minutes.
	Storage []StorageUse `json:"storage,omitempty"`
	HealthReport
}

func (s *Server) routeProcess(r *router) {
	r.add(Route{Method: "GET", Path: "/api/v1/status", Permission: accounts.StatusRead, Do: plain(s.status),
		Doc: &Doc{Summary: "Show version, listeners and the state of every part", Out: Status{}}})
	if s.cfg.Reload != nil {
		r.add(Route{Method: "POST", Path: "/api/v1/reload", Permission: accounts.ConfigWrite, Do: plain(s.reload),
			Doc: &Doc{Summary: "Load the configuration again, all or nothing", In: struct{}{}, Out: Status{}}})
	}
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	status := s.cfg.Status()
	status.HealthReport = Report(s.cfg.Health)
	if s.cfg.History != nil {
		stats := s.cfg.History.Stats()
		status.History = &stats
	}
	answer(w, http.StatusOK, status)
}

// reload loads the configuration again and answers with the status afterwards,
// or with everything that is wrong with the new one, which then was not taken.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	var none struct{}
	if !decode(w, r, &none) {
		return
	}
	if err := s.cfg.Reload(r.Context()); err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	s.status(w, r)
}
