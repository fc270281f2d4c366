package dialogue

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"gatepost/internal/dns/dnstest"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// A way is how a test's gateway is set up: the settings of the test as they are, or
// with flows of every stage around them.
type way func(*testing.T, gatepost.Settings) gatepost.Settings

// eachWay runs a test against a plain gateway, and against one with everything on.
func eachWay(t *testing.T, test func(*testing.T, way)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		test(t, func(_ *testing.T, s gatepost.Settings) gatepost.Settings { return s })
	})
	t.Run("flows on", func(t *testing.T) {
		t.Parallel()
		test(t, flowsOn)
	})
}

// onZone is what the name server of a gateway with flows on knows. The clients of the
// tests may send for out.example, and for nobody else who says who may.
const onZone = `
	2.0.0.127.zen.example.   60 IN A 127.0.0.2
	out.example.             60 IN TXT "v=spf1 ip4:127.0.0.0/8 ip4:192.0.2.0/24 ip4:203.0.113.0/24 ip6:2001:db8::/32 -all"
	out.example.             60 IN MX 10 mx.out.example.
	mx.out.example.          60 IN A 203.0.113.20
	second.example.          60 IN A 203.0.113.20
	far.example.             60 IN A 203.0.113.20
	client.example.          60 IN A 203.0.113.20
	gw.example.com.          60 IN A 203.0.113.21
`

// onFlows are flows of every stage, none of which has anything against the clients of
// the tests. Blocks that would make them wait or send them away have limits that they
// do not reach, so that they look and count but do not act.
const onFlows = `
[[flow]]
name = "on-connect"
stage = "connect"
blocks = [
  { use = "access", deny = ["198.51.100.0/24"] },
  { use = "rate", per = "address", connections = "10000/m", messages = "10000/m", recipients = "100000/m", bytes = "10GiB/h", errors = "10000/m", logins = "1000/m" },
  { use = "concurrency", limit = 5000 },
  { use = "trust", for = "1h" },
  { use = "pregreet" },
  { use = "dnsbl", zones = ["zen.example=127.0.0.2-11*3"], threshold = 3 },
  { use = "tarpit", delay = "1s", when_score = 50 },
  { use = "bandwidth", limit = "64KiB/s", when_score = 50 },
]

[[flow]]
name = "on-auth"
stage = "auth"
blocks = [{ use = "auth-file", file = %q }]

[[flow]]
name = "on-recipient"
stage = "recipient"
blocks = [
  { use = "harvest", slow_after = 400, session_limit = 400, network_slow_after = 4000, network_limit = 4000 },
  { use = "rate", per = "sender", messages = "10000/m" },
  { use = "helo" },
  { use = "spf" },
  { use = "own-domain-spoof", except = ["ada@second.example"] },
  { use = "sender-domain" },
  { use = "script", file = %q },
  { use = "greylist", allow = ["127.0.0.0/8", "192.0.2.0/24", "203.0.113.0/24", "2001:db8::/32"] },
]
`

const onContent = `
[[flow]]
name = "on-content"
stage = "content"
blocks = [{ use = "filters" }, { use = "script", file = %q }, { use = "score", mark = 500, quarantine = 600 }]

[[filter]]
name = "no such subject"
when = { subject = "^no message has this subject$" }
then = "reject"
`

const onScript = `
def recipient(s):
    if rate("to " + s.envelope.recipient, "100000/m") or s.envelope.recipient == "never@in.example":
        reject("Never")

def content(s):
    if s.message.subject == "never":
        reject("Never")
`

// onTables are rewriting tables of every kind, for addresses that no test uses.
const onTables = `
[rewrite]
canonical = ["canonical@on.example c@on.example"]
sender_canonical = ["sender@on.example s@on.example"]
masquerade = ["on.example"]
bcc = ["watched@on.example archive@on.example"]
virtual = ["team@on.example ada@on.example, bob@on.example"]
transport_map = ["on.example next"]
relocated = ["gone@on.example there@on.example"]
generic = ["inside@on.example outside@on.example"]
`

// flowsOn puts flows of every stage, limits of users and rewriting tables around the
// settings of a test. What a test has of its own stays: only stages that it has no flow
// for, and tables that it has not, are added.
func flowsOn(t *testing.T, s gatepost.Settings) gatepost.Settings {
	t.Helper()
	return flowsOnWith(t, s, dnstest.Start(t, onZone))
}

func flowsOnWith(t *testing.T, s gatepost.Settings, names *dnstest.Server) gatepost.Settings {
	t.Helper()
	s.Listener = withFlows(s.Listener)
	for setting, line := range map[string]string{"auth": `["PLAIN", "LOGIN"]`, "pregreet_delay": `"50ms"`} {
		if !regexp.MustCompile(`(?m)^` + setting + ` *=`).MatchString(s.Listener) {
			s.Listener = setting + " = " + line + "\n" + s.Listener
		}
	}
	script := file(t, onScript)
	s.More += fmt.Sprintf(onFlows, someUsers(t), script) + fmt.Sprintf(onContent, script)
	for head, table := range map[string]string{
		"[rewrite]": onTables,
		"[users]":   "\n[users]\nmessages_per_hour = 10000\nrecipients_per_day = 100000\nrecipients_per_message = 5000\n",
		"[dns]":     fmt.Sprintf("\n[dns]\nservers = [%q]\ntimeout = \"2s\"\n", names.Addr()),
	} {
		if !strings.Contains(s.More, head) {
			s.More += table
		}
	}
	return s
}

// withFlows adds the stages that the listener has no flow for.
func withFlows(listener string) string {
	const open = "flows = { "
	if !strings.Contains(listener, open) {
		// A table of the listener would swallow keys that follow; this is none.
		listener += "\n" + open + "}"
	}
	_, own, _ := strings.Cut(listener, open)
	own, _, _ = strings.Cut(own, "}")
	var more []string
	for _, stage := range []string{"connect", "auth", "recipient", "content"} {
		if !strings.Contains(own, stage+" = ") {
			more = append(more, fmt.Sprintf("%s = \"on-%s\"", stage, stage))
		}
	}
	if strings.TrimSpace(own) != "" && len(more) > 0 {
		more = append(more, "") // a comma before what stands there
	}
	return strings.Replace(listener, open, open+strings.Join(more, ", "), 1)
}

// onFields are the fields that a content flow puts in front.
var onFields = regexp.MustCompile(`^(?:X-Gatepost-[^:\r\n]+:[^\n]*\n(?:[ \t][^\n]*\n)*)+`)

// withoutFields is a mail without them, so that a dialogue may say what arrives
// whether there is a content flow or not.
func withoutFields(m sink.Mail) sink.Mail {
	m.Data = onFields.ReplaceAll(m.Data, nil)
	return m
}

// greetedOnce leaves out of the replies of a gateway with flows on what the plain one
// does not say: the first line of a greeting that is held back, and AUTH under TLS.
func greetedOnce(code int, lines []string) (kept []string) {
	for i, line := range lines {
		if code == 220 && i < len(lines)-1 || code == 250 && line == "AUTH PLAIN LOGIN" {
			continue
		}
		kept = append(kept, line)
	}
	return kept
}
