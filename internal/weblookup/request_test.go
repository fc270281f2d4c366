package weblookup

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestValuesAreEncodedWhereTheyStand(t *testing.T) {
	for _, tt := range []struct {
		name, url, value, want string
	}{
		{"query", "https://x.example/a?u={user}", "bob@example.com", "https://x.example/a?u=bob%40example.com"},
		{"another parameter", "https://x.example/a?u={user}&k=1", "a&admin=1#", "https://x.example/a?u=a%26admin%3D1%23&k=1"},
		{"another field of the header", "https://x.example/a?u={user}", "a\r\nX: y", "https://x.example/a?u=a%0D%0AX%3A+y"},
		{"already encoded", "https://x.example/a?u={user}", "a%0d%0aX:y", "https://x.example/a?u=a%250d%250aX%3Ay"},
		{"path", "https://x.example/u/{user}/mail", "a/../../b?c", "https://x.example/u/a%2F..%2F..%2Fb%3Fc/mail"},
		{"a place in a value", "https://x.example/a?u={user}", "{password}", "https://x.example/a?u=%7Bpassword%7D"},
		{"nothing", "https://x.example?u={user}", "", "https://x.example?u="},
		{"not UTF-8", "https://x.example/{user}", "\xff\x00", "https://x.example/%FF%00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, err := Parse(Request{URL: tt.url}, "user", "password")
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := q.fill(map[string]string{"user": tt.value, "password": "secret"})
			if err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestBodiesAreEncodedByTheirType(t *testing.T) {
	values := map[string]string{"user": `a"b&c=d` + "\n", "password": "é+ %"}
	form, err := Parse(Request{URL: "http://x.example/", Method: "post", Body: "u={user}&p={password}"}, "user", "password")
	if err != nil {
		t.Fatal(err)
	}
	_, body, err := form.fill(values)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := url.ParseQuery(body); err != nil || len(got) != 2 || got.Get("u") != values["user"] || got.Get("p") != values["password"] {
		t.Errorf("form: %q", body)
	}
	doc, err := Parse(Request{URL: "http://x.example/", Method: "POST", Body: `{"u":"{user}","p":"{password}"}`, ContentType: "application/json; charset=utf-8"}, "user", "password")
	if err != nil {
		t.Fatal(err)
	}
	_, body, err = doc.fill(values)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil || len(got) != 2 || got["u"] != values["user"] || got["p"] != values["password"] {
		t.Errorf("JSON: %q, %v", body, err)
	}
}

func TestValuesThatCannotStandInAPathAreRefused(t *testing.T) {
	q, err := Parse(Request{URL: "http://x.example/users/{user}/mail?x={user}"}, "user")
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"..", ".", strings.Repeat("x", maxValue+1)} {
		if got, _, err := q.fill(map[string]string{"user": value}); !errors.Is(err, ErrValue) {
			t.Errorf("%.5q: %.50q, %v", value, got, err)
		}
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		r    Request
		want string
	}{
		{Request{URL: ""}, "want http"},
		{Request{URL: "file:///etc/passwd"}, "want http"},
		{Request{URL: "gopher://x.example/"}, "want http"},
		{Request{URL: "ldap://x.example/"}, "want http"},
		{Request{URL: "//x.example/"}, "want http"},
		{Request{URL: "http:///x"}, "want http"},
		{Request{URL: "http://{user}/"}, "must not choose the host"},
		{Request{URL: "http://x.example{user}/"}, "must not choose the host"},
		{Request{URL: "http://x.example:{user}/"}, "http"},
		{Request{URL: "{user}://x.example/"}, "want http"},
		{Request{URL: "http://u:p@x.example/"}, "a field of the header"},
		{Request{URL: "http://x.example/#{user}"}, "fragment"},
		{Request{URL: "http://x.example/{"}, "braces"},
		{Request{URL: "http://x.example/{User}"}, "braces"},
		{Request{URL: "http://x.example/{unknown}"}, "there is no {unknown}"},
		{Request{URL: "http://x.example/../{user}"}, "in the path"},
		{Request{URL: "http://2130706433/"}, "number"},
		{Request{URL: "http://0177.1/"}, "number"},
		{Request{URL: "http://0x7f.0.0.1/"}, "number"},
		{Request{URL: "http://x.example/", Method: "PUT"}, "method"},
		{Request{URL: "http://x.example/", Body: "x"}, "method"},
		{Request{URL: "http://x.example/", Method: "POST", Body: "x", ContentType: "text/plain"}, "content_type"},
		{Request{URL: "http://x.example/", Header: map[string]string{"X": "a\r\nY: b"}}, "header"},
		{Request{URL: "http://x.example/", Header: map[string]string{"Host": "y"}}, "header"},
	} {
		if _, err := Parse(tt.r, "user"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.r, err, tt.want)
		}
	}
}

// Whatever the values: host, path depth and parameters stay what the template says.
func FuzzFill(f *testing.F) {
	for _, s := range []string{"bob", "a&admin=1#", "a%0d%0aX:y", "../..", "..", "{user}", "\x00\xff", "@evil.example/", "\\", ";", "é"} {
		f.Add(s)
	}
	q, err := Parse(Request{URL: "https://x.example/u/{user}/mail?a={user}&b=1", Method: "POST", Body: `{"u":"{user}"}`, ContentType: "application/json"}, "user")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value string) {
		target, body, err := q.fill(map[string]string{"user": value})
		if err != nil {
			return
		}
		req, err := http.NewRequest("GET", target, nil)
		if err != nil {
			t.Fatalf("%q: %v", target, err)
		}
		u := req.URL
		if u.Host != "x.example" || u.User != nil || u.Fragment != "" || strings.Count(u.EscapedPath(), "/") != 3 {
			t.Errorf("%q", target)
		}
		if p, err := url.ParseQuery(u.RawQuery); err != nil || len(p) != 2 || p.Get("a") != value || p.Get("b") != "1" {
			t.Errorf("%q: %v, %v", target, p, err)
		}
		var got map[string]string
		if err := json.Unmarshal([]byte(body), &got); err != nil || len(got) != 1 {
			t.Errorf("%q: %v", body, err)
		}
	})
}
