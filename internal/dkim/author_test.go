package dkim

import (
	"strings"
	"testing"

	"gatepost/internal/message"
)

func TestOnlyAuthorSignsForItsOwnDomain(t *testing.T) {
	tests := []struct {
		header string
		want   bool
	}{
		{"From: a@example.com\r\n\r\n", true},
		{"From: Ada <a@EXAMPLE.com>\r\n\r\n", true},
		{"From: \"a@other.example\" <a@mail.example.com>\r\n\r\n", true},
		{"From: \"Lovelace, Ada\" <a@example.com>\r\n\r\n", true},
		{"From: a@example.com (Ada)\r\n\r\n", true},
		{"From: (a@other.example, ) a@example.com\r\n\r\n", true},
		{"From: \"a b\"@example.com\r\n\r\n", true},
		{"From: b@other.example, Ada\r\n\t<a@example.com>\r\n\r\n", true},
		{"From: a@example.com\r\nFrom: b@other.example\r\n\r\n", false},
		{"From: a@other.example\r\n\r\n", false},
		{"From: a@notexample.com\r\n\r\n", false},
		{"From: \"a@example.com\" <a@other.example>\r\n\r\n", false},
		{"From: \"a@example.com, b\" <a@other.example>\r\n\r\n", false},
		{"From: \"\\\", a@example.com, \\\"\" <a@other.example>\r\n\r\n", false},
		{"From: (\\), a@example.com, ) a@other.example\r\n\r\n", false},
		{"From: a@example.com <a@other.example>\r\n\r\n", false},
		{"From: <a@example.com> <a@other.example>\r\n\r\n", false},
		{"From: a@other.example@example.com\r\n\r\n", false},
		{"From: \"a@example.com\r\n\r\n", false},
		{"From: a@example.com (b\r\n\r\n", false},
		{"From: <a@example.com\r\n\r\n", false},
		{"From: nobody\r\n\r\n", false},
		{"From: <>\r\n\r\n", false},
		{"From:\r\n\r\n", false},
		{"Subject: x\r\n\r\n", false},
	}
	for _, tt := range tests {
		own := Group{&Signer{domain: "example.com", opts: Options{OnlyAuthor: true}}}
		if got := len(own.forAuthors(message.ParseHeader([]byte(tt.header)))) == 1; got != tt.want {
			t.Errorf("%q: got %v, want %v", tt.header, got, tt.want)
		}
	}
}

func TestOnlyAuthorPassesOverMailOfOthers(t *testing.T) {
	own := newSigner(t, "rsa.pem", Options{OnlyAuthor: true})
	if field := sign(t, Group{own}, plainMail); field == "" {
		t.Error("mail of the domain is not signed")
	}
	const foreign = "From: a@other.example\r\n\r\nx\r\n"
	if field := sign(t, Group{own}, foreign); field != "" {
		t.Errorf("mail of others is signed: %s", field)
	}
	anyone := newSigner(t, "ed25519.pem", Options{})
	if v := secondOpinion(t, sign(t, Group{own, anyone}, foreign)+foreign); len(v) != 1 || v[0].Err != nil {
		t.Errorf("the other signer of the group: %+v", v)
	}
}

func TestTheKeysOfTheNearestDomainSign(t *testing.T) {
	var g Group
	for _, domain := range []string{"example.com", "lab.example.com", "example.com", "example.net"} {
		g = append(g, &Signer{domain: domain, opts: Options{OnlyAuthor: true}})
	}
	tests := []struct{ from, want string }{
		{"a@example.com", "example.com example.com"},
		{"a@www.example.com", "example.com example.com"},
		{"a@lab.example.com", "lab.example.com"},
		{"a@pc7.lab.example.com", "lab.example.com"},
		{"a@example.net, b@lab.example.com", "lab.example.com example.net"},
		{"a@example.org", ""},
	}
	for _, tt := range tests {
		var got []string
		for _, s := range g.forAuthors(message.ParseHeader([]byte("From: " + tt.from + "\r\n\r\n"))) {
			got = append(got, s.domain)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: signed by %q, want %q", tt.from, got, tt.want)
		}
	}
}
