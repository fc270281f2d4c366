package gateway_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/flow"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/scan"
	"gatepost/internal/smtp"
)

// orders is what the verdicts of a fuzzed message are made of: a set of bits.
type orders uint8

const (
	orderTag        orders = 1 << iota // tag the Subject
	orderField                         // a filter adds a field
	orderQuarantine                    // it is quarantined
	orderStrip                         // parts are taken out
	orderBinary                        // it came in BDAT with BINARYMIME: bare line ends stay
	orderTrusted                       // the client may relay: missing fields are added
	orderResults                       // Authentication-Results are added
)

// fuzzed is a message on its way through a gateway.
type fuzzed struct {
	*rig
	orders orders
	came   string
	// stripped are the paths that the filter names, tree what the scan saw.
	stripped []string
	tree     *mimetree.Tree
	// cut says that fields were cut, which some programs take for fields that name
	// or describe the content: then only what it holds is compared.
	cut bool
}

// content is a flow that carries the orders out; which picks the parts to strip.
func (z *fuzzed) content(which uint16) gateway.Content {
	rule := flow.FilterRule{Name: "script"}
	add := func(o orders, then string) {
		if z.orders&o == 0 {
			return
		}
		action, err := flow.ParseThen(then)
		if err != nil {
			panic(err)
		}
		rule.Then = append(rule.Then, action)
	}
	add(orderTag, `subject:"[SPAM] "`)
	add(orderField, `header:"X-Added: by a filter"`)
	add(orderStrip, "strip")
	add(orderQuarantine, "quarantine")
	block := flow.Defaults("filters")
	block.Key, block.Filters = "filters", []flow.FilterRule{rule}
	module := scripted(func(in *scan.Input) ([]mail.Finding, error) {
		z.tree = in.Tree
		f := mail.Finding{Module: "filters", Symbol: "script", Result: mail.Match, Reason: "the script says so"}
		if z.orders&orderStrip == 0 {
			return []mail.Finding{f}, nil
		}
		var all []mail.Finding
		for _, n := range []int{int(which & 0xff), int(which >> 8)} {
			f.Part = in.Tree.Parts[n%len(in.Tree.Parts)].Path
			z.stripped = append(z.stripped, f.Part)
			all = append(all, f)
		}
		return all, nil
	})
	c := gateway.Content{Flows: map[string]gateway.Flow{"inbound": {
		Decide: &flow.Flow{Name: "inbound", Blocks: []flow.Block{block}},
		Blocks: []scan.Block{{Key: "filters", Use: "filters", Module: module}},
	}}}
	if z.orders&orderResults != 0 {
		c.Fields = func(*mail.Envelope) []byte { return []byte("Authentication-Results: gw.example.com; none\r\n") }
	}
	return c
}

// received is what SMTP makes of data.
func received(data []byte, o orders) string {
	var d smtp.DataDecoder
	mode := smtp.DataChunks
	if o&orderBinary != 0 {
		mode = smtp.DataBinary
	}
	d.Reset(mode)
	out, _, _ := d.Decode(nil, data)
	return string(d.Finish(out))
}

// check is the whole way of one message, with all that must hold at its end.
func (z *fuzzed) check(which uint16) {
	z.t.Helper()
	z.rig = newRig(z.t, rigOptions{content: z.content(which)})
	env := z.envelope("ada@out.example", "bob@in.example")
	env.Session.Trusted = z.orders&orderTrusted != 0
	if reply := z.receive(env, z.came); reply.Code != 250 {
		if len(z.queue.added) > 0 {
			z.t.Errorf("reply %v, and yet it is queued", reply)
		}
		return
	}
	a := z.queue.added[0]
	if spooled := readAll(z.t, a.m.Body); spooled != z.came {
		z.t.Fatalf("spooled %q, came %q", spooled, z.came)
	}
	deliveries := 0
	for i, item := range a.items {
		if item.Transport == gateway.QuarantineTransport {
			if item.Edits != nil {
				z.t.Errorf("the quarantine keeps something else than came: %+v", item.Edits)
			}
			continue
		}
		deliveries++
		edits := a.m.Envelope.Edits
		if item.Edits != nil {
			edits = *item.Edits
		}
		out := z.deliveredItem(a, i)
		z.checkEdits(&edits, out)
		z.checkReadings(&edits, out)
	}
	if want := 1; z.orders&orderQuarantine != 0 && deliveries != 0 || z.orders&orderQuarantine == 0 && deliveries != want {
		z.t.Errorf("%d deliveries", deliveries)
	}
}

