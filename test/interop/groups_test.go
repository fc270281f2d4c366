package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/slapd"
)

// groups are a group, and one elsewhere that no address may name.
const groups = `dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=com
objectClass: organizationalUnit
ou: groups

dn: ou=secret,ou=groups,dc=example,dc=com
objectClass: organizationalUnit
ou: secret

dn: uid=anna,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Anna
sn: Berg
uid: anna
mail: anna@ldap.example
memberOf: cn=sales,ou=groups,dc=example,dc=com

dn: uid=bert,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Bert
sn: Tal
uid: bert
mail: bert@ldap.example
memberOf: cn=sales,ou=groups,dc=example,dc=com

dn: uid=eve,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Eve
sn: See
uid: eve
mail: eve@ldap.example
memberOf: cn=board,ou=secret,ou=groups,dc=example,dc=com
`

// Groups of a directory become their members, as docs/routing.md shows it: for our
// domain only, and no address reaches a group that it does not name.
func TestGroupsOfADirectory(t *testing.T) {
	t.Parallel()
	p := slapd.Run(t, slapd.Config{LDIF: groups, Conf: "overlay memberof"})
	s := sink.Start(t, sink.Options{})
	g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{Next: s.Addr, More: fmt.Sprintf(`
[[ldap]]
name = "users"
url = %[1]q
base = "ou=people,dc=example,dc=com"
filter = "(mail=%%s)"

[[ldap]]
name = "groups"
url = %[1]q
base = "ou=people,dc=example,dc=com"
filter = "(&(memberOf=cn=%%u,ou=groups,dc=example,dc=com)(mail=*@%%d))"
attributes = ["mail"]

[[domain]]
name = "ldap.example"
transport = "next"
recipients = ["ldap:users"]

[rewrite]
virtual = ["ldap:groups"]
`, p.URL)}})
	for _, x := range []struct{ to, want string }{
		{"sales@ldap.example", "anna@ldap.example bert@ldap.example"},
		{"SALES@ldap.example", "anna@ldap.example bert@ldap.example"},
		{"anna@ldap.example", "anna@ldap.example"},
		{"sales@elsewhere.example", "sales@elsewhere.example"},
		{"board@ldap.example", "550"},
		{"*@ldap.example", "550"},
		{`"*)(cn=*"@ldap.example`, "550"},
	} {
		before := len(s.Mails())
		r, err := g.Hello(gatepost.Trusted).Deliver("x@out.example", []string{x.to}, []byte("Subject: x\r\n\r\nx\r\n"))
		if x.want == "550" {
			if err == nil && r.Code == 250 || err != nil && !strings.Contains(err.Error(), "550 5.1.1") {
				t.Errorf("%s: %v, %v", x.to, r, err)
			}
			continue
		}
		if err != nil || r.Code != 250 {
			t.Errorf("%s: %v, %v", x.to, r, err)
			continue
		}
		var to []string
		for _, rcpt := range s.WaitMails(t, before+1, patience)[before].To {
			address, _, _ := strings.Cut(rcpt, ">")
			to = append(to, strings.TrimPrefix(address, "<"))
		}
		slices.Sort(to)
		if got := strings.Join(to, " "); got != x.want {
			t.Errorf("%s: the mail went to %s, want %s", x.to, got, x.want)
		}
	}
	p.Stop()
	if _, err := g.Hello("").Deliver("x@out.example", []string{"new@ldap.example"}, []byte("Subject: x\r\n\r\nx\r\n")); err == nil || !strings.Contains(err.Error(), "451 4.3.0") {
		t.Errorf("the directory is down: %v", err)
	}
}
