package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/route"
)

// flowCmd is the group of commands about flows.
type flowCmd struct {
	Explain flowExplainCmd `cmd:"" help:"Go through all stages with a client and a recipient, and say what each block does."`
}

type flowExplainCmd struct {
	control  `embed:""`
	Client   string `required:"" placeholder:"IP" help:"The client's address."`
	Listener string `placeholder:"NAME" help:"The listener that it comes to (default: the first)."`
	Helo     string `default:"client.example" placeholder:"NAME" help:"What it calls itself (default: ${default})."`
	From     string `placeholder:"ADDRESS" help:"The sender (default: none, as for bounces)."`
	To       string `placeholder:"ADDRESS" help:"The recipient (default: only the connect flow is gone through)."`
	User     string `placeholder:"NAME" help:"The user who has logged in."`
	Message  string `placeholder:"FILE" help:"The message, for the content flow; - is standard input."`
}

// Help is the long help text.
func (*flowExplainCmd) Help() string {
	return `Asks the running gateway what its flows would do: at connect, with the recipient, and
with the message where there is one. It stops at the first refusal, as a session does.
Nothing is sent, counted or remembered; blocks that live by counting are not asked,
and it says so. Lists, the DNS and other servers are asked as for mail.

  gatepost flow explain --client 198.51.100.7 --helo mx.example.net --from a@example.net --to anna@example.com
  gatepost flow explain --client 198.51.100.7 --from a@example.net --to anna@example.com --message mail.eml`
}

