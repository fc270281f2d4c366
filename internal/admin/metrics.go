package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// maxToken is how much of a token file is read, in bytes.
const maxToken = 4 << 10

// metrics answers a scrape on TCP.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if s.mayReadMetrics(r) {
		s.cfg.Metrics.ServeHTTP(w, r)
		return
	}
	if s.cfg.MetricsTokenFile != "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="gatepost"`)
		fail(w, http.StatusUnauthorized, "a bearer token is needed")
		return
	}
	fail(w, http.StatusForbidden, "only clients on this host may read the metrics (see metrics_token_file)")
}

// mayReadMetrics checks the token; without a token file it lets clients on this
// host in, unless they speak for somebody else.
func (s *Server) mayReadMetrics(r *http.Request) bool {
	if s.cfg.MetricsTokenFile == "" {
		client, err := netip.ParseAddrPort(r.RemoteAddr)
		// A reverse proxy on this host would make everybody a local client.
		forwarded := r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != ""
		return err == nil && client.Addr().Unmap().IsLoopback() && !forwarded
	}
	scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	// The file is read each time, so that a token can be changed without a word;
	// when it cannot be read, nobody gets in.
	token, err := readToken(s.cfg.MetricsTokenFile)
	if err != nil {
		return false
	}
	// Hashes are compared, so that time tells neither length nor content.
	a, b := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(strings.TrimSpace(given)))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// readToken returns what the file holds, less white space around it.
func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read metrics token: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken))
	if err != nil {
		return "", fmt.Errorf("read metrics token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", errors.New("read metrics token: " + path + " is empty")
	}
	return token, nil
}
