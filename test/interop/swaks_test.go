package interop

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/peer"
)

func TestSwaksDelivers(t *testing.T) {
	peer.Require(t, "swaks")
	g, next := pair(t, gatepost.Settings{})
	binary := filepath.Join(t.TempDir(), "attachment.bin")
	if err := os.WriteFile(binary, bytes.Repeat([]byte{0, 1, 2, 0xff, '\n', '.', '\r'}, 300_000), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		sees string // in swaks's transcript
	}{
		{"ESMTP", nil, "250 2.0.0"},
		{"HELO", []string{"--protocol", "SMTP"}, "HELO client.example"},
		{"STARTTLS", []string{"--tls"}, "TLS started with cipher TLS"},
		{"pipelining", []string{"--pipeline"}, "354"},
		{"STARTTLS with pipelining", []string{"--tls", "--pipeline"}, "TLS started"},
		{"two recipients", []string{"--to", "second@in.example"}, "RCPT TO:<second@in.example>"},
		{"null sender", []string{"--from", "<>"}, "MAIL FROM:<>"},
		{"trusted client to another domain", []string{"--to", "someone@elsewhere.example", "--local-interface", gatepost.Trusted}, "250 2.0.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := ledger.New(3000)
			r := swaks(t, g, tt.args, "--data", "@"+write(t, m.Data))
			if r.Status != 0 || !strings.Contains(r.Output, tt.sees) {
				t.Fatalf("swaks: status %d, want %q in:\n%s", r.Status, tt.sees, r.Output)
			}
			arrived(t, next, m.ID)
		})
	}
	t.Run("8-bit body", func(t *testing.T) {
		m := ledger.Wrap("8bit-body", []byte("Grüße aus Köln\r\n"), "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit")
		if r := swaks(t, g, nil, "--data", "@"+write(t, m.Data)); r.Status != 0 {
			t.Fatalf("swaks: %s", r.Output)
		}
		arrived(t, next, m.ID)
	})
	t.Run("attachment of 2 MB", func(t *testing.T) {
		before := len(next.Mails())
		if r := swaks(t, g, nil, "--attach", "@"+binary); r.Status != 0 {
			t.Fatalf("swaks: %s", r.Output)
		}
		mails := next.WaitMails(t, before+1, patience)
		if n := len(mails[before].Data); n < 2_800_000 {
			t.Errorf("mail of %d bytes arrived, want at least the attachment in base64", n)
		}
	})
}

func TestSwaksIsRefused(t *testing.T) {
	peer.Require(t, "swaks")
	g, next := pair(t, gatepost.Settings{})
	tests := []struct {
		name string
		args []string
		sees string
	}{
		{"relaying by a stranger", []string{"--to", "someone@elsewhere.example"}, "550 5.7.1"},
		{"an address literal", []string{"--to", "someone@[192.0.2.1]"}, "<** 5"},
		{"authentication that is not offered", []string{"--auth", "PLAIN", "--auth-user", "u", "--auth-password", "p"}, "Host did not advertise authentication"},
		{"TLS on connect at a STARTTLS port", []string{"--tlsc"}, "TLS startup failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := swaks(t, g, tt.args)
			if r.Status == 0 || !strings.Contains(r.Output, tt.sees) {
				t.Errorf("swaks: status %d, want a failure and %q in:\n%s", r.Status, tt.sees, r.Output)
			}
		})
	}
	if n := len(next.Mails()); n != 0 {
		t.Errorf("%d mails arrived, want none", n)
	}
}

// swaks runs swaks against the gateway; args come after the defaults and may
// override them.
func swaks(t *testing.T, g *gatepost.Instance, args []string, more ...string) peer.Result {
	t.Helper()
	all := append([]string{"--server", g.SMTP, "--helo", "client.example", "--from", "sender@out.example"}, args...)
	if !slices.Contains(args, "--to") {
		all = append(all, "--to", "user@in.example")
	}
	return peer.Run(t, "", "swaks", append(all, more...)...)
}

// write puts the data into a file as swaks wants it: LF line ends, and without
// the last one, which swaks adds.
func write(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "message.eml")
	data = bytes.ReplaceAll(bytes.TrimSuffix(data, []byte("\r\n")), []byte("\r\n"), []byte("\n"))
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
