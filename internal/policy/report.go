package policy

import (
	"strconv"
	"time"

	"gatepost/internal/mail"
)

// Report is what one block said.
type Report struct {
	Key, Use string
	Findings []mail.Finding
	Took     time.Duration
	// Choice is set for a Decider that could say.
	Choice *Choice
}

// Symbols that mean the same whichever check says them.
const (
	// SymbolAllow says that this client needs no more checks: an allow list, a
	// test that it passed before. Its result is Clean. Only the blocks that may end
	// a flow (package flow) are believed.
	SymbolAllow = "allow"
	// SymbolAccepted is the finding by which a flow leaves word that it ended so.
	SymbolAccepted = "accepted"
)

// PropertyWait is the property of a finding that tells after how many seconds it
// makes sense to try again.
const PropertyWait = "wait"

// Accepted reports whether a flow ended with the word that this client needs no
// more checks, and the block that said so.
func Accepted(findings []mail.Finding) (by string, ok bool) {
	for i := range findings {
		if findings[i].Symbol == SymbolAccepted && findings[i].Result == mail.Clean {
			return findings[i].Module, true
		}
	}
	return "", false
}

// Wait makes the property of a time to wait, in whole seconds, rounded up.
func Wait(d time.Duration) mail.Property {
	seconds := max(1, int64((d+time.Second-1)/time.Second))
	return mail.Property{Name: PropertyWait, Value: strconv.FormatInt(seconds, 10)}
}
