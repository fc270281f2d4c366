package pages_test

import (
	"context"
	"encoding/json"
	"io"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/admin/pages"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
	"gatepost/internal/store"
)

// mailer takes digests.
type mailer struct{ sent []string }

func (m *mailer) SubmitReport(_ context.Context, _ mail.Address, report io.Reader) error {
	b, err := io.ReadAll(report)
	m.sent = append(m.sent, string(b))
	return err
}

// digesting is the whole with digests that are not started.
func digesting(t *testing.T) (*web, *quarantine.Digests, *mailer, *quarantine.Quarantine) {
	t.Helper()
	var q *quarantine.Quarantine
	var d *quarantine.Digests
	m := &mailer{}
	w := openWith(t, func(s *store.Store, c *pages.Config) {
		var err error
		q, err = quarantine.New(quarantine.Config{Store: s, Releaser: &outbox{}})
		must(t, err)
		links, err := quarantine.NewLinks(quarantine.LinkConfig{Quarantine: q, BaseURL: "https://gw.example"})
		must(t, err)
		d, err = quarantine.NewDigests(quarantine.DigestConfig{
			Links: links, Submitter: m, Hour: 7, Minute: 30, Location: time.UTC, Hostname: "gw.example",
			From: mail.Address{Local: "q", Domain: "a.example", Raw: "q@a.example"}, Ours: func(string) bool { return true },
		})
		must(t, err)
		c.Quarantine, c.Digests = q, d
	})
	return w, d, m, q
}

