package gateway

import "gatepost/internal/mail"

// answers are the replies for each RCPT, in their order, by the verdicts of those
// whom it stands for. It settles what one reply can't say: of an alias all members
// wait if one has to, and who refuses what another member takes has it quarantined.
func answers(env *mail.Envelope) []mail.Reply {
	byName := make(map[string]mail.Reply)
	for i := range env.Recipients {
		r := &env.Recipients[i]
		if r.Copy {
			continue
		}
		name := r.Original.Raw
		given, known := byName[name]
		byName[name] = answer(r.Verdict)
		if known {
			byName[name] = jointly(given, byName[name])
		}
	}
	all := make([]mail.Reply, 0, len(env.Recipients))
	for i := range env.Recipients {
		r := &env.Recipients[i]
		if r.Copy {
			continue
		}
		reply := byName[r.Original.Raw]
		settle(r, reply)
		if !r.Member {
			all = append(all, reply)
		}
	}
	settleCopies(env)
	return all
}

// jointly is the one reply for two members of an alias.
func jointly(a, b mail.Reply) mail.Reply {
	switch {
	case a.Temporary():
		return a
	case b.Temporary() || !a.Positive():
		return b
	}
	return a
}

// settle makes the verdict about a member fit the reply for the alias.
func settle(r *mail.Recipient, reply mail.Reply) {
	v := r.Verdict
	switch {
	case reply.Temporary() && (v == nil || v.Action != mail.ActionDefer):
		r.Verdict = &mail.Verdict{Action: mail.ActionDefer, Reply: reply, Flow: r.Route.Flow, Reason: "another member of the alias has to wait"}
	case reply.Positive() && v != nil && v.Action == mail.ActionReject:
		quarantineReject(v)
	}
}

// settleCopies decides about those whom nobody is told about: what they refuse, or
// could not be scanned for them now, is quarantined. Of what nobody takes there is no
// copy, and while nobody takes it yet, none either.
func settleCopies(env *mail.Envelope) {
	for i := range env.Recipients {
		if r := &env.Recipients[i]; r.Copy && r.Verdict != nil && !answer(r.Verdict).Positive() {
			quarantineReject(r.Verdict)
		}
	}
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
