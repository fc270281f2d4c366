package textview

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestAddressesAreReadAsBrowsersDo(t *testing.T) {
	for _, tt := range []struct{ name, raw, clean, host, domain, tricks string }{
		{"plain", "HTTP://WWW.Example.COM/Path?q=1#frag", "http://www.example.com/Path?q=1", "www.example.com", "example.com", ""},
		{"no path", "https://example.co.uk", "https://example.co.uk/", "example.co.uk", "example.co.uk", ""},
		{"a default port", "https://example.com:443/", "https://example.com/", "example.com", "example.com", ""},
		{"another port", "http://example.com:08080/x", "http://example.com:8080/x", "example.com", "example.com", ""},
		{"a user that looks like a host", "http://www.bank.example@evil.com/", "http://evil.com/", "evil.com", "evil.com", "user"},
		{"several at signs", "http://a@b@evil.com", "http://evil.com/", "evil.com", "evil.com", "user"},
		{"backslashes", `http:\\evil.com\@good.com`, "http://evil.com/@good.com", "evil.com", "evil.com", "backslash"},
		{"too many slashes", "http:////evil.com/x", "http://evil.com/x", "evil.com", "evil.com", ""},
		{"none", "http:evil.com/x", "http://evil.com/x", "evil.com", "evil.com", ""},
		{"tabs and line ends", "ht\ntp://ev\til.c\r\nom/a\nb", "http://evil.com/ab", "evil.com", "evil.com", "control"},
		{"a percent-encoded host", "http://%65vil%2ecom/", "http://evil.com/", "evil.com", "evil.com", "escaped"},
		{"full width letters", "http://ｅｖｉｌ．ｃｏｍ/", "http://evil.com/", "evil.com", "evil.com", "wide"},
		{"other dots", "http://evil。com/", "http://evil.com/", "evil.com", "evil.com", "wide"},
		{"soft hyphens", "http://ev\u00adil.com/", "http://evil.com/", "evil.com", "evil.com", "wide"},
		{"an international name", "http://Bücher.de/", "http://xn--bcher-kva.de/", "xn--bcher-kva.de", "xn--bcher-kva.de", ""},
		{"Cyrillic in a Latin name", "http://p\u0430ypal.com/", "http://xn--pypal-4ve.com/", "xn--pypal-4ve.com", "xn--pypal-4ve.com", "mixed-script"},
		{"all Cyrillic that looks Latin", "http://\u0430\u0440\u0440\u04cf\u0435.com/", "http://xn--80ak6aa92e.com/", "xn--80ak6aa92e.com", "xn--80ak6aa92e.com", "mixed-script"},
		{"honest Cyrillic", "http://пример.рф/", "http://xn--e1afmkfd.xn--p1ai/", "xn--e1afmkfd.xn--p1ai", "xn--e1afmkfd.xn--p1ai", ""},
		{"an address", "http://192.0.2.1/x", "http://192.0.2.1/x", "192.0.2.1", "", ""},
		{"decimal", "http://3221225985/", "http://192.0.2.1/", "192.0.2.1", "", "number"},
		{"hexadecimal", "http://0xC0.0x00.0x02.0x01/", "http://192.0.2.1/", "192.0.2.1", "", "number"},
		{"octal", "http://0300.0.02.01/", "http://192.0.2.1/", "192.0.2.1", "", "number"},
		{"fewer numbers", "http://192.0.513/", "http://192.0.2.1/", "192.0.2.1", "", "number"},
		{"IPv6", "http://[2001:DB8::1]:81/", "http://[2001:db8::1]:81/", "2001:db8::1", "", ""},
		{"defanged", "hxxp://evil.com/", "http://evil.com/", "evil.com", "evil.com", "defanged"},
		{"a final dot", "http://evil.com./", "http://evil.com/", "evil.com", "evil.com", ""},
		{"a site below a private suffix", "http://me.github.io/", "http://me.github.io/", "me.github.io", "me.github.io", ""},
		{"mail", "mailto:Joe%40example.com?subject=x", "mailto:Joe@example.com", "example.com", "example.com", ""},
		{"A-labels that are none", "http://xn--a.com/", "http://xn--a.com/", "xn--a.com", "xn--a.com", ""},
		{"letters that no name has", "http://\u2603\ufe0f.com/", "http://xn--n3h.com/", "xn--n3h.com", "xn--n3h.com", "wide"},
		{"a port that is none", "http://example.com:x/", "http://example.com/", "example.com", "example.com", ""},
		{"a script", "JavaScript:alert(1)", "javascript:alert(1)", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, ok := parseURL(tt.raw)
			if ok != (tt.clean != "") {
				t.Fatalf("got %v %q", ok, u.Clean)
			}
			if ok && (u.Clean != tt.clean || u.Host != tt.host || u.Domain != tt.domain || u.Tricks.String() != tt.tricks) {
				t.Errorf("got %v %q host %q domain %q tricks %q", ok, u.Clean, u.Host, u.Domain, u.Tricks)
			}
		})
	}
	for _, raw := range []string{"", ":", "http://", "http:///", "//x", "/x", "http://a b/", "http://999.1.1.1.1/", "http://[::1/", "http://..", "mailto:x", "1http://x.com"} {
		if u, ok := parseURL(raw); ok {
			t.Errorf("%q is no address, got %q", raw, u.Clean)
		}
	}
}

