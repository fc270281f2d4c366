package smtpserver

import (
	"net"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// What the history is told of a session: each refusal, each login, and how a session
// ended that did nothing else worth telling. Messages that came to their end are the
// spine's to tell.

// maxEvents bounds the events of one session; the rest is counted in its last one.
const maxEvents = 50

// noteEvent tells the history of something, unless the session has told too much.
func (s *session) noteEvent(e *mail.Event) {
	h := s.set.hooks.History
	if h == nil {
		return
	}
	if s.events++; s.events > maxEvents {
		return
	}
	user := e.User
	if e.About(&s.sess); user != "" {
		e.User = user
	}
	h.Note(e)
}

// noteRefusal tells what was refused, and why.
func (s *session) noteRefusal(stage mail.Stage, d mail.Decision) {
	if s.set.hooks.History == nil || stage == mail.StageAuth && d.Act == mail.Reject {
		return // loginFailed tells
	}
	e := &mail.Event{Stage: string(stage), Result: resultOf(d), Reply: d.Reply.String(), Reason: d.Reason, Findings: s.sess.Findings}
	switch stage {
	case mail.StageAuth:
		e.Kind, e.Findings = mail.EventLogin, nil
	case mail.StageMail:
		e.Kind, e.Sender = mail.EventSender, senderText(s.asked)
	case mail.StageRcpt:
		e.Kind, e.Recipients = mail.EventRecipient, []mail.Addressee{{Address: s.asked, Domain: domainOf(s.asked)}}
	case mail.StageData, mail.StageContent:
		e.Kind = mail.EventMessage
	default:
		e.Kind = mail.EventConnect
	}
	if env := s.tx.env; env != nil {
		e.Message, e.Sender = env.ID, mail.SenderText(env.Sender)
		if e.Kind == mail.EventMessage {
			for i := range env.Recipients {
				e.Recipients = append(e.Recipients, mail.AddresseeOf(&env.Recipients[i]))
			}
		}
	}
	if len(s.tx.findings)+len(d.Findings) > 0 && e.Kind != mail.EventLogin {
		// Those of the decision are among the transaction's where that lasts.
		e.Findings = append(append([]mail.Finding(nil), e.Findings...), s.tx.findings...)
	}
	s.noteEvent(e)
}

// noteLogin tells of a login that was right or wrong. user is the name that was given.
func (s *session) noteLogin(user string, ok bool) {
	e := &mail.Event{Kind: mail.EventLogin, Result: mail.EventOK, Stage: string(mail.StageAuth), User: user}
	if !ok {
		e.Result, e.Reply = mail.EventFailed, s.srv.replies[mail.ReplyAuthFailed].String()
	}
	s.noteEvent(e)
}

// noteAway tells of a connection that was turned away.
func (s *session) noteAway(key mail.ReplyKey) {
	reply := s.srv.replies[key]
	s.noteEvent(&mail.Event{Kind: mail.EventConnect, Stage: string(mail.StageConnect), Result: resultOf(mail.Decision{Act: actOf(reply)}), Reply: reply.String()})
}

// noteEnd tells how a session ended that has nothing to show for itself, or had more
// to tell than fits.
func (s *session) noteEnd() {
	if s.set.hooks.History == nil || s.sum.Messages > 0 && s.events <= maxEvents || s.events > 0 && s.events <= maxEvents ||
		s.events == 0 && s.sum.Errors == 0 && s.sum.Reason == "quit" {
		return
	}
	e := &mail.Event{Kind: mail.EventSession, Result: mail.EventOK, Reason: s.sum.Reason, Took: s.sum.Duration, Size: s.sum.BytesIn}
	if s.sum.Errors > 0 {
		e.Details = append(e.Details, mail.Property{Name: "errors", Value: strconv.Itoa(s.sum.Errors)})
	}
	if s.sum.Messages > 0 {
		e.Details = append(e.Details, mail.Property{Name: "messages", Value: strconv.Itoa(s.sum.Messages)})
	}
	if s.events > maxEvents {
		e.Details = append(e.Details, mail.Property{Name: "not_told", Value: strconv.Itoa(s.events - maxEvents)})
	}
	e.About(&s.sess)
	s.set.hooks.History.Note(e)
}

// noteAway tells of a connection that was turned away before it was a session.
func (s *Server) noteAway(conn net.Conn, set *settings, key mail.ReplyKey) {
	h := set.hooks.History
	if h == nil {
		return
	}
	reply := s.replies[key]
	e := &mail.Event{Kind: mail.EventConnect, Listener: set.Listener, Client: addrPort(conn.RemoteAddr()).Addr().Unmap(),
		Stage: string(mail.StageConnect), Result: resultOf(mail.Decision{Act: actOf(reply)}), Reply: reply.String()}
	h.Note(e)
}

func resultOf(d mail.Decision) mail.EventResult {
	switch d.Act {
	case mail.Reject:
		return mail.EventRefused
	case mail.Drop:
		return mail.EventDropped
	}
	return mail.EventDeferred
}

func senderText(raw string) string {
	if raw == "" {
		return "<>"
	}
	return raw
}

func domainOf(address string) string {
	return strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
}
