package pages

import (
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// told says what an event is about in a few words.
func told(e *mail.Event) string {
	switch e.Kind {
	case mail.EventConnect:
		return "Connection " + result(e)
	case mail.EventLogin:
		return "Login " + result(e)
	case mail.EventSender:
		return "Sender " + result(e)
	case mail.EventRecipient:
		return "Recipient " + result(e)
	case mail.EventMessage:
		return strings.TrimSuffix("Message "+result(e)+", "+verdict(e.Action), ", ")
	case mail.EventScanned:
		return "Scanned after the answer: " + verdict(e.Action)
	case mail.EventAttempt:
		return "Attempt " + strconv.Itoa(e.Attempt) + " " + result(e)
	case mail.EventReport:
		return "Report sent to the sender"
	case mail.EventQuarantine:
		return "Put into quarantine"
	case mail.EventRelease:
		return "Released from quarantine"
	case mail.EventDelete:
		return "Deleted"
	case mail.EventTrain:
		return "Learned from"
	case mail.EventRequest:
		return "Release asked for"
	case mail.EventFetch:
		return "Fetched from a mailbox, " + result(e)
	case mail.EventSession:
		return "Session ended"
	case mail.EventAdmin:
		return "Action of an administrator"
	}
	return string(e.Kind) + " " + result(e)
}

func result(e *mail.Event) string {
	if e.Result == mail.EventDropped {
		return "dropped without an answer"
	}
	return string(e.Result)
}

func verdict(a mail.Action) string {
	switch a {
	case mail.ActionDeliver:
		return "to be delivered"
	case mail.ActionMark:
		return "to be delivered with a mark"
	case mail.ActionQuarantine:
		return "to quarantine"
	case mail.ActionDiscard:
		return "to be discarded"
	case mail.ActionReject:
		return "rejected"
	case mail.ActionDefer:
		return "put off"
	}
	return string(a)
}

// tone is the class of a tag for a result, a verdict or a state.
func tone(what any) string {
	var s string
	switch v := what.(type) {
	case mail.EventResult:
		s = string(v)
	case mail.Action:
		s = string(v)
	case interface{ String() string }:
		s = v.String()
	case string:
		s = v
	}
	switch s {
	case "ok", "accepted", "delivered", "deliver", "passed", "released", "fetched":
		return " good"
	case "refused", "dropped", "failed", "reject", "replaced":
		return " bad"
	case "deferred", "partial", "quarantine", "quarantined", "defer", "mark", "waiting":
		return " warn"
	}
	return ""
}
