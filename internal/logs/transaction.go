package logs

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// maxListed is how many recipients one line names; the rest is counted.
const maxListed = 20

// SMTPTransaction writes the line for one mail that passed the SMTP proxy: to
// smtp_proxy.log, and to mail.log, which holds everything. d is the verdict, r
// the reply that the client got, took the time from MAIL to the reply. live is
// what became of those to whom it was passed through. It is written at every log
// level.
func (l *Logs) SMTPTransaction(env *mail.Envelope, d mail.Decision, r mail.Reply, took time.Duration, live ...mail.Outcome) {
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "mail", 0)
	s := &env.Session
	record.AddAttrs(
		slog.String("id", env.ID.String()),
		slog.String("session", s.ID.String()),
		slog.String("listener", s.Listener),
		slog.String("client", s.Client.String()),
		slog.String("helo", s.Helo),
		slog.String("sender", "<"+env.Sender.String()+">"),
		slog.String("recipients", listRecipients(env.Recipients)),
		slog.Int64("size", env.Size),
		slog.String("verdict", verdictOf(env, d)),
	)
	if s.Original.IsValid() {
		record.AddAttrs(slog.String("original", s.Original.String()))
	}
	addIfSet(&record, "user", s.User)
	addIfSet(&record, "tls", s.TLS.Version)
	addIfSet(&record, "message_id", env.MessageID)
	addIfSet(&record, "subject", env.Subject)
	addIfSet(&record, "reason", reasonOf(env, d))
	addIfSet(&record, "findings", listFindings(s.Findings, d.Findings, env.Findings))
	record.AddAttrs(
		slog.String("destination", listDestinations(env.Recipients)),
		slog.String("reply", r.String()),
	)
	addLive(&record, live)
	record.AddAttrs(
		slog.Time("received", env.Received),
		slog.Duration("took", took.Round(time.Microsecond)),
	)
	// Handle, and not a Logger: the level of the configuration does not apply.
	// It never fails.
	_ = l.transactions.Handle(context.Background(), record)
}

// addLive names the servers that a message was passed through to, and what they said,
// each once.
func addLive(r *slog.Record, live []mail.Outcome) {
	var hosts, replies []string
	for i := range live {
		if host := live[i].Host; host != "" && !slices.Contains(hosts, host) && len(hosts) < maxListed {
			hosts = append(hosts, host)
		}
		if reply := live[i].Reply.String(); !slices.Contains(replies, reply) && len(replies) < maxListed {
			replies = append(replies, reply)
		}
	}
	addIfSet(r, "host", strings.Join(hosts, ","))
	addIfSet(r, "upstream_reply", strings.Join(replies, "; "))
}

// verdictOf is what was decided, in a word: what the session was told, or what the
// content flows say, each action once.
func verdictOf(env *mail.Envelope, d mail.Decision) string {
	if d.Act != mail.Accept {
		return d.Act.String()
	}
	var actions []string
	for i := range env.Recipients {
		if v := env.Recipients[i].Verdict; v != nil && !slices.Contains(actions, string(v.Action)) {
			actions = append(actions, string(v.Action))
		}
	}
	if len(actions) == 0 {
		return d.Act.String()
	}
	return strings.Join(actions, ",")
}

// reasonOf is why: of the session's decision, or of the first recipient whose flow
// objects.
func reasonOf(env *mail.Envelope, d mail.Decision) string {
	if d.Reason != "" {
		return d.Reason
	}
	for i := range env.Recipients {
		if v := env.Recipients[i].Verdict; v != nil && v.Block != "" {
			return v.Block + ": " + v.Reason
		}
	}
	return ""
}

func addIfSet(r *slog.Record, key, value string) {
	if value != "" {
		r.AddAttrs(slog.String(key, value))
	}
}

// listRecipients is "<a@b>,<c@d>" and how many more there are.
func listRecipients(recipients []mail.Recipient) string {
	var b strings.Builder
	for i := range recipients {
		if i == maxListed {
			b.WriteString(",+")
			b.WriteString(strconv.Itoa(len(recipients) - i))
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('<')
		b.WriteString(recipients[i].Address.String())
		b.WriteByte('>')
	}
	return b.String()
}

// listDestinations names each destination of the recipients once: its
// transport, and the domain where the transport asks for one.
func listDestinations(recipients []mail.Recipient) string {
	var seen []string
	for i := range recipients {
		name := destinationOf(&recipients[i])
		if name == "" || slices.Contains(seen, name) {
			continue
		}
		if len(seen) == maxListed {
			seen = append(seen, "…")
			break
		}
		seen = append(seen, name)
	}
	return strings.Join(seen, ",")
}

// destinationOf is where a recipient's copy goes; "" for one that goes nowhere.
func destinationOf(r *mail.Recipient) string {
	if r.Verdict != nil && !r.Verdict.Action.Delivers() {
		if r.Verdict.Action == mail.ActionQuarantine {
			return string(mail.ActionQuarantine)
		}
		return ""
	}
	if r.Route.NextHop != "" {
		return r.Route.Transport + ":" + r.Route.NextHop
	}
	return r.Route.Transport
}

// listFindings is "dnsbl:zen.example.org=match(3)" for what was seen of the
// session and of the message.
func listFindings(lists ...[]mail.Finding) string {
	var parts []string
	for _, list := range lists {
		for _, f := range list {
			if len(parts) == maxListed {
				return strings.Join(append(parts, "+"), ",")
			}
			name := f.Module
			if f.Symbol != "" {
				name += ":" + f.Symbol
			}
			name += "=" + string(f.Result)
			if f.Score != 0 {
				name += "(" + strconv.FormatFloat(f.Score, 'g', 4, 64) + ")"
			}
			parts = append(parts, name)
		}
	}
	return strings.Join(parts, ",")
}