// Run implements the subcommand.
func (c *flowExplainCmd) Run(t *terminal) error {
	if _, err := netip.ParseAddr(c.Client); err != nil {
		return usageError{fmt.Errorf("--client %s: it is no address", c.Client)}
	}
	if c.Message != "" && c.To == "" {
		return usageError{errors.New("--message needs --to: the recipient decides which flow it goes through")}
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	q := url.Values{"client": {c.Client}, "listener": {c.Listener}, "helo": {c.Helo}, "user": {c.User}, "from": {c.From}, "to": {c.To}}
	var x flowsExplained
	if c.Message == "" {
		err = g.get("/api/v1/flow", q, &x)
	} else {
		err = c.withMessage(g, q, &x)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return t.json(x)
	}
	return t.print(flowsText(&x, c.Message))
}

func (c *flowExplainCmd) withMessage(g *client, q url.Values, x *flowsExplained) error {
	m, err := openMessage(c.Message)
	if err != nil {
		return fmt.Errorf("read %s: %w", c.Message, err)
	}
	defer m.Close()
	return g.send("/api/v1/flow/message", q, m, x)
}

// flowsExplained is what the stages do, as far as a session gets. A stage that has no
// flow, or is not come to, is nil.
type flowsExplained struct {
	Listener  string                    `json:"listener"`
	Trusted   bool                      `json:"trusted"`
	Connect   *gateway.StageExplanation `json:"connect,omitempty"`
	Route     *route.Explanation        `json:"route,omitempty"`
	Recipient *gateway.StageExplanation `json:"recipient,omitempty"`
	Content   *gateway.Explanation      `json:"content,omitempty"`
	// Refused says at which stage the session ends, "" for at none.
	Refused string `json:"refused,omitempty"`
}

// Text is the explanation as the command line prints it.
func (x *flowsExplained) Text() string { return flowsText(x, "the message") }

// flowsAPI explains flows for the API.
type flowsAPI struct{ *app }

// ExplainFlows implements admin.Flows.
func (a flowsAPI) ExplainFlows(ctx context.Context, q admin.FlowQuery, body io.Reader) (any, error) {
	state := a.state.Load()
	if state == nil {
		return nil, errors.New("not started yet")
	}
	return a.explainFlows(ctx, state.gen, q, body)
}

// explainFlows goes through the flows of a generation.
func (a *app) explainFlows(ctx context.Context, gen *generation, q admin.FlowQuery, body io.Reader) (any, error) {
	g := gen.gateway
	l, err := listenerNamed(gen.cfg, q.Listener)
	if err != nil {
		return nil, err
	}
	s := clientOf(l, q.Client, q.User)
	s.Helo, s.ESMTP, s.Started = q.Helo, true, time.Now()
	x := &flowsExplained{Listener: s.Listener, Trusted: s.Trusted, Connect: g.ExplainConnect(ctx, s)}
	if c := x.Connect; c != nil && c.Action != mail.Accept.String() && (!c.Later || s.User == "") {
		x.Refused = "connect"
		return x, nil
	}
	if q.To.IsNull() {
		return x, nil
	}
	r := mail.Recipient{Address: q.To, Original: q.To}
	way := gen.routes.Explain(ctx, s.Listener, s, q.To)
	x.Route = &way
	if _, d := gen.routes.Resolve(ctx, s.Listener, s, &r); d.Act != mail.Accept {
		x.Refused = "route"
		return x, nil
	}
	env := &mail.Envelope{ID: mail.NewID(), Received: time.Now(), Session: *s, Sender: q.From}
	x.Recipient = g.ExplainRecipient(ctx, env, &r)
	if x.Recipient != nil && x.Recipient.Action != mail.Accept.String() {
		x.Refused = "recipient"
		return x, nil
	}
	if body == nil {
		return x, nil
	}
	m, done, err := contentAPI{a}.spoolMessage(body)
	if err != nil {
		return nil, err
	}
	defer done()
	m.Envelope.Session, m.Envelope.Sender, m.Envelope.Recipients = env.Session, env.Sender, []mail.Recipient{r}
	x.Content, err = g.Explain(ctx, m)
	return x, err
}

// flowsText is an explanation for people.
func flowsText(x *flowsExplained, message string) string {
	var b strings.Builder
	who := "a stranger"
	if x.Trusted {
		who = "in trusted_networks"
	}
	fmt.Fprintf(&b, "Listener %s, the client is %s\n", clean(x.Listener), who)
	b.WriteString(stageText(x.Connect, "connect"))
	if x.Route != nil {
		b.WriteString("\nroute: " + routeText(&routeExplained{Explanation: *x.Route}))
		if x.Refused != "route" {
			b.WriteString(stageText(x.Recipient, "recipient"))
		}
	}
	if x.Content != nil {
		b.WriteString("\ncontent: " + explanationText(&scanned{File: message, Explanation: *x.Content}))
	}
	if x.Refused != "" {
		fmt.Fprintf(&b, "\nThe session gets no further than %s.\n", x.Refused)
	}
	return b.String()
}

// stageText is one flow for people.
func stageText(x *gateway.StageExplanation, stage string) string {
	if x == nil {
		return "\n" + stage + ": there is no flow\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s", stage, x.Action)
	if x.Block != "" {
		b.WriteString(" by " + clean(x.Block))
	}
	if x.Later {
		b.WriteString(", at RCPT")
	}
	fmt.Fprintf(&b, ", flow %s, score %.1f", clean(x.Flow), x.Score)
	if x.Delay > 0 {
		fmt.Fprintf(&b, ", held back for %s", x.Delay)
	}
	if x.Bandwidth > 0 {
		fmt.Fprintf(&b, ", %d bytes a second", x.Bandwidth)
	}
	b.WriteString("\n")
	if x.Reply != "" {
		b.WriteString("  answer:  " + clean(x.Reply) + "\n")
	}
	if x.Reason != "" {
		b.WriteString("  reason:  " + clean(x.Reason) + "\n")
	}
	b.WriteString(stepsText(x.Steps))
	for _, w := range x.Would {
		b.WriteString("  observed: " + clean(w) + "\n")
	}
	return b.String()
}

// stepsText is the blocks of a flow as a table.
func stepsText(steps []gateway.StageStep) string {
	var t table
	t.add("  BLOCK", "RESULT", "SCORE", "SUM", "SYMBOL", "WHY")
	for i := range steps {
		s := &steps[i]
		sum := fmt.Sprintf("%.2f", s.Score)
		switch {
		case s.Note != "":
			t.add("  "+clean(s.Block), "-", "", sum, "", clean(s.Note))
		case len(s.Findings) == 0:
			t.add("  "+clean(s.Block), string(mail.Clean), "", sum, "", "nothing found, "+s.Took.Round(10*time.Microsecond).String())
		}
		for _, f := range s.Findings {
			score := ""
			if f.Score != 0 {
				score = fmt.Sprintf("%+.2f", f.Score)
			}
			t.add("  "+clean(s.Block), string(f.Result), score, sum, clean(f.Symbol), clean(f.Reason))
		}
	}
	return t.text()
}
