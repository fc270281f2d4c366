package pages_test

import (
	"context"
	"html"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/admin/pages"
	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/internal/queue"
	"gatepost/internal/store"
)

type checks []admin.Check

func (c checks) Checks() []admin.Check { return c }

// remembering is a history for pages.
func remembering(t testing.TB) func(*store.Store, *pages.Config) {
	t.Helper()
	return func(s *store.Store, pc *pages.Config) {
		hs, err := s.OpenHistory(context.Background())
		must(t, err)
		opened, err := history.Open(history.Config{Store: hs, Interval: time.Hour})
		must(t, err)
		t.Cleanup(func() { must(t, opened.Close()); must(t, hs.Close()) })
		pc.History = opened
		pc.Health = checks{{Name: "clamav", Why: "connection refused <script>"}, {Name: "store", OK: true}}
		pc.Storage = func() []admin.StorageUse {
			return []admin.StorageUse{{Name: "spool", Path: "/var/lib", Bytes: 5 << 20, Free: 1 << 30, Total: 100 << 30}}
		}
		pc.Queue = &line{}
	}
}

// happened is one of everything that the overview counts.
func happened() (all []*mail.Event) {
	to := func(address string, action mail.Action) mail.Addressee {
		return mail.Addressee{Address: address, Domain: address[strings.IndexByte(address, '@')+1:], Action: action}
	}
	message := func(kind mail.EventKind, result mail.EventResult, action mail.Action, recipients ...mail.Addressee) *mail.Event {
		e := &mail.Event{Kind: kind, Result: result, Action: action, Message: mail.NewID(), Sender: `"o'hara \" x"@out.example`, Size: 1000,
			Client: netip.MustParseAddr("192.0.2.9"), Recipients: recipients}
		all = append(all, e)
		return e
	}
	for i, action := range []mail.Action{"", mail.ActionDeliver, mail.ActionMark, mail.ActionQuarantine, mail.ActionDiscard} {
		for range i + 1 {
			message(mail.EventMessage, mail.EventAccepted, action, to("u@a.example", action))
			message(mail.EventMessage, mail.EventAccepted, action, to("u@a.example", mail.ActionDeliver), to("v@b.example", action))
			message(mail.EventFetch, mail.EventPassed, action, to("u@b.example", action))
			message(mail.EventScanned, mail.EventOK, action, to("u@a.example", action))
		}
	}
	virus := message(mail.EventMessage, mail.EventRefused, mail.ActionReject, to("u@a.example", mail.ActionReject))
	virus.Recipients[0].Threat, virus.Recipients[0].Rule = mail.ThreatVirus, "Eicar-Test"
	message(mail.EventMessage, mail.EventDeferred, "", to("u@a.example", ""))
	message(mail.EventMessage, mail.EventDropped, "", to("u@a.example", ""))
	for i, kind := range []mail.EventKind{mail.EventConnect, mail.EventSender, mail.EventRecipient} {
		for range i + 1 {
			e := message(kind, mail.EventRefused, "", to("u@a.example", ""))
			e.Stage = "rcpt"
			if i > 0 {
				e.Findings = []mail.Finding{{Module: "dnsbl", Result: mail.Match}, {Module: "greylist", Result: mail.Match}}
			}
		}
	}
	for _, result := range []mail.EventResult{mail.EventDelivered, mail.EventDelivered, mail.EventDeferred, mail.EventFailed, mail.EventPartial} {
		message(mail.EventAttempt, result, "", to("u@a.example", ""))
	}
	return all
}

var (
	counted = regexp.MustCompile(`<a href="(/history\?[^"]*)"[^>]*>(?:<span[^>]*></span>)?([^<]*)(?:</a></td><td class="num">|<strong>)(\d+)(?:<|$)`)
	cell    = regexp.MustCompile(`<td class="num"><a href="(/history\?[^"]*)">(\d+)</a>`)
	drawn   = regexp.MustCompile(`<a href="(/history\?[^"]*)" tabindex="-1"><rect[^>]*><title>(\d+) `)
)

