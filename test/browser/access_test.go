package browser_test

import (
	"strings"
	"testing"

	"gatepost/test/browser"
)

// barriers lists what keeps people from using a page: those who use no mouse, hear pages,
// or see little.
const barriers = `(() => {
  const bad = [];
  const tell = (what, e) => bad.push(what + ": " + e.outerHTML.slice(0, 160));
  const seen = e => e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0;
  const words = s => (s || "").replace(/\s+/g, " ").trim();
  const byID = e => (e.getAttribute("aria-labelledby") || "").split(" ").map(id => words(document.getElementById(id)?.textContent)).join(" ").trim();
  const named = e => words(e.getAttribute("aria-label")) || byID(e) || words(e.textContent) || words(e.title) || words(e.querySelector("img[alt]")?.alt);
  if (!document.documentElement.lang) bad.push("the page has no language");
  if (!words(document.title)) bad.push("the page has no title");
  if (document.querySelectorAll("main").length !== 1) bad.push("the page has not one main");
  const h1 = [...document.querySelectorAll("h1")].filter(seen);
  if (h1.length !== 1) bad.push("the page has " + h1.length + " first headings");
  let level = 0;
  for (const h of [...document.querySelectorAll("main :is(h1, h2, h3, h4, h5, h6)")].filter(seen)) {
    const n = +h.tagName[1];
    if (n > level + 1) tell("a heading skips a level", h);
    if (!words(h.textContent)) tell("a heading without words", h);
    level = n;
  }
  const ids = new Set();
  for (const e of document.querySelectorAll("[id]")) { if (ids.has(e.id)) tell("an id is there twice", e); ids.add(e.id); }
  for (const l of document.querySelectorAll("label[for]")) if (!ids.has(l.htmlFor)) tell("a label of nothing", l);
  for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    const label = [...(e.labels || [])].map(l => words(l.textContent)).join(" ") || words(e.getAttribute("aria-label")) || byID(e) || words(e.title);
    if (!label) tell("a field without a label", e);
  }
  for (const e of document.querySelectorAll("button, a[href], summary")) if (!named(e)) tell("no name", e);
  for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) tell("a picture without alt", e);
  for (const e of document.querySelectorAll("iframe")) if (!e.title) tell("a frame without a title", e);
  for (const e of document.querySelectorAll("svg")) if (e.getAttribute("aria-hidden") !== "true" && !e.closest("[aria-hidden=true]") && !(e.getAttribute("role") === "img" && named(e)) && !e.closest("button, a")) tell("a drawing without a name", e);
  for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) tell("an order of its own", e);
  for (const e of document.querySelectorAll("table")) if (seen(e) && e.querySelector("td") && !e.querySelector("th")) tell("a table without headings", e);
  return bad;
})()`

// contrasts lists texts that are hard to read: below 4.5 to 1 (WCAG 2.2, 1.4.3), in the
// colours as they are drawn.
const contrasts = `(() => {
  const bad = [], known = new Map();
  const pen = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d", {willReadFrequently: true});
  const rgba = text => {
    if (!known.has(text)) {
      pen.clearRect(0, 0, 1, 1); pen.fillStyle = text; pen.fillRect(0, 0, 1, 1);
      const d = pen.getImageData(0, 0, 1, 1).data;
      known.set(text, [d[0], d[1], d[2], d[3] / 255]);
    }
    return known.get(text);
  };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const ground = e => {
    const stack = [];
    for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > 0) stack.push(c); if (c[3] === 1) break; }
    return stack.reverse().reduce((b, c) => over(c, b), matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1]);
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.data.trim() || !e.checkVisibility({visibilityProperty: true, opacityProperty: true}) || e.closest(":disabled, [aria-disabled=true], script, style, option, svg")) continue;
    const back = ground(e), front = over(rgba(getComputedStyle(e).color), back);
    const [x, y] = [light(front), light(back)].sort((a, b) => b - a), ratio = (x + .05) / (y + .05);
    if (ratio < 4.49) bad.push(ratio.toFixed(2) + " to 1: " + e.outerHTML.slice(0, 140));
  }
  return [...new Set(bad)].slice(0, 10);
})()`

