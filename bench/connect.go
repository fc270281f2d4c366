package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gatepost/bench/strangers"
	"gatepost/test/postfix"
)

// connectFlows are all that may be against a client, with limits that its networks do
// not reach: these blocks look and count, and each client is refused for what it is.
// Refusals wait for RCPT, as those of postscreen do with enforce.
const connectFlows = `
[dns]
servers = ["%s:53"]

[[flow]]
name = "strangers"
stage = "connect"
delay_reject = true
blocks = [
  { use = "access", deny_file = "denied.txt" },
  { use = "rate", per = "network", connections = "6000/m", messages = "6000/m", recipients = "6000/m", errors = "6000/m" },
  { use = "concurrency", limit = 200 },
  { use = "trust", for = "7d" },
  { use = "pregreet" },
  { use = "dnsbl", zones = ["bad.lists.example=127.0.0.2-11*3", "worse.lists.example=127.0.0.2*2", "good.lists.example*-2"], threshold = 3 },
  { use = "reputation" },
  { use = "tarpit", delay = "1s", when_score = 50 },
]

[[flow]]
name = "recipients"
stage = "recipient"
blocks = [
  { use = "harvest", network_slow_after = 100000, network_limit = 100000 },
  { use = "helo", on_match = "reject" },
  { use = "spf" },
  { use = "own-domain-spoof" },
  { use = "sender-domain" },
  { use = "greylist" },
]
`

// connectListener has clients come as postscreen has them: with a PROXY header, and
// the shortest wait before the greeting that postscreen can be told.
const connectListener = `flows = { connect = "strangers", recipient = "recipients" }
pregreet_delay = "1s"
proxy_protocol_from = ["127.0.1.0/24"]`

// connectParams tell Postfix to look at the same things. What it has nothing for
// (SPF, greylisting, reputation) needs programs that are not its own and is left out.
func connectParams(dir string) map[string]string {
	return map[string]string{
		"postscreen_access_list":              "permit_mynetworks, cidr:" + filepath.Join(dir, "denied.cidr"),
		"postscreen_denylist_action":          "enforce",
		"postscreen_greet_action":             "enforce",
		"postscreen_greet_wait":               "1s",
		"postscreen_dnsbl_action":             "enforce",
		"postscreen_dnsbl_threshold":          "3",
		"postscreen_dnsbl_sites":              "bad.lists.example=127.0.0.[2..11]*3 worse.lists.example=127.0.0.2*2 good.lists.example*-2",
		"smtpd_helo_required":                 "yes",
		"relay_domains":                       "bench.example",
		"relay_recipient_maps":                "inline:{user@bench.example=there}",
		"unknown_address_reject_code":         "550",
		"unknown_hostname_reject_code":        "550",
		"smtpd_recipient_restrictions":        "reject_unauth_destination, reject_unlisted_recipient, reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname, reject_unknown_helo_hostname, check_sender_access inline:{bench.example=REJECT}, reject_unknown_sender_domain",
		"smtpd_client_connection_count_limit": "50",
		"smtpd_client_connection_rate_limit":  "6000",
		"smtpd_client_message_rate_limit":     "6000",
		"smtpd_client_recipient_rate_limit":   "6000",
	}
}

const (
	// connectNames is where the name server of this part listens, at port 53.
	connectNames = "127.0.0.2"
	// connectSessions at once: as each waits for a second, so many come in a second.
	connectSessions = 250
	// connectAtLeast is the share of clients that must be refused, of those that are
	// not fine. The rest are those that were let in since the second was over before the
	// server heard from the list, or from a client that talked early.
	connectAtLeast = 0.95
	// connectWarmUp clients come before.
	connectWarmUp = 1000
)

// visitors are a job of the part connect.
type visitors struct{ kind, what string }

var allVisitors = []visitors{
	{"mix", "mix of all below but the last, half of them listed"},
	{"listed", "on a DNS list"},
	{"early", "talk before the greeting"},
	{"denied", "in the access list"},
	{"unknown", "name an unknown recipient"},
	{"no-domain", "sender's domain does not exist"},
	{"bad-helo", "HELO is no host name"},
	{"spoof", "sender of our own domain"},
	{"fine", "strangers with nothing wrong: 451 by greylisting; Postfix has none and says 250"},
}

