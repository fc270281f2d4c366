package ldap

import (
	"errors"
	"fmt"

	"github.com/go-ldap/ldap/v3"
)

// Errors of Bind and Search.
var (
	// ErrCredentials says that the server does not know this name with this
	// password.
	ErrCredentials = errors.New("wrong name or password")
	// ErrTooMany says that a search found more than Config.MaxEntries.
	ErrTooMany = errors.New("more entries than allowed")
	// ErrClosed says that the directory was closed.
	ErrClosed = errors.New("directory is closed")

	errTooLarge = errors.New("the answer is too large")
)

// refused makes an error of what a server said. Its diagnostic message stays out:
// it is text of others, and some repeat what they were asked.
func refused(what string, err error) error {
	var e *ldap.Error
	if !errors.As(err, &e) || e.ResultCode >= ldap.ErrorNetwork {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: server says %d %s", what, e.ResultCode, ldap.LDAPResultCodeMap[e.ResultCode])
}

// wrongCredentials reports whether a bind was refused because of its name and
// password. Codes about the server or the policy (busy, unavailable, unwilling,
// encryption required) are none of them.
func wrongCredentials(err error) bool {
	return ldap.IsErrorAnyOf(err,
		ldap.LDAPResultInvalidCredentials,          // 49
		ldap.LDAPResultInappropriateAuthentication, // 48: the entry has no password
		ldap.LDAPResultNoSuchObject,                // 32
		ldap.LDAPResultInvalidDNSyntax,             // 34
	)
}

// broken reports whether the connection is of no use any more.
func broken(err error) bool {
	var e *ldap.Error
	if err == nil {
		return false
	}
	// From ErrorNetwork on the codes are the library's own.
	return !errors.As(err, &e) || e.ResultCode >= ldap.ErrorNetwork
}
