package admin

import (
	"slices"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/message"
)

// Actor is who sends a request: an account in a browser, a program with a token, or
// the local administrator at the unix socket. A handler that concerns mail asks it
// what it may see; permission and scope of the route were checked before.
type Actor struct {
	// Name is for log, history and lists: "ada", or "token backup of ada". "" for
	// nobody, who gets to public routes only.
	Name string
	Role accounts.Role
	// Domains are a domain administrator's, in lower case, with their aliases.
	Domains []string
	// Addresses are an end user's, in lower case.
	Addresses []string
	// Local is whoever can open the unix socket: an administrator.
	Local bool
	// Token is the name of the API token that was used; "" for none.
	Token string
	// CSRF is what a form of this session must send back in the field "csrf", and
	// htmx in the header X-CSRF-Token.
	CSRF string
	// Client is the address that the request came from, "" at the unix socket.
	Client string
	// Account is the name of the account; Session names its session in lists, never
	// the secret.
	Account, Session string
	// Kind is how somebody logged in.
	Kind accounts.Kind

	scopes []accounts.Permission // of a token; nil: all that the role may
	notes  []string
}

// localAdministrator is who opens the unix socket.
func localAdministrator() *Actor {
	return &Actor{Name: "local", Role: accounts.Administrator, Local: true}
}

// May reports whether the actor has a permission at all; pages leave out what it has not.
func (a *Actor) May(p accounts.Permission) bool {
	if a == nil || !a.Role.May(p) {
		return false
	}
	// To know who it is a token needs no scope.
	return a.scopes == nil || p == accounts.Self || slices.Contains(a.scopes, p)
}

// SeesAll reports whether nothing has to be left out.
func (a *Actor) SeesAll() bool { return a.Role.Scope() == accounts.Everything }

// Sees reports whether mail of this recipient, or to it, is the actor's business.
// The address may have any case.
func (a *Actor) Sees(address string) bool {
	address = strings.ToLower(address)
	switch a.Role.Scope() {
	case accounts.Everything:
		return true
	case accounts.Domains:
		_, domain, ok := lastCut(address, '@')
		return ok && slices.Contains(a.Domains, domain)
	default:
		return slices.Contains(a.Addresses, address)
	}
}

// SeesDomain reports whether all of a domain is the actor's business.
func (a *Actor) SeesDomain(domain string) bool {
	switch a.Role.Scope() {
	case accounts.Everything:
		return true
	case accounts.Domains:
		return slices.Contains(a.Domains, strings.ToLower(domain))
	}
	return false
}

// By is who a change is on behalf of: what the local administrator's program says,
// and for all others the name that they logged in with.
func (a *Actor) By(claimed string) string {
	if a.Local && claimed != "" {
		a.Name = message.SafeText(claimed, 100) + " (on the host)"
		return claimed
	}
	return a.Name
}

// Note adds to the line of this request in the audit log, which every request that
// changes something gets by itself: what it was done to. Secrets do not belong there.
func (a *Actor) Note(text string) {
	if len(a.notes) < 50 {
		a.notes = append(a.notes, message.SafeText(text, 300))
	}
}

func lastCut(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}
