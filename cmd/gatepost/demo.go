package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"gatepost/internal/queue"
)

//go:embed demo
var demoFiles embed.FS

// demoCmd shows the main job on a scratch directory: a gateway with a small mail
// server behind it, both the real thing, and a few messages.
type demoCmd struct {
	Dir   string `help:"Keep everything in this directory (default: a fresh one below the system's temporary directory)." type:"path"`
	SMTP  string `help:"Address of the SMTP listener; a free port is taken if it is in use." default:"127.0.0.1:2525" name:"smtp"`
	Admin string `help:"Address of the web administration; a free port is taken if it is in use." default:"127.0.0.1:8025"`
	Once  bool   `help:"Stop after the tour instead of staying up."`
}

// demoWait bounds each step of the tour.
const demoWait = 30 * time.Second

// demo is one run of the tour.
type demo struct {
	demoCmd
	out     io.Writer
	inner   string // address of the mail server behind
	gateway *app
	server  *app
	clamd   *demoClamd // nil where this machine has none
	// delivered is how many messages the mail server has.
	delivered int
}

// Run implements the subcommand.
func (c *demoCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &demo{demoCmd: *c, out: os.Stdout}
	err := d.prepare()
	if err != nil {
		return err
	}
	defer d.close()
	if d.clamd, err = d.startClamd(ctx); err != nil {
		return err
	}
	if err := d.configure(); err != nil {
		return err
	}
	if err := d.tour(ctx); err != nil {
		return fmt.Errorf("demo in %s: %w", d.Dir, err)
	}
	if c.Once {
		return nil
	}
	d.invite()
	<-ctx.Done()
	d.say("\nStopping. Everything is still in %s; `%s serve -c %s` starts the gateway again.", d.Dir, os.Args[0], d.path("gateway.toml"))
	return nil
}

