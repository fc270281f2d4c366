package browser_test

import (
	"encoding/csv"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatepost/test/browser"
	"gatepost/test/gatepost"
)

// harmful lists what of a stranger's has become more than text in a page.
const harmful = `(() => {
  const bad = [];
  const tell = (what, e) => bad.push(what + ": " + e.outerHTML.slice(0, 160));
  if (window.pwned) bad.push("a script of a stranger ran");
  for (const e of document.querySelectorAll(".pwned, base, object, embed, video, audio, marquee, [srcdoc], [autofocus].pwned")) tell("an element", e);
  for (const e of document.querySelectorAll("*")) for (const a of e.attributes) {
    if (a.name.startsWith("on")) tell("a handler", e);
    if (["href", "src", "action", "formaction", "data", "poster", "hx-get", "hx-post"].includes(a.name)) {
      const u = new URL(a.value, location.href);
      if (u.origin !== location.origin && u.protocol !== "data:" && !(e.tagName === "A" && e.host.endsWith("openxmlformats.org"))) tell("an address elsewhere", e);
      if (u.protocol === "javascript:" || (u.protocol === "data:" && !u.href.startsWith("data:image/"))) tell("an address that runs", e);
    }
  }
  for (const e of document.querySelectorAll("script")) if (!e.src.startsWith(location.origin + "/static/") || e.textContent) tell("a script", e);
  for (const e of document.querySelectorAll("iframe")) if (!e.classList.contains("preview") || e.getAttribute("sandbox") !== "") tell("a frame", e);
  for (const e of document.querySelectorAll("[style]")) if (!e.closest("svg, .chart")) tell("a style", e);
  const odd = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) if (odd.test(n.data)) bad.push("a control character: " + JSON.stringify(n.data.slice(0, 160)));
  for (const e of document.querySelectorAll("input, textarea")) if (odd.test(e.value)) tell("a control character in a field", e);
  return bad;
})()`

// TestWhatStrangersWriteIsTextOnEveryPage opens every page of the matrix in a gateway
// that strangers filled (WEB-04, WEB-15, SCN-05).
func TestWhatStrangersWriteIsTextOnEveryPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.b.Expect("status of 422") // searches for nonsense
	open := func(who, path string) {
		status := w.b.Go(path)
		if status != 200 && status != 422 {
			t.Errorf("%s as %s: %d", path, who, status)
		}
		for _, bad := range browser.Eval[[]string](w.b, harmful) {
			t.Errorf("%s as %s: %s", path, who, bad)
		}
	}
	for _, path := range w.pages("a") {
		open("administrator", path)
	}
	for _, path := range []string{"/history", "/quarantine", "/queue", "/log", "/delayed", "/overview", "/audit", "/users"} {
		for _, q := range []string{"q", "text", "sender", "error", "said", "cursor", "after"} {
			if q == "q" || path != "/audit" {
				open("administrator", path+"?"+q+"=%22%3E%3Cimg%20class%3Dpwned%20src%3Dx%20onerror%3Dwindow.pwned%3D1%3E")
			}
		}
	}
	if shown := browser.Eval[string](w.b, `document.documentElement.outerHTML`); strings.Contains(shown, "<img class") {
		t.Error("the search came back as markup")
	}
	w.vectors()
	w.previews()
	w.exports()
	w.b.Go("/account")
	// What looks for harm must find it.
	browser.Eval[string](w.b, `(document.querySelector("main").insertAdjacentHTML("beforeend", "<b class=pwned><a href='javascript:1'>\u202e</a></b>"), "")`)
	if bad := browser.Eval[[]string](w.b, harmful); len(bad) != 4 {
		t.Errorf("of an element, a link elsewhere that runs and a control character it finds %q", bad)
	}
	w.b.Go("/account")
	w.b.Press("form[action='/logout'] button")
	w.b.LogIn(`<img class=pwned src=x onerror="window.pwned=1">`, "wrong")
	w.b.LogIn("ada", "a-secret-that-is-typed-wrong")
	if log := w.g.MailLog() + w.g.Output() + string(w.api("GET", "/api/v1/audit", "")); strings.Contains(log, "a-secret-that-is-typed-wrong") || strings.Contains(log, browser.Password) || strings.Contains(log, "argon2id") {
		t.Error("log or audit log has a password") // WEB-14
	}
	w.b.LogIn("ann", browser.Password)
	w.b.Expect("status of 404") // mail that is none of hers
	for _, path := range w.pages("e") {
		open("end user", path)
	}
}

