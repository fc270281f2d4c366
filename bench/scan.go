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
	"syscall"
	"time"
)

// scanned is a server of the part scan.
type scanned struct {
	name     string
	messages int // those that work faster are given more, to take as long
	start    func(ms *meters) (*server, error)
	// train teaches the running server, where it learns.
	train bool
}

// scanFlow is a full content flow without an engine of others. All of it only
// counts and marks, so that both servers deliver every message; nothing is
// listed in a DNS list, since rspamd asks none here either.
const scanFlow = `
[dns]
servers = [%q]

[[filter]]
name = "no programs"
when = { attachment_name = '\.(exe|com|scr|pif|bat|cmd|js|jse|vbs|vbe|wsf|hta|lnk|msi|jar|iso|img|vhdx?)$' }
then = "mark"

[[filter]]
name = "no programs by what they are"
when = { attachment_type = ["application/vnd.microsoft.portable-executable", "application/x-executable"] }
then = "mark"

[[filter]]
name = "words"
when = { body = '(?i)\b(viagra|free money|casino bonus|act now|unsubscribe)\b' }
then = "score:1.5"

[[flow]]
name = "full"
stage = "content"
blocks = [
  { use = "structure", on_ambiguous = "deliver", on_encrypted = "deliver", on_damaged = "deliver", on_limit = "deliver", on_unknown = "mark" },
  { use = "authres" },
  { use = "filters", on_unknown = "mark" },
  { use = "bayes" },
  { use = "reputation" },
  { use = "links" },
  { use = "score", mark = 5, subject_tag = "[SPAM] " },
]
`

const scanSessions = 20

// scan compares Gatepost and its content flow with Postfix and rspamd.
func (b *bench) scan(ctx context.Context) error {
	m, err := b.prepareMail()
	if err != nil {
		return err
	}
	names, err := startNames("127.0.0.1:12553")
	if err != nil {
		return err
	}
	defer names.stop()
	servers := b.scanServers(names.addr)
	results := make([][]result, len(servers))
	var method string
	for range b.o.rounds {
		for i, s := range servers {
			r, how, err := b.measureScan(ctx, s, m)
			if err != nil {
				return fmt.Errorf("measure %s: %w", s.name, err)
			}
			results[i], method = append(results[i], r), how
		}
	}
	fmt.Printf("\n## Scanning: %s, %d sessions (medians of %d rounds; rates until the sink had every message)\n\n", m.what, scanSessions, b.o.rounds)
	fmt.Println("| server | msg/s | CPU ms/msg | Postfix + rspamd takes | MB |")
	fmt.Println("|---|---|---|---|---|")
	both := median(results[1]).perMessage()
	for i, s := range servers {
		r := median(results[i])
		fmt.Printf("| %s | %.0f | %.2f | **%.1f** times | %d |\n", s.name, r.rate(), r.perMessage(), both/r.perMessage(), r.memory>>20)
	}
	fmt.Printf("\nProcessor time: %s, whole process trees.\n", method)
	return nil
}

// scanServers are those that are compared; the second is what others are
// compared with.
func (b *bench) scanServers(names string) []scanned {
	n := 1000
	if b.o.short {
		n = 300
	}
	gatepost := func(s gatepostSettings) func(*meters) (*server, error) {
		s.listener += "\nxclient_from = [\"127.0.0.0/8\"]"
		return func(ms *meters) (*server, error) { return b.newGatepost(ms, sinkAddr, s) }
	}
	full := fmt.Sprintf(scanFlow, names)
	inline := gatepostSettings{tables: full, listener: `flows = { content = "full" }`}
	queued := gatepostSettings{tables: full, listener: "flows = { content = \"full\" }\nprocessing = \"queued\""}
	return []scanned{
		{name: "Postfix", messages: n, start: func(ms *meters) (*server, error) {
			return b.newPostfix(ms, sinkAddr, scanSessions, scanParams(nil))
		}},
		{name: "Postfix + rspamd", messages: n, start: func(ms *meters) (*server, error) { return b.newRspamd(ms, names) }},
		{name: "Gatepost, no flow", messages: 5 * n, start: gatepost(gatepostSettings{})},
		{name: "Gatepost, full flow", messages: 5 * n, start: gatepost(inline), train: true},
		{name: "Gatepost, full flow, queued", messages: 5 * n, start: gatepost(queued), train: true},
	}
}

// scanParams let the load say which client it stands for, and take its mail.
func scanParams(more map[string]string) map[string]string {
	params := map[string]string{
		"smtpd_authorized_xclient_hosts": "127.0.0.0/8",
		"relay_domains":                  "bench.example",
	}
	for name, value := range more {
		params[name] = value
	}
	return params
}

