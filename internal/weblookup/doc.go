// Package weblookup asks web services questions about strangers: a template with
// places for values goes out as a request, a short answer comes back. Recipients,
// authentication and scripts use it.
//
//	c, err := weblookup.New(weblookup.Config{})
//	q, err := weblookup.Parse(weblookup.Request{URL: "https://users.example.com/auth?username={user}"}, "user")
//	answer, err := c.Do(ctx, q, map[string]string{"user": "bob@example.com"})
//
// Invariants:
//   - A value never changes the structure of a request: it is encoded for the place
//     where it stands, and never stands in the scheme, the host or a field of the
//     header.
//   - The address that is connected to is the one that was checked: a name is
//     resolved once for each connection. Addresses of this host, of private networks
//     and of links are refused unless the administrator allows them, whatever they
//     are written as; link-local ones, where clouds hand out their keys, always are.
//   - Redirects are followed within the same scheme, host and port only. Nothing is
//     sent through a proxy, no cookies are kept, no referrer is told.
//   - Time, connections, redirects, header and body of an answer are bounded.
//   - Errors hold neither the filled template nor anything that the service said.
package weblookup