// checkEdits checks that nothing changed but what the orders allow, byte by byte.
func (z *fuzzed) checkEdits(e *mail.Edits, out string) {
	z.t.Helper()
	z.checkPrepended(string(e.Prepend))
	header := message.ParseHeader([]byte(z.came[:headerSize(z.came)]))
	for _, c := range e.Cut {
		if !slices.ContainsFunc(header.Fields(), func(f message.Field) bool { return f.Span.Start == c.Start && f.Span.End >= c.End && z.mayGo(f) }) {
			z.t.Errorf("cut %q", z.came[c.Start:c.End])
		}
	}
	want := append([]mail.Replacement(nil), e.Replace...)
	for _, c := range e.Cut {
		want = append(want, mail.Replacement{Span: c})
	}
	slices.SortStableFunc(want, func(a, b mail.Replacement) int { return int(a.Start - b.Start) })
	for _, p := range z.tree.Parts {
		if slices.Contains(z.stripped, p.Path) && !p.Nested && !slices.ContainsFunc(e.Replace, func(r mail.Replacement) bool { return r.Start <= p.Body.Start && p.Body.End <= r.End }) {
			z.t.Errorf("part %s %v was to go: %v", p.Path, p.Body, e.Replace)
		}
	}
	expect, at := string(e.Prepend), int64(0)
	for _, r := range want {
		if r.Start < at || r.End < r.Start || r.End > int64(len(z.came)) {
			z.t.Fatalf("edits overlap or lie outside: %v", want)
		}
		expect += z.came[at:r.Start] + string(r.Text)
		at = r.End
		if len(r.Text) > 0 {
			z.checkReplaced(header, r)
		}
	}
	if expect += z.came[at:]; out != expect {
		z.t.Errorf("delivered\n%q\nwant\n%q", out, expect)
	}
}

// checkReplaced checks that a replacement is a tag or a notice in its place.
func (z *fuzzed) checkReplaced(header *message.Header, r mail.Replacement) {
	z.t.Helper()
	text := string(r.Text)
	switch {
	case z.orders&orderTag != 0 && strings.TrimSpace(text) == "[SPAM]":
		at := slices.IndexFunc(header.Fields(), func(f message.Field) bool { return f.Is("Subject") })
		if r.Start != r.End || at < 0 || !strings.HasSuffix(z.came[:r.Start], ":") || header.Fields()[at].Span.Start > r.Start || header.Fields()[at].Span.End < r.End {
			z.t.Errorf("tagged at %v", r.Span)
		}
	case z.orders&orderStrip != 0 && strings.Contains(text, noticeText):
	default:
		z.t.Errorf("replaced %q by %q", z.came[r.Start:r.End], text)
	}
}

const noticeText = "removed by the mail gateway"

// mayGo reports whether a field may be cut.
func (z *fuzzed) mayGo(f message.Field) bool {
	name := strings.ToLower(f.Name)
	return strings.HasPrefix(name, "x-gatepost-") || name == "authentication-results" || f.IsOrphan() ||
		z.orders&orderStrip != 0 && (strings.HasPrefix(name, "content-") || name == "mime-version")
}

// checkPrepended checks that what stands in front is whole fields of ours.
func (z *fuzzed) checkPrepended(s string) {
	z.t.Helper()
	if !strings.HasSuffix(s, "\r\n") || strings.Contains(s, "\r\n\r\n") {
		z.t.Fatalf("no whole fields: %q", s)
	}
	for _, f := range message.ParseHeader([]byte(s)).Fields() {
		switch f.Name {
		case "Received", "X-Gatepost-ID", "X-Gatepost-Verdict":
		case "X-Added":
			if z.orders&orderField != 0 {
				continue
			}
			z.t.Errorf("added %q", f.Raw())
		case "Subject":
			if z.orders&orderTag == 0 {
				z.t.Errorf("added %q", f.Raw())
			}
		case "Date", "Message-ID":
			if z.orders&orderTrusted == 0 {
				z.t.Errorf("added %q", f.Raw())
			}
		case "Authentication-Results":
		case "MIME-Version", "Content-Type", "Content-Transfer-Encoding":
			if z.orders&orderStrip == 0 {
				z.t.Errorf("added %q", f.Raw())
			}
		default:
			z.t.Errorf("added %q", f.Raw())
		}
	}
}

func headerSize(s string) int {
	if strings.HasPrefix(s, "\r\n") {
		return 2
	}
	if i := strings.Index(s, "\r\n\r\n"); i >= 0 {
		return i + 4
	}
	return len(s)
}