// measureScan starts a fresh server, teaches it, warms it up and gives it the
// mail.
func (b *bench) measureScan(ctx context.Context, what scanned, m *mailSet) (r result, method string, err error) {
	sink, err := b.startSink()
	if err != nil {
		return r, "", err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	s, err := what.start(&b.meters)
	if err != nil {
		return r, "", err
	}
	defer s.meter.close()
	if err := s.start(); err != nil {
		return r, "", err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if what.train {
		if err := b.train(ctx, s, m); err != nil {
			return r, "", err
		}
	}
	if err := settle(ctx, s.meter); err != nil {
		return r, "", err
	}
	job := func(n int) job {
		return job{messages: n, send: func(ctx context.Context, addr string) error { return b.sendMail(ctx, addr, m, n) }}
	}
	if _, err := runJob(ctx, s, sink, job(200)); err != nil {
		return r, "", fmt.Errorf("warm up: %w", err)
	}
	r, err = runJob(ctx, s, sink, job(what.messages))
	if err == nil && what.train {
		err = looked(what.messages)
	}
	if b.o.verbose && err == nil {
		fmt.Fprintf(os.Stderr, "%-28s %d messages, taken %.0f/s, arrived %.0f/s, %.2f ms CPU, %d MB\n",
			what.name, r.messages, r.takenRate(), r.rate(), r.perMessage(), r.memory>>20)
	}
	return r, s.meter.method(), err
}

// looked fails unless Gatepost's blocks were asked about so many messages at
// least: a flow that is not in use would be fast.
func looked(messages int) error {
	const blocks = 6 // without score
	n, err := metric("http://"+adminAddr+"/metrics", "gatepost_scan_answers_total")
	if err == nil && n < blocks*messages {
		err = fmt.Errorf("%d answers of blocks for %d messages", n, messages)
	}
	return err
}

func (b *bench) sendMail(ctx context.Context, addr string, m *mailSet, n int) error {
	cmd := exec.CommandContext(ctx, b.load, "-mode", "files", "-dir", m.send, "-xclient",
		"-n", strconv.Itoa(n), "-sessions", strconv.Itoa(scanSessions), addr)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load: %w: %s", err, out)
	}
	return nil
}

// train teaches Gatepost's classifier, and fails unless that is then in use.
func (b *bench) train(ctx context.Context, s *server, m *mailSet) error {
	file := filepath.Join(s.dir, "gatepost.toml")
	for _, kind := range []string{"ham", "spam"} {
		cmd := exec.CommandContext(ctx, b.o.gatepost, "train", "-q", "-c", file, kind, filepath.Join(m.learn, kind))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("train %s: %w: %s", kind, err, out)
		} else if b.o.verbose {
			fmt.Fprintf(os.Stderr, "%s", out)
		}
	}
	return nil
}

// settle waits until a server that was started does nothing any more: rspamd
// compiles its expressions behind its first greeting.
func settle(ctx context.Context, m *meter) error {
	const pause, idle = 2 * time.Second, 40 * time.Millisecond
	last, err := m.cpu()
	for range 60 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		now, nowErr := m.cpu()
		if err = errors.Join(err, nowErr); err != nil {
			return err
		}
		if now-last < idle {
			return nil
		}
		last = now
	}
	return errors.New("the server does not come to rest")
}

// rspamdFiles are what differs from Debian's rspamd: no network but for the name
// server of the run, no Redis (and so no bayes, greylisting, rate limits or
// history), one scanning process for each processor that speaks the milter
// protocol itself, and no action but to add fields.
func rspamdFiles(addr, names string) map[string]string {
	host, port, _ := strings.Cut(names, ":")
	files := map[string]string{
		"override.d/worker-normal.inc":     "enabled = false;\n",
		"override.d/worker-controller.inc": "enabled = false;\n",
		"override.d/worker-fuzzy.inc":      "enabled = false;\n",
		"override.d/worker-proxy.inc": fmt.Sprintf("bind_socket = %q;\ncount = %d;\nmilter = yes;\nupstream \"local\" { default = yes; self_scan = yes; }\n",
			addr, processors()),
		"override.d/options.inc": fmt.Sprintf("dns { nameserver = [\"%s:%s\"]; timeout = 1s; sockets = 16; retransmits = 2; }\ndisable_monitoring = true;\n", host, port),
		"override.d/logging.inc": "level = \"notice\";\n",
		"local.d/actions.conf":   "reject = null;\ngreylist = null;\nadd_header = 6;\n",
	}
	for _, module := range []string{"rbl", "surbl", "fuzzy_check", "asn", "greylist", "ratelimit", "replies", "neural",
		"rspamd_update", "mx_check", "dkim_signing", "history_redis", "url_redirector", "whitelist"} {
		files["override.d/"+module+".conf"] = "enabled = false;\n"
	}
	return files
}

// newRspamd is a Postfix that asks an rspamd, counted together.
func (b *bench) newRspamd(ms *meters, names string) (*server, error) {
	const addr = "127.0.0.1:12532"
	srv, err := b.newPostfix(ms, sinkAddr, scanSessions, scanParams(map[string]string{
		"smtpd_milters": "inet:" + addr, "milter_default_action": "tempfail",
	}))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "rspamd")
	for _, d := range []string{"local.d", "override.d", "db", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("make directory of rspamd: %w", err)
		}
	}
	for name, text := range rspamdFiles(addr, names) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("configure rspamd: %w", err)
		}
	}
	var p *process
	postfixStart, postfixStop := srv.start, srv.stop
	srv.start = func() (err error) {
		p, err = startProcess(srv.meter, filepath.Join(dir, "output"), "rspamd", "--no-fork", "--insecure", "--config=/etc/rspamd/rspamd.conf",
			"--var=LOCAL_CONFDIR="+dir, "--var=DBDIR="+dir+"/db", "--var=RUNDIR="+dir, "--var=LOGDIR="+dir+"/log")
		if err != nil {
			return err
		}
		srv.meter.beside = p.cmd.Process.Pid
		if err := awaitListener(addr, p); err != nil {
			return err
		}
		return postfixStart()
	}
	srv.stop = func() error { return errors.Join(postfixStop(), p.stop(syscall.SIGTERM, 20*time.Second)) }
	return srv, nil
}
