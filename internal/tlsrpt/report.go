package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// Report is a report as RFC 8460 §4.4 has it.
type Report struct {
	Organization string     `json:"organization-name"`
	Range        DateRange  `json:"date-range"`
	Contact      string     `json:"contact-info"`
	ID           string     `json:"report-id"`
	Policies     []Verified `json:"policies"`
}

// DateRange is the time that a report is about.
type DateRange struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

// Verified is what came of one policy.
type Verified struct {
	Policy  AppliedPolicy `json:"policy"`
	Summary Summary       `json:"summary"`
	Details []Detail      `json:"failure-details,omitempty"`
}

// AppliedPolicy is a policy with the domain that it is of.
type AppliedPolicy struct {
	Policy
	Domain string `json:"policy-domain"`
}

// Summary is how often a policy worked.
type Summary struct {
	Successful int64 `json:"total-successful-session-count"`
	Failed     int64 `json:"total-failure-session-count"`
}

// Detail is one kind of failure.
type Detail struct {
	Failure
	Count int64 `json:"failed-session-count"`
}

// report makes the report of one day to one domain.
func (c *Collector) report(date, name string, policies []*tally) (*Report, error) {
	start, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return nil, fmt.Errorf("make TLS report: %w", err)
	}
	r := &Report{
		Organization: c.cfg.Organization, Contact: c.cfg.From.String(),
		ID:    mail.NewID().String() + "@" + c.cfg.Hostname,
		Range: DateRange{start, start.Add(24*time.Hour - time.Second)},
	}
	for _, t := range policies {
		v := Verified{Policy: AppliedPolicy{t.Policy, name}, Summary: Summary{t.Successes, t.Failed}}
		if t.Policy.Type == TLSA && len(t.Policy.MXHosts) > 0 {
			// RFC 8460 §1.1: for DANE, the policy domain is the TLSA base domain.
			v.Policy.Domain = t.Policy.MXHosts[0]
			v.Policy.MXHosts = nil
		}
		for _, f := range t.Failures {
			v.Details = append(v.Details, Detail{f.Failure, f.Count})
		}
		r.Policies = append(r.Policies, v)
	}
	return r, nil
}

// compressed is the report as it travels.
func (r *Report) compressed() ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if err := json.NewEncoder(w).Encode(r); err != nil {
		return nil, fmt.Errorf("write TLS report: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write TLS report: %w", err)
	}
	return b.Bytes(), nil
}

// mail is the report as a message (RFC 8460 §5.3).
func (c *Collector) mail(r *Report, name string, to mail.Address, packed []byte) []byte {
	var b bytes.Buffer
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	boundary := "tlsrpt-" + mail.NewID().String()
	field("Date", message.FormatDate(time.Now()))
	field("From", "<"+c.cfg.From.String()+">")
	field("To", "<"+to.String()+">")
	field("Subject", "Report Domain: "+name+"\r\n Submitter: "+c.cfg.From.Domain+"\r\n Report-ID: <"+r.ID+">")
	field("Message-ID", "<"+r.ID+">")
	field("TLS-Report-Domain", name)
	field("TLS-Report-Submitter", c.cfg.From.Domain)
	field("Auto-Submitted", "auto-generated") // RFC 3834 §5
	field("MIME-Version", "1.0")
	field("Content-Type", "multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\""+boundary+"\"")
	b.WriteString("\r\n--" + boundary + "\r\n")
	field("Content-Type", "text/plain; charset=us-ascii")
	fmt.Fprintf(&b, "\r\nThis is a report about TLS sessions with mail exchangers of\r\n%s\r\non %s, made by %s.\r\n", name, r.Range.Start.Format(time.DateOnly), c.cfg.Hostname)
	b.WriteString("\r\n--" + boundary + "\r\n")
	file := fmt.Sprintf("%s!%s!%d!%d.json.gz", c.cfg.From.Domain, name, r.Range.Start.Unix(), r.Range.End.Unix())
	field("Content-Type", "application/tlsrpt+gzip")
	field("Content-Transfer-Encoding", "base64")
	field("Content-Disposition", "attachment;\r\n\tfilename=\""+file+"\"")
	b.WriteString("\r\n")
	text := base64.StdEncoding.EncodeToString(packed)
	for text != "" {
		n := min(len(text), 76)
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	b.WriteString("--" + boundary + "--\r\n")
	return b.Bytes()
}
