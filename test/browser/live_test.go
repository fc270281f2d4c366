package browser_test

import (
	"testing"

	"gatepost/test/browser"
)

// TestEventsAreSeenWhileTheyHappen: the page of live events shows a message as it comes,
// with what a stranger wrote as text, and only what it was asked for; the search in the
// log shows how far it is; and a message is explained again from its page.
func TestEventsAreSeenWhileTheyHappen(t *testing.T) {
	g, _, b := filled(t)
	b.Go("/trace?recipient=ann%40in.example")
	b.See("Watching.")
	give(t, g, "shop@out.example", "bob@in.example", short("not to be seen"))
	give(t, g, "eve@out.example", "ann@in.example", short("live <img src=x onerror=alert(1)>"))
	b.Wait("#trace-events a")
	b.See("live <img src=x onerror=alert(1)>")
	if browser.Eval[bool](b, `document.getElementById("trace-events").innerText.includes("not to be seen") || !!document.querySelector("#trace-events img")`) {
		t.Error("events of others are seen, or a stranger's element")
	}
	b.Click("[data-pause]")
	b.See("Paused.")
	b.Shot("trace")

	b.Go("/log")
	b.Fill("#q", "/sender=<eve.*recipients=<ann@in/ live since:1d")
	b.Click("form[data-log] button")
	b.See("1 line")
	b.See("sender=<eve@out.example>")
	look(b, b.Path(), "log")

	b.Go("/history?q=kind:message+onerror+keep")
	b.Press("[data-rows] a")
	b.Press("form[action$='/again'] button")
	b.See("What would be decided")
	b.See("the same:")
	b.Shot("again")
}
