package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/metrics"
	"gatepost/internal/policy"
	"gatepost/internal/policy/auth"
	"gatepost/internal/pop3"
	"gatepost/internal/smtpclient"
	"gatepost/internal/upstream"
)

// upstreamLogin has the server that a listener's mail is passed through to decide who
// may log in (auth_upstream).
type upstreamLogin struct {
	server *upstream.Server
	guard  *auth.Guard
	login
}

// buildUpstreamLogin makes the login of a listener at its upstream.
func (a *app) buildUpstreamLogin(g *generation, l *config.Listener, guard *auth.Guard) error {
	proxy, ok := g.proxies[string(l.AuthUpstream)]
	if !ok {
		return fmt.Errorf("listener %s: no mail is passed through transport %s", l.Name, l.AuthUpstream)
	}
	g.logins[string(l.Name)] = upstreamLogin{proxy.Server, guard, login{log: a.logs.Logger("Login"), metrics: a.metrics}}
	return nil
}

// Mechanisms implements smtpserver.LoginPasser.
func (u upstreamLogin) Mechanisms(s *mail.Session) []string {
	all, _ := u.server.CapabilitiesFor(s)
	return slices.DeleteFunc(slices.Clone(all.Auth), func(m string) bool { return !smtpclient.Passable(m) })
}

// Authenticate implements smtpserver.Authenticator. The server is never asked in this
// way: it needs the client's own words.
func (u upstreamLogin) Authenticate(context.Context, *mail.Session, string, string) mail.Decision {
	return mail.Decision{Act: mail.Defer, Reason: "logins are passed to the upstream"}
}

// PassLogin implements smtpserver.LoginPasser.
func (u upstreamLogin) PassLogin(ctx context.Context, s *mail.Session, mechanism, initial string, answer func(string) (string, bool)) mail.Decision {
	p := &passing{upstreamLogin: u, ctx: ctx, client: s, mechanism: mechanism, answer: answer}
	if initial != "" {
		p.said = append(p.said, initial)
		if !p.mayGoOn() {
			return p.refused
		}
	}
	res := u.server.Login(ctx, s, upstream.LoginRequest{Mechanism: mechanism, Initial: initial, Answer: p.next})
	return p.decide(res)
}

// passing is one login on its way.
type passing struct {
	upstreamLogin
	ctx       context.Context
	client    *mail.Session
	mechanism string
	answer    func(string) (string, bool)
	// said is what the client has said, to learn from it who logs in.
	said []string
	// try is the guard's, where it was asked; refused is its no.
	try     *auth.Attempt
	refused mail.Decision
}

// next is what the client says to a challenge.
func (p *passing) next(challenge string) string {
	line, ok := p.answer(challenge)
	if !ok || line == "*" {
		return "*"
	}
	if p.said = append(p.said, line); !p.mayGoOn() {
		return "*"
	}
	return line
}

// mayGoOn asks the guard, once, before the first line after which the server could
// decide.
func (p *passing) mayGoOn() bool {
	first := 1
	if p.mechanism == "LOGIN" {
		first = 2 // the first line is a name only
	}
	if p.try != nil || len(p.said) < first {
		return p.refused.Act == mail.Accept
	}
	try := p.guard.Begin(p.ctx, p.client, p.user())
	p.try = &try
	if reason, network := try.Refused(); reason != "" {
		p.refused = mail.Decision{Act: mail.Defer, Reason: reason, Delay: try.Delay()}
		if network {
			p.refused.Reply = mail.ReplyAuthTempFail.Reply()
		}
		p.tell(metrics.LoginLocked, reason)
		return false
	}
	return true
}

// user is who logs in, "" where the mechanism has not shown it yet.
func (p *passing) user() string { return pop3.Account(p.mechanism, p.said) }

// decide makes of the server's answer what the client hears.
func (p *passing) decide(res upstream.Result) mail.Decision {
	if p.refused.Act != mail.Accept {
		return p.refused
	}
	d := mail.Decision{Act: mail.Defer, Reply: res.Reply, User: p.user()}
	result, answer := metrics.LoginUnknown, policy.AuthUnknown
	switch {
	case res.Reply.Code == 235:
		d.Act, result, answer = mail.Accept, metrics.LoginOK, policy.AuthYes
	case res.Fault != upstream.Answered:
		d.Reason = "the upstream could not be asked"
		if res.Err != nil {
			d.Reason += ": " + res.Err.Error()
		}
		d.Reply = mail.ReplyAuthTempFail.Reply()
	case res.Reply.Code == 535, res.Reply.Code == 534, res.Reply.Code == 525:
		// RFC 4954 §6: wrong credentials, a weak mechanism, an account that is closed.
		d.Act, result, answer = mail.Reject, metrics.LoginFailed, policy.AuthNo
	case res.Reply.Permanent():
		// The client gave up, or the line was no good.
		d.Act = mail.Reject
	}
	if p.try != nil {
		d.Delay = max(d.Delay, p.try.Delay())
		p.try.Done(answer, strings.Join(p.said, "\n"))
	}
	p.tell(result, d.Reason)
	return d
}

// tell notes the login in log and metrics.
func (p *passing) tell(result, reason string) {
	p.metrics.Login(p.client.Listener, result)
	text, level := "login failed", slog.LevelInfo
	switch result {
	case metrics.LoginOK:
		text = "logged in"
	case metrics.LoginUnknown:
		text, level = "nobody can tell whether a login is right", slog.LevelWarn
	case metrics.LoginLocked:
		text = "login refused"
	}
	p.log.LogAttrs(p.ctx, level, text, slog.String("session", p.client.ID.String()), slog.String("listener", p.client.Listener),
		slog.String("client", p.client.Client.String()), slog.String("user", message.SafeText(p.user(), 255)), slog.String("mechanism", p.mechanism), slog.String("reason", reason))
}

// loggedOut ends a client's session at the upstream with its session here.
func (u upstreamLogin) loggedOut(s *mail.Session) { u.server.Logout(s.ID) }
