package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/scan"
)

// scanCmd explains what the content flow thinks of messages.
type scanCmd struct {
	control   `embed:""`
	Flow      string   `placeholder:"NAME" help:"The flow to run, whatever the recipient."`
	Recipient string   `placeholder:"ADDRESS" help:"For whom: decides the flow, and which filters apply."`
	Sender    string   `placeholder:"ADDRESS" help:"The envelope sender (default: none)."`
	Client    string   `placeholder:"IP" help:"The client's address, for SPF and reputation (default: 127.0.0.1)."`
	Files     []string `arg:"" name:"file" help:"Messages, one per file; - is standard input."`
}

// Help is the long help text.
func (*scanCmd) Help() string {
	return `Runs the content flow of the running gateway on messages and prints the verdict, each
finding with its score and reason, and the message as it was read. Nothing is
kept, sent or learned. The exit status is 0 whatever the verdict is.

  gatepost scan suspicious.eml
  gatepost scan --recipient bob@example.com --client 192.0.2.7 --json - < mail.eml`
}

// scanned is what is printed for one file.
type scanned struct {
	File string `json:"file"`
	gateway.Explanation
}

// Run implements the subcommand.
func (c *scanCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	all := []scanned{}
	for _, name := range c.Files {
		x, err := c.scan(g, name)
		if err != nil {
			err = fmt.Errorf("scan %s: %w", name, err)
			if c.JSON {
				return errors.Join(err, t.json(all))
			}
			return err
		}
		all = append(all, x)
		if !c.JSON {
			if err := t.print(explanationText(&x)); err != nil {
				return err
			}
		}
	}
	if c.JSON {
		return t.json(all)
	}
	return nil
}

func (c *scanCmd) scan(g *client, name string) (scanned, error) {
	x := scanned{File: name}
	m, err := openMessage(name)
	if err != nil {
		return x, err
	}
	defer m.Close()
	q := url.Values{}
	for key, v := range map[string]string{"flow": c.Flow, "recipient": c.Recipient, "sender": c.Sender, "client": c.Client} {
		if v != "" {
			q.Set(key, v)
		}
	}
	return x, g.send("/api/v1/scan", q, m, &x.Explanation)
}

// send posts a message and decodes the answer into v.
func (c *client) send(path string, q url.Values, message io.Reader, v any) error {
	u := url.URL{Scheme: "http", Host: "gatepost", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, u.String(), message)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "message/rfc822")
	return c.answer(req, v)
}

// explanationText is an explanation for people.
func explanationText(x *scanned) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", clean(x.File), verdictText(&x.Verdict))
	if x.Flow == "" {
		b.WriteString(": no content flow applies, so nothing was scanned\n")
		return b.String()
	}
	fmt.Fprintf(&b, ", flow %s, %s\n\n", clean(x.Flow), x.Took.Round(10*time.Microsecond))
	b.WriteString(findingsText(x))
	b.WriteString("\nAs it was read:\n")
	treeText(&b, x.Tree, 1)
	if inside := slices.DeleteFunc(slices.Clone(x.Files), func(f scan.File) bool { return !f.InArchive() }); len(inside) > 0 {
		b.WriteString("\nIn archives and documents:\n")
		for _, f := range inside {
			fmt.Fprintf(&b, "  %s  %s", clean(strings.Join(f.Path, " > ")), clean(strings.Join(f.Types, ", ")))
			if f.Encrypted {
				b.WriteString("  encrypted")
			}
			b.WriteByte('\n')
		}
	}
	b.WriteByte('\n')
	return b.String()
}

// verdictText is a verdict with who decided, on one line.
func verdictText(v *mail.Verdict) string {
	s := string(v.Action)
	if v.Block != "" {
		s += " by " + clean(v.Block)
	}
	if v.Rule != "" {
		s += " (" + clean(v.Rule) + ")"
	}
	if v.Reason != "" {
		s += ": " + clean(v.Reason)
	}
	return s + fmt.Sprintf(", score %.1f", v.Score)
}

// findingsText is the findings of all blocks as a table, those that matter first.
func findingsText(x *scanned) string {
	var t table
	t.add("  BLOCK", "RESULT", "SCORE", "SYMBOL", "WHY")
	for _, f := range x.Session {
		t.add("  session: "+clean(f.Module), string(f.Result), fmt.Sprintf("%+.2f", f.Score), clean(f.Symbol), clean(f.Reason))
	}
	for _, r := range x.Reports {
		block := r.Use
		if r.Label != "" {
			block += " (" + r.Label + ")"
		}
		if len(r.Findings) == 0 {
			t.add("  "+clean(block), string(mail.Clean), "", "", "nothing found, "+r.Took.Round(10*time.Microsecond).String())
		}
		for _, f := range slices.SortedStableFunc(slices.Values(r.Findings), byWeight) {
			score, where := "", ""
			if f.Score != 0 {
				score = fmt.Sprintf("%+.2f", f.Score)
			}
			if name := strings.TrimSpace(f.Name); name != "" {
				where = " [" + clean(name) + "]"
			}
			t.add("  "+clean(block), string(f.Result), score, clean(f.Symbol), clean(f.Reason)+where)
		}
	}
	return t.text()
}

// byWeight orders findings: matches, then what is unknown, then by score.
func byWeight(a, b mail.Finding) int {
	rank := map[mail.Result]int{mail.Match: 0, mail.Unknown: 1, mail.Clean: 2}
	return cmp.Or(cmp.Compare(rank[a.Result], rank[b.Result]), -cmp.Compare(a.Score, b.Score))
}

// treeText draws the parts of a message.
func treeText(b *strings.Builder, p *mimetree.Part, depth int) {
	if p == nil {
		return
	}
	fmt.Fprintf(b, "%s%s  %s", strings.Repeat("  ", depth), p.Path, clean(strings.Join(p.Types, " or ")))
	if p.Reading != mimetree.Main {
		fmt.Fprintf(b, "  (%s)", p.Reading)
	}
	for _, n := range p.Names {
		fmt.Fprintf(b, "  %q", clean(n.Text))
	}
	var kinds []string
	for _, c := range p.Contents {
		kinds = append(kinds, c.Types...)
	}
	if slices.Sort(kinds); len(kinds) > 0 {
		fmt.Fprintf(b, "  is %s", clean(strings.Join(slices.Compact(kinds), ", ")))
	}
	b.WriteByte('\n')
	for _, child := range p.Children {
		treeText(b, child, depth+1)
	}
}