// vectors has mail held whose HTML wants to run in every way that is known: elements by
// handlers, addresses by spellings, and what confuses parsers (WEB-04).
func (w *world) vectors() {
	w.t.Helper()
	elements := strings.Fields("a abbr article audio b base bgsound blink body button canvas custom-x details dialog div embed fieldset form frame frameset iframe image img input isindex keygen link marquee math menu meta noscript object option p picture plaintext script select slot source style summary svg table template textarea title video xmp")
	handlers := strings.Fields("onload onerror onclick onmouseover onfocus ontoggle onstart onbegin onanimationstart onpointerover oncontentvisibilityautostatechange")
	addresses := []string{"javascript:", "JaVaScRiPt:", " javascript:", "java\tscript:", "java&#10;script:", "&#106;avascript&colon;", "\x01javascript:", "vbscript:", "data:text/html,<script>top.pwned=1</script>", "data:image/svg+xml,<svg onload=top.pwned=1>", "//evil.example/", "https://evil.example/", "view-source:javascript:", "blob:x", "feed:javascript:"}
	attributes := strings.Fields("href src action formaction data poster background xlink:href srcset ping cite longdesc manifest dynsrc lowsrc codebase")
	odd := []string{
		"<svg><style><img class=pwned src=x onerror=top.pwned=1></style></svg>", "<math><mtext><table><mglyph><style><!--</style><img class=pwned title=\"--&gt;<img src=1 onerror=top.pwned=1>\">",
		"<noscript><p title=\"</noscript><img class=pwned src=x onerror=top.pwned=1>\">", "<!--><img class=pwned src=x onerror=top.pwned=1>-->", "<![CDATA[<img class=pwned src=x onerror=top.pwned=1>]]>",
		"<img class=pwned src=x onerror=top.pwned=1//", "<<script>top.pwned=1//<</script>", "<scr<script>ipt>top.pwned=1</scr</script>ipt>", "<svg/onload=top.pwned=1//", "<x style=\"behavior:url(x);-moz-binding:url(//evil.example/x)\" class=pwned>",
		"<form id=x class=pwned></form><button form=x formaction=javascript:top.pwned=1>", "<select><template><img class=pwned src=x onerror=top.pwned=1></template></select>", "<?xml-stylesheet href=\"javascript:top.pwned=1\"?>", "<template shadowrootmode=open><script>top.pwned=1</script></template>",
	}
	var all []string
	for _, e := range elements {
		for i, h := range handlers {
			all = append(all, "<"+e+" class=pwned "+h+"=top.pwned=1 "+attributes[i%len(attributes)]+"=\"javascript:top.pwned=1\">x</"+e+">")
		}
		for i, a := range addresses {
			all = append(all, "<"+e+" class=pwned "+attributes[i%len(attributes)]+"=\""+a+"top.pwned=1\">x</"+e+">", "<svg><"+e+" class=pwned xlink:href='"+a+"top.pwned=1'>")
		}
	}
	all = append(all, odd...)
	const each = 150 // vectors of one mail; some swallow what comes after them
	for i := 0; i < len(all); i += each {
		body := strings.Join(all[i:min(i+each, len(all))], "\r\n")
		give(w.t, w.g, "eve@out.example", "bob@in.example", "From: eve@out.example\r\nSubject: keep vectors\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>before</p>"+body+"\r\n")
	}
	for _, v := range odd {
		give(w.t, w.g, "eve@out.example", "bob@in.example", "From: eve@out.example\r\nSubject: keep vectors\r\nContent-Type: text/html\r\n\r\n<p>before</p>"+v+"\r\n")
	}
	want := (len(all)+each-1)/each + len(odd)
	gatepost.Eventually(w.t, "the vectors are held", 30*time.Second, func() bool {
		list, err := w.g.Quarantine("--recipient", "bob@in.example")
		return err == nil && len(list) == want
	})
}

// previews opens the preview of all that is held by itself, without the frame's sandbox
// around it: its own policy must do.
func (w *world) previews() {
	w.t.Helper()
	list, err := w.g.Quarantine()
	if err != nil || len(list) < 40 {
		w.t.Fatal(len(list), err)
	}
	for _, h := range list {
		w.b.Go("/quarantine/" + h.ID + "/html")
		if n := browser.Eval[int](w.b, `document.querySelectorAll("script, img, form, input, iframe, a, link, style + style, video, svg, meta[http-equiv], base, .pwned, [style]").length + (window.pwned ? 1000 : 0)`); n != 0 {
			w.t.Errorf("the preview of %q has %d elements that are not harmless: %s", h.Subject, n, browser.Eval[string](w.b, "document.documentElement.outerHTML"))
		}
	}
}

// formula is how a cell begins that spreadsheets run.
var formula = regexp.MustCompile("^[=+\\-@\t\r]")

// exports reads what programs get: CSV without formulas, JSON that is JSON.
func (w *world) exports() {
	w.t.Helper()
	w.b.Go("/account")
	get := func(path string) string {
		return browser.Eval[string](w.b, "(() => { const r = new XMLHttpRequest(); r.open('GET', '"+path+"', false); r.send(); return r.status + ' ' + r.responseText })()")
	}
	text, ok := strings.CutPrefix(get("/api/v1/history/export?format=csv&q=kind:message"), "200 ")
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff"))).ReadAll()
	if !ok || err != nil || len(rows) < len(attacks) {
		w.t.Errorf("the CSV has %d rows: %v %.300s", len(rows), err, text)
	}
	found := false
	for _, row := range rows {
		for _, cell := range row {
			found = found || strings.Contains(cell, "HYPERLINK")
			if number := regexp.MustCompile(`^-?[0-9.]+$`); formula.MatchString(cell) && !number.MatchString(cell) {
				w.t.Errorf("a cell is a formula: %q", cell)
			}
		}
	}
	if !found {
		w.t.Error("the export does not have what it should")
	}
	for _, path := range []string{
		"/api/v1/history?q=kind:message&limit=100", "/api/v1/history/export?format=json&q=kind:message", "/api/v1/quarantine?limit=100", "/api/v1/quarantine/" + w.held,
		"/api/v1/messages/" + w.held, "/api/v1/queue/items", "/api/v1/greylist", "/api/v1/audit", "/api/v1/status", "/api/v1/log?q=onerror", "/api/v1/config/revisions", "/api/v1/queue/pauses",
	} {
		text, ok := strings.CutPrefix(get(path), "200 ")
		dec := json.NewDecoder(strings.NewReader(text))
		n := 0
		for dec.More() {
			var v any
			if err := dec.Decode(&v); err != nil {
				w.t.Errorf("%s: %v %.200s", path, err, text)
				break
			}
			n++
		}
		if !ok || n == 0 || strings.ContainsAny(text, "\x01\x07\x1b") {
			w.t.Errorf("%s: %d values, %.200s", path, n, text)
		}
		if strings.Contains(text, "<script>") {
			w.t.Errorf("%s has markup that a browser that guesses might run", path)
		}
	}
}
