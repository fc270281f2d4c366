// Package ldap asks directories: it searches with values of strangers in the
// filter, and tries names with passwords.
//
//	d, err := ldap.New(ldap.Config{URLs: []string{"ldap://10.0.0.5"}, StartTLS: true, Base: "dc=example,dc=com"})
//	entries, err := d.Search(ctx, "(proxyAddresses=smtp:%s)", "user@example.com")
//	err = d.Bind(ctx, "user@example.com", password)
//
// Invariants:
//   - A value never changes the structure of a filter or a name: it is escaped
//     (RFC 4515 §3, RFC 4514 §2.4) wherever a template puts it.
//   - No bind goes out without a name and a password: a server takes one without a
//     password for an anonymous user and says yes (RFC 4513 §5.1.2).
//   - Only an answer of the server about this very name and password is
//     ErrCredentials. Everything else that went wrong is an error like others.
//   - Referrals are not followed, aliases not resolved: the gateway speaks to the
//     servers that the administrator chose, and to no others.
//   - Time, connections, entries and bytes of an answer are bounded. A server that
//     does not answer is left alone for a while as long as there is another one.
//   - Errors hold neither passwords nor what a stranger gave as a value.
package ldap
