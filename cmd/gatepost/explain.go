package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// contentAPI looks at single messages for the API.
type contentAPI struct{ *app }

// Explain implements admin.Content: the message is read into a file without a
// name, and goes through the flow as if it had just come in.
func (c contentAPI) Explain(ctx context.Context, q admin.ExplainQuery, body io.Reader) (any, error) {
	state := c.state.Load()
	g := c.gateway.Load()
	if state == nil || g == nil {
		return nil, errors.New("not started yet")
	}
	m, done, err := c.spoolMessage(body)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := envelopeFor(m.Envelope, state.gen, q); err != nil {
		return nil, err
	}
	return g.Explain(ctx, m)
}

// Train implements admin.Content.
func (c contentAPI) Train(ctx context.Context, q admin.TrainQuery, body io.Reader) (bool, error) {
	m, done, err := c.spoolMessage(body)
	if err != nil {
		return false, err
	}
	defer done()
	in, err := c.input(ctx, m)
	if err != nil {
		return false, err
	}
	if q.Kind == admin.TrainForget {
		return c.services.bayes.Forget(ctx, q.Domain, in)
	}
	return c.services.bayes.Train(ctx, q.Domain, in, q.Kind == admin.TrainSpam)
}

// input is a message as modules see it.
func (a *app) input(ctx context.Context, m mail.Message) (*scan.Input, error) {
	state := a.state.Load()
	if state == nil {
		return nil, errors.New("not started yet")
	}
	return scan.NewInput(ctx, m, scan.Inbound, state.gen.content.Options)
}

// BayesStatus implements admin.Content.
func (c contentAPI) BayesStatus(ctx context.Context) (any, error) {
	status, err := c.services.bayes.Status(ctx)
	if err != nil {
		status.Reason = strings.TrimPrefix(status.Reason+"; "+err.Error(), "; ")
	}
	return status, nil
}

// trainer teaches what the quarantine is told.
type trainer struct{ *app }

// Train implements quarantine.Trainer.
func (t trainer) Train(ctx context.Context, m mail.Message, spam bool) (bool, error) {
	in, err := t.input(ctx, m)
	if err != nil {
		return false, err
	}
	return t.services.bayes.Train(ctx, "", in, spam)
}

// spoolMessage reads a message into a temporary file. The function that it returns
// removes the file.
func (c contentAPI) spoolMessage(body io.Reader) (mail.Message, func(), error) {
	file, err := os.CreateTemp(string(c.state.Load().gen.cfg.Limits.ScanTemp), "message")
	if err != nil {
		return mail.Message{}, nil, fmt.Errorf("make a temporary file: %w", err)
	}
	done := func() { _ = file.Close() } // it has no name, so nothing is left
	if err := os.Remove(file.Name()); err != nil {
		done()
		return mail.Message{}, nil, err
	}
	size, err := io.Copy(file, body)
	if err != nil {
		done()
		return mail.Message{}, nil, fmt.Errorf("read message: %w", err)
	}
	m := mail.Message{Envelope: &mail.Envelope{ID: mail.NewID(), Received: time.Now(), Size: size}, Body: fileBody{file, size}}
	facts, err := message.ScanBytes(m.Body)
	if err != nil {
		done()
		return mail.Message{}, nil, fmt.Errorf("read message: %w", err)
	}
	m.Envelope.HeaderSize, m.Envelope.Has8Bit = facts.HeaderSize, facts.Has8Bit
	m.Envelope.HeaderUTF8, m.Envelope.LongLines = facts.HeaderUTF8, facts.LongLines
	return m, done, nil
}

// fileBody is a mail.Body in a file.
type fileBody struct {
	*os.File
	size int64
}

// Size implements mail.Body.
func (f fileBody) Size() int64 { return f.size }

// errNoFlow says that nothing would be scanned.
var errNoFlow = errors.New("no content flow applies: name one with --flow, or a recipient whose domain has one")

// envelopeFor fills in the envelope under which a message is scanned.
func envelopeFor(env *mail.Envelope, g *generation, q admin.ExplainQuery) error {
	env.Sender = q.Sender
	env.Session = mail.Session{ID: env.ID, Listener: "internal", Client: netip.AddrPortFrom(q.Client, 0), Helo: "localhost", ESMTP: true}
	if !q.Client.IsValid() {
		env.Session.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	r := mail.Recipient{Address: q.Recipient, Original: q.Recipient}
	if r.Address.IsNull() {
		r.Address = g.cfg.Postmaster
		r.Original = r.Address
	}
	for i := range g.cfg.Listeners {
		l := &g.cfg.Listeners[i]
		probe := r
		if d := g.routes.Route(string(l.Name), &mail.Session{Trusted: true}, &probe); d.Act == mail.Accept && probe.Route.Flow != "" {
			env.Session.Listener = string(l.Name)
			r.Route = probe.Route
			break
		}
	}
	if q.Flow != "" {
		if _, ok := g.content.Flows[q.Flow]; !ok {
			return fmt.Errorf("there is no content flow %q", q.Flow)
		}
		r.Route.Flow = q.Flow
	}
	if r.Route.Flow == "" {
		return errNoFlow
	}
	env.Recipients = []mail.Recipient{r}
	return nil
}
