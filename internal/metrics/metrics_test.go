package metrics

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// full returns metrics with every source watched.
func full() *Metrics {
	m := New(Build{Version: "1.2.3", Revision: "abc", GoVersion: "go1.26"})
	m.WatchQueue(func() QueueStats {
		return QueueStats{
			States: map[string]int{"deferred": 7, "hold": 1}, Oldest: time.Now().Add(-time.Hour),
			Transports: map[string]TransportStats{"exchange": {Active: 2, Ready: 3, Waiting: 4, Hold: 1, Dead: 1, Paused: 5}},
		}
	})
	m.WatchLogs(func() uint64 { return 9 })
	m.WatchHistory(func() HistoryStats {
		return HistoryStats{Waiting: 3, Outbox: 2000, Size: 1 << 20, Segments: 5, Dropped: 7}
	})
	m.WatchReady(func() bool { return true })
	m.WatchCertificates(func() []Certificate {
		return []Certificate{{"a.pem", time.Unix(1000, 0)}, {"a.pem", time.Unix(1000, 0)}}
	})
	m.WatchUpstreams(func() []UpstreamStats { return []UpstreamStats{{"exchange", "mail", "192.0.2.1:25", 5, 2}} })
	m.WatchChecks(func() map[string]bool { return map[string]bool{"clamav": false, "store": true} })
	return m
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestWhatIsObservedIsScraped(t *testing.T) {
	m := full()
	m.SessionStarted("inbound")
	m.SessionStarted("inbound")
	m.SessionEnded("inbound", time.Second)
	m.Replied("inbound", "RCPT", 550)
	m.Replied("inbound", "RCPT", 550)
	m.Received("inbound", 4096)
	m.Attempted("exchange", mail.Deferred, time.Second)
	m.Bounced("exchange")
	m.Scanned("clamav", mail.Match, time.Millisecond)
	m.Decided("inbound", mail.ActionQuarantine, mail.ThreatVirus)
	m.Checked("connect", "dnsbl", mail.Match, 20*time.Millisecond)
	m.StageDecided("ip", "dnsbl", mail.Reject)
	m.Login("submission", LoginFailed)
	m.POPSessionStarted("pop")
	m.POPSessionEnded("pop", time.Second)
	m.POPReplied("pop", "RETR", true)
	m.POPReplied("pop", "XTND", false)
	m.POPRetrieved("pop", "replaced", 100, time.Millisecond)
	m.HeldForUser("submission")
	u := m.Upstream("exchange")
	u.Session("mail", false, time.Millisecond)
	u.Session("mail", true, 0)
	u.Failed("mail", "connect")
	u.Waited(time.Second, true)
	m.Signed("internet", true)
	m.Sealed("internet", "none")
	m.Secured("internet", "dane", "verified")
	m.ReportDropped("exchange")
	m.Committed(time.Millisecond, nil)
	m.Committed(time.Millisecond, errors.New("x"))
	m.ConfigLoaded(nil)
	m.ConfigLoaded(errors.New("x"))
	got := scrape(t, m)
	for _, want := range []string{
		`gatepost_dkim_messages_total{result="signed",transport="internet"} 1`,
		`gatepost_arc_seals_total{cv="none",transport="internet"} 1`,
		`gatepost_delivery_tls_sessions_total{policy="dane",result="verified",transport="internet"} 1`,
		`gatepost_scan_answers_total{block="clamav",result="match"} 1`,
		`gatepost_verdicts_total{action="quarantine",flow="inbound",threat="virus"} 1`,
		`gatepost_check_answers_total{block="dnsbl",result="match",stage="connect"} 1`,
		`gatepost_check_duration_seconds_count{block="dnsbl",stage="connect"} 1`,
		`gatepost_stage_decisions_total{block="dnsbl",decision="reject",flow="ip"} 1`,
		`gatepost_upstream_sessions_total{host="mail",reused="false",transport="exchange"} 1`,
		`gatepost_upstream_open_duration_seconds_count{transport="exchange"} 1`,
		`gatepost_upstream_failures_total{host="mail",stage="connect",transport="exchange"} 1`,
		`gatepost_upstream_waits_total{granted="true",transport="exchange"} 1`,
		`gatepost_upstream_sessions{address="192.0.2.1:25",host="mail",state="busy",transport="exchange"} 3`,
		`gatepost_part_up{part="clamav"} 0`,
		`gatepost_build_info{go_version="go1.26",revision="abc",version="1.2.3"} 1`,
		`gatepost_smtp_sessions_total{listener="inbound"} 2`,
		`gatepost_smtp_sessions_open{listener="inbound"} 1`,
		`gatepost_smtp_session_duration_seconds_count{listener="inbound"} 1`,
		`gatepost_smtp_replies_total{code="550",listener="inbound",verb="RCPT"} 2`,
		`gatepost_smtp_received_bytes_total{listener="inbound"} 4096`,
		`gatepost_delivery_attempts_total{status="deferred",transport="exchange"} 1`,
		`gatepost_delivery_duration_seconds_count{transport="exchange"} 1`,
		`gatepost_delivery_bounces_total{transport="exchange"} 1`,
		`gatepost_delivery_reports_dropped_total{transport="exchange"} 1`,
		`gatepost_spool_commits_total{result="error"} 1`,
		`gatepost_spool_commit_duration_seconds_count 2`,
		`gatepost_config_reloads_total{result="ok"} 1`,
		`gatepost_config_last_reload_successful 0`,
		`gatepost_queue_items{state="deferred"} 7`,
		`gatepost_queue_oldest_age_seconds 36`,
		`gatepost_queue_suspended 0`,
		`gatepost_queue_transport_items{state="waiting",transport="exchange"} 4`,
		`gatepost_queue_destinations{condition="paused",transport="exchange"} 5`,
		`gatepost_log_lines_dropped_total 9`,
		`gatepost_ready 1`,
		`gatepost_tls_certificate_expiry_timestamp_seconds{file="a.pem"} 1000`,
		"go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(got, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestAClientCannotMakeSeries(t *testing.T) {
	m := New(Build{})
	for i := range 1000 {
		m.Replied("inbound", fmt.Sprintf("X%d", i), 500)
		m.Replied("inbound", "NOOP", 1000+i)
	}
	got := scrape(t, m)
	if n := strings.Count(got, "\ngatepost_smtp_replies_total{"); n != 2 {
		t.Errorf("%d series of replies, want 2 (verb other, code other)", n)
	}
	if !strings.Contains(got, `gatepost_smtp_replies_total{code="500",listener="inbound",verb="other"} 1000`) {
		t.Error("unknown verbs are not counted together")
	}
}

func TestEveryMetricOfOursIsInTheTableAndEveryRowIsScraped(t *testing.T) {
	m := full()
	m.SessionStarted("l")
	m.SessionEnded("l", 0)
	m.Replied("l", "NOOP", 250)
	m.Received("l", 1)
	m.Attempted("t", mail.Delivered, 0)
	m.Bounced("t")
	m.ReportDropped("t")
	m.Signed("t", false)
	m.Sealed("t", "pass")
	m.Secured("t", "dane", "failed")
	m.Committed(0, nil)
	m.Scanned("clamav", mail.Clean, 0)
	m.Decided("f", mail.ActionDeliver, "")
	m.Upstream("t").Session("h", false, 0)
	m.Upstream("t").Failed("h", "mail")
	m.Upstream("t").Waited(0, false)
	m.Checked("connect", "dnsbl", mail.Clean, 0)
	m.StageDecided("f", "", mail.Accept)
	m.Login("l", LoginOK)
	m.POPSessionStarted("pop")
	m.POPSessionEnded("pop", time.Second)
	m.POPReplied("pop", "RETR", true)
	m.POPReplied("pop", "XTND", false)
	m.POPRetrieved("pop", "replaced", 100, time.Millisecond)
	m.HeldForUser("l")
	m.ConfigLoaded(nil)
	scraped := map[string]bool{}
	for line := range strings.Lines(scrape(t, m)) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" && strings.HasPrefix(f[2], "gatepost_") {
			scraped[f[2]+" "+f[3]] = true
		}
	}
	for _, d := range m.Table() {
		if !scraped[d.Name+" "+d.Kind] {
			t.Errorf("%s %s is in the table and not scraped", d.Kind, d.Name)
		}
		delete(scraped, d.Name+" "+d.Kind)
		if !strings.HasSuffix(d.Help, ".") {
			t.Errorf("%s: the help text is not a sentence", d.Name)
		}
	}
	if len(scraped) != 0 {
		t.Errorf("scraped and not in the table: %v", scraped)
	}
}

func TestTheDocumentationListsTheMetrics(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := full().Markdown(); !strings.Contains(string(doc), table) {
		t.Errorf("docs/operations.md does not hold this table:\n%s", table)
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	m := New(Build{})
	count := func() {
		m.Replied("inbound", "RCPT", 250)
		m.SessionStarted("inbound")
		m.SessionEnded("inbound", time.Second)
		m.Received("inbound", 1)
		m.Attempted("exchange", mail.Delivered, time.Second)
		m.Committed(time.Second, nil)
	}
	count()
	if n := testing.AllocsPerRun(100, count); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCountingIsSafeFromManyGoroutines(t *testing.T) {
	m := New(Build{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for code := 200; code < 600; code++ {
				m.Replied("inbound", "RCPT", code)
			}
		})
	}
	wg.Wait()
	if n := strings.Count(scrape(t, m), `verb="RCPT"} 8`+"\n"); n != 400 {
		t.Errorf("%d of 400 series have the value 8", n)
	}
}
