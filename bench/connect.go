package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"gatepost/test/postfix"
)

// What the part connect needs beside the servers. Postfix's resolver asks port 53 only.
const (
	namesAddr     = "127.0.0.1:12553"
	connectNames  = "127.0.0.153:53"
	connectHost   = "127.0.0.153"
	listZone      = "bl.bench.test"
	gatepostEdge  = "127.0.0.1:12535"
	postfixEdge   = "127.0.0.1:12528"
	strangersOnce = 200 // sessions at once
)

// connectFlows are all blocks before content that can be asked here. Refusals wait for
// RCPT, as postscreen's do, so that both hear who the mail is for.
const connectFlows = `
[dns]
servers = [%q]

[[listener]]
name = "edge"
protocol = "smtp"
address = [%q]
tls = "off"
proxy_protocol_from = ["127.0.0.0/8"]
pregreet_delay = "1s"
flows = { connect = "clients", recipient = "recipients" }

[[domain]]
name = "edge.example"
transport = "next"
recipients = ["file:%s"]

[[flow]]
name = "clients"
stage = "connect"
delay_reject = true
blocks = [
  { use = "trust" },
  { use = "access", deny = ["11.2.0.0/16"] },
  { use = "rate", connections = "100000/m", messages = "100000/m", errors = "100000/m" },
  { use = "concurrency", limit = 10000 },
  { use = "pregreet" },
  { use = "dnsbl", zones = ["%s=127.0.0.2*3"], threshold = 3, on_match = "reject" },
  { use = "reputation" },
  { use = "tarpit", delay = "1s", when_score = 100 },
]

[[flow]]
name = "recipients"
stage = "recipient"
blocks = [
  { use = "helo" },
  { use = "sender-domain" },
  { use = "spf", on_fail = "reject" },
  { use = "own-domain-spoof" },
  { use = "harvest", session_limit = 10000, network_limit = 1000000 },
  { use = "greylist" },
]
`

// connect compares how much it costs to turn clients away.
func (b *bench) connect(ctx context.Context) error {
	names, err := startNames(connectNames)
	if err != nil {
		return err
	}
	defer names.stop()
	n := 4000
	if b.o.short {
		n = 1000
	}
	servers := []struct {
		name string
		edge string
		make func(*meters) (*server, error)
	}{
		{"Postfix with postscreen", postfixEdge, b.newPostscreen},
		{"Gatepost, all blocks", gatepostEdge, b.newEdge},
	}
	results := make([][]turnedAway, len(servers))
	var method string
	for range b.o.rounds {
		for i, s := range servers {
			srv, err := s.make(&b.meters)
			if err != nil {
				return fmt.Errorf("make %s: %w", s.name, err)
			}
			r, err := b.turnAway(ctx, srv, s.edge, n)
			if err != nil {
				return fmt.Errorf("measure %s: %w", s.name, err)
			}
			method = srv.meter.method()
			results[i] = append(results[i], r)
			if b.o.verbose {
				fmt.Fprintf(os.Stderr, "%-24s %d clients in %v, %.3f ms CPU each\n", s.name, r.clients, r.took.Round(time.Millisecond), r.each())
			}
		}
	}
	fmt.Printf("\n## Clients turned away, %d at once, 1 s of waiting for early talkers (medians of %d rounds)\n\n", strangersOnce, b.o.rounds)
	fmt.Println("| server | CPU ms/client | rejects per CPU second | ratio |")
	fmt.Println("|---|---|---|---|")
	first := middle(results[0])
	for i, s := range servers {
		r := middle(results[i])
		fmt.Printf("| %s | %.2f | %.0f | **%.1f** |\n", s.name, r.each(), 1000/r.each(), first.each()/r.each())
	}
	fmt.Printf("\nProcessor time: %s, whole process trees.\n", method)
	return nil
}

// turnedAway is what one round cost.
type turnedAway struct {
	clients   int
	took, cpu time.Duration
}

func (r turnedAway) each() float64 { return r.cpu.Seconds() * 1000 / float64(r.clients) } // ms

func middle(rounds []turnedAway) turnedAway {
	slices.SortFunc(rounds, func(x, y turnedAway) int { return int(x.cpu - y.cpu) })
	return rounds[len(rounds)/2]
}

