package quarantine

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"gatepost/internal/mail"
)

// ours are the domains that get digests.
func ours(domain string) bool { return strings.HasPrefix(domain, "example.") }

func (b *bench) links() *Links {
	b.t.Helper()
	l, err := NewLinks(LinkConfig{Quarantine: b.q, BaseURL: "https://gw.example.com/"})
	must(b.t, err)
	return l
}

// digests starts the digests of one node, at 07:00 UTC.
func (b *bench) digests() *Digests {
	b.t.Helper()
	d := b.idleDigests()
	d.Start(b.t.Context())
	return d
}

// idleDigests makes digests that are not started.
func (b *bench) idleDigests() *Digests {
	b.t.Helper()
	d, err := NewDigests(DigestConfig{
		Links: b.links(), Submitter: b.out, Hour: 7, Location: time.UTC, From: addr(b.t, "quarantine@example.com"),
		Hostname: "gw.example.com", Ours: ours,
	})
	must(b.t, err)
	return d
}

// until sleeps until a time of the first days of 2000, when synctest begins.
func until(day, hour, minute int) {
	time.Sleep(time.Until(time.Date(2000, 1, day, hour, minute, 0, 0, time.UTC)))
	synctest.Wait()
}

// stopNow stops digests within a test, so that goroutines end inside its bubble.
func stopNow(t *testing.T, list ...*Digests) {
	t.Helper()
	for _, d := range list {
		must(t, d.Stop(t.Context()))
	}
}

func TestEachRecipientGetsOneDigestADayWhateverTheNodesDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, "gw1")
		b := newBench(t, s)
		other := newBench(t, s)
		other.out = b.out
		until(1, 12, 0)
		b.hold(sample{}, "anna@example.com", "bob@example.com")
		b.hold(sample{}, "anna@example.com")
		b.hold(sample{}, "someone@elsewhere.example")
		one, two := b.digests(), other.digests()

		until(2, 6, 59)
		if got := b.out.to(); got != "" {
			t.Fatalf("before the time: %s", got)
		}
		until(2, 7, 5)
		if got := b.out.to(); got != "02 07:00 anna@example.com, 02 07:00 bob@example.com" {
			t.Fatalf("on the first day: %s", got)
		}
		b.hold(sample{}, "bob@example.com")
		must(t, one.Stop(t.Context()))
		three := b.digests() // a restart on the same day
		until(3, 6, 0)
		if got := b.out.count(); got != 2 {
			t.Fatalf("after a restart: %s", b.out.to())
		}
		until(3, 8, 0)
		if got := b.out.to(); !strings.HasSuffix(got, "02 07:00 bob@example.com, 03 07:00 bob@example.com") {
			t.Errorf("only what is new: %s", got)
		}
		until(9, 0, 0)
		if got := b.out.count(); got != 3 {
			t.Errorf("nothing new, no mail: %s", b.out.to())
		}
		stopNow(t, two, three)
	})
}

func TestADigestThatWasMissedIsSentAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, openStore(t, "gw1"))
		until(5, 6, 30)
		b.hold(sample{}, "anna@example.com")
		released := b.hold(sample{}, "bob@example.com")
		b.release(Request{IDs: []mail.ID{released}})
		until(5, 9, 30)
		d := b.digests()
		synctest.Wait()
		if got := b.out.to(); got != "05 09:30 anna@example.com" {
			t.Error(got)
		}
		stopNow(t, d)
	})
}

func TestDigestsThatCannotBeSentAreTriedAgainAndDoNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, openStore(t, "gw1"))
		until(1, 12, 0)
		b.hold(sample{}, "anna@example.com")
		b.hold(sample{}, "bob@example.com")
		b.out.setFail(errors.New("no space left on device"))
		d := b.digests()
		until(2, 7, 1)
		b.out.setFail(nil)
		until(2, 7, 30)
		if got := b.out.to(); got != "02 07:01 anna@example.com, 02 07:01 bob@example.com" {
			t.Error(got)
		}
		b.hold(sample{}, "anna@example.com")
		b.out.setFail(errors.New("no way there"))
		until(3, 9, 0)
		b.out.setFail(nil)
		b.hold(sample{}, "carol@example.com")
		until(4, 9, 0)
		if got := b.out.to(); !strings.HasSuffix(got, "04 07:00 carol@example.com") {
			t.Errorf("given up for one, not for ever: %s", got)
		}
		stopNow(t, d)
	})
}

func TestARunOfADeadNodeIsFinishedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, "gw1")
		b := newBench(t, s)
		until(1, 12, 0)
		b.hold(sample{}, "anna@example.com", "bob@example.com")
		dead := b.idleDigests()
		until(2, 7, 0)
		// It has claimed the day, written to Anna, and is never heard of again.
		r, err := dead.claim(t.Context(), time.Date(2000, 1, 2, 7, 0, 0, 0, time.UTC))
		must(t, err)
		must(t, dead.next(t.Context(), r, "anna@example.com"))
		r.state.Sending = "bob@example.com"
		must(t, dead.store(t.Context(), r))
		other := b.digests()
		until(2, 7, 4)
		if got := b.out.to(); got != "02 07:00 anna@example.com" {
			t.Errorf("while the lease holds: %s", got)
		}
		// Should it live after all, it has lost the run.
		until(2, 7, 10)
		if got := b.out.to(); got != "02 07:00 anna@example.com, 02 07:05 bob@example.com" && got != "02 07:00 anna@example.com, 02 07:06 bob@example.com" {
			t.Errorf("afterwards: %s", got)
		}
		if err := dead.next(t.Context(), r, "bob@example.com"); !errors.Is(err, errOthers) {
			t.Errorf("the dead one: %v", err)
		}
		stopNow(t, other)
	})
}

func TestDigestsKeepToLocalTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	must(t, err)
	for _, c := range []struct{ name, now, last, next string }{
		{"before the time", "2026-01-10T05:59:59Z", "2026-01-09T06:00:00Z", "2026-01-10T06:00:00Z"},
		{"at the time", "2026-01-10T06:00:00Z", "2026-01-10T06:00:00Z", "2026-01-11T06:00:00Z"},
		{"the day before the clocks change", "2026-03-28T12:00:00Z", "2026-03-28T06:00:00Z", "2026-03-29T05:00:00Z"},
		{"late in the evening of another zone", "2026-07-01T22:30:00Z", "2026-07-01T05:00:00Z", "2026-07-02T05:00:00Z"},
	} {
		d := &Digests{cfg: DigestConfig{Hour: 7, Location: berlin}}
		now, err := time.Parse(time.RFC3339, c.now)
		must(t, err)
		last, next := d.due(now)
		if got := last.UTC().Format(time.RFC3339) + " " + next.UTC().Format(time.RFC3339); got != c.last+" "+c.next {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// readDigest parses a digest as a mail program does, and checks what must hold for
// every one.
func readDigest(t *testing.T, raw string) (header netmail.Header, plain, htmlText string) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSuffix(raw, "\r\n"), "\r\n") {
		if strings.ContainsAny(line, "\r\n") || len(line) > 998 {
			t.Errorf("bad line %q", line)
		}
	}
	m, err := netmail.ReadMessage(strings.NewReader(raw))
	must(t, err)
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatal(kind, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	texts := make(map[string]string)
	for {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		must(t, err)
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		must(t, err)
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		must(t, err)
		texts[kind] = string(b)
	}
	if len(texts) != 2 {
		t.Fatalf("%d parts", len(texts))
	}
	return m.Header, texts["text/plain"], texts["text/html"]
}

// hostile is what a sender may put into everything that they control (SCN-05).
const hostile = "\"><img src=x onerror=alert(1)>\r\nBcc: victim@example.com\r\n\r\n{{.From}} =?utf-8?q?=0D=0AX-Evil:_1?= \u202egnp.exe \x1b[31m"

func TestNothingInAMessageGetsOutOfItsPlaceInADigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, openStore(t, "gw1"))
		until(1, 12, 0)
		b.hold(sample{from: `"<script>alert(1)</script>"@sender.example`, subject: hostile, rule: hostile}, "anna@example.com")
		virus := b.hold(sample{subject: "invoice", threat: mail.ThreatVirus, rule: hostile}, "anna@example.com")
		d := b.digests()
		until(2, 8, 0)
		stopNow(t, d)
		header, plain, page := readDigest(t, b.out.sent[0].raw)

		want := map[string]string{
			"From": `"Mail quarantine" <quarantine@example.com>`, "To": "<anna@example.com>", "Subject": "2 messages are held in quarantine",
			"Auto-Submitted": "auto-generated", "List-Id": "Mail quarantine <quarantine-digest.gw.example.com>",
			"Date": "Sun, 2 Jan 2000 07:00:15 +0000", "Message-Id": header.Get("Message-Id"),
			"List-Unsubscribe": header.Get("List-Unsubscribe"), "Mime-Version": "1.0", "Content-Type": header.Get("Content-Type"), "X-Auto-Response-Suppress": "All",
		}
		for name, values := range header {
			if len(values) != 1 || values[0] != want[name] {
				t.Errorf("%s: %q", name, values)
			}
			delete(want, name)
		}
		if len(want) > 0 {
			t.Errorf("missing: %v", want)
		}
		if strings.Contains(plain, "\r\nBcc:") || strings.Contains(plain, "\x1b") || strings.Contains(plain, "\u202e") || strings.Contains(plain, "X-Evil: 1\r\n") {
			t.Errorf("%q", plain)
		}
		checkHTML(t, page)
		if n := strings.Count(plain, "https://gw.example.com/q/"); n != 5 {
			t.Errorf("%d links for a spam and a virus, want release, delete, ask, delete, settings:\n%s", n, plain)
		}
		for _, token := range tokens(plain) {
			link, err := b.links().Look(t.Context(), token)
			if err != nil {
				t.Error(err)
				continue
			}
			if link.Action == LinkRelease && link.Threat == mail.ThreatVirus {
				t.Error("a virus with a link to release it")
			}
		}
		if !strings.Contains(plain, "Why:      virus\r\nRelease:  by your administrator only\r\nAsk:      https://gw.example.com/q/") {
			t.Errorf("%s: %s", virus, plain)
		}
	})
}

// tokens are the tokens of the links in a text.
func tokens(text string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`/q/([A-Za-z0-9_-]+)`).FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}

// checkHTML looks at every element and attribute: nothing runs and nothing loads.
func checkHTML(t *testing.T, page string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	must(t, err)
	allowed := " html head meta title style body p b h1 table tbody tr th td a form button "
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if !strings.Contains(allowed, " "+n.Data+" ") {
			t.Errorf("element %s", n.Data)
		}
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "src", a.Key == "action", a.Key == "style" && strings.Contains(a.Val, "url"):
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			case a.Key == "href" && !strings.HasPrefix(a.Val, "https://gw.example.com/q/"):
				t.Errorf("link to %q", a.Val)
			}
		}
	}
}

func TestALongDigestIsCut(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	for i := range 4 {
		b.hold(sample{subject: fmt.Sprintf("number %d", i)}, "anna@example.com")
	}
	d, err := NewDigests(DigestConfig{
		Links: b.links(), Submitter: b.out, From: addr(t, "q@example.com"), Hostname: "gw.example.com", Ours: ours, MaxItems: 3,
	})
	must(t, err)
	m, err := d.mailFor(t.Context(), &digestRun{state: digestState{Day: "2026-01-02", Until: time.Now().Add(time.Hour)}}, "anna@example.com")
	must(t, err)
	raw, err := m.write()
	must(t, err)
	header, plain, _ := readDigest(t, string(raw))
	if got := header.Get("Subject"); got != "More than 3 messages are held in quarantine" {
		t.Error(got)
	}
	if strings.Contains(plain, "number 0") || !strings.Contains(plain, "number 3") || !strings.Contains(plain, "There are more.") {
		t.Error(plain)
	}
}