func (d *demo) path(name string) string { return filepath.Join(d.Dir, name) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// prepare makes the directory, the configurations and the addresses.
func (d *demo) prepare() (err error) {
	if d.Dir == "" {
		if d.Dir, err = os.MkdirTemp("", "gatepost-demo-"); err != nil {
			return fmt.Errorf("make scratch directory: %w", err)
		}
	} else if err = os.MkdirAll(d.Dir, 0o700); err != nil {
		return fmt.Errorf("make demo directory: %w", err)
	}
	if d.SMTP, err = freeAddress(d.SMTP); err != nil {
		return err
	}
	if d.Admin, err = freeAddress(d.Admin); err != nil {
		return err
	}
	if d.inner, err = freeAddress("127.0.0.1:0"); err != nil {
		return err
	}
	return nil
}

// configure writes the configurations.
func (d *demo) configure() error {
	for _, name := range []string{"gateway.toml", "mailserver.toml"} {
		if err := d.render(name); err != nil {
			return err
		}
	}
	return os.WriteFile(d.path("recipients.txt"), []byte("info@demo.example\nsales@demo.example\n@lab.example\n@branch.example\n"), 0o600)
}

func (d *demo) render(name string) error {
	t, err := template.ParseFS(demoFiles, "demo/"+name+".tmpl")
	if err != nil {
		return fmt.Errorf("read template %s: %w", name, err)
	}
	var b strings.Builder
	values := map[string]string{"SMTP": d.SMTP, "Admin": d.Admin, "Inner": d.inner}
	if d.clamd != nil {
		values["Clamd"] = "unix:" + d.clamdSocket()
	}
	if err := t.Execute(&b, values); err != nil {
		return fmt.Errorf("fill template %s: %w", name, err)
	}
	return os.WriteFile(d.path(name), []byte(b.String()), 0o600)
}

// freeAddress returns want, or the same host with a free port if want is in use.
func freeAddress(want string) (string, error) {
	l, err := net.Listen("tcp", want)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, splitErr := net.SplitHostPort(want)
		if splitErr != nil {
			return "", splitErr
		}
		l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tour sends the messages and says what becomes of each.
func (d *demo) tour(ctx context.Context) (err error) {
	if d.server, err = startApp(ctx, d.path("mailserver.toml")); err != nil {
		return fmt.Errorf("start the mail server behind: %w", err)
	}
	if d.gateway, err = startApp(ctx, d.path("gateway.toml")); err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	// A tour in a directory where there was one before finds its mail.
	before, err := filepath.Glob(d.path("Maildir/new/*"))
	if err != nil {
		return err
	}
	d.delivered = len(before)
	d.say("Gatepost is up. Mail comes in at %s; behind it stands a small mail server at %s", d.SMTP, d.inner)
	d.say("that keeps what it gets in %s.", d.path("Maildir"))
	for _, step := range []func(context.Context) error{d.clean, d.refused, d.deferred, d.virus, d.filtered, d.spam, d.morning} {
		stepCtx, cancel := context.WithTimeout(ctx, demoWait)
		err := step(stepCtx)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) clean(ctx context.Context) error {
	d.say("\n1. A clean message")
	reply, err := d.send(ctx, "ada@sender.example", "info@demo.example", "welcome.eml")
	if err != nil {
		return err
	}
	d.say("   ada@sender.example → info@demo.example")
	d.say("   The gateway answered: %s", reply)
	d.say("   (250 means: it is on the disk. From now on it is the gateway's duty.)")
	file, err := d.waitForMail(ctx, d.delivered+1)
	if err != nil {
		return err
	}
	d.say("   Delivered. Read it: less %s", file)
	return nil
}

func (d *demo) refused(ctx context.Context) error {
	d.say("\n2. Messages that are refused, in the session, so that nobody gets a bounce")
	for _, to := range []string{"someone@far-away.example", "nobody@demo.example"} {
		reply, err := d.send(ctx, "stranger@elsewhere.example", to, "relay.eml")
		if err != nil {
			return err
		}
		d.say("   stranger@elsewhere.example → %s", to)
		d.say("   The gateway answered: %s", reply)
	}
	d.say("   The first is not our domain and the client is a stranger; the second is not in recipients.txt.")
	return nil
}

func (d *demo) deferred(ctx context.Context) error {
	d.say("\n3. The mail server behind is down")
	d.server.Stop()
	reply, err := d.send(ctx, "charles@sender.example", "sales@demo.example", "invoice.eml")
	if err != nil {
		return err
	}
	d.say("   charles@sender.example → sales@demo.example")
	d.say("   The gateway answered: %s", reply)
	row, err := d.waitForDeferral(ctx)
	if err != nil {
		return err
	}
	d.say("   In the queue: %s, attempts %d, because: %s", row.QueueID, row.Attempts, row.LastError)
	d.say("   You would see it with: %s queue list -c %s", os.Args[0], d.path("gateway.toml"))
	if d.server, err = startApp(ctx, d.path("mailserver.toml")); err != nil {
		return fmt.Errorf("start the mail server behind again: %w", err)
	}
	d.say("   The mail server is back …")
	file, err := d.waitForMail(ctx, d.delivered+1)
	if err != nil {
		return err
	}
	d.say("   Delivered by the next attempt: %s", file)
	return nil
}

func (d *demo) waitForDeferral(ctx context.Context) (queue.Row, error) {
	var row queue.Row
	err := poll(ctx, func() (bool, error) {
		rows, err := d.gateway.queue.List(ctx, queue.Selector{All: true}, 10, "")
		if err != nil || len(rows) == 0 || rows[0].LastError == "" {
			return false, err
		}
		row = rows[0]
		return true, nil
	})
	if err != nil {
		return row, fmt.Errorf("wait for the deferral: %w", err)
	}
	return row, nil
}

// waitForMail waits until the maildir holds n messages and returns the newest.
func (d *demo) waitForMail(ctx context.Context, n int) (string, error) {
	var newest string
	err := poll(ctx, func() (bool, error) {
		files, err := filepath.Glob(filepath.Join(d.path("Maildir"), "new", "*"))
		if err != nil || len(files) < n {
			return false, err
		}
		newest, d.delivered = newestOf(files), len(files)
		return true, nil
	})
	if err != nil {
		return "", fmt.Errorf("wait for message %d in %s: %w", n, d.path("Maildir"), err)
	}
	return newest, nil
}

// newestOf is the file that was written last.
func newestOf(files []string) string {
	newest, at := "", time.Time{}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && !info.ModTime().Before(at) {
			newest, at = f, info.ModTime()
		}
	}
	return newest
}

// poll asks until the answer is yes.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// invite tells how to go on.
func (d *demo) invite() {
	d.say("\nNow you: the gateway stays up until Ctrl-C.")
	d.say("   Send mail to info@demo.example or sales@demo.example through %s, with your mail program or with", d.SMTP)
	d.say("     swaks --server %s --from you@sender.example --to info@demo.example --header 'Subject: hello'", d.SMTP)
	d.say("   What happened:   %s and %s", d.path("log/mail.log"), d.path("log/smtp_proxy.log"))
	d.say("   What waits:      %s queue list -c %s", os.Args[0], d.path("gateway.toml"))
	d.say("   What is held:    %s quarantine list -c %s", os.Args[0], d.path("gateway.toml"))
	d.say("   Why:             %s scan -c %s FILE", os.Args[0], d.path("gateway.toml"))
	d.say("   All of it to click: http://%s/ (traffic, history with a page for each message, queue, quarantine, delayed mail, settings)", d.Admin)
	if link := d.gateway.setupLink.Load(); link != nil {
		d.say("     There is no administrator yet; make one: %s", *link)
	}
	d.say("   Is it well:      http://%s/healthz   numbers: http://%s/metrics", d.Admin, d.Admin)
	d.say("   Its settings:    %s", d.path("gateway.toml"))
}

func (d *demo) close() {
	for _, a := range []*app{d.gateway, d.server} {
		if a != nil {
			a.Stop()
		}
	}
	d.clamd.stop()
}
