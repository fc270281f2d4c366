package authldap

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"gatepost/internal/ldap"
	"gatepost/internal/policy"
	"gatepost/test/slapd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const people = `dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: uid=bob,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: extensibleObject
cn: Bob
sn: Builder
uid: bob
mail: Bob@example.com
mail: robert@example.com
labeledURI: SMTP:builder@example.net
labeledURI: x400:c=us;a= ;p=Example
labeledURI: smtp:team@example.net
userPassword: bob's secret

dn: uid=eve,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Eve
sn: Twice
uid: eve
mail: eve@example.com
userPassword: eve's secret

dn: uid=eve2,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Eve
sn: Twice
uid: eve2
mail: eve@example.com
userPassword: eve's secret

dn: cn=mailers,dc=example,dc=com
objectClass: groupOfNames
cn: mailers
member: uid=bob,ou=people,dc=example,dc=com
`

func directory(t *testing.T, url string) *ldap.Directory {
	t.Helper()
	d, err := ldap.New(ldap.Config{URLs: []string{url}, Base: slapd.Base, BindDN: slapd.Admin, Password: slapd.Password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

type attempt struct {
	name, user, password string
	want                 policy.AuthResult
}

func try(t *testing.T, cfg Config, attempts []attempt) {
	t.Helper()
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range attempts {
		a, err := b.Authenticate(t.Context(), nil, tt.user, tt.password)
		if err != nil || a.Result != tt.want || a.Reason == "" {
			t.Errorf("%s: %+v, %v", tt.name, a, err)
		}
		if tt.password != "" && strings.Contains(a.Reason, tt.password) {
			t.Errorf("%s: the reason holds the password", tt.name)
		}
	}
}

// The slapd of these tests says yes to a bind without a password.
func TestBindByName(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people})
	try(t, Config{Directory: directory(t, p.URL), BindAs: "uid=%u,ou=people,dc=example,dc=com"}, []attempt{
		{"right", "bob", "bob's secret", policy.AuthYes},
		{"right with a domain", "bob@example.com", "bob's secret", policy.AuthYes},
		{"wrong", "bob", "x", policy.AuthNo},
		{"empty password", "bob", "", policy.AuthNo},
		{"nobody", "nobody", "x", policy.AuthNo},
		{"nobody without a password", "nobody", "", policy.AuthNo},
		{"injection", "bob,ou=people,dc=example,dc=com", "bob's secret", policy.AuthNo},
		{"wildcard", "*", "bob's secret", policy.AuthNo},
		{"no name", "@example.com", "x", policy.AuthNobody},
	})
	try(t, Config{Directory: directory(t, p.URL), BindAs: "%s"}, []attempt{
		{"a distinguished name from outside", slapd.Admin, slapd.Password, policy.AuthNobody},
		{"a name that the server does not take", "bob@example.com", "bob's secret", policy.AuthNo},
	})
}

func TestSearchThenBind(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people})
	d := directory(t, p.URL)
	byMail := Config{Directory: d, Filter: "(|(uid=%s)(mail=%s))", UserAttribute: "uid", SenderAttributes: []string{"mail", "labeledURI"}}
	try(t, byMail, []attempt{
		{"right by name", "bob", "bob's secret", policy.AuthYes},
		{"right by address", "ROBERT@example.com", "bob's secret", policy.AuthYes},
		{"wrong", "bob", "x", policy.AuthNo},
		{"empty password", "bob", "", policy.AuthNo},
		{"nobody", "nobody", "x", policy.AuthNobody},
		{"two entries", "eve@example.com", "eve's secret", policy.AuthUnknown},
		{"wildcard", "*", "bob's secret", policy.AuthNobody},
		{"injection", "*)(uid=*))(|(uid=*", "bob's secret", policy.AuthNobody},
		{"injection that would find one", "bob)(uid=*", "bob's secret", policy.AuthNobody},
	})
	b, err := New(byMail)
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Authenticate(t.Context(), nil, "robert@example.com", "bob's secret")
	if err != nil || a.User != "bob" || !slices.Equal(a.Senders, []string{"bob@example.com", "robert@example.com", "builder@example.net", "team@example.net"}) {
		t.Errorf("%+v, %v", a, err)
	}
	try(t, Config{Directory: d, Filter: "(&(uid=%s)(!(uid=eve2)))"}, []attempt{{"default attributes", "eve", "eve's secret", policy.AuthYes}})
	try(t, Config{Directory: d, Filter: "(&(uid=%u)(objectClass=inetOrgPerson))", SenderAttributes: []string{}}, []attempt{{"no attributes", "bob", "bob's secret", policy.AuthYes}})
}

func TestOnlyMembersOfAGroup(t *testing.T) {
	// The overlay notes the membership when a member is added over LDAP; a file must
	// have it.
	p := slapd.Run(t, slapd.Config{Conf: "overlay memberof",
		LDIF: strings.Replace(people, "userPassword: bob's", "memberOf: cn=mailers,dc=example,dc=com\nuserPassword: bob's", 1)})
	try(t, Config{Directory: directory(t, p.URL), Filter: "(&(uid=%s)(memberOf=cn=mailers,dc=example,dc=com))"}, []attempt{
		{"a member", "bob", "bob's secret", policy.AuthYes},
		{"somebody else", "eve", "eve's secret", policy.AuthNobody},
	})
}

func TestADirectoryThatIsDownSaysNothing(t *testing.T) {
	p := slapd.Run(t, slapd.Config{LDIF: people})
	d := directory(t, p.URL)
	p.Stop()
	for _, cfg := range []Config{{Directory: d, BindAs: "uid=%u,ou=people,dc=example,dc=com"}, {Directory: d, Filter: "(uid=%s)"}} {
		b, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := b.Authenticate(t.Context(), nil, "bob", "bob's secret"); err == nil || a.Result != policy.AuthUnknown || strings.Contains(err.Error(), "bob") {
			t.Errorf("%+v, %v", a, err)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	d := &ldap.Directory{}
	for _, cfg := range []Config{
		{BindAs: "%s"}, {Directory: d}, {Directory: d, BindAs: "%s", Filter: "(uid=%s)"}, {Directory: d, BindAs: "cn=admin"}, {Directory: d, Filter: "uid=%s)("},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
