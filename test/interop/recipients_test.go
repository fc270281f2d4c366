package interop

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/slapd"
)

// directoryUsers are people as Active Directory and as OpenLDAP have them.
const directoryUsers = `dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: uid=anna,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Anna
sn: Berg
uid: anna
mail: anna@ldap.example
mail: a.berg@ldap.example

dn: uid=weird,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Weird
sn: Weird
uid: weird
mail: we*ird(x)@ldap.example

dn: cn=sales,dc=example,dc=com
objectClass: groupOfNames
objectClass: extensibleObject
cn: sales
mail: sales@ldap.example
member: uid=anna,ou=people,dc=example,dc=com
`

// Recipients and aliases come from a real directory; no address finds more than the
// one that it is, and a directory that stops makes mail wait.
func TestRecipientsFromADirectory(t *testing.T) {
	t.Parallel()
	p := slapd.Run(t, slapd.Config{LDIF: directoryUsers})
	s := sink.Start(t, sink.Options{})
	g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{Next: s.Addr, More: fmt.Sprintf(`
[[ldap]]
name = "users"
url = %[1]q
base = "dc=example,dc=com"
filter = "(mail=%%s)"
cache_for = "0s"
negative_cache_for = "0s"

[[ldap]]
name = "aliases"
url = %[1]q
base = "dc=example,dc=com"
filter = "(&(objectClass=inetOrgPerson)(uid=%%u))"
attributes = ["mail"]
cache_for = "0s"
negative_cache_for = "0s"

[[domain]]
name = "ldap.example"
transport = "next"
recipients = ["ldap:users"]

[[domain]]
name = "alias.example"
transport = "next"

[rewrite]
virtual = ["/^(.*)@alias[.]example$/ $1@byuid.example", "ldap:aliases"]

[[domain]]
name = "byuid.example"
transport = "next"
`, p.URL)}})
	ask := func(to string) string {
		c := g.Hello("127.0.0.1")
		defer c.Quit()
		if r, err := c.Cmd("MAIL FROM:<x@out.example>"); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		r, err := c.Cmd("RCPT TO:<%s>", to)
		if err != nil {
			t.Fatal(err)
		}
		return r.String()
	}
	for _, x := range []struct{ to, want string }{
		{"anna@ldap.example", "250 "},
		{"A.Berg@LDAP.example", "250 "},
		{"sales@ldap.example", "250 "},
		{`"we*ird(x)"@ldap.example`, "250 "},
		{"nobody@ldap.example", "550 5.1.1"},
		{"*@ldap.example", "550 5.1.1"},
		{`"*)(mail=*"@ldap.example`, "550 5.1.1"},
		{"a\\2a@ldap.example", "550 5.1.1"},
	} {
		got := ask(x.to)
		if strings.HasPrefix(got, "501 ") && strings.HasPrefix(x.want, "550") {
			continue // it is not even an address
		}
		if !strings.HasPrefix(got, x.want) {
			t.Errorf("%s: %s, want %s", x.to, got, x.want)
		}
	}
	c := g.Hello("127.0.0.1")
	if r, err := c.Deliver("x@out.example", []string{"anna@alias.example"}, []byte("Subject: x\r\n\r\nx\r\n")); err != nil || r.Code != 250 {
		t.Errorf("to an alias: %v, %v", r, err)
	}
	c.Quit()
	if m := s.WaitMails(t, 1, patience); len(m) != 1 || len(m[0].To) != 2 {
		t.Errorf("%+v", m)
	}
	p.Stop()
	if got := ask("anna@ldap.example"); !strings.HasPrefix(got, "451 4.3.0") {
		t.Errorf("the directory is down: %s", got)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	gatepost.Eventually(t, "the directory is asked again", patience, func() bool {
		return strings.HasPrefix(ask("anna@ldap.example"), "250 ")
	})
}
