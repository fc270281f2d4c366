package smtp

import (
	"errors"
	"strings"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// Extensions is a set of service extensions.
type Extensions uint32

// The extensions that bear on commands and parameters.
const (
	ExtPipelining    Extensions = 1 << iota // RFC 2920
	ExtSize                                 // RFC 1870
	Ext8BitMIME                             // RFC 6152
	ExtSMTPUTF8                             // RFC 6531
	ExtChunking                             // RFC 3030
	ExtBinaryMIME                           // RFC 3030
	ExtDSN                                  // RFC 3461
	ExtEnhancedCodes                        // RFC 2034
	ExtStartTLS                             // RFC 3207
	ExtAuth                                 // RFC 4954
	ExtLimits                               // RFC 9422
	ExtRequireTLS                           // RFC 8689
	ExtXClient                              // Postfix XCLIENT
	ExtPRDR                                 // draft-hall-prdr-00: an answer per recipient at the end of data
)

// Has reports whether all of want are in the set.
func (e Extensions) Has(want Extensions) bool { return e&want == want }

// Errors of the MAIL and RCPT parsers; ErrAddress and ErrNeedsUTF8 are the
// address parser's.
var (
	ErrSyntax           = errors.New("syntax error")
	ErrUnknownParameter = errors.New("unknown parameter")
	ErrParameterValue   = errors.New("bad parameter value")
)

// maxEnvID is RFC 3461 §4.4's limit for ENVID, in decoded characters.
const maxEnvID = 100

// MailArgs is a parsed MAIL command.
type MailArgs struct {
	From       mail.Address
	Size       int64 // the declared SIZE in bytes; 0 means none was given
	Body       mail.BodyKind
	SMTPUTF8   bool
	RequireTLS bool
	PRDR       bool
	Ret        mail.Ret
	EnvID      string // decoded
}

// ParseMail reads the argument of MAIL, "FROM:<path> parameters". A parameter of
// an extension that is not in ext is ErrUnknownParameter.
func ParseMail(arg string, ext Extensions) (MailArgs, error) {
	var m MailArgs
	rest, err := cutKeyword(arg, "FROM:")
	if err != nil {
		return m, err
	}
	// The path is read as UTF-8 first: SMTPUTF8 stands behind it.
	if m.From, rest, err = ParsePath(rest, ext.Has(ExtSMTPUTF8)); err != nil {
		return m, err
	}
	if err := eachParam(rest, func(key, value string, has bool) error {
		return m.set(param{key, value, has}, ext)
	}); err != nil {
		return m, err
	}
	if m.From.NeedsUTF8() && !m.SMTPUTF8 {
		return m, ErrNeedsUTF8
	}
	return m, nil
}

// param is one esmtp-param; its key is in upper case.
type param struct {
	key, value string
	hasValue   bool
}

// mailParamExtension returns the extension that defines a keyword of MAIL, 0 for
// none.
func mailParamExtension(key string) Extensions {
	switch key {
	case "SIZE":
		return ExtSize
	case "BODY":
		return Ext8BitMIME
	case "SMTPUTF8":
		return ExtSMTPUTF8
	case "REQUIRETLS":
		return ExtRequireTLS
	case "PRDR":
		return ExtPRDR
	case "RET", "ENVID":
		return ExtDSN
	case "AUTH":
		return ExtAuth
	}
	return 0
}

func (m *MailArgs) set(p param, ext Extensions) error {
	if need := mailParamExtension(p.key); need == 0 || !ext.Has(need) {
		return ErrUnknownParameter
	}
	ok := false
	switch p.key {
	case "SIZE":
		m.Size, ok = parseDecimal(p.value)
	case "BODY":
		m.Body, ok = parseBody(p.value, ext)
	case "SMTPUTF8":
		m.SMTPUTF8, ok = true, !p.hasValue
	case "REQUIRETLS":
		m.RequireTLS, ok = true, !p.hasValue
	case "PRDR":
		m.PRDR, ok = true, !p.hasValue
	case "RET":
		m.Ret = mail.Ret(strings.ToUpper(p.value))
		ok = m.Ret == mail.RetFull || m.Ret == mail.RetHdrs
	case "ENVID":
		var err error
		m.EnvID, err = DecodeXText(p.value)
		ok = err == nil && m.EnvID != "" && len(m.EnvID) <= maxEnvID
	case "AUTH":
		// RFC 4954 §5: a server that doesn't trust the client to say so treats
		// every value as "<>"; it is checked and then forgotten.
		_, err := DecodeXText(p.value)
		ok = err == nil && p.value != ""
	}
	if !ok {
		return ErrParameterValue
	}
	return nil
}

func parseBody(value string, ext Extensions) (mail.BodyKind, bool) {
	switch b := mail.BodyKind(strings.ToUpper(value)); b {
	case mail.Body7Bit, mail.Body8Bit:
		return b, true
	case mail.BodyBinary:
		return b, ext.Has(ExtBinaryMIME | ExtChunking)
	}
	return "", false
}

// RcptArgs is a parsed RCPT command.
type RcptArgs struct {
	To     mail.Address
	Notify mail.Notify
	ORcpt  string // decoded, with its type: "rfc822;user@example.org"
}

// ParseRcpt reads the argument of RCPT, "TO:<path> parameters". utf8OK says that
// MAIL gave SMTPUTF8.
func ParseRcpt(arg string, ext Extensions, utf8OK bool) (RcptArgs, error) {
	var r RcptArgs
	rest, err := cutKeyword(arg, "TO:")
	if err != nil {
		return r, err
	}
	if r.To, rest, err = ParsePath(rest, utf8OK); err != nil {
		return r, err
	}
	if r.To.IsNull() {
		return r, ErrAddress
	}
	err = eachParam(rest, func(key, value string, _ bool) error {
		if !ext.Has(ExtDSN) {
			return ErrUnknownParameter
		}
		ok := false
		switch key {
		case "NOTIFY":
			r.Notify, ok = parseNotify(value)
		case "ORCPT":
			r.ORcpt, ok = parseORcpt(value, utf8OK)
		default:
			return ErrUnknownParameter
		}
		if !ok {
			return ErrParameterValue
		}
		return nil
	})
	return r, err
}

// parseNotify reads NOTIFY (RFC 3461 §4.1): NEVER alone, or a list of the others.
func parseNotify(value string) (mail.Notify, bool) {
	var set mail.Notify
	for word := range strings.SplitSeq(value, ",") {
		var n mail.Notify
		switch strings.ToUpper(word) {
		case "NEVER":
			n = mail.NotifyNever
		case "SUCCESS":
			n = mail.NotifySuccess
		case "FAILURE":
			n = mail.NotifyFailure
		case "DELAY":
			n = mail.NotifyDelay
		}
		if n == 0 {
			return 0, false
		}
		set |= n
	}
	return set, set&mail.NotifyNever == 0 || set == mail.NotifyNever
}

// maxORcpt is RFC 3461 §4.2's limit of 500 characters for ORCPT.
const maxORcpt = 500

// parseORcpt reads ORCPT (RFC 3461 §4.2; type utf-8: RFC 6533 §3).
func parseORcpt(value string, utf8OK bool) (string, bool) {
	kind, addr, ok := strings.Cut(value, ";")
	if !ok || kind == "" || addr == "" || len(value) > maxORcpt {
		return "", false
	}
	for i := range len(kind) {
		if c := kind[i]; !isKeywordChar(c) && c != '_' && c != '.' {
			return "", false
		}
	}
	var err error
	if strings.EqualFold(kind, "utf-8") {
		if !utf8OK && !mail.IsASCII(addr) {
			return "", false
		}
		addr, err = DecodeUTF8AddrXText(addr)
	} else if addr, err = decodeXTextUTF8(addr); !mail.IsASCII(addr) {
		// RFC 6533 §3: only this type may name such an address.
		kind = "utf-8"
	}
	return kind + ";" + addr, err == nil
}

// cutKeyword removes "FROM:" or "TO:" and, because many clients write one, the
// space after it.
func cutKeyword(arg, keyword string) (string, error) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", ErrSyntax
	}
	return strings.TrimLeft(arg[len(keyword):], " "), nil
}

