package history

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// csvColumns are those of an export.
func csvColumns() []string {
	return []string{"time", "kind", "result", "id", "queue_id", "session", "listener", "client", "helo", "user", "sender", "recipients",
		"subject", "message_id", "size", "verdict", "threat", "score", "reason", "reply", "host", "transport", "attempt", "findings", "actor", "node"}
}

// CSV writes events as comma-separated values (RFC 4180), for spreadsheets: a cell
// that one of these would take for a formula has an apostrophe in front. Strangers
// write subjects and names.
type CSV struct{ w *csv.Writer }

// NewCSV begins with the names of the columns.
func NewCSV(w io.Writer) (*CSV, error) {
	c := &CSV{csv.NewWriter(w)}
	c.w.UseCRLF = true
	return c, c.w.Write(csvColumns())
}

// Write adds events.
func (c *CSV) Write(events []*mail.Event) error {
	for _, e := range events {
		row := csvRow(e)
		for i := range row {
			row[i] = harmless(row[i])
		}
		if err := c.w.Write(row); err != nil {
			return err
		}
	}
	c.w.Flush()
	return c.w.Error()
}

// harmless keeps a spreadsheet from seeing a formula.
func harmless(cell string) string {
	if trimmed := strings.TrimLeft(cell, " \t\r\n\u00a0"); trimmed != "" && strings.ContainsRune("=+-@\t\r|%＝＋－＠", []rune(trimmed)[0]) || cell != "" && strings.ContainsAny(cell[:1], "\t\r\n") {
		return "'" + cell
	}
	return cell
}

func csvRow(e *mail.Event) []string {
	var recipients, findings []string
	for i := range e.Recipients {
		recipients = append(recipients, e.Recipients[i].Address)
	}
	for i := range e.Findings {
		f := &e.Findings[i]
		if f.Result != mail.Clean {
			findings = append(findings, strings.TrimSuffix(f.Module+":"+f.Symbol, ":")+"="+string(f.Result))
		}
	}
	client, queueID := "", ""
	if e.Client.IsValid() {
		client = e.Client.String()
	}
	if e.Item > 0 {
		queueID = mail.QueueID{Message: e.Message, N: e.Item}.String()
	}
	return []string{e.Time.UTC().Format(time.RFC3339Nano), string(e.Kind), string(e.Result), idText(e.Message), queueID, idText(e.Session),
		e.Listener, client, e.Helo, e.User, e.Sender, strings.Join(recipients, " "), e.Subject, e.MessageID, countText(e.Size),
		string(e.Action), string(e.Threat), scoreText(e.Score), e.Reason, e.Reply, e.Host, e.Transport, countText(int64(e.Attempt)),
		strings.Join(findings, " "), e.Actor, e.Node}
}

func idText(id mail.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

func countText(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func scoreText(v float64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
