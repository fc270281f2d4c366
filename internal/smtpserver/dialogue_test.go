package smtpserver

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"gatepost/internal/smtp"
)

// TestDialogues plays the files testdata/*.txtar against a server, in virtual time.
//
// The section "config" holds "Field value" lines for Config, "from" the client's
// address. In "dialogue":
//
//	C: text    the client sends a line; several in a row go out in one write
//	C| "text"  the same with a quoted string and no CRLF
//	S: text    the server's next line; * stands for anything
//	S$         the server closes
//	quiet 5s   nothing comes for so long
//	pause 5s   the client does nothing for so long
//	TLS        the client starts a handshake
//	close, reset
//
// The section "mails" lists what the intake committed.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	cert := testTLS(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { playFile(t, archive, cert) })
		})
	}
}

// playFile plays the dialogues of one file; each section "dialogue" is a session
// of its own with the same server.
func playFile(t *testing.T, a *txtar.Archive, cert *tls.Config) {
	c := Config{TLSConfig: cert}
	from, wantMails, checkMails := "192.0.2.1", "", false
	var dialogues []string
	for _, f := range a.Files {
		switch f.Name {
		case "config":
			from = readConfig(t, &c, string(f.Data), from)
		case "dialogue":
			dialogues = append(dialogues, string(f.Data))
		case "mails":
			wantMails, checkMails = string(f.Data), true
		default:
			t.Fatalf("unknown section %q", f.Name)
		}
	}
	x := startServer(t, c, Options{})
	for _, d := range dialogues {
		play(t, x.dialFrom(from), d)
	}
	got := formatMails(x.stop())
	if checkMails || got != "" {
		if diff := cmp.Diff(strings.TrimSpace(wantMails), strings.TrimSpace(got)); diff != "" {
			t.Errorf("mails (-want +got):\n%s", diff)
		}
	}
}

func readConfig(t *testing.T, c *Config, text, from string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "from" {
			from = value
			continue
		}
		field := reflect.ValueOf(c).Elem().FieldByName(key)
		if !field.IsValid() {
			t.Fatalf("no field %q", key)
		}
		switch p := field.Addr().Interface().(type) {
		case *[]string:
			*p = strings.Fields(value)
		case *[]netip.Prefix:
			*p = append(*p, netip.MustParsePrefix(value))
		case *bool:
			*p = value == "true"
		case *time.Duration:
			*p, _ = time.ParseDuration(value)
		case *TLSMode:
			*p = map[string]TLSMode{"starttls": TLSStart, "required": TLSRequired, "implicit": TLSImplicit}[value]
		case *LineEndings:
			*p = map[string]LineEndings{"reject": Reject}[value]
		case *Penalty:
			*p = map[string]Penalty{"defer": PenaltyDefer, "reject": PenaltyReject}[value]
		case *smtp.Extensions:
			*p |= map[string]smtp.Extensions{"chunking": smtp.ExtChunking, "dsn": smtp.ExtDSN}[value]
		default:
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			field.SetInt(n)
		}
	}
	return from
}

func play(t *testing.T, c *client, dialogue string) {
	t.Helper()
	var out strings.Builder
	send := func() {
		if out.Len() > 0 {
			c.sendRaw(out.String())
			out.Reset()
		}
	}
	n := 0
	for line := range strings.Lines(dialogue) {
		n++
		line = strings.TrimRight(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		if word != "C:" && word != "C|" {
			send()
		}
		switch word {
		case "C:":
			out.WriteString(rest + "\r\n")
		case "C|":
			raw, err := strconv.Unquote(rest)
			if err != nil {
				t.Fatalf("line %d: %v", n, err)
			}
			out.WriteString(raw)
		case "S:":
			if got := c.line(); !matches(rest, got) {
				t.Fatalf("line %d: got %q, want %q", n, got, rest)
			}
		case "S$":
			if got := c.line(); got != "" {
				t.Fatalf("line %d: got %q, want the end", n, got)
			}
		case "TLS":
			c.startTLS()
		case "close":
			c.conn.Close()
		case "reset":
			c.raw.Reset()
		case "pause", "quiet":
			wait(t, c, n, rest, word == "quiet")
		case "", "#":
		default:
			t.Fatalf("line %d: unknown word %q", n, word)
		}
	}
	send()
	synctest.Wait()
}

// wait lets time pass.
func wait(t *testing.T, c *client, n int, duration string, quiet bool) {
	t.Helper()
	d, err := time.ParseDuration(duration)
	if err != nil {
		t.Fatalf("line %d: %v", n, err)
	}
	if !quiet {
		<-time.After(d)
		return
	}
	c.conn.SetReadDeadline(time.Now().Add(d))
	b := make([]byte, 100)
	if got, err := c.conn.Read(b); got > 0 || err == nil {
		t.Fatalf("line %d: got %q, want silence", n, b[:got])
	}
}

// matches compares with a pattern in which * stands for anything. path.Match does
// it once brackets and slashes are out of the way.
func matches(pattern, line string) bool {
	clean := strings.NewReplacer("/", "|", "[", "(", "]", ")", "?", "!", `\`, "|")
	ok, err := path.Match(clean.Replace(pattern), clean.Replace(line))
	return ok && err == nil
}

// formatMails writes each message as the section "mails" has it.
func formatMails(mails []received) string {
	var b strings.Builder
	for _, m := range mails {
		fmt.Fprintf(&b, "from <%s>", m.env.Sender)
		for _, r := range m.env.Recipients {
			fmt.Fprintf(&b, " to <%s>", r.Address)
		}
		f := m.facts
		for name, set := range map[string]bool{"normalized": f.Normalized} {
			if set {
				fmt.Fprintf(&b, " %s", name)
			}
		}
		b.WriteByte('\n')
		for line := range strings.SplitAfterSeq(m.body, "\r\n") {
			if line != "" {
				fmt.Fprintf(&b, "%q\n", line)
			}
		}
	}
	return b.String()
}
