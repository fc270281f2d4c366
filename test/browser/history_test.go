package browser_test

import (
	"strings"
	"testing"
	"time"

	"gatepost/test/browser"
)

// TestWhatHappenedToAMessageIsFoundAndExplained: mail that came over SMTP is in the
// history some seconds later, its page says what happened and why, and what strangers
// wrote is text.
func TestWhatHappenedToAMessageIsFoundAndExplained(t *testing.T) {
	g, s, b := filled(t)
	give(t, g, "shop@out.example", "ann@in.example", short("=cmd|calc!A1 hello"))
	s.WaitMails(t, 1, 30*time.Second)
	for until := time.Now().Add(30 * time.Second); !b.Has("[data-rows] a"); {
		if time.Now().After(until) {
			t.Fatal("the history does not know of it")
		}
		b.Go("/history?q=kind:attempt+result:delivered") // the last event of it
	}
	b.Go("/history")
	b.Fill("#q", "kind:message onerror")
	b.Press("form[role=search] button")
	b.See("keep <img src=x onerror=alert(1)>")
	look(b, "/history", "history")
	b.Go("/history?q=kind:message+onerror")
	b.Press("[data-rows] a")
	b.See("keep <img src=x onerror=alert(1)>")
	b.See("quarantine")
	b.See("filters")
	if n := browser.Eval[int](b, "document.querySelectorAll('[onerror], img[src=x]').length"); n != 0 {
		t.Errorf("the page has %d elements of a stranger", n)
	}
	look(b, b.Path(), "message")
	csv := browser.Eval[string](b, "(() => { const r = new XMLHttpRequest(); r.open('GET', '/api/v1/history/export?format=csv&q=calc', false); r.send(); return r.responseText })()")
	if !strings.Contains(csv, "'=cmd|calc") || strings.Contains(csv, ",=cmd") {
		t.Errorf("the export has a formula: %.600s", csv)
	}
	b.Expect("status of 422")
	b.Go("/history?q=client:nonsense")
	b.See("is no IP address or network")
	b.Go("/overview")
	b.See("Accepted")
	b.Wait(".plot rect")
	look(b, "/overview", "overview")
	b.Go("/log")
	look(b, "/log", "log")
}
