package smtpclient

import (
	"slices"
	"strconv"
	"strings"
)

// Extensions are what the remote announced in its answer to EHLO that we know
// how to use. The zero Extensions stand for a server that knows HELO only.
type Extensions struct {
	Pipelining bool // RFC 2920
	EightBit   bool // 8BITMIME, RFC 6152
	Chunking   bool // RFC 3030
	Binary     bool // BINARYMIME, RFC 3030
	SMTPUTF8   bool // RFC 6531
	DSN        bool // RFC 3461
	StartTLS   bool // RFC 3207
	RequireTLS bool // RFC 8689
	Size       bool // RFC 1870
	// SizeLimit is the largest message that the remote takes, in bytes; 0 means
	// that it does not say.
	SizeLimit int64
	// MailMax and RcptMax are limits on transactions per session and recipients
	// per transaction (RFC 9422); 0 means that the remote does not say.
	MailMax, RcptMax int
	// Auth are the SASL mechanisms, in upper case.
	Auth []string
	// XClient and XForward are the attributes that the remote believes us about a
	// client, in upper case (Postfix XCLIENT and XFORWARD).
	XClient, XForward []string
}

// parseExtensions reads the lines of an EHLO reply after the first. Keywords
// may come in any case (RFC 5321 §2.4).
func parseExtensions(lines []string) Extensions {
	var e Extensions
	for _, line := range lines {
		word, rest, _ := strings.Cut(strings.TrimRight(line, " \t"), " ")
		switch word = strings.ToUpper(word); word {
		case "PIPELINING":
			e.Pipelining = true
		case "8BITMIME":
			e.EightBit = true
		case "CHUNKING":
			e.Chunking = true
		case "BINARYMIME":
			e.Binary = true
		case "SMTPUTF8":
			e.SMTPUTF8 = true
		case "DSN":
			e.DSN = true
		case "STARTTLS":
			e.StartTLS = true
		case "REQUIRETLS":
			e.RequireTLS = true
		case "SIZE":
			e.Size = true
			// What is not a number is no limit: the remote can still refuse.
			if n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err == nil && n > 0 {
				e.SizeLimit = n
			}
		case "LIMITS":
			e.parseLimits(rest)
		case "AUTH":
			e.addAuth(rest)
		case "XCLIENT":
			e.XClient = strings.Fields(strings.ToUpper(rest))
		case "XFORWARD":
			e.XForward = strings.Fields(strings.ToUpper(rest))
		default:
			// "AUTH=LOGIN PLAIN" is how servers of the last century wrote it.
			if after, ok := strings.CutPrefix(word, "AUTH="); ok {
				e.addAuth(after + " " + rest)
			}
		}
	}
	// RFC 3030 §3: BINARYMIME without CHUNKING cannot be used.
	e.Binary = e.Binary && e.Chunking
	return e
}

func (e *Extensions) addAuth(mechanisms string) {
	for m := range strings.FieldsSeq(strings.ToUpper(mechanisms)) {
		if !slices.Contains(e.Auth, m) {
			e.Auth = append(e.Auth, m)
		}
	}
}

// parseLimits reads "MAILMAX=10 RCPTMAX=100" (RFC 9422 §4).
func (e *Extensions) parseLimits(s string) {
	for item := range strings.FieldsSeq(s) {
		name, value, _ := strings.Cut(item, "=")
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			continue
		}
		switch strings.ToUpper(name) {
		case "MAILMAX":
			e.MailMax = n
		case "RCPTMAX":
			e.RcptMax = n
		}
	}
}
