package callout

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/smtpclient"
)

// talk asks one server. The error says why it gave no answer to RCPT.
func (v *caller) talk(ctx context.Context, h Hop, q question) (answer, error) {
	conn, err := v.open(ctx, h)
	if err != nil {
		return answer{}, err
	}
	defer conn.Leave()
	utf8 := q.address.NeedsUTF8()
	if utf8 && !conn.Extensions().SMTPUTF8 {
		return v.unknown(h.String() + " does not know internationalized addresses"), nil
	}
	// The null sender: a server that calls out itself must not call us back.
	r, err := conn.ProbeMail(ctx, mail.Address{}, utf8)
	if err != nil {
		return answer{}, err
	}
	if !r.Positive() {
		return answer{}, fmt.Errorf("refused before the address was named: %s", r)
	}
	if r, err = conn.ProbeRcpt(ctx, q.address); err != nil {
		return answer{}, err
	}
	switch v.judge(r) {
	case mail.Match:
		return answer{result: mail.Match, symbol: SymbolRejected, reason: said(h, r), until: time.Now().Add(v.config.NegativeFor)}, nil
	case mail.Unknown:
		a := v.unknown("")
		a.reason = said(h, r)
		return a, nil
	}
	if r.Positive() && v.takesAny(ctx, conn, q) {
		a := answer{result: mail.Clean, symbol: SymbolCatchAll, until: time.Now().Add(v.config.CatchAllFor),
			reason: message.SafeText(h.String()+" takes any address of "+q.address.Domain, maxReason)}
		v.cache.put(q.domainKey, a)
		return a, nil
	}
	return v.exists(h.String()), nil
}

func said(h Hop, r mail.Reply) string {
	return message.SafeText(h.String()+" said: "+r.String(), maxReason)
}

// open starts a session: connect, greet, TLS as the hop wants it, login.
func (v *caller) open(ctx context.Context, h Hop) (*smtpclient.Conn, error) {
	dialer := v.smtp
	if h.LMTP {
		dialer = v.lmtp
	}
	conn, err := dialer.Dial(ctx, h.Target)
	if err != nil {
		return nil, err
	}
	if h.TLS != nil && (h.RequireTLS || conn.Extensions().StartTLS) {
		err = conn.StartTLS(ctx, h.TLS, h.Verified)
	}
	if err == nil && h.Auth != nil {
		err = conn.Auth(ctx, *h.Auth)
	}
	if err != nil {
		conn.Leave()
		return nil, err
	}
	return conn, nil
}

// takesAny reports whether the server takes an address that nobody can have. What
// it is told is remembered for the domain.
func (v *caller) takesAny(ctx context.Context, conn *smtpclient.Conn, q question) bool {
	if a, ok := v.cache.get(q.domainKey); ok && a.symbol == picky {
		return false
	}
	local := "no-such-user-" + strings.ToLower(rand.Text())
	r, err := conn.ProbeRcpt(ctx, mail.Address{Local: local, Domain: q.address.Domain, Raw: local + "@" + q.address.Domain})
	switch {
	case err != nil: // it says nothing of the domain
		return false
	case r.Permanent():
		v.cache.put(q.domainKey, answer{symbol: picky, until: time.Now().Add(v.config.CatchAllFor)})
	}
	return r.Positive()
}

// judge says what a reply to RCPT means.
func (v *caller) judge(r mail.Reply) mail.Result {
	switch {
	case r.Positive():
		return mail.Clean
	case !r.Permanent():
		return mail.Unknown
	case r.Code == 552 && r.Enhanced == "" || r.Enhanced == "5.2.2":
		return mail.Clean // its mailbox is full, so there is one
	case r.Code == 521 || r.Code < 550 || r.Code == 555 || strings.HasPrefix(r.Enhanced, "5.5."):
		return mail.Unknown // about the command, TLS or login, not the address
	case !v.strict && strings.HasPrefix(r.Enhanced, "5.7."):
		// RFC 3463 §3.8: it does not want us, and says nothing of the address.
		return mail.Unknown
	}
	return mail.Match
}