// connect compares what it costs Gatepost, and Postfix with postscreen, to refuse clients.
func (b *bench) connect(ctx context.Context) error {
	names, err := startNames(connectNames + ":53")
	if err != nil {
		return err
	}
	defer names.stop()
	list := allVisitors
	if b.o.short {
		list = list[:1]
	}
	fmt.Printf("\n## Refusing clients, %d sessions at once, each waits a second for the greeting (mix: median of %d rounds)\n\n", connectSessions, b.o.rounds)
	fmt.Println("| clients | Postfix CPU ms | Gatepost CPU ms | Postfix, per CPU second | Gatepost, per CPU second | ratio | Postfix /s | Gatepost /s | Postfix MB | Gatepost MB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	var method string
	for _, v := range list {
		var results [2][]result
		rounds := b.o.rounds
		if v.kind != allVisitors[0].kind {
			rounds = 1 // these only show where the time of the mix goes
		}
		for range rounds {
			for i, what := range []refuser{{"Postfix", 4000, b.newPostscreen}, {"Gatepost", 6000, b.newDoorman}} {
				r, how, err := b.measureConnect(ctx, what, v)
				if err != nil {
					return fmt.Errorf("measure %s, clients %s: %w", what.name, v.kind, err)
				}
				results[i], method = append(results[i], r), how
			}
		}
		p, g := median(results[0]), median(results[1])
		fmt.Printf("| %s | %.2f | %.2f | %.0f | %.0f | **%.1f** | %.0f | %.0f | %d | %d |\n", v.what, p.perMessage(), g.perMessage(),
			1000/p.perMessage(), 1000/g.perMessage(), p.perMessage()/g.perMessage(), p.rate(), g.rate(), p.memory>>20, g.memory>>20)
	}
	fmt.Printf("\nProcessor time: %s, whole process trees.\n", method)
	return nil
}

// refuser is a server of the part connect and how many clients it is given: those that
// work faster are given more.
type refuser struct {
	name    string
	clients int
	start   func(ms *meters) (*server, error)
}

// measureConnect starts a fresh server, warms it up and sends it the clients.
func (b *bench) measureConnect(ctx context.Context, what refuser, v visitors) (r result, method string, err error) {
	s, err := what.start(&b.meters)
	if err != nil {
		return r, "", err
	}
	defer s.meter.close()
	if err := s.start(); err != nil {
		return r, "", err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if _, _, err := b.sendVisitors(ctx, s, v.kind, what.clients, connectWarmUp); err != nil {
		return r, "", fmt.Errorf("warm up: %w", err)
	}
	if err := settle(ctx, s.meter); err != nil {
		return r, "", err
	}
	cpu, err := s.meter.cpu()
	if err != nil {
		return r, "", err
	}
	memory := s.meter.watchMemory(500 * time.Millisecond)
	start := time.Now()
	refused, answers, err := b.sendVisitors(ctx, s, v.kind, 0, what.clients)
	r = result{messages: refused, whole: time.Since(start)}
	r.memory = memory()
	if v.kind == strangers.Fine.String() {
		r.messages = what.clients
	}
	if err == nil && float64(r.messages) < connectAtLeast*float64(what.clients) {
		err = fmt.Errorf("only %d of %d clients were refused: %s", refused, what.clients, answers)
	}
	if err == nil {
		// What is written behind the last answer counts as well.
		err = settle(ctx, s.meter)
	}
	if err != nil {
		return r, "", err
	}
	after, err := s.meter.cpu()
	r.cpu = after - cpu
	if b.o.verbose && err == nil {
		fmt.Fprintf(os.Stderr, "%-8s %s: %d refused, %.0f/s, %.3f ms CPU, %d MB: %s\n",
			what.name, v.kind, r.messages, r.rate(), r.perMessage(), r.memory>>20, answers)
	}
	return r, s.meter.method(), err
}

// sendVisitors sends n clients, from the first on, and returns how many were refused, and
// what all of them were told.
func (b *bench) sendVisitors(ctx context.Context, s *server, kind string, first, n int) (refused int, answers string, err error) {
	cmd := exec.CommandContext(ctx, b.load, "-mode", "refused", "-kind", kind, "-first", strconv.Itoa(first), "-n", strconv.Itoa(n),
		"-sessions", strconv.Itoa(connectSessions), s.addr)
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	answers = strings.Join(lines, ", ")
	if err != nil {
		return 0, "", fmt.Errorf("load: %w: %s", err, answers)
	}
	for _, line := range lines {
		var count, code int
		var who, command string
		if _, err := fmt.Sscan(line, &count, &who, &command, &code); err != nil {
			return 0, "", fmt.Errorf("read answers of load: %w: %s", err, line)
		}
		if code >= 400 {
			refused += count
		}
	}
	return refused, answers, nil
}

// newDoorman is a Gatepost with every block before content.
func (b *bench) newDoorman(ms *meters) (*server, error) {
	srv, err := b.newGatepost(ms, sinkAddr, gatepostSettings{
		listener: connectListener, domain: `recipients = ["file:recipients.txt"]`, tables: fmt.Sprintf(connectFlows, connectNames),
	})
	if err != nil {
		return nil, err
	}
	return srv, errors.Join(writeLines(filepath.Join(srv.dir, "recipients.txt"), []string{"user@bench.example"}),
		writeLines(filepath.Join(srv.dir, "denied.txt"), denied("")))
}

// newPostscreen is a Postfix with postscreen in front.
func (b *bench) newPostscreen(ms *meters) (*server, error) {
	dir, err := b.emptyDir("postfix")
	if err != nil {
		return nil, err
	}
	params := postfixParams()
	for name, value := range connectParams(dir) {
		params[name] = value
	}
	if err := writeLines(filepath.Join(dir, "denied.cidr"), denied(" reject")); err != nil {
		return nil, err
	}
	return newInstance(ms, postfix.Config{Dir: dir, Next: sinkAddr, Params: params, Processes: connectSessions + 50,
		Postscreen: true, Resolver: connectNames})
}

// denied are the networks of the access list.
func denied(suffix string) []string {
	var lines []string
	for _, p := range strangers.Networks(strangers.Denied) {
		lines = append(lines, p.String()+suffix)
	}
	return lines
}

func writeLines(file string, lines []string) error {
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	return nil
}
