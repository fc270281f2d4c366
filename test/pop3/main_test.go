package pop3

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gatepost/test/clamd"
	"gatepost/test/dovecot"
	"gatepost/test/gatepost"
)

func TestMain(m *testing.M) { os.Exit(gatepost.Main(m)) }

// patience is how long tests wait for what is to come.
const patience = 30 * time.Second

// proxy is a gateway whose POP3 listener stands in front of a server.
type proxy struct {
	*gatepost.Instance
	// Addr is the address of the listener.
	Addr string
}

// options are what tests vary: addr is where the listener is, listener are further
// lines of it, limits of [limits].
type options struct {
	addr, upstream, listener, blocks, more, limits string
}

func startProxy(t *testing.T, o options) proxy {
	t.Helper()
	addr := o.addr
	if addr == "" {
		addr = gatepost.FreeAddress(t)
	}
	more := fmt.Sprintf("[[listener]]\nname = \"pop\"\nprotocol = \"pop3\"\naddress = [%q]\nupstream = %q\n%s\n", addr, o.upstream, o.listener)
	if o.blocks != "" {
		more += "flows = { content = \"pop\" }\n[[flow]]\nname = \"pop\"\nstage = \"content\"\nblocks = [" + o.blocks + "]\n"
	}
	s := gatepost.Settings{Limits: "max_sessions_per_ip = 100\n" + o.limits, More: more + o.more}
	return proxy{gatepost.Start(t, gatepost.Options{Settings: s}), addr}
}

// scanning is what a listener with a virus scanner has more.
func scanning(c *clamd.Instance) options {
	return options{
		blocks: `{ use = "clamav", on_match = "quarantine", on_unknown = "defer" }`,
		more:   "[clamav]\naddress = \"" + c.Unix + "\"\n",
	}
}

// startDovecot starts a server with one user and his mail.
func startDovecot(t *testing.T, user string, mails ...[]byte) *dovecot.Instance {
	t.Helper()
	d := dovecot.Run(t, dovecot.Config{Users: []string{user}})
	for i, m := range mails {
		if err := d.Put(user, dovecot.Name(i), m); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// infected is a message with the test file in an attachment.
func infected(subject string) []byte {
	return []byte("From: Ada <ada@out.example>\nTo: joe@in.example\nSubject: " + subject + "\nDate: Thu, 1 Oct 2026 10:00:00 +0000\nMessage-ID: <virus@out.example>\n" +
		"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nSee attachment.\n--b\nContent-Type: application/octet-stream; name=a.com\n\n" +
		string(clamd.EICAR()) + "\n--b--\n")
}

// clean are n ordinary mails of many shapes: line ends of both kinds, lines of
// dots, 8-bit text, no end of the last line, no body, long lines, attachments.
func clean(n int) [][]byte {
	var all [][]byte
	for i := range n {
		head := fmt.Sprintf("From: Ada Nº%d <ada@out.example>\nTo: joe@in.example\nSubject: mail %d\nMessage-ID: <%d@out.example>\nDate: Thu, 1 Oct 2026 10:00:00 +0000\n", i%3, i, i)
		body := strings.Repeat(fmt.Sprintf("Line of mail %d with some words in it.\n", i), i%50)
		switch i % 10 {
		case 1:
			body = "\n.\n..\n...\n.hidden\n" + body
		case 2:
			body = "\nGrüße aus München, 日本語\n" + body + "\xff\xfe raw\n"
		case 3:
			body = "\n" + body + "no end of line"
		case 4:
			body = ""
		case 5:
			body = "\n" + strings.Repeat("long ", 1000*(1+i%7)) + "\n"
		case 6:
			body = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"=_x\"\n\n--=_x\nContent-Type: text/plain\n\n.\ntext\n--=_x\nContent-Type: application/pdf; name=\"a.pdf\"\nContent-Transfer-Encoding: base64\n\n" +
				strings.Repeat("JVBERi0xLjQKJcfsj6IKNSAwIG9iago8PC9MZW5ndGggNiAwIFIvRmlsdGVyIC9GbGF0ZURlY29k\n", i) + "--=_x--\n"
		case 7:
			body = "\n\n\n.\n\n"
		default:
			body = "\n" + body
		}
		text := head + body
		if i%4 == 0 {
			text = strings.ReplaceAll(text, "\n", "\r\n")
		}
		all = append(all, []byte(text))
	}
	return all
}