func TestBareAddressesInTexts(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"with a scheme", "see http://evil.com/a_(b), now", []string{"http://evil.com/a_(b)"}},
		{"in brackets", "(http://evil.com/a)", []string{"http://evil.com/a"}},
		{"in angle brackets", "<http://evil.com/a>", []string{"http://evil.com/a"}},
		{"at the end of a sentence", "go to https://evil.com/a?b=c.", []string{"https://evil.com/a?b=c"}},
		{"stuck to a word", "Link:http://evil.com", []string{"http://evil.com/"}},
		{"stuck together", "http://evil.comhttps://bad.com/", []string{"http://evil.com/", "https://bad.com/"}},
		{"www", "go to WWW.evil.com!", []string{"http://www.evil.com/"}},
		{"a name and a path", "evil.ru/x and evil.me/y", []string{"http://evil.ru/x", "http://evil.me/y"}},
		{"a name alone", "visit evil.com, evil.info.", []string{"http://evil.com/", "http://evil.info/"}},
		{"a sentence without space, files, numbers", "That is it.It was me.Next main.py README.md 1.2 e.g. foo.baz.", nil},
		{"unknown top-level domains", "a.localdomain/x b.foobarbaz", nil},
		{"defanged", "hxxp://evil.com h**p://bad.com/", []string{"http://evil.com/", "http://bad.com/"}},
		{"a mail address", "write to joe@shop.example.com.", []string{"mailto:joe@shop.example.com"}},
		{"mail addresses with odd characters", "joe+tag@example.com, a%b=c@example.org/x", []string{"mailto:joe+tag@example.com", "mailto:a%b=c@example.org"}},
		{"no host either", "joe%barrera.org a@b a+b.example", nil},
		{"a user that is a host", "http://bank.com@evil.com", []string{"http://evil.com/"}},
		{"Chinese around it", "请访问http://evil.com/a。谢谢，www.bad.com吧", []string{"http://evil.com/a。谢谢", "http://www.bad.com/"}},
		{"Chinese behind the host", "http://evil.com点击", []string{"http://evil.com/"}},
		{"another dot", "evil。com", []string{"http://evil.com/"}},
		{"an address in numbers", "http://192.0.2.1:8080/x", []string{"http://192.0.2.1:8080/x"}},
		{"no host", "http:// http://x http://localhost-not", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := view(t, "Content-Type: text/plain; charset=utf-8\n\n"+tt.text)
			if got := cleans(v); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLinksOfHTML(t *testing.T) {
	inner := base64.StdEncoding.EncodeToString([]byte(`<a href="http://inner.com/">x</a>`))
	for _, tt := range []struct {
		name, html string
		want       []string
	}{
		{"an anchor with its text", `<a href="http://evil.com/x">Your <b>bank</b></a>`, []string{"href http://evil.com/x Your bank"}},
		{"display and target", `<a href="http://evil.com/">http://bank.com/</a>`, []string{"href http://evil.com/ http://bank.com/", "text http://bank.com/ "}},
		{"a picture as text", `<a href=http://evil.com/><img src=http://pic.com/a.png alt="Click"></a>`, []string{"href http://evil.com/ Click", "src http://pic.com/a.png "}},
		{"an anchor that is not closed", `<a href=http://evil.com/>one<a href=http://bad.com/>two`, []string{"href http://evil.com/ one", "href http://bad.com/ two"}},
		{"an area, a form, a frame", `<area href=http://a.com><form action=http://b.com/x><button formaction=//c.com></form><iframe src=http://d.com>`, []string{"href http://a.com/ ", "form http://b.com/x ", "form http://c.com/ ", "src http://d.com/ "}},
		{"a set of pictures", `<img srcset="http://a.com/1 1x, http://b.com/2 2x">`, []string{"src http://a.com/1 ", "src http://b.com/2 "}},
		{"styles", `<p style="background:url('http://a.com/1')"><style>p{background:URL(http://b.com/2)}</style>`, []string{"style http://a.com/1 ", "style http://b.com/2 "}},
		{"a refresh", `<meta http-equiv=Refresh content="0; URL='http://evil.com/'">`, []string{"refresh http://evil.com/ "}},
		{"a base, also behind the link", `<a href=login>x</a><base href="http://evil.com/a/b"><a href="../y">z</a>`, []string{"href http://evil.com/a/login x", "base http://evil.com/a/b ", "href http://evil.com/y z"}},
		{"no base", `<a href="login.php">x</a><a href="#a">y</a><a href="www.evil.com/q">z</a>`, []string{"href http://www.evil.com/q z"}},
		{"a redirect", `<a href="http://good.com/r?u=http%3A%2F%2Fevil.com%2F&x=1">x</a>`, []string{"href http://good.com/r?u=http%3A%2F%2Fevil.com%2F&x=1 x", "nested http://evil.com/ "}},
		{"a redirect in a path", `<a href="http://good.com/r/*http://evil.com/?a&b">x</a>`, []string{"href http://good.com/r/*http://evil.com/?a&b x", "nested http://evil.com/?a&b "}},
		{"redirects in redirects", `<a href="http://a.com/?u=http://b.com/?u=http://c.com/">x</a>`, []string{"href http://a.com/?u=http://b.com/?u=http://c.com/ x", "nested http://b.com/?u=http://c.com/ ", "nested http://c.com/ "}},
		{"a redirect in base64", `<a href="http://a.com/?u=aHR0cDovL2V2aWwuY29tLw">x</a>`, []string{"href http://a.com/?u=aHR0cDovL2V2aWwuY29tLw x", "nested http://evil.com/ "}},
		{"a document in a link", `<a href="data:text/html;base64,` + inner + `">x</a>`, []string{"href data:text/html;base64," + inner + " ", "href http://inner.com/ x"}},
		{"a document in an attribute", `<iframe srcdoc="&lt;a href=http://inner.com&gt;x&lt;/a&gt;"></iframe>`, []string{"href http://inner.com/ x"}},
		{"a script in a link", `<a href="java	script:location='x'">x</a>`, []string{"href javascript:location='x' x"}},
		{"addresses in scripts", `<script>location="http://evil.com/"+x</script>`, []string{"script http://evil.com/ "}},
		{"links for Outlook", `<!--[if mso]><v:roundrect href="http://evil.com/"><![endif]-->`, []string{"comment http://evil.com/ "}},
		{"pictures inside are no links", `<img src="data:image/png;base64,AAAA"><img src="data:application/octet-stream,x"><img src=cid:x>`, nil},
		{"a drawing", `<svg><a xlink:href="http://evil.com/">x</a></svg>`, []string{"href http://evil.com/ x"}},
		{"twice the same", `<a href=http://a.com/>x</a><a href=http://a.com/>x</a>`, []string{"href http://a.com/ x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, u := range viewHTML(t, tt.html).URLs {
				got = append(got, fmt.Sprintf("%s %s %s", u.From, u.Clean, u.Text))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestManyLinksAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "http://host%d.example.com/\n", i)
	}
	v := view(t, "\n"+b.String())
	if len(v.URLs) != 1000 || symbols(v) != "links" {
		t.Errorf("%d links, %v", len(v.URLs), v.Findings)
	}
}

func TestSkeletonsOfLookAlikes(t *testing.T) {
	for _, pair := range [][2]string{{"paypal.com", "xn--pypal-4ve.com"}, {"paypal.com", "paypa1.com"}, {"microsoft.com", "rnicros0ft.com"}, {"example.org", "exämple.org"}} {
		if Skeleton(pair[0]) != Skeleton(pair[1]) {
			t.Errorf("%s: %s, %s: %s", pair[0], Skeleton(pair[0]), pair[1], Skeleton(pair[1]))
		}
	}
	if Skeleton("example.com") == Skeleton("exampla.com") {
		t.Error("different names look alike")
	}
}