// TestEachNumberOfTheOverviewLeadsToASearchThatFindsAsMany (WEB-09) follows every link
// from a number into the history, for an administrator and for that of a domain.
func TestEachNumberOfTheOverviewLeadsToASearchThatFindsAsMany(t *testing.T) {
	parts := remembering(t)
	var h admin.History
	w := openWith(t, func(s *store.Store, pc *pages.Config) { parts(s, pc); h = pc.History })
	for _, e := range happened() {
		h.(*history.History).Note(e)
	}
	h.(*history.History).Flush(t.Context())
	for _, c := range []struct {
		role    accounts.Role
		domains []string
		want    []string
	}{
		{accounts.Administrator, nil, []string{"Accepted", "Marked", "Quarantined", "Rejected", "Put off", "Discarded", "Refused before content", "Fetched by POP3",
			"delivered", "deferred", "failed", "partial", "dnsbl", "rcpt", `"o'hara \" x"@out.example`, "u@a.example", "192.0.2.0/24", "Eicar-Test"}},
		{accounts.DomainAdministrator, []string{"a.example"}, []string{"Accepted", "Quarantined", "Rejected", "u@a.example", "192.0.2.0/24", "dnsbl", "Eicar-Test"}},
	} {
		for _, over := range []string{"1d", "7d", "30d"} {
			text := ""
			for _, path := range []string{"/overview?over=", "/overview/tops?over="} {
				r, err := w.as(c.role).send("GET", path+over, "")
				must(t, err)
				text += r.Body.String()
			}
			seen := map[string]bool{}
			follow := func(link, title, number string) {
				u, err := url.Parse(html.UnescapeString(link))
				must(t, err)
				q, err := history.ParseQuery(u.Query().Get("q"), time.Now())
				must(t, err)
				found, err := h.Search(t.Context(), history.Search{Query: q, Domains: c.domains, Limit: 1000})
				must(t, err)
				if want, _ := strconv.Atoi(number); len(found.Events) != want {
					t.Errorf("%s, %s: %q says %s, and %s finds %d", c.role, over, title, number, u.Query().Get("q"), len(found.Events))
				}
				seen[html.UnescapeString(title)] = true
			}
			for _, m := range counted.FindAllStringSubmatch(text, -1) {
				follow(m[1], m[2], m[3])
			}
			for _, pattern := range []*regexp.Regexp{cell, drawn} {
				all := pattern.FindAllStringSubmatch(text, -1)
				if len(all) < 3 {
					t.Errorf("%s, %s: %d numbers in chart or table", c.role, over, len(all))
				}
				for _, m := range all {
					follow(m[1], "a moment", m[2])
				}
			}
			for _, want := range c.want {
				if !seen[want] {
					t.Errorf("%s, %s: no number of %q", c.role, over, want)
				}
			}
			if c.domains != nil && (strings.Contains(text, "b.example") || strings.Contains(text, "clamav")) {
				t.Errorf("an administrator of a.example sees more than that")
			}
		}
	}
}

// TestTheOverviewSaysFirstWhatNeedsAttention: what does not work stands above all else,
// and texts of strangers are text.
func TestTheOverviewSaysFirstWhatNeedsAttention(t *testing.T) {
	parts := remembering(t)
	w := openWith(t, parts)
	r, err := w.as(accounts.Administrator).send("GET", "/overview", "")
	must(t, err)
	text := r.Body.String()
	last := 0
	for _, want := range []string{"Needs attention", "connection refused &lt;script&gt;", "are left where /var/lib is", "No mail in this time", "first steps", "1 part of 2 in trouble", "Disk and store", "5.0 MiB"} {
		i := strings.Index(text, want)
		if i < last {
			t.Errorf("%q is at %d, after what is at %d", want, i, last)
		}
		last = max(i, last)
	}
	if r, err := w.as(accounts.Viewer).send("GET", "/overview/tops", ""); err != nil || r.Code != 204 {
		t.Errorf("%v %v", r.Code, err)
	}

}

// aged is a queue whose items are two hours old, and one of them two days.
type aged struct {
	line
	more int
}

func (a *aged) Stats() queue.Stats {
	return queue.Stats{Active: 1, Deferred: 7 + a.more, Oldest: time.Now().Add(-48 * time.Hour)}
}

func (*aged) Count(_ context.Context, s queue.Selector) (int, error) {
	switch {
	case s.State == mail.QueueDeferred && s.OlderThan == time.Hour:
		return 6, nil
	case s.State == mail.QueueDeferred && s.OlderThan == 24*time.Hour:
		return 1, nil
	}
	return 0, nil
}

func TestTheOverviewShowsTheQueueByStateAndAge(t *testing.T) {
	parts := remembering(t)
	w := openWith(t, func(s *store.Store, pc *pages.Config) { parts(s, pc); pc.Queue = &aged{} })
	r, err := w.as(accounts.Operator).send("GET", "/overview", "")
	must(t, err)
	for _, want := range []string{`<a href="/queue?state=deferred">Waiting</a></td><td class="num">7</td>`, `<a href="/queue?state=deferred&amp;older=1h">6</a>`,
		`<a href="/queue?state=deferred&amp;older=1d">1</a>`, `Being delivered</a></td><td class="num">1</td><td class="num">0</td>`} {
		if !strings.Contains(r.Body.String(), want) {
			t.Errorf("no %s", want)
		}
	}
	w = openWith(t, func(s *store.Store, pc *pages.Config) { parts(s, pc); pc.Queue = &aged{more: 1_000_000} })
	r, err = w.as(accounts.Operator).send("GET", "/overview", "")
	must(t, err)
	if text := r.Body.String(); strings.Count(text, "not counted: the queue is too long") != 8 || !strings.Contains(text, `<td class="num">1000007</td>`) {
		t.Error("the ages of a very long queue are not said to be unknown")
	}
}
