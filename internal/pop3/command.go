package pop3

import (
	"bytes"
	"errors"
	"strings"
)

// Verb is what a command asks for.
type Verb uint8

// The verbs of RFC 1939, 2449, 2595, 5034 and 6856, and LAST of RFC 1460, which old
// clients say and which shows nothing of a message. VerbUnknown is every other word.
const (
	VerbUnknown Verb = iota
	VerbAPOP
	VerbAUTH
	VerbCAPA
	VerbDELE
	VerbLANG
	VerbLAST
	VerbLIST
	VerbNOOP
	VerbPASS
	VerbQUIT
	VerbRETR
	VerbRSET
	VerbSTAT
	VerbSTLS
	VerbTOP
	VerbUIDL
	VerbUSER
	VerbUTF8
)

var verbNames = [...]string{"UNKNOWN", "APOP", "AUTH", "CAPA", "DELE", "LANG", "LAST", "LIST", "NOOP", "PASS", "QUIT", "RETR", "RSET", "STAT", "STLS", "TOP", "UIDL", "USER", "UTF8"}

// String is the verb in capitals; "UNKNOWN" for one that is not known.
func (v Verb) String() string {
	if int(v) < len(verbNames) {
		return verbNames[v]
	}
	return verbNames[VerbUnknown]
}

// Command is one line of a client.
type Command struct {
	Verb Verb
	// Arg is what follows the verb, without the space in front: it may hold a
	// password, and must not be logged.
	Arg []byte
}

// ErrBadCommand is a line that cannot be passed on safely: another program may take a
// CR or a NUL in it for its end.
var ErrBadCommand = errors.New("control character in command")

// ParseCommand reads a line without its line end. The Arg is a part of line.
func ParseCommand(line []byte) (Command, error) {
	if bytes.ContainsAny(line, "\r\n\x00") {
		return Command{}, ErrBadCommand
	}
	word, arg, _ := bytes.Cut(line, []byte{' '})
	return Command{Verb: lookupVerb(word), Arg: arg}, nil
}

func lookupVerb(word []byte) Verb {
	if len(word) < 3 || len(word) > 4 {
		return VerbUnknown
	}
	for v := VerbUnknown + 1; int(v) < len(verbNames); v++ {
		if bytes.EqualFold(word, []byte(verbNames[v])) {
			return v
		}
	}
	return VerbUnknown
}

// Bare reports whether nothing but spaces follows the verb.
func (c Command) Bare() bool { return len(bytes.TrimSpace(c.Arg)) == 0 }

// Number reads a message number. RFC 1939 §5 starts them at 1; what is no decimal
// number, or larger than any mailbox, is not one.
func Number(arg string) (int, bool) {
	n, ok := number(arg)
	return n, ok && n > 0
}

func number(arg string) (int, bool) {
	if arg == "" || len(arg) > 9 {
		return 0, false
	}
	n := 0
	for i := range len(arg) {
		if arg[i] < '0' || arg[i] > '9' {
			return 0, false
		}
		n = n*10 + int(arg[i]-'0')
	}
	return n, true
}

// Numbers reads the arguments of a command that takes count numbers, of which the first
// is that of a message.
func (c Command) Numbers(count int) ([]int, bool) {
	words := strings.Fields(string(c.Arg))
	if len(words) != count {
		return nil, false
	}
	all := make([]int, count)
	for i, w := range words {
		n, ok := number(w)
		if !ok || i == 0 && n == 0 {
			return nil, false
		}
		all[i] = n
	}
	return all, true
}