func TestPeopleChooseTheirDigestsOnTheirPageAndByTheAPI(t *testing.T) {
	w, d, _, _ := digesting(t)
	ann := w.as(accounts.EndUser)
	page := ann.get("/account").Body.String()
	if !strings.Contains(page, "u@a.example") || !strings.Contains(page, `<option value="7" selected>07:30`) {
		t.Fatalf("the page has no form: %s", page)
	}
	form := url.Values{"csrf": {ann.csrf}, "address": {"u@a.example"}, "often": {"weekly"}, "hour": {"22"}}
	if r := ann.post("/account/digest", form); r.Code != 303 || r.Header().Get("Location") != "/account?said=digest" {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	if page := ann.get("/account").Body.String(); !strings.Contains(page, `<option value="weekly" selected>`) || !strings.Contains(page, `<option value="22" selected>22:30`) {
		t.Errorf("what was chosen is not shown: %s", page)
	}
	form.Set("address", "other@a.example")
	if r := ann.post("/account/digest", form); r.Code != 422 {
		t.Errorf("somebody else's: %d", r.Code)
	}
	form.Set("address", "u@a.example")
	form.Set("hour", "25")
	if r := ann.post("/account/digest", form); r.Code != 422 {
		t.Errorf("an hour that is none: %d", r.Code)
	}
	var list admin.DigestSettings
	must(t, json.Unmarshal(ann.get("/api/v1/digests").Body.Bytes(), &list))
	if len(list.Items) != 1 || list.Items[0] != (quarantine.DigestSetting{Address: "u@a.example", Often: quarantine.Weekly, Hour: 22, Minute: 30, Own: true}) {
		t.Errorf("%+v", list)
	}
	for _, c := range []struct {
		role accounts.Role
		body string
		want int
	}{
		{accounts.EndUser, `{"address":"u@a.example","often":"never","hour":0}`, 200},
		{accounts.EndUser, `{"address":"v@a.example","often":"never","hour":0}`, 404},
		{accounts.EndUser, `{"address":"u@a.example","often":"hourly","hour":0}`, 400},
		{accounts.DomainAdministrator, `{"address":"v@a.example","often":"daily","hour":9}`, 200},
		{accounts.DomainAdministrator, `{"address":"v@b.example","often":"daily","hour":9}`, 404},
		{accounts.Viewer, `{"address":"v@b.example","often":"daily","hour":9}`, 403},
	} {
		if r, err := w.as(c.role).send("POST", "/api/v1/digests", c.body); err != nil || r.Code != c.want {
			t.Errorf("%s %s: %d, want %d (%v)", c.role, c.body, r.Code, c.want, err)
		}
	}
	if s, err := d.Setting(t.Context(), "v@b.example"); err != nil || s.Own {
		t.Errorf("a stranger's setting was changed: %+v %v", s, err)
	}
}

var digestLink = regexp.MustCompile(`https://gw\.example(/q/[A-Za-z0-9_-]+)`)

// sentLinks are the links of a digest, in their order.
func sentLinks(raw string) (list []string) {
	plain, _, _ := strings.Cut(raw, "text/html")
	_, plain, _ = strings.Cut(plain, "text/plain") // not those in the header
	for _, m := range digestLink.FindAllStringSubmatch(strings.ReplaceAll(plain, "=\r\n", ""), -1) {
		list = append(list, m[1])
	}
	return list
}

func TestTheLinksOfADigestChooseAndAskWithoutLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, m, q := digesting(t)
		at := time.Now()
		env := &mail.Envelope{ID: mail.NewID(), Received: at, Sender: mail.Address{Local: "x", Domain: "b.example", Raw: "x@b.example"}, Size: 4}
		to := mail.Recipient{Address: mail.Address{Local: "u", Domain: "a.example", Raw: "u@a.example"}, Verdict: &mail.Verdict{Action: mail.ActionQuarantine, Threat: mail.ThreatVirus}}
		to.Original, to.Route = to.Address, mail.Route{Domain: "a.example"}
		env.Recipients = []mail.Recipient{to}
		transport, err := quarantine.NewTransport(w.store, nil)
		must(t, err)
		transport.Deliver(t.Context(), &mail.Delivery{ID: mail.QueueID{Message: env.ID, N: 1}, Message: mail.Message{Envelope: env, Body: text{strings.NewReader("a\r\n")}}, Recipients: env.Recipients})
		d.Start(t.Context())
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		must(t, d.Stop(t.Context()))
		if len(m.sent) != 1 {
			t.Fatalf("%d digests", len(m.sent))
		}
		links := sentLinks(m.sent[0])
		if len(links) != 3 {
			t.Fatalf("want ask, delete, settings: %v\n%s", links, m.sent[0])
		}
		nobody := w.client()
		asked := func() bool { row, err := q.Get(t.Context(), env.ID); must(t, err); return row.Entries[0].Asked }
		if r := nobody.get(links[0]); r.Code != 200 || !strings.Contains(r.Body.String(), "Ask for this message?") || asked() {
			t.Errorf("looking: %d, asked %v", r.Code, asked())
		}
		if r := nobody.post(links[0], nil); r.Code != 200 || !asked() {
			t.Errorf("asking: %d, asked %v", r.Code, asked())
		}
		settings := links[2]
		before, err := d.Setting(t.Context(), "u@a.example")
		must(t, err)
		if r := nobody.get(settings + "?often=never&hour=1"); r.Code != 200 || !strings.Contains(r.Body.String(), `<label for="hour">`) {
			t.Errorf("%d %s", r.Code, r.Body)
		}
		for _, form := range []url.Values{nil, {"List-Unsubscribe": {"One-Click"}}, {"often": {"daily"}}, {"often": {"x"}, "hour": {"1"}}} {
			if r := nobody.post(settings, form); r.Code != 422 {
				t.Errorf("%v: %d", form, r.Code)
			}
		}
		if now, err := d.Setting(t.Context(), "u@a.example"); err != nil || now != before {
			t.Errorf("changed to %+v %v", now, err)
		}
		if r := nobody.post(settings, url.Values{"often": {"weekly"}, "hour": {"5"}, "address": {"v@a.example"}}); r.Code != 200 {
			t.Errorf("%d %s", r.Code, r.Body)
		}
		if now, err := d.Setting(t.Context(), "u@a.example"); err != nil || now.Often != quarantine.Weekly || now.Hour != 5 {
			t.Errorf("%+v %v", now, err)
		}
		if other, err := d.Setting(t.Context(), "v@a.example"); err != nil || other.Own {
			t.Errorf("the link of one changed another's: %+v %v", other, err)
		}
	})
}
