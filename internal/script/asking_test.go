package script_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/script"
)

// asked notes what a script asks for, and says what a test wants.
type asked struct {
	questions []string
	yes       bool
	err       error
}

func (a *asked) note(parts ...string) (bool, error) {
	a.questions = append(a.questions, strings.Join(parts, " "))
	return a.yes, a.err
}

func (a *asked) Bind(_ context.Context, server, name, password string) (bool, error) {
	return a.note(server, name, password)
}

func (a *asked) Search(_ context.Context, server, filter string, attributes []string) ([]map[string][]string, error) {
	_, err := a.note(append([]string{server, filter}, attributes...)...)
	return []map[string][]string{{"dn": {"cn=x"}, "Mail": {"a", "b"}}}, err
}

func (a *asked) Auth(_ context.Context, transport, user, password string) (bool, error) {
	return a.note(transport, user, password)
}

func (a *asked) Rcpt(_ context.Context, transport, address string) (bool, error) {
	return a.note(transport, address)
}

func (a *asked) Get(_ context.Context, url string) (int, string, error) {
	_, err := a.note(url)
	return 200, strings.Repeat("x", 100<<10), err
}

func (a *asked) Listed(_ context.Context, zone string, addr netip.Addr) ([]string, error) {
	_, err := a.note(zone, addr.String())
	return []string{"127.0.0.2"}, err
}

func (a *asked) Over(_ context.Context, key string, n int, per time.Duration) (bool, error) {
	return a.note(strings.ReplaceAll(key, "\x00", "/"), per.String())
}

func (a *asked) lookups(c *script.Config) {
	c.Lookups = script.Lookups{LDAP: a, SMTP: a, HTTP: a, DNSBL: a, Rates: a}
}

func TestWhatIsAsked(t *testing.T) {
	for lines, want := range map[string]string{
		`echo(ldap_bind("ad", "uid={u},ou=x", "pw", u="a,b=*c d@e"))`:               `ad uid=a\2Cb\3D\2Ac\20d@e,ou=x pw`,
		`echo(ldap_bind("ad", "bob@x.example", "pw"))`:                              `ad bob@x.example pw`,
		`echo(ldap_search("ad", "(mail={m})", m="a*)(uid=\\\x00"))`:                 `ad (mail=a\2A\29\28uid=\5C\00)`,
		`echo(ldap_search("ad", "(a=b)", attributes=["mail"])[0]["mail"])`:          `ad (a=b) mail`,
		`echo(smtp_auth("t", "u", "p"))`:                                            `t u p`,
		`echo(smtp_rcpt("t", "a@b.example"))`:                                       `t a@b.example`,
		`echo(http("https://h.example/{p}?q={q}", p="../a b", q="1&x=2#é").status)`: `https://h.example/..%2Fa%20b?q=1%26x%3D2%23%C3%A9`,
		`echo(len(http("https://h.example/").body) == 65536)`:                       `https://h.example/`,
		`echo(dnsbl("zen.example"))`:                                                `zen.example 192.0.2.7`,
		`echo(dnsbl("zen.example", "::ffff:198.51.100.1"))`:                         `zen.example 198.51.100.1`,
		`echo(rate("k", "5/30s"))`:                                                  `test.star/k 30s`,
		`echo(rate(key="k", limit="1000/d"))`:                                       `test.star/k 24h0m0s`,
	} {
		a := &asked{yes: true}
		r := said(t, visit(t), lines, a.lookups)
		if len(a.questions) != 1 || a.questions[0] != want || r.Log[0] == "False" {
			t.Errorf("%s: asked %q, want %q; %v", lines, a.questions, want, r.Log)
		}
	}
}

