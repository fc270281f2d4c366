package smtp

import (
	"bytes"
	"errors"
)

// Verb is a command that the server knows by name.
type Verb uint8

// The verbs. VerbUnknown is the zero value.
const (
	VerbUnknown Verb = iota
	VerbHELO
	VerbEHLO
	VerbMAIL
	VerbRCPT
	VerbDATA
	VerbBDAT
	VerbRSET
	VerbNOOP
	VerbVRFY
	VerbEXPN
	VerbHELP
	VerbQUIT
	VerbSTARTTLS
	VerbAUTH
	VerbXCLIENT
	VerbETRN
	VerbTURN
	VerbHTTP // GET, POST, CONNECT, …: no mail client
	verbCount
)

var verbNames = [verbCount]string{
	VerbUnknown: "UNKNOWN", VerbHELO: "HELO", VerbEHLO: "EHLO", VerbMAIL: "MAIL", VerbRCPT: "RCPT",
	VerbDATA: "DATA", VerbBDAT: "BDAT", VerbRSET: "RSET", VerbNOOP: "NOOP", VerbVRFY: "VRFY",
	VerbEXPN: "EXPN", VerbHELP: "HELP", VerbQUIT: "QUIT", VerbSTARTTLS: "STARTTLS", VerbAUTH: "AUTH",
	VerbXCLIENT: "XCLIENT", VerbETRN: "ETRN", VerbTURN: "TURN", VerbHTTP: "HTTP",
}

// httpVerbs are the methods that a web browser or a proxy scanner may be tricked
// into sending to a mail port.
var httpVerbs = [...]string{"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "DELETE", "PATCH", "TRACE"}

// String is the verb as it stands on the wire.
func (v Verb) String() string {
	if v >= verbCount {
		v = VerbUnknown
	}
	return verbNames[v]
}

// Command is one command line. Arg shares the memory of the line.
type Command struct {
	Verb Verb
	// Arg is what follows the verb, without the spaces around it.
	Arg []byte
}

// ErrCommand says that a command line holds a control character.
var ErrCommand = errors.New("control character in command line")

// ParseCommand splits a command line (without its CRLF) into verb and argument.
// A line with a control character other than TAB is ErrCommand, so that no
// argument can smuggle one further; then only the verb is returned. Bytes above
// 0x7f are left to the verb.
func ParseCommand(line []byte) (Command, error) {
	word, arg := line, []byte(nil)
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		word, arg = line[:i], bytes.Trim(line[i:], " \t")
	}
	verb := lookupVerb(word)
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return Command{Verb: verb}, ErrCommand
		}
	}
	return Command{Verb: verb, Arg: arg}, nil
}

// lookupVerb finds the verb; RFC 5321 §2.4: verbs are not case sensitive.
func lookupVerb(word []byte) Verb {
	for v := VerbHELO; v < VerbHTTP; v++ {
		if equalFold(word, verbNames[v]) {
			return v
		}
	}
	for _, name := range httpVerbs {
		if equalFold(word, name) {
			return VerbHTTP
		}
	}
	return VerbUnknown
}

// equalFold compares b with an upper-case ASCII word without allocating.
// bytes.EqualFold would also take "ſ" for "S" and "K" (Kelvin) for "K".
func equalFold(b []byte, upper string) bool {
	if len(b) != len(upper) {
		return false
	}
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

// IsASCII reports whether b holds no byte above 0x7f.
func IsASCII(b []byte) bool { return !has8Bit(b) }

// ErrChunk says that the argument of BDAT is malformed.
var ErrChunk = errors.New("malformed BDAT argument")

// ParseChunk reads the argument of BDAT, "n" or "n LAST" (RFC 3030 §2). A number
// that does not fit an int64 is ErrChunk.
func ParseChunk(arg []byte) (size int64, last bool, err error) {
	number := arg
	if i := bytes.IndexByte(arg, ' '); i >= 0 {
		number = arg[:i]
		if !equalFold(bytes.TrimLeft(arg[i:], " "), "LAST") {
			return 0, false, ErrChunk
		}
		last = true
	}
	size, ok := parseDecimal(number)
	if !ok {
		return 0, false, ErrChunk
	}
	return size, last, nil
}

// parseDecimal reads 1 to 20 digits, and nothing else, into an int64.
func parseDecimal[T ~[]byte | ~string](s T) (int64, bool) {
	const limit = int64(^uint64(0) >> 1)
	if len(s) == 0 || len(s) > 20 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 || n > (limit-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
