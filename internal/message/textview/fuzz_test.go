package textview

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// checkView holds for every message.
func checkView(t *testing.T, v *View) {
	t.Helper()
	for _, s := range []string{v.Subject, v.From, v.ReplyTo} {
		if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\r") {
			t.Errorf("field %q", s)
		}
	}
	for _, text := range v.Texts {
		for _, s := range []string{text.Shown, text.Hidden, text.Title, text.Charset} {
			if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\r") {
				t.Errorf("text %q", s)
			}
		}
		if text.Part == "" || text.Type == "" {
			t.Errorf("no part or type: %+v", text)
		}
	}
	for _, u := range v.URLs {
		for _, s := range []string{u.Raw, u.Clean, u.Host, u.Text, u.Port, u.Domain} {
			if !utf8.ValidString(s) {
				t.Errorf("address %+v", u)
			}
		}
		if u.Clean == "" || u.Scheme == "" || u.From == "" || strings.ContainsAny(u.Host, " /@\\\x00\r\n") {
			t.Errorf("address %+v", u)
		}
	}
	for _, f := range v.Findings {
		if f.Symbol == "" || f.Reason == "" || !utf8.ValidString(f.Reason) || strings.ContainsAny(f.Reason, "\r\n\x00") {
			t.Errorf("finding %+v", f)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"Subject: =?utf-8?q?a?= =?x?b?YQ==?=\n\ntext http://a.com/?u=http%3a%2f%2fb.com www.x.com",
		"Content-Type: text/html; charset=utf-7\n\n+ADw-b+AD4-x",
		"Content-Type: text/html\n\n<base href=http://a.com><style>.x{display:none}</style><p class=x>y<a href=b>z</a><img srcset='a 1x,b 2x'><meta http-equiv=refresh content='0;url=c'>",
		"Content-Type: text/html\n\n<a href='data:text/html;base64,PGI+'>x</a><iframe srcdoc='<p>'></iframe><!--[if mso]><a href=http://x.com><![endif]--><svg><title>a",
		"Content-Type: text/plain; format=flowed; delsp=yes\n\na \n> b \n>> c\n-- \n",
		"Content-Type: text/plain; charset=iso-2022-kr\n\n\x1b$)C\x0eGQ\x0f",
		"Content-Type: text/plain; charset=utf-16\n\n\xff\xfea\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, msg string) {
		checkView(t, viewBody(t, body(strings.ReplaceAll(msg, "\n", "\r\n")), Limits{Text: 1 << 16, URLs: 50}))
	})
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"http://a.com:80/x?y#z", `http:\\u@0x7f.1\`, "http://[::1]:1/", "mailto:a@b.com", "http://%41.com", "http://ａ。com", "data:text/html,x", "javascript:x", "http://xn--80ak6aa92e.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, ok := parseURL(raw)
		if !ok || u.Host == "" || u.Scheme == "mailto" {
			return
		}
		// An address that was cleaned stays as it is.
		again, ok := parseURL(u.Clean)
		if len(u.Clean) < maxURL && (!ok || again.Host != u.Host || again.Port != u.Port || again.Clean != u.Clean) {
			t.Errorf("%q: %q, then %q", raw, u.Clean, again.Clean)
		}
		if u.Domain != "" && u.Host != u.Domain && !strings.HasSuffix(u.Host, "."+u.Domain) {
			t.Errorf("%q: domain %q of %q", raw, u.Domain, u.Host)
		}
	})
}