// turnAway starts a fresh server and sends it clients that nobody wants.
func (b *bench) turnAway(ctx context.Context, s *server, edge string, n int) (r turnedAway, err error) {
	defer s.meter.close()
	if err := s.start(); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	warm := 200
	if err := b.strangers(ctx, edge, 0, warm); err != nil {
		return r, fmt.Errorf("warm up: %w", err)
	}
	if err := settle(ctx, s.meter); err != nil {
		return r, err
	}
	before, err := s.meter.cpu()
	if err != nil {
		return r, err
	}
	begun := time.Now()
	if err := b.strangers(ctx, edge, warm, n); err != nil {
		return r, err
	}
	r = turnedAway{clients: n, took: time.Since(begun)}
	after, err := s.meter.cpu()
	r.cpu = after - before
	return r, err
}

func (b *bench) strangers(ctx context.Context, addr string, offset, n int) error {
	cmd := exec.CommandContext(ctx, b.load, "-mode", "strangers", "-n", strconv.Itoa(n), "-offset", strconv.Itoa(offset),
		"-sessions", strconv.Itoa(strangersOnce), "-to", "nobody@edge.example", addr)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load: %w: %s", err, out)
	}
	return nil
}

// newEdge is Gatepost with a second listener that all clients come to.
func (b *bench) newEdge(ms *meters) (*server, error) {
	users := filepath.Join(b.dir, "users")
	if err := os.WriteFile(users, []byte("user@edge.example\n"), 0o644); err != nil {
		return nil, err
	}
	return b.newGatepost(ms, sinkAddr, gatepostSettings{tables: fmt.Sprintf(connectFlows, connectNames, gatepostEdge, users, listZone)})
}

// newPostscreen is Postfix with the same checks, as far as it has them.
func (b *bench) newPostscreen(ms *meters) (*server, error) {
	dir := filepath.Join(b.dir, "postfix")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Join(dir, "etc"), 0o755)); err != nil {
		return nil, err
	}
	users, denied := filepath.Join(dir, "etc", "users"), filepath.Join(dir, "etc", "denied")
	if err := errors.Join(os.WriteFile(users, []byte("user@edge.example ok\n"), 0o644),
		os.WriteFile(denied, []byte("11.2.0.0/16 reject\n"), 0o644)); err != nil {
		return nil, err
	}
	params := postfixParams()
	maps.Copy(params, map[string]string{
		"relay_domains":                            "edge.example",
		"relay_recipient_maps":                     "texthash:" + users,
		"postscreen_upstream_proxy_protocol":       "haproxy",
		"postscreen_access_list":                   "cidr:" + denied,
		"postscreen_denylist_action":               "enforce",
		"postscreen_dnsbl_sites":                   listZone + "=127.0.0.2*3",
		"postscreen_dnsbl_threshold":               "3",
		"postscreen_dnsbl_action":                  "enforce",
		"postscreen_greet_action":                  "enforce",
		"postscreen_greet_wait":                    "1s",
		"postscreen_client_connection_count_limit": "10000",
		"postscreen_pre_queue_limit":               "10000",
		"postscreen_post_queue_limit":              "10000",
		"smtpd_helo_required":                      "yes",
		"smtpd_helo_restrictions":                  "reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname",
		"smtpd_sender_restrictions":                "reject_non_fqdn_sender, reject_unknown_sender_domain",
		"smtpd_recipient_restrictions":             "reject_unauth_destination, reject_unlisted_recipient",
	})
	srv := &server{name: "Postfix", addr: "127.0.0.1:12526", dir: dir, meter: ms.newMeter()}
	p, err := postfix.New(postfix.Config{
		Dir: dir, Listen: srv.addr, Next: sinkAddr, Params: params, Processes: 2 * strangersOnce, Resolver: connectHost,
		Services: []string{
			postfixEdge + " inet n - n - 1 postscreen", "smtpd pass - - n - - smtpd", "dnsblog unix - - n - 0 dnsblog", "tlsproxy unix - - n - 0 tlsproxy",
		},
	})
	if err != nil {
		return nil, err
	}
	p.Cgroup = srv.meter.cgroup
	srv.start = func() error {
		if err := p.Start(); err != nil {
			return err
		}
		srv.meter.pid = p.Pid()
		return nil
	}
	srv.stop, srv.pid, srv.queued = p.Stop, p.Pid, p.Queued
	return srv, nil
}
