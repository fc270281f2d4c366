package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/greylist"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// greylisted is an API over a real greylist that has seen so many recipients.
func greylisted(t *testing.T, recipients int) http.Handler {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Node: "gw1"})
	must(t, err)
	list, err := greylist.New(greylist.Config{Store: s, Delay: time.Hour})
	must(t, err)
	t.Cleanup(func() {
		list.Close()
		must(t, s.Close())
	})
	env := &mail.Envelope{Session: mail.Session{Client: netip.MustParseAddrPort("192.0.2.7:25")}}
	env.Sender, err = smtp.ParseAddress("a@out.example")
	must(t, err)
	for i := range recipients {
		to, err := smtp.ParseAddress(fmt.Sprintf("u%d@in.example", i))
		must(t, err)
		r := mail.Recipient{Address: to, Original: to}
		_, err = list.Check(t.Context(), &policy.Input{Stage: policy.Recipient, Session: &env.Session, Envelope: env, Recipient: &r})
		must(t, err)
	}
	return newServer(t, Config{Greylist: list}).API()
}

func TestTheGreylistIsListedPageByPage(t *testing.T) {
	api := greylisted(t, 5)
	seen := map[string]bool{}
	path := "/api/v1/greylist?kind=triplet&state=waiting&source=192.0.2.0/24&limit=2"
	for cursor, pages := "", 0; ; pages++ {
		r := ask(api, "GET", path+cursor, "")
		var page GreylistPage
		if err := json.Unmarshal(r.Body.Bytes(), &page); err != nil || r.Code != 200 || pages > 3 {
			t.Fatalf("page %d: %d %s", pages, r.Code, r.Body)
		}
		for _, e := range page.Items {
			if seen[e.Recipient] || e.Sender != "a@out.example" || e.Passes != 0 {
				t.Errorf("got %+v", e)
			}
			seen[e.Recipient] = true
		}
		if page.Next == "" {
			break
		}
		cursor = "&cursor=" + page.Next
	}
	if len(seen) != 5 {
		t.Errorf("got %v", seen)
	}
}

func TestTheGreylistIsChanged(t *testing.T) {
	api := greylisted(t, 3)
	cases := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"what is allowed is in a list", "POST", "allow", `{"what":"out.example","note":"a friend"}`, 200, `{}`},
		{"what is nothing is not", "POST", "allow", `{"what":"a b"}`, 400, ""},
		{"one is forgotten", "POST", "forget", `{"recipient":"u1@in.example"}`, 200, `{"entries":1}`},
		{"and was not there any more", "POST", "forget", `{"recipient":"u1@in.example"}`, 200, `{"entries":0}`},
		{"all of a sender's domain", "POST", "forget", `{"sender":"@out.example"}`, 200, `{"entries":2}`},
		{"never everything", "POST", "forget", `{}`, 400, ""},
		{"no kind of its own", "POST", "forget", `{"kind":"all"}`, 400, ""},
		{"no field of its own", "POST", "forget", `{"all":true}`, 400, ""},
		{"both at once", "POST", "forget", `{"waiting":true,"passed":true}`, 400, ""},
		{"no other method", "GET", "forget", "", 405, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := ask(api, c.method, "/api/v1/greylist/"+c.path, c.body)
			if r.Code != c.status || c.want != "" && r.Body.String() != c.want+"\n" {
				t.Errorf("got %d %s, want %d %s", r.Code, r.Body, c.status, c.want)
			}
		})
	}
}

func TestAListOfTheGreylistIsAskedForStrictly(t *testing.T) {
	api := greylisted(t, 0)
	for _, query := range []string{"what=1", "limit=0", "limit=x", "state=asleep", "kind=x", "cursor=!", "cursor=eA", "source=a&source=b"} {
		if r := ask(api, "GET", "/api/v1/greylist?"+query, ""); r.Code != 400 {
			t.Errorf("%s: %d %s", query, r.Code, r.Body)
		}
	}
	if r := ask(api, "GET", "/api/v1/greylist", ""); r.Code != 200 || r.Body.String() != `{"items":[]}`+"\n" {
		t.Errorf("an empty list: %d %s", r.Code, r.Body)
	}
}
