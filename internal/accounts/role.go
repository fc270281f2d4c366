package accounts

import (
	"errors"
	"fmt"
	"slices"
)

// Role is what somebody is here.
type Role string

// The roles.
const (
	Administrator Role = "administrator"
	// Operator runs the gateway day by day and does not configure it.
	Operator Role = "operator"
	// Viewer reads what happens, not what mail says.
	Viewer Role = "viewer"
	// DomainAdministrator does what concerns the mail of their domains.
	DomainAdministrator Role = "domain-administrator"
	// EndUser does what concerns the mail to their own addresses.
	EndUser Role = "end-user"
)

// Roles are all roles, the one that may most first.
func Roles() []Role {
	return []Role{Administrator, Operator, Viewer, DomainAdministrator, EndUser}
}

// ParseRole reads the name of a role.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles(), r) {
		return r, nil
	}
	return "", fmt.Errorf("%w: role %.64q is none of administrator, operator, viewer, domain-administrator, end-user", ErrInvalid, s)
}

// Permission is one thing that may be done.
type Permission string

// The permissions. "read" shows, "write" changes.
const (
	// Self is what everybody may who is logged in: see and change the own account.
	Self Permission = "self"
	// StatusRead is health, version, listeners, metrics.
	StatusRead Permission = "status:read"
	// StatsRead is the numbers of the overview.
	StatsRead Permission = "stats:read"
	// QueueRead and QueueWrite are for mail on its way, and pauses.
	QueueRead  Permission = "queue:read"
	QueueWrite Permission = "queue:write"
	// HistoryRead is for what happened to mail, and the log.
	HistoryRead Permission = "history:read"
	// QuarantineRead lists what is held, with sender and subject; QuarantineWrite
	// releases and deletes.
	QuarantineRead  Permission = "quarantine:read"
	QuarantineWrite Permission = "quarantine:write"
	// MailRead shows what messages say: preview, header, download.
	MailRead Permission = "mail:read"
	// Train teaches what is spam and what is not.
	Train Permission = "train"
	// GreylistRead and GreylistWrite are for mail that is delayed.
	GreylistRead  Permission = "greylist:read"
	GreylistWrite Permission = "greylist:write"
	// ListsRead and ListsWrite are for lists of allowed and blocked senders.
	ListsRead  Permission = "lists:read"
	ListsWrite Permission = "lists:write"
	// Explain asks what the gateway would do with an address or a message.
	Explain Permission = "explain"
	// ConfigRead and ConfigWrite are for the configuration, reloads included.
	ConfigRead  Permission = "config:read"
	ConfigWrite Permission = "config:write"
	// UsersWrite sees, makes and changes accounts.
	UsersWrite Permission = "users:write"
	// AuditRead sees who did what.
	AuditRead Permission = "audit:read"
)

// Permissions are all permissions.
func Permissions() []Permission {
	return []Permission{
		Self, StatusRead, StatsRead, QueueRead, QueueWrite, HistoryRead, QuarantineRead, QuarantineWrite, MailRead, Train,
		GreylistRead, GreylistWrite, ListsRead, ListsWrite, Explain, ConfigRead, ConfigWrite, UsersWrite, AuditRead,
	}
}

// Scope is whose matters something concerns. A larger one is narrower.
type Scope uint8

// The scopes. Zero is Everything: a route that does not say that it heeds domains or
// addresses is for those only from whom nothing has to be kept.
const (
	Everything Scope = iota
	// Domains is a list of domains.
	Domains
	// Own is one's own addresses.
	Own
)

// Scope is how far a role sees. An unknown role sees least.
func (r Role) Scope() Scope {
	switch r {
	case Administrator, Operator, Viewer:
		return Everything
	case DomainAdministrator:
		return Domains
	}
	return Own
}

// May reports whether a role has a permission: this is the table. How far it goes
// says Scope.
func (r Role) May(p Permission) bool {
	switch r {
	case Administrator:
		return slices.Contains(Permissions(), p)
	case Operator:
		return slices.Contains(Permissions(), p) && p != ConfigRead && p != ConfigWrite && p != UsersWrite
	case Viewer:
		return slices.Contains([]Permission{Self, StatusRead, StatsRead, QueueRead, HistoryRead, QuarantineRead, GreylistRead, ListsRead}, p)
	case DomainAdministrator:
		return slices.Contains([]Permission{
			Self, StatsRead, QueueRead, HistoryRead, QuarantineRead, QuarantineWrite, MailRead, GreylistRead, GreylistWrite, ListsRead, ListsWrite,
		}, p)
	case EndUser:
		return slices.Contains([]Permission{
			Self, QuarantineRead, QuarantineWrite, MailRead, GreylistRead, GreylistWrite, ListsRead, ListsWrite,
		}, p)
	}
	return false
}

// Errors that callers tell apart.
var (
	// ErrInvalid says that a value cannot be taken; its text is for people.
	ErrInvalid = errors.New("not accepted")
	// ErrExists says that the name is taken.
	ErrExists = errors.New("there is an account of that name")
	// ErrNotFound says that there is no such account, session or token.
	ErrNotFound = errors.New("no such account, session or token")
	// ErrWrong says that a password or a code is not right.
	ErrWrong = errors.New("the password or the code is not right")
	// ErrLocked says that there were too many wrong codes: wait.
	ErrLocked = errors.New("too many wrong codes: wait some minutes")
	// ErrLastAdministrator keeps the last one.
	ErrLastAdministrator = errors.New("this is the last administrator: make another one first")
	// ErrConflict says that somebody else changed the account at the same time.
	ErrConflict = errors.New("the account was changed at the same time; try again")
)
