package gateway

import "gatepost/internal/mail"

// answers are the replies for each recipient by its own verdict.
func answers(env *mail.Envelope) []mail.Reply {
	all := make([]mail.Reply, len(env.Recipients))
	for i := range env.Recipients {
		all[i] = mail.ReplyRecipientOK.Reply()
		v := env.Recipients[i].Verdict
		switch {
		case v == nil:
		case v.Action == mail.ActionReject:
			all[i] = orReply(v.Reply, mail.ReplyContentRejected)
		case v.Action == mail.ActionDefer:
			all[i] = orReply(v.Reply, mail.ReplyTryLater)
		}
	}
	return all
}

// jointRefusal is the refusal of a message that no recipient takes: for good only
// if all of them say so.
func jointRefusal(all []mail.Reply) mail.Decision {
	var deferred, rejected *mail.Reply
	for i := range all {
		switch {
		case all[i].Positive():
			return mail.Decision{}
		case all[i].Temporary():
			deferred = &all[i]
		default:
			rejected = &all[i]
		}
	}
	switch {
	case deferred != nil:
		return mail.Decision{Act: mail.Defer, Reply: *deferred, Reason: "no recipient takes it now"}
	case rejected != nil:
		return mail.Decision{Act: mail.Reject, Reply: *rejected, Reason: "every recipient's flow refuses it"}
	}
	return mail.Decision{}
}