// checkReadings reads the delivered message again: no program may see in it what
// was not scanned, and what nobody touched is still there.
func (z *fuzzed) checkReadings(e *mail.Edits, out string) {
	z.t.Helper()
	tree, err := mimetree.Read(z.t.Context(), strings.NewReader(out), mimetree.Limits{})
	if err != nil {
		z.t.Fatal(err)
	}
	if _, odd := z.tree.Ambiguous(); odd && strings.HasPrefix(z.came, "\r\n") {
		return // fields behind an empty line: what it is with and without them is not told apart, but reported
	}
	// A program that takes the header section for text sees our changes of it.
	from, fromNow := int64(0), int64(0)
	z.cut = len(e.Cut) > 0
	if len(e.Cut)+len(e.Replace) > 0 {
		from, fromNow = int64(headerSize(z.came)), int64(headerSize(out))
	}
	scanned, now := z.readings(z.tree, 0, nil), z.readings(tree, fromNow, nil)
	for key := range now {
		if z.orders&orderStrip != 0 && key == "notice" {
			continue
		}
		if _, ok := scanned[key]; !ok {
			z.t.Errorf("a reading that was not scanned: %s\nscanned %v\ncame\n%q\ndelivered\n%q", key, keys(scanned), z.came, out)
		}
	}
	if len(e.Cut) > 0 || strings.HasPrefix(z.came, "\r\n") {
		return // behind our fields the empty line is no longer one that some programs skip
	}
	for key := range z.readings(z.tree, from, e.Replace) {
		if _, ok := now[key]; !ok {
			z.t.Errorf("a reading that is gone: %s\nthere are %v\ncame\n%q\ndelivered\n%q", key, keys(now), z.came, out)
		}
	}
}

func keys(m map[string]bool) []string {
	var all []string
	for k := range m {
		all = append(all, "\n  "+k)
	}
	slices.Sort(all)
	return all
}

// readings are all ways to read what a message holds behind an offset; those of
// parts that lie in a replaced stretch, or hold one, are left out.
func (z *fuzzed) readings(tree *mimetree.Tree, from int64, replaced []mail.Replacement) map[string]bool {
	z.t.Helper()
	all := map[string]bool{}
	for _, p := range tree.Parts {
		if p.Parent != nil && p.Raw.Start < from || slices.ContainsFunc(replaced, func(r mail.Replacement) bool {
			return strings.Contains(string(r.Text), noticeText) && r.Start <= p.Raw.End && p.Raw.Start <= r.End
		}) {
			continue
		}
		if !z.cut {
			for _, n := range p.Names {
				all["name "+n.Text] = true
			}
		}
		for _, c := range p.Contents {
			if c.Raw.Start < from {
				continue
			}
			data, err := io.ReadAll(c.Open())
			if err != nil && !errors.Is(err, io.EOF) {
				z.t.Fatal(err)
			}
			for _, media := range p.Types {
				if z.cut {
					media = "data"
				}
				key := fmt.Sprintf("%s: %x", media, sha256.Sum256(data))
				if strings.Contains(string(data), noticeText) {
					key = "notice"
				}
				all[key] = true
			}
		}
	}
	return all
}

// FuzzWhatWasScannedIsDelivered sends a message with orders through the gateway.
func FuzzWhatWasScannedIsDelivered(f *testing.F) {
	parts := crlf(strings.Replace(twoParts, "X-Strip: PATHS\n", "", 1))
	for _, o := range []orders{0, orderTag | orderField, orderQuarantine, orderStrip, orderStrip | orderTag | orderTrusted, orderBinary | orderTag, orderResults | orderTrusted} {
		for _, msg := range []string{
			saying("nothing"), parts, "", "\r\n", "\r\nbody\r\n", "no header\r\n", "Subject:x", "Subject: =?utf-8?q?a?=\r\n\r\n",
			" folded: x\r\nX-Gatepost-ID: forged\r\n continued\r\nSubject :y\r\n\r\nz",
			"X-Gatepost-Verdict: clean\r\nAuthentication-Results: (x) gw.example.com; spf=pass\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>hi",
			crlf("Content-Type: application/zip; name=a.zip\nContent-Transfer-Encoding: base64\nMIME-Version: 1.0\n\nUEsDBAo=\n"),
			crlf("Content-Type: multipart/mixed; boundary=b; boundary=c\n\n--b\n\nbegin 644 a.exe\n#86)C\n`\nend\n--c\nContent-Type: text/plain; name=x.exe\n\nx\n--b--\n--c--\n"),
			"a: b\nContent-Type: text/plain\r\r\nSubject: c\x00\r\n\rbody\n",
		} {
			f.Add([]byte(msg), uint8(o), uint16(0x0201))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, o uint8, which uint16) {
		z := &fuzzed{rig: &rig{t: t}, orders: orders(o)}
		z.came = received(data, z.orders)
		z.check(which)
	})
}