// eachParam calls fn for each esmtp-param in s, which is empty or starts with a
// space (RFC 5321 §4.1.2). The key is in upper case. A key may stand only once.
func eachParam(s string, fn func(key, value string, hasValue bool) error) error {
	var seen [8]string
	for n := 0; ; n++ {
		if s == "" {
			return nil
		}
		if s[0] != ' ' {
			return ErrSyntax
		}
		s = strings.TrimLeft(s, " ")
		if s == "" {
			return nil
		}
		word, rest, found := strings.Cut(s, " ")
		if s = ""; found {
			s = " " + rest
		}
		key, value, has := strings.Cut(word, "=")
		if !validKeyword(key) || has && !validValue(value) {
			return ErrSyntax
		}
		key = strings.ToUpper(key)
		// Nothing takes more than seven different parameters.
		if n == len(seen) {
			return ErrSyntax
		}
		for _, k := range seen[:n] {
			if k == key {
				return ErrSyntax
			}
		}
		seen[n] = key
		if err := fn(key, value, has); err != nil {
			return err
		}
	}
}

func validKeyword(k string) bool {
	if k == "" || k[0] == '-' {
		return false
	}
	for i := range len(k) {
		if !isKeywordChar(k[i]) {
			return false
		}
	}
	return true
}

func isKeywordChar(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-'
}

// validValue is esmtp-value: no space, no control; UTF-8 by RFC 6531 §3.3. RFC
// 5321 forbids "=" too, but clients send it in AUTH= and ENVID=, which check it.
func validValue(v string) bool {
	if v == "" || !utf8.ValidString(v) {
		return false
	}
	for i := range len(v) {
		if v[i] <= ' ' || v[i] == 0x7f {
			return false
		}
	}
	return true
}
