package dialogue

import (
	"bufio"
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"

	"gatepost/test/sink"
)

// report is a delivery status notification, read by the standard library.
type report struct {
	header     mail.Header
	text       string                 // the part for people
	status     textproto.MIMEHeader   // of the message
	recipients []textproto.MIMEHeader // of each recipient
	original   string                 // what comes back
	returned   string                 // its media type
}

// readReport reads a DSN and fails the test where it is not one (RFC 3464).
func readReport(t *testing.T, m sink.Mail) report {
	t.Helper()
	if !strings.HasPrefix(m.From, "<>") {
		t.Errorf("a report from %s, want the null sender", m.From)
	}
	msg, err := mail.ReadMessage(bytes.NewReader(m.Data))
	if err != nil {
		t.Fatalf("%v:\n%s", err, m.Data)
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("content type %s %v, %v:\n%s", kind, params, err, m.Data)
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	r := report{header: msg.Header}
	r.text, _ = readPart(t, parts, "text/plain")
	var status string
	status, _ = readPart(t, parts, "message/delivery-status", "message/global-delivery-status")
	r.original, r.returned = readPart(t, parts, "text/rfc822-headers", "message/rfc822", "message/global-headers", "message/global")
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("a fourth part in the report: %v", err)
	}
	fields := textproto.NewReader(bufio.NewReader(strings.NewReader(status)))
	for first := true; ; first = false {
		h, err := fields.ReadMIMEHeader()
		switch {
		case first:
			r.status = h
		case len(h) > 0:
			r.recipients = append(r.recipients, h)
		}
		if err != nil {
			break
		}
	}
	if r.status.Get("Reporting-MTA") != "dns; gw.example.com" || len(r.recipients) == 0 {
		t.Errorf("status part:\n%s", status)
	}
	return r
}

func readPart(t *testing.T, parts *multipart.Reader, kinds ...string) (text, kind string) {
	t.Helper()
	p, err := parts.NextPart()
	if err != nil {
		t.Fatalf("no part %v: %v", kinds, err)
	}
	kind, _, _ = mime.ParseMediaType(p.Header.Get("Content-Type"))
	known := false
	for _, k := range kinds {
		known = known || k == kind
	}
	body, err := io.ReadAll(p)
	if !known || err != nil {
		t.Fatalf("part %q, %v, want one of %v", kind, err, kinds)
	}
	return string(body), kind
}

// about finds the reports at the sink that name the recipient.
func about(t *testing.T, s *sink.Sink, rcpt string) (found []report) {
	t.Helper()
	for _, m := range s.Mails() {
		if r := readReport(t, m); r.recipients[0].Get("Final-Recipient") == "rfc822; "+rcpt {
			found = append(found, r)
		}
	}
	return found
}

// theReport waits for the report about the recipient and checks its action and
// status.
func theReport(t *testing.T, s *sink.Sink, rcpt, action, status string) report {
	t.Helper()
	var found []report
	if !s.Wait(patience, func() bool { found = about(t, s, rcpt); return len(found) > 0 }) {
		t.Fatalf("no report about %s", rcpt)
	}
	got := found[0].recipients[0]
	if len(found) != 1 || got.Get("Action") != action || got.Get("Status") != status {
		t.Errorf("%d reports about %s, the first says %v; want %s %s", len(found), rcpt, got, action, status)
	}
	return found[0]
}