// reachable notes what the key Tab comes to, and what can then be seen of it.
const reachable = `(() => {
  window.reached = new Set(); window.unseen = [];
  document.activeElement?.blur?.(); getSelection().removeAllRanges();
  document.addEventListener("focusin", ev => {
    const e = ev.target, s = getComputedStyle(e);
    reached.add(e.type === "radio" ? e.form?.id + e.name : e);
    if ((s.outlineStyle === "none" || parseFloat(s.outlineWidth) < 2) && s.boxShadow === "none" && e.tagName !== "IFRAME") unseen.push(e.outerHTML.slice(0, 140));
  });
  window.wanted = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")].filter(e => !e.disabled && e.tabIndex >= 0 && e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0);
  return wanted.length;
})()`

const unreached = `wanted.filter(e => !reached.has(e.type === "radio" ? e.form?.id + e.name : e)).map(e => "not reached: " + e.outerHTML.slice(0, 140)).slice(0, 5).concat([...new Set(unseen)].map(h => "focus is not seen: " + h).slice(0, 5))`

// usable looks at the page that is open, in both themes.
func usable(t *testing.T, b *browser.Browser, where string) {
	t.Helper()
	list := browser.Eval[[]string](b, barriers)
	for _, dark := range []bool{true, false} {
		b.Dark(dark)
		list = append(list, browser.Eval[[]string](b, contrasts)...)
	}
	for _, bad := range list {
		t.Errorf("%s: %s", where, bad)
	}
}

// TestPagesAreForEverybody looks at every page of the matrix: what screen readers need,
// contrast in both themes, the width of a phone, and the keyboard.
func TestPagesAreForEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.b
	pages := w.pages("a")
	tell := func(path, how string, list []string) {
		for _, bad := range list {
			t.Errorf("%s, %s: %s", path, how, bad)
		}
	}
	for _, path := range pages {
		if status := b.Go(path); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
		tell(path, "at a desk", browser.Eval[[]string](b, barriers))
		tell(path, "light", browser.Eval[[]string](b, contrasts))
		if n := browser.Eval[int](b, reachable); n < 5 {
			t.Errorf("%s has %d things to reach", path, n)
		} else {
			b.Tabs(n + 3)
			tell(path, "by keyboard", browser.Eval[[]string](b, unreached))
		}
	}
	b.Dark(true)
	b.Phone(true)
	for _, path := range pages {
		b.Go(path)
		tell(path, "dark", browser.Eval[[]string](b, contrasts))
		if wide := browser.Eval[int](b, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
			t.Errorf("%s is %d pixels wider than a phone", path, wide)
			tell(path, "too wide", browser.Eval[[]string](b, `[...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, pre")).slice(0, 3).map(e => e.outerHTML.slice(0, 140))`))
		}
	}
	b.Dark(false)
	b.Phone(false)
	b.Expect("status of 40")
	for _, path := range []string{"/users/nobody-of-that-name", "/no/such/page", "/history?q=nothinglikeit", "/quarantine?text=nothinglikeit", "/queue?error=nothinglikeit"} {
		b.Go(path)
		usable(t, b, path)
	}
	b.Go("/account")
	b.Press("form[action='/logout'] button")
	usable(t, b, "after logging out")
	b.LogIn("ann", browser.Password)
	for _, path := range append(w.pages("e"), "/users") {
		b.Go(path)
		usable(t, b, path+" of an end user")
	}
	// What looks for barriers must find them.
	b.Go("/account")
	browser.Eval[string](b, `(document.querySelector("h1").style.color = "#999", document.querySelectorAll("main input:not([type=hidden])")[0].style.outline = "none", document.querySelectorAll("main input:not([type=hidden])")[1].addEventListener("keydown", e => e.preventDefault()), "")`)
	if list := browser.Eval[[]string](b, contrasts); len(list) != 1 || !strings.HasPrefix(list[0], "2.") {
		t.Errorf("of a pale heading it finds %q", list)
	}
	b.Tabs(browser.Eval[int](b, reachable))
	if list := strings.Join(browser.Eval[[]string](b, unreached), "\n"); !strings.Contains(list, "not reached") || !strings.Contains(list, "focus is not seen") {
		t.Errorf("of a trap and a field without outline it finds %s", list)
	}
	if missing := browser.Eval[[]string](b, `(document.querySelector("main").insertAdjacentHTML("beforeend", "<h5>x</h5><input><button></button><p class=faint>x</p>"), `+barriers+`)`); len(missing) != 3 {
		t.Errorf("of a heading, a field and a button it finds %s", strings.Join(missing, "; "))
	}
}
