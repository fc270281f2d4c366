package browser_test

import (
	"strings"
	"testing"
	"time"

	"gatepost/test/browser"
)

// TestTheOverviewIsLiveAndStaysWhereTheReaderIs: the numbers change without a new page,
// while the focus, what was opened and the place on the page stay; the chart is in
// sight at once, its bars lead to the mail, and the menu needs no scroll bar.
func TestTheOverviewIsLiveAndStaysWhereTheReaderIs(t *testing.T) {
	g, s, b := filled(t)
	for until := time.Now().Add(30 * time.Second); !b.Has(".plot rect.c-held"); b.Go("/overview") {
		if time.Now().After(until) {
			t.Fatal("the chart has nothing of what is held")
		}
	}
	if hidden := browser.Eval[bool](b, "document.querySelector('.plot').getBoundingClientRect().bottom > innerHeight"); hidden {
		t.Error("the chart is below the fold")
	}
	if scrolls := browser.Eval[bool](b, "(() => { const n = document.querySelector('.top'); return n.scrollHeight > n.clientHeight })()"); scrolls {
		t.Error("the menu does not fit at 900 pixels")
	}
	browser.Eval[bool](b, `(() => {
		document.querySelector("#o-table summary").click();
		document.querySelector('#o-queue a[href$=active]').focus();
		scrollTo(0, 200);
		new MutationObserver(() => document.body.dataset.fresh = "").observe(document.querySelector(".figures"), { childList: true, subtree: true, characterData: true });
		return true;
	})()`)
	was := browser.Eval[string](b, "document.querySelector('.figures strong').textContent")
	give(t, g, "news@out.example", "ann@in.example", short("news"))
	s.WaitMails(t, 1, 30*time.Second)
	b.Wait("body[data-fresh]")
	for what, script := range map[string]string{
		"the focus":       "document.activeElement.textContent === 'Being delivered'",
		"the table":       "document.querySelector('#o-table').open",
		"the place":       "scrollY === 200",
		"the new message": "document.querySelector('.figures strong').textContent !== '" + was + "'",
		"moments":         "[...document.querySelectorAll('#o-table time')].every((t) => 'local' in t.dataset)",
	} {
		if !browser.Eval[bool](b, script) {
			t.Errorf("after the numbers were read anew %s is lost", what)
		}
	}
	// A piece of a bar leads to the mail that it stands for.
	n := browser.Eval[string](b, "document.querySelector('.plot rect.c-held title').textContent")
	b.Go(browser.Eval[string](b, "document.querySelector('.plot a:has(rect.c-held)').getAttribute('href')"))
	if rows := browser.Eval[string](b, "String(document.querySelectorAll('[data-rows] tr').length)"); !strings.HasPrefix(n, rows+" ") {
		t.Errorf("the bar says %q, the search has %s", n, rows)
	}
	look(b, "/overview", "overview")
}
