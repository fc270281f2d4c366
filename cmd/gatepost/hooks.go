package main

import (
	"context"
	"fmt"

	"gatepost/internal/config"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/smtpserver"
)

// serverConfig is a [[listener]] as package smtpserver wants it.
func serverConfig(gen *generation, l *config.Listener) (smtpserver.Config, error) {
	tlsConfig, err := gen.tlsConfig(l)
	if err != nil {
		return smtpserver.Config{}, err
	}
	limits := &gen.cfg.Limits
	sc := smtpserver.Config{
		Listener:         string(l.Name),
		Hostname:         string(gen.cfg.Hostname),
		TLSConfig:        tlsConfig,
		TrustedNetworks:  l.TrustedNetworks,
		ProxyFrom:        l.ProxyProtocolFrom,
		XClientFrom:      l.XClientFrom,
		PregreetDelay:    l.PregreetDelay,
		MaxMessageSize:   int64(limits.MaxMessageSize),
		MaxHeaderSize:    int64(limits.MaxHeaderSize),
		MaxRecipients:    limits.MaxRecipients,
		MaxErrors:        limits.MaxErrors,
		MaxJunk:          limits.MaxJunkCommands,
		CommandTimeout:   limits.CommandTimeout,
		DataTimeout:      limits.DataTimeout,
		MinDataRate:      int64(limits.MinDataRate),
		RateGrace:        limits.RateGrace,
		WriteTimeout:     limits.WriteTimeout,
		DrainTimeout:     limits.DrainTimeout,
		MaxCommandLine:   limits.MaxCommandLine,
		ErrorDelay:       limits.ErrorDelay,
		HandshakeTimeout: limits.HandshakeTimeout,
		Auth:             l.Auth,
		AuthWithoutTLS:   l.AuthWithoutTLS,
		Offer:            gen.offer(l),
	}
	switch l.TLS {
	case "off":
		sc.TLS = smtpserver.TLSOff
	case "starttls":
		sc.TLS = smtpserver.TLSStart
	case "required":
		sc.TLS = smtpserver.TLSRequired
	case "implicit":
		sc.TLS = smtpserver.TLSImplicit
	default:
		return sc, fmt.Errorf("listener %s: unknown tls %q", l.Name, l.TLS)
	}
	sc.Pregreet, sc.Pipelining = penalty(l.Pregreet), penalty(l.Pipelining)
	if l.LineEndings == "reject" {
		sc.LineEndings = smtpserver.Reject
	}
	return sc, nil
}

// penalty is how a listener treats clients that talk out of turn.
func penalty(s string) smtpserver.Penalty {
	switch s {
	case "defer":
		return smtpserver.PenaltyDefer
	case "reject":
		return smtpserver.PenaltyReject
	}
	return smtpserver.PenaltyScore
}

// hooksOf joins the SMTP engine to the spine.
func hooksOf(gen *generation, l *config.Listener) smtpserver.Hooks {
	g := gen.gateway
	hooks := smtpserver.Hooks{Connect: g, Auth: gen.logins[string(l.Name)], Mail: g, Rcpt: g, Data: g, Intake: intakes{g}, Reset: g, End: ended{g, gen.logins[string(l.Name)]},
		Refused: g, LoginFailed: g}
	if servers := gen.serversOf(l); len(servers) > 0 && l.Intercepts() {
		hooks.Helo = meeting(servers)
	}
	return hooks
}

// ended fits the gateway to the engine's hook.
type ended struct {
	*gateway.Gateway
	login smtpserver.Authenticator
}

// End implements smtpserver.EndHook.
func (e ended) End(s *mail.Session, _ smtpserver.Summary) {
	if u, ok := e.login.(upstreamLogin); ok {
		u.loggedOut(s)
	}
	e.Ended(s)
}

// intakes and intake fit the gateway's types to the engine's interfaces, which
// the gateway, a level below, cannot name.
type intakes struct{ *gateway.Gateway }

// Open implements smtpserver.IntakeOpener.
func (o intakes) Open(ctx context.Context, env *mail.Envelope) (smtpserver.Intake, error) {
	in, err := o.Gateway.Open(ctx, env)
	if err != nil {
		return nil, err
	}
	return intake{in, env}, nil
}

type intake struct {
	*gateway.Intake
	env *mail.Envelope
}

// Commit implements smtpserver.Intake.
func (in intake) Commit(ctx context.Context, facts smtpserver.DataFacts) mail.Reply {
	in.env.Size = facts.Size
	in.env.HeaderSize = facts.HeaderSize
	in.env.Has8Bit = facts.Has8Bit
	in.env.HeaderUTF8 = facts.HeaderUTF8
	in.env.LongLines = facts.LongLines
	return in.Intake.Commit(ctx)
}
