package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy/auth"
	"gatepost/internal/route"
	"gatepost/internal/scan/authres/dmarc"
	"gatepost/internal/smtp"
)

// Users is what users who have logged in may do. The zero Users may do everything.
type Users struct {
	// MaySend reports whether the user of a session may have the address as sender of
	// the envelope, and in From; nil: every address.
	MaySend func(s *mail.Session, sender mail.Address) bool
	// Allow decides about a message with so many recipients, and counts it; nil: there
	// are no limits. What is over one is held in the quarantine.
	Allow func(user string, recipients int) auth.Allowance
	// Held is told each message that is held; nil: nobody.
	Held func(listener string)
}

// A message over a limit is held by this block; the finding on the session says so
// from when it came until it is scanned.
const (
	usersBlock  = "users"
	limitSymbol = "limit"
)

// checkSender holds the sender of a user to what the user may send as.
func (g *Gateway) checkSender(env *mail.Envelope) mail.Decision {
	s := &env.Session
	if s.User == "" || g.cfg.Users.MaySend == nil || g.cfg.Users.MaySend(s, env.Sender) {
		return mail.Decision{}
	}
	return notYours(s, "<"+env.Sender.String()+">")
}

// checkAuthors does the same for the authors whom readers see: all of them, in all
// From fields, as any reader may take them. A From that cannot be read is no address
// of the user.
func (g *Gateway) checkAuthors(env *mail.Envelope, header *message.Header) mail.Decision {
	s := &env.Session
	if s.User == "" || g.cfg.Users.MaySend == nil || header.Count("From") == 0 {
		return mail.Decision{}
	}
	addresses := 0
	for _, text := range dmarc.Mailboxes(header) {
		if !strings.Contains(text, "@") {
			continue // the half of a name that a comma cut: "Doe, John <john@example.com>"
		}
		addresses++
		a, err := smtp.ParseAddress(text)
		if err != nil || !g.cfg.Users.MaySend(s, a) {
			return notYours(s, "From: "+message.SafeText(text, 200))
		}
	}
	if addresses == 0 {
		return notYours(s, "a From without an address")
	}
	return mail.Decision{}
}

func notYours(s *mail.Session, sender string) mail.Decision {
	return mail.Decision{Act: mail.Reject, Reply: mail.ReplyNotYourAddress.Reply(),
		Reason: fmt.Sprintf("user %s may not send as %s", message.SafeText(s.User, 200), sender)}
}

// countUser counts a message that is about to be taken for its user. Over a limit it
// gets a finding by which it is held. It reports whether the postmaster is to be told.
func (g *Gateway) countUser(env *mail.Envelope) (tell bool) {
	s := &env.Session
	if s.User == "" || g.cfg.Users.Allow == nil {
		return false
	}
	a := g.cfg.Users.Allow(s.User, named(env))
	if a.OK {
		return false
	}
	s.Findings = append(slices.Clip(s.Findings), mail.Finding{
		Module: usersBlock, Symbol: limitSymbol, Result: mail.Match,
		Reason: fmt.Sprintf("user limit: %s: %s", message.SafeText(s.User, 200), a.Reason),
	})
	g.cfg.Log.Warn("over a limit of the user; the message is held", "session", s.ID.String(), "id", env.ID.String(),
		"client", s.Client.String(), "user", s.User, "sender", "<"+env.Sender.String()+">", "reason", a.Reason)
	if g.cfg.Users.Held != nil {
		g.cfg.Users.Held(s.Listener)
	}
	return a.Tell
}

// named is how many recipients the client named.
func named(env *mail.Envelope) int {
	seen := make(map[string]bool, len(env.Recipients))
	for i := range env.Recipients {
		if r := &env.Recipients[i]; !r.Copy {
			seen[r.Original.Key()] = true
		}
	}
	return len(seen)
}

// overLimit is why a message is held for its user; "" where it is not.
func overLimit(env *mail.Envelope) string {
	for i := range env.Session.Findings {
		if f := &env.Session.Findings[i]; f.Module == usersBlock && f.Symbol == limitSymbol {
			return f.Reason
		}
	}
	return ""
}

// holdForUser keeps from everybody what is over a limit of its user. What a flow
// decided that keeps it from its recipient anyway is stronger.
func (g *Gateway) holdForUser(env *mail.Envelope) {
	reason := overLimit(env)
	if reason == "" {
		return
	}
	var all []mail.Recipient
	for _, r := range env.Recipients {
		v := mail.Verdict{Action: mail.ActionDeliver, Flow: r.Route.Flow}
		if r.Verdict != nil {
			v = *r.Verdict
		}
		if !v.Action.Delivers() {
			all = append(all, r)
			continue
		}
		redirect := v.Redirect
		v.Action, v.Threat, v.Block, v.Rule, v.Reason = mail.ActionQuarantine, mail.ThreatPolicy, usersBlock, limitSymbol, reason
		if len(v.Strip) > 0 {
			// Who releases it must know: it is released as it came.
			v.Threat, v.Reason = mail.ThreatFilter, reason+"; a filter would have taken out an attachment"
		}
		v.Redirect = nil
		if r.Verdict = &v; len(redirect) == 0 {
			all = append(all, r)
			continue
		}
		// When it is released it is to go where the filter wanted it.
		all = route.Join(all, g.others(env, redirect, &v)...)
	}
	env.Recipients = all
}

// tellPostmaster sends a mail about a user who is over a limit. That it could not be
// sent is no reason to refuse the message, which is held already.
func (g *Gateway) tellPostmaster(ctx context.Context, env *mail.Envelope) {
	if g.cfg.Postmaster.IsNull() {
		return
	}
	text, err := g.limitNotice(env)
	if err == nil {
		err = g.SubmitNotice(ctx, g.cfg.Postmaster, bytes.NewReader(text))
	}
	if err != nil {
		g.cfg.Log.Error("the postmaster could not be told of a user over a limit", "id", env.ID.String(), "user", env.Session.User, "error", err)
	}
}

// limitNotice is that mail.
func (g *Gateway) limitNotice(env *mail.Envelope) ([]byte, error) {
	s := &env.Session
	user := message.SafeText(s.User, 200)
	now := time.Now()
	var b bytes.Buffer
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	field("Date", message.FormatDate(now))
	field("From", "Mail gateway <MAILER-DAEMON@"+g.cfg.Hostname+">")
	field("To", "<"+g.cfg.Postmaster.String()+">")
	field("Subject", strings.ReplaceAll(mime.QEncoding.Encode("utf-8", "Mail of "+user+" is held: over a limit"), "?= =?", "?=\r\n =?"))
	field("Message-ID", "<"+mail.NewID().String()+"@"+g.cfg.Hostname+">")
	field("Auto-Submitted", "auto-generated") // RFC 3834 §5
	field("MIME-Version", "1.0")
	field("Content-Type", "text/plain; charset=utf-8")
	field("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	text := fmt.Sprintf(limitText, user, strings.TrimPrefix(overLimit(env), "user limit: "), env.ID, s.Client.Addr(), env.GivenSender(), named(env))
	if _, err := io.WriteString(w, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		return nil, fmt.Errorf("write notice: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write notice: %w", err)
	}
	return b.Bytes(), nil
}

const limitText = `The user %s sends more than [users] in the configuration allows:
%s.

Mail over the limit is held in the quarantine. Nothing is lost, and the user
was not told. Often this means that the password was stolen: look at what was
held before you release it, and change the password if it is not the user's.

    gatepost quarantine list
    gatepost quarantine show %s

Client      %s
Sender      <%s>
Recipients  %d

You are told again if it is still so in an hour.
`
