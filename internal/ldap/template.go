package ldap

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// Template is a filter or a name with places for a value: %s is all of it, %u what
// stands before its last @ (all of it where there is none), %d what stands behind
// ("" where there is none), %% a percent sign.
type Template struct {
	text   string
	escape func(string) string
}

var (
	errPlace   = errors.New("want %s, %u, %d or %% after a percent sign")
	errNoPlace = errors.New("there is no %s or %u in it")
)

// maxValue is how long a value may be; no address and no name of a user is longer.
const maxValue = 512

// ParseFilter reads the template of a filter (RFC 4515).
func ParseFilter(text string) (Template, error) {
	t := Template{text: text, escape: ldap.EscapeFilter}
	if err := t.check(); err != nil {
		return Template{}, fmt.Errorf("filter %q: %w", text, err)
	}
	if _, err := ldap.CompileFilter(t.Fill("x@example.org")); err != nil {
		return Template{}, fmt.Errorf("filter %q: %w", text, err)
	}
	return t, nil
}

// ParseName reads the template of a name to bind as: a distinguished name
// ("uid=%u,ou=people,dc=example,dc=com") where an equals sign stands in it, else
// whatever the server takes ("%u@ad.example.com", "EXAMPLE\%u").
func ParseName(text string) (Template, error) {
	t := Template{text: text, escape: plainName}
	if strings.Contains(text, "=") {
		t.escape = ldap.EscapeDN
	}
	if err := t.check(); err != nil {
		return Template{}, fmt.Errorf("name %q: %w", text, err)
	}
	if strings.Contains(text, "=") {
		if _, err := ldap.ParseDN(t.Fill("x@example.org")); err != nil {
			return Template{}, fmt.Errorf("name %q: %w", text, err)
		}
	}
	return t, nil
}

// plainName takes a value that goes into a name which is not a distinguished one.
// Who gives a distinguished name, or the other form of domain and user, would
// become somebody whom the template does not mean: nobody is his name.
func plainName(value string) string {
	if strings.ContainsAny(value, "=,\\/\x00") {
		return ""
	}
	return value
}

// check looks at the places.
func (t Template) check() error {
	found := false
	for rest := t.text; ; {
		_, behind, ok := strings.Cut(rest, "%")
		switch {
		case !ok && !found:
			return errNoPlace
		case !ok:
			return nil
		case behind == "" || !strings.ContainsRune("sud%", rune(behind[0])):
			return errPlace
		}
		found = found || behind[0] == 's' || behind[0] == 'u'
		rest = behind[1:]
	}
}

// Fill puts the value in. It returns "" where the value cannot stand there.
func (t Template) Fill(value string) string {
	user, domain := value, ""
	if i := strings.LastIndexByte(value, '@'); i >= 0 {
		user, domain = value[:i], value[i+1:]
	}
	if user == "" || len(value) > maxValue {
		return ""
	}
	var b strings.Builder
	for rest := t.text; ; {
		before, behind, ok := strings.Cut(rest, "%")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		part := "%"
		switch behind[0] {
		case 's':
			part = t.escape(value)
		case 'u':
			part = t.escape(user)
		case 'd':
			part = t.escape(domain)
		}
		if part == "" && behind[0] != 'd' {
			return ""
		}
		b.WriteString(part)
		rest = behind[1:]
	}
}