func TestQuestionsThatAreNotAsked(t *testing.T) {
	for lines, want := range map[string]string{
		`ldap_bind("ad", "{x}", "pw", y="a")`:              "no value for {x}",
		`ldap_search("ad", "(a=b)", x="y")`:                "no place {x}",
		`ldap_search("ad", "(a={x})", x=[1])`:              "want a string or a number",
		`u = "https://" + s.helo + "@evil/"` + "\nhttp(u)": "without a user in front",
		`h = "{h}"` + "\nhttp(\"http://\" + h, h=\"x\")":   "the host must be written out",
		`rate("k", "10")`:                                  "is no rate",
		`rate("k", "0/m")`:                                 "is no rate",
		`rate("k", "5/w")`:                                 "is no rate",
		`dnsbl("z", "nonsense")`:                           "is no address",
		`in_network("192.0.2.1", "192.0.2.0/99")`:          "is no network",
		`in_network("192.0.2.1")`:                          "want networks or file=",
		`cache_get("k")`:                                   "cache_get: not configured",
		`in_file("f", "v")`:                                "in_file: not configured",
		`dns("a", "ANY")`:                                  "unknown type",
		`http("https://h.example/", default=1, x="y")`:     "no place {x}",
	} {
		a := &asked{yes: true}
		r := say(t, visit(t), lines, a.lookups)
		if r.Failed == nil || !strings.Contains(r.Failed.Text, want) || len(a.questions) > 0 {
			t.Errorf("%s: %+v, asked %q; want %s", lines, r.Failed, a.questions, want)
		}
	}
	a := &asked{yes: true}
	if r := said(t, visit(t), `echo(ldap_bind("ad", "bob", ""))`, a.lookups); r.Log[0] != "False" || len(a.questions) > 0 {
		t.Errorf("a bind without a password: %v, asked %q", r.Log, a.questions)
	}
}

func TestAnOutageEndsTheScriptOrIsWhatItSays(t *testing.T) {
	a := &asked{err: errors.New("down\r\n")}
	r := say(t, visit(t), `smtp_auth("t", "u", "p")`, a.lookups)
	if r.Failed == nil || r.Failed.Text != "smtp_auth: down" && r.Failed.Text != "smtp_auth: down??" {
		t.Errorf("%+v", r.Failed)
	}
	r = said(t, visit(t), `echo(smtp_auth("t", "u", "p", default=None))`, a.lookups)
	if len(r.Log) != 2 || r.Log[1] != "None" || !strings.Contains(r.Log[0], "down") {
		t.Errorf("%q", r.Log)
	}
}

func TestListsAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "list.txt")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("# comment\n\n Bob@Example.com \n@example.org\n", time.Unix(1, 0))
	synctest.Test(t, func(t *testing.T) {
		l := script.NewLists(dir, nil)
		has := func(value string) bool {
			t.Helper()
			ok, err := l.Has(t.Context(), "list.txt", value)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if !has("bob@example.com") || !has("ANY@example.org") || has("eve@example.com") || has("# comment") {
			t.Error("the list was not read as it stands")
		}
		write("eve@example.com\n", time.Unix(2, 0))
		if has("eve@example.com") {
			t.Error("the file is looked at for every question")
		}
		time.Sleep(3 * time.Second)
		if !has("eve@example.com") || has("bob@example.com") {
			t.Error("the change was not seen")
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if !has("eve@example.com") {
			t.Error("the old list is gone with the file")
		}
	})
}

func TestListsStayInTheirDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"pairs.txt": "Bob  se cret \n", "nets.txt": "192.0.2.0/24 office\n2001:db8::/32\n198.51.100.1\n", "bad.txt": "one\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link.txt")); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[string]string{
		`echo(file_value("pairs.txt", "bob"), file_value("pairs.txt", "eve"))`: "se cret None",
		`echo(in_network("192.0.2.9", file="nets.txt"), in_network("2001:db8::1", file="nets.txt"), in_network("198.51.100.1", file="nets.txt"), in_network("198.51.100.2", file="nets.txt"))`: "True True True False",
		`echo(in_network("192.0.2.9", ["10.0.0.0/8", "192.0.2.9"]), in_network("::ffff:10.1.1.1", "10.0.0.0/8"))`:                                                                              "True True",
		`in_file("../x", "v")`:                               `"../x" leaves the directory`,
		`in_file("link.txt", "v")`:                           "path escapes",
		`in_file("none.txt", "v")`:                           "no such file",
		`in_file(".", "v")`:                                  "is no file of at most",
		`file_value("bad.txt", "v")`:                         "line 1: want a key and a value",
		`p = "/etc/" + "passwd2"` + "\nin_file(p[:-1], 'v')": "must be written out in the script",
		`echo(in_file("/dev/null", 'v'))`:                    "is no file of at most",
	} {
		r := say(t, visit(t), lines, func(c *script.Config) { c.Lookups.Files = script.NewLists(dir, nil) })
		got := strings.Join(r.Log, "\n")
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", lines, got, want)
		}
	}
}

func TestCacheForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := script.NewMemoryCache(2)
		with := func(c *script.Config) { c.Lookups.Cache = m }
		said(t, visit(t), `cache_set("k", {"a": [1, 2.5, None, True, "ü"], "b": {}}, 60)`, with)
		if r := said(t, visit(t), `echo(cache_get("k"))`, with); r.Log[0] != `{"a": [1, 2.5, None, True, "ü"], "b": {}}` {
			t.Errorf("%q", r.Log)
		}
		time.Sleep(61 * time.Second)
		if r := said(t, visit(t), `echo(cache_get("k"))`, with); r.Log[0] != "None" {
			t.Errorf("after its time: %q", r.Log)
		}
		said(t, visit(t), "cache_set('a', 1)\ncache_set('b', 2)\ncache_get('a')\ncache_set('c', 3)", with)
		if r := said(t, visit(t), `echo(cache_get('a'), cache_get('b'), cache_get('c'))`, with); r.Log[0] != "1 None 3" {
			t.Errorf("the one that was not used is dropped: %q", r.Log)
		}
		for lines, want := range map[string]string{
			`cache_set("k", "x" * 20000)`: "more than 16 KiB",
			`cache_set("k", s)`:           "cannot be written as JSON",
			`cache_set("k", 1, 0)`:        "above 0",
			`cache_set("k", {1: 2})`:      "keys of JSON are strings",
		} {
			if r := say(t, visit(t), lines, with); r.Failed == nil || !strings.Contains(r.Failed.Text, want) {
				t.Errorf("%s: %+v", lines, r.Failed)
			}
		}
	})
}

func TestJSON(t *testing.T) {
	for lines, want := range map[string]string{
		`echo(json_decode('{"b": 1, "a": [true, null, 1.5, "x", 123456789012345678901234567890]}'))`: `{"a": [True, None, 1.5, "x", 123456789012345678901234567890], "b": 1}`,
		`echo(json_decode('nonsense', default={}))`:                                                  `{}`,
		`echo(json_encode({"a": [1, "<é>", None]}))`:                                                 `{"a":[1,"<é>",null]}`,
		`json_decode('1 2')`:                 "something stands behind",
		`json_decode('{')`:                   "it is no JSON",
		`json_decode('1e999')`:               "no number that can be kept",
		`json_encode(float("nan"))`:          "JSON has no such number",
		`json_decode("[" * 500 + "]" * 500)`: "too deep",
	} {
		r := say(t, visit(t), lines)
		if got := strings.Join(r.Log, "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: %s", lines, got)
		}
	}
}

func TestTheClockIsGiven(t *testing.T) {
	r := said(t, visit(t), `n = now()
echo(n.year, n.month, n.day, n.hour, n.minute, n.time, n.weekday, n.unix)`, func(c *script.Config) {
		c.Lookups.Now = func() time.Time { return time.Date(2026, time.March, 4, 9, 5, 7, 0, time.UTC) }
	})
	if r.Log[0] != "2026 3 4 9 5 09:05 wed 1772615107" {
		t.Errorf("%q", r.Log)
	}
}
