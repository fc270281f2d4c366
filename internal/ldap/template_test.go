package ldap

import (
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestValuesAreEscapedIntoTemplates(t *testing.T) {
	for _, tt := range []struct {
		name, template, value, want string
		dn                          bool
	}{
		{"plain", "(uid=%s)", "bob", "(uid=bob)", false},
		{"parts of an address", "(&(uid=%u)(o=%d))", "bob@example.com", "(&(uid=bob)(o=example.com))", false},
		{"the last @ counts", "(uid=%u)", `"a@b"@example.com`, `(uid="a@b")`, false},
		{"no domain", "(uid=%u)", "bob", "(uid=bob)", false},
		{"percent sign", "(cn=100%%%s)", "x", "(cn=100%x)", false},
		{"a value with a place in it is not filled again", "(uid=%s)", "%s%u", "(uid=%s%u)", false},
		{"injection into a filter", "(uid=%s)", "*)(uid=*))(|(uid=*", `(uid=\2a\29\28uid=\2a\29\29\28|\28uid=\2a)`, false},
		{"NUL and backslash in a filter", "(uid=%s)", "a\\b\x00", `(uid=a\5cb\00)`, false},
		{"distinguished name", "uid=%u,ou=people", "bob@example.com", "uid=bob,ou=people", true},
		{"injection into a distinguished name", "uid=%s,ou=people", "x,ou=admins+cn=y", `uid=x\,ou=admins\+cn=y,ou=people`, true},
		{"spaces and hash in a distinguished name", "uid=%s,ou=people", "# x ", `uid=\# x\ ,ou=people`, true},
		{"principal", "%u@ad.example.com", "bob@example.com", "bob@ad.example.com", true},
		{"a distinguished name is no principal", "%s", "cn=admin,dc=example,dc=com", "", true},
		{"a principal is not of another domain", `EXAMPLE\%u`, `OTHER\bob`, "", true},
		{"nothing", "(uid=%s)", "", "", false},
		{"only a domain", "(uid=%u)", "@example.com", "", false},
		{"too long", "(uid=%s)", strings.Repeat("x", 513), "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parse := ParseFilter
			if tt.dn {
				parse = ParseName
			}
			tpl, err := parse(tt.template)
			if err != nil {
				t.Fatal(err)
			}
			if got := tpl.Fill(tt.value); got != tt.want {
				t.Errorf("Fill(%q) = %q, want %q", tt.value, got, tt.want)
			}
		})
	}
}

func TestBadTemplatesAreRefused(t *testing.T) {
	for _, s := range []string{"", "(uid=bob)", "(uid=%x)", "(uid=%s", "uid=%s)(", "(uid=%s)%", "(o=%d)"} {
		if _, err := ParseFilter(s); err == nil {
			t.Errorf("filter %q was taken", s)
		}
	}
	for _, s := range []string{"", "uid=bob", "%d", "uid=%s,,", "%"} {
		if _, err := ParseName(s); err == nil {
			t.Errorf("name %q was taken", s)
		}
	}
}

// Whatever the value: the filter keeps its structure and the name its parts.
func FuzzFill(f *testing.F) {
	for _, s := range []string{"bob", "*)(uid=*))(|(uid=*", "a@b@c", "x,ou=admins", "\\2a", "\x00\xff", " #", "=", "é,\n"} {
		f.Add(s)
	}
	filter, err := ParseFilter("(&(objectClass=person)(uid=%s)(mail=%u))")
	if err != nil {
		f.Fatal(err)
	}
	name, err := ParseName("uid=%s,ou=people,dc=example")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if text := filter.Fill(value); text != "" {
			p, err := ldap.CompileFilter(text)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if len(p.Children) != 3 {
				t.Errorf("%q has %d conditions", text, len(p.Children))
			}
			for _, c := range p.Children {
				if c.Tag != ldap.FilterEqualityMatch {
					t.Errorf("%q has a condition of the kind %d", text, c.Tag)
				}
			}
		}
		if text := name.Fill(value); text != "" {
			dn, err := ldap.ParseDN(text)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if len(dn.RDNs) != 3 || len(dn.RDNs[0].Attributes) != 1 {
				t.Errorf("%q has the parts %v", text, dn.RDNs)
			}
		}
	})
}
