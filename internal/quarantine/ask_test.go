package quarantine

import (
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func TestWhatIsAskedForStaysHeldAndIsFound(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	virus := b.hold(sample{threat: mail.ThreatVirus}, "u@a.example", "v@b.example")
	b.hold(sample{}, "u@a.example")
	r := Request{IDs: []mail.ID{virus}, Recipients: []string{"u@a.example"}, By: "u@a.example", Role: RoleRecipient}
	if got := b.q.Release(t.Context(), r)[0]; got.Err == nil {
		t.Error("a recipient released a virus")
	}
	if got := b.q.Ask(t.Context(), r)[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	page, err := b.q.List(t.Context(), Filter{Asked: true, Limit: 10})
	must(t, err)
	if len(page.Items) != 1 || page.Items[0].ID != virus || page.Items[0].State != Held {
		t.Fatalf("asked for: %+v", page.Items)
	}
	for _, e := range page.Items[0].Entries {
		if e.Asked != (e.Recipient == "u@a.example") {
			t.Errorf("%s: asked %v", e.Recipient, e.Asked)
		}
	}
	r.Role, r.Recipients = RoleAdmin, nil
	if got := b.q.Release(t.Context(), r)[0]; got.Err != nil {
		t.Fatal(got.Err)
	}
	if page, err := b.q.List(t.Context(), Filter{Asked: true, Limit: 10}); err != nil || len(page.Items) != 0 {
		t.Errorf("after the release: %+v %v", page.Items, err)
	}
	if got := b.q.Ask(t.Context(), r)[0]; got.Err == nil {
		t.Error("a released message was asked for")
	}
}

func TestAListShowsWhatItsBoundsAllowOnly(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	b.hold(sample{subject: "one"}, "u@a.example")
	b.hold(sample{subject: "two"}, "v@b.example")
	b.hold(sample{subject: "three"}, "w@a.example", "x@c.example")
	for name, c := range map[string]struct {
		f    Filter
		want string
	}{
		"everything":           {Filter{}, "three two one"},
		"a domain":             {Filter{Domains: []string{"a.example"}}, "three one"},
		"an address":           {Filter{Recipients: []string{"v@b.example"}}, "two"},
		"an address and words": {Filter{Recipients: []string{"v@b.example"}, Text: "three"}, ""},
		"a part of the domain": {Filter{Domains: []string{"a.example"}, Recipient: "x@c.example"}, ""},
	} {
		c.f.Limit = 10
		page, err := b.q.List(t.Context(), c.f)
		must(t, err)
		var got []string
		for _, row := range page.Items {
			got = append(got, row.Subject)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	if _, err := b.q.List(t.Context(), Filter{Domains: []string{"a.example"}, Domain: "b.example", Limit: 1}); err == nil {
		t.Error("another's domain is listed")
	}
}

func TestTheHTMLOfAMessageIsThatOfItsText(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	for name, c := range map[string]struct{ body, want, part string }{
		"only HTML":            {"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>caf\xe9 <a href=\"http://x.example/\">here</a>\r\n", "<p>café <a href=\"http://x.example/\">here</a>\r\n", "1"},
		"only text":            {"Content-Type: text/plain\r\n\r\nno <b>HTML</b>\r\n", "", ""},
		"an attached document": {"Content-Type: text/html\r\nContent-Disposition: attachment; filename=a.html\r\n\r\n<p>no\r\n", "", ""},
		"alternative": {"MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\n" +
			"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+aGVsbG88L2I+\r\n--b--\r\n", "<b>hello</b>", "1.2"},
	} {
		id := b.hold(sample{body: "From: a@x.example\r\n" + c.body}, "u@a.example")
		got, cut, err := b.q.HTML(t.Context(), id)
		must(t, err)
		d, err := b.q.Show(t.Context(), id)
		must(t, err)
		if got != c.want || cut || d.HTMLPart != c.part {
			t.Errorf("%s: %q %v, part %q", name, got, cut, d.HTMLPart)
		}
		if name == "only HTML" && (len(d.Links) != 1 || d.Links[0].Address != "http://x.example/" || d.Links[0].Text != "here") {
			t.Errorf("links: %+v", d.Links)
		}
	}
}
