package gateway

import "gatepost/internal/mail"

// answers are the replies for each RCPT by the verdicts of those whom it stands for:
// what one of several takes is taken. Nobody asked for the others.
func answers(env *mail.Envelope) []mail.Reply {
	var all []mail.Reply
	at := make(map[string]int)
	for i := range env.Recipients {
		r := &env.Recipients[i]
		if r.Copy {
			continue
		}
		reply := answer(r.Verdict)
		n, known := at[r.Original.Raw]
		switch {
		case !known:
			at[r.Original.Raw] = len(all)
			all = append(all, reply)
		case !all[n].Positive() && (reply.Positive() || reply.Temporary()):
			all[n] = reply
		}
	}
	return all
}

// answer is the reply for one who gets the mail, or not.
func answer(v *mail.Verdict) mail.Reply {
	switch {
	case v == nil:
	case v.Action == mail.ActionReject:
		return orReply(v.Reply, mail.ReplyContentRejected)
	case v.Action == mail.ActionDefer:
		return orReply(v.Reply, mail.ReplyTryLater)
	}
	return mail.ReplyRecipientOK.Reply()
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
