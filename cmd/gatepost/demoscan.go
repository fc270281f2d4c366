package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
)

// demoClamd is the virus scanner of the demonstration: a real clamd that knows one
// signature, that of the test file that every scanner knows.
type demoClamd struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// testVirus is the part of the EICAR test file by which it is recognised, in two
// pieces, so that no scanner takes this program for it.
var testVirus = [2]string{`X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-`, `ANTIVIRUS-TEST-FILE!$H+H*`}

// clamdPatience is how long clamd may take to start.
const clamdPatience = 30 * time.Second

// startClamd starts a clamd in the directory of the demonstration; nil where there
// is none on this machine.
func (d *demo) startClamd(ctx context.Context) (*demoClamd, error) {
	program, err := exec.LookPath("clamd")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/clamd"); err != nil {
			return nil, nil
		}
	}
	socket, conf, db := d.clamdSocket(), d.path("clamd.conf"), d.path("signatures")
	signature := "Test.EICAR:0:*:" + hex.EncodeToString([]byte(testVirus[0][28:]+testVirus[1][:19])) + "\n"
	settings := fmt.Sprintf("LocalSocket %s\nDatabaseDirectory %s\nForeground yes\nLogFile %s\nMaxThreads 4\n", socket, db, d.path("clamd.log"))
	if err := errors.Join(os.MkdirAll(db, 0o700), os.WriteFile(filepath.Join(db, "demo.ndb"), []byte(signature), 0o600),
		os.WriteFile(conf, []byte(settings), 0o600)); err != nil {
		return nil, fmt.Errorf("configure clamd: %w", err)
	}
	c := &demoClamd{cmd: exec.Command(program, "--config-file="+conf), exited: make(chan struct{})}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start clamd: %w", err)
	}
	go func() {
		defer close(c.exited)
		_ = c.cmd.Wait() // however it ends, it is gone
	}()
	wait, cancel := context.WithTimeout(ctx, clamdPatience)
	defer cancel()
	if err := poll(wait, func() (bool, error) { return c.answers(wait, socket) }); err != nil {
		c.stop()
		return nil, fmt.Errorf("wait for clamd (see %s): %w", d.path("clamd.log"), err)
	}
	return c, nil
}

// clamdSocket is where clamd listens: the path of a socket must be short.
func (d *demo) clamdSocket() string {
	if path := d.path("clamd.sock"); len(path) < 100 {
		return path
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("gatepost-demo-%d.sock", os.Getpid()))
}

func (c *demoClamd) answers(ctx context.Context, socket string) (bool, error) {
	select {
	case <-c.exited:
		return false, errors.New("it ended")
	default:
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
	if err != nil {
		return false, nil
	}
	return true, conn.Close()
}

func (c *demoClamd) stop() {
	if c == nil {
		return
	}
	_ = c.cmd.Process.Kill() // it keeps nothing
	<-c.exited
}

// virus sends the test virus, shows it in the quarantine and releases it.
func (d *demo) virus(ctx context.Context) error {
	d.say("\n4. A virus (the test file that every scanner knows)")
	if d.clamd == nil {
		d.say("   Left out: there is no clamd on this machine. Install it (apt install clamav-daemon) and run this again.")
		return nil
	}
	text := "From: Mallory <mallory@elsewhere.example>\nTo: Info <info@demo.example>\nSubject: Your parcel\nMessage-ID: <parcel-1@elsewhere.example>\n" +
		"MIME-Version: 1.0\nContent-Type: application/zip; name=\"label.zip\"\nContent-Transfer-Encoding: base64\n\n" +
		base64.StdEncoding.EncodeToString([]byte(testVirus[0]+testVirus[1])) + "\n"
	reply, err := d.sendText(ctx, "mallory@elsewhere.example", "info@demo.example", []byte(text))
	if err != nil {
		return err
	}
	d.say("   mallory@elsewhere.example → info@demo.example")
	d.say("   The gateway answered: %s", reply)
	row, err := d.waitForQuarantine(ctx, mail.ThreatVirus)
	if err != nil {
		return err
	}
	d.say("   Not delivered. In the quarantine: %s, because: %s", row.ID, row.Reason)
	d.say("   See why:  %s quarantine show %s -c %s", os.Args[0], row.ID, d.path("gateway.toml"))
	result := d.gateway.services.quarantine.Release(ctx, quarantine.Request{IDs: []mail.ID{row.ID}, By: "demo", Role: quarantine.RoleAdmin})
	if err := result[0].Err; err != nil {
		return fmt.Errorf("release %s: %w", row.ID, err)
	}
	file, err := d.waitForMail(ctx, d.delivered+1)
	if err != nil {
		return err
	}
	d.say("   An administrator may release it, here as %s: delivered as it came, %s", result[0].ReleasedAs, file)
	return nil
}

// waitForQuarantine waits for the newest message of a threat that is held.
func (d *demo) waitForQuarantine(ctx context.Context, threat mail.Threat) (row quarantine.Row, err error) {
	err = poll(ctx, func() (bool, error) {
		page, err := d.gateway.services.quarantine.List(ctx, quarantine.Filter{Threat: threat, State: quarantine.Held, Limit: 1})
		if err != nil || len(page.Items) == 0 {
			return false, err
		}
		row = page.Items[0]
		return true, nil
	})
	if err != nil {
		return row, fmt.Errorf("wait for a message in the quarantine: %w", err)
	}
	return row, nil
}

// filtered sends a program with the name of a document.
func (d *demo) filtered(ctx context.Context) error {
	d.say("\n5. A filter at work: no programs by mail")
	reply, err := d.send(ctx, "eve@elsewhere.example", "info@demo.example", "tool.eml")
	if err != nil {
		return err
	}
	d.say("   eve@elsewhere.example → info@demo.example, with an attachment manual.pdf.exe")
	d.say("   The gateway answered: %s", reply)
	file, err := d.waitForMail(ctx, d.delivered+1)
	if err != nil {
		return err
	}
	d.say("   Delivered with a notice in the place of the attachment; the original is in the quarantine: less %s", file)
	return nil
}

// spam teaches the Bayesian filter and sends it a message that it never saw.
func (d *demo) spam(ctx context.Context) error {
	d.say("\n6. Spam: the Bayesian filter learns, and then recognises what it never saw")
	for _, kind := range []string{admin.TrainHam, admin.TrainSpam} {
		n, err := d.teach(ctx, kind)
		if err != nil {
			return err
		}
		d.say("   Learned %d messages of %s (with your own mail: %s train %s PATH …)", n, kind, os.Args[0], kind)
	}
	reply, err := d.send(ctx, "office@big-winner.example", "info@demo.example", "prize.eml")
	if err != nil {
		return err
	}
	d.say("   office@big-winner.example → info@demo.example")
	d.say("   The gateway answered: %s", reply)
	file, err := d.waitForMail(ctx, d.delivered+1)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), "\nSubject: [SPAM] ") {
		return fmt.Errorf("the message was delivered without a mark, see %s", file)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "Subject: ") {
			d.say("   Delivered and marked: %s", strings.TrimSpace(line))
		}
	}
	copied := d.path("prize.eml")
	if err := d.copyOut("prize.eml", copied); err != nil {
		return err
	}
	d.say("   Ask why:  %s scan -c %s --recipient info@demo.example %s", os.Args[0], d.path("gateway.toml"), copied)
	return nil
}

// teach learns the embedded messages of one kind.
func (d *demo) teach(ctx context.Context, kind string) (int, error) {
	all, err := demoFiles.ReadFile("demo/" + kind + ".txt")
	if err != nil {
		return 0, fmt.Errorf("read messages to learn: %w", err)
	}
	n := 0
	for text := range bytes.SplitSeq(all, []byte("\n%\n")) {
		body := bytes.NewReader(bytes.ReplaceAll(append([]byte("To: info@demo.example\n"), text...), []byte("\n"), []byte("\r\n")))
		if _, err := (contentAPI{d.gateway}).Train(ctx, admin.TrainQuery{Kind: kind}, body); err != nil {
			return n, fmt.Errorf("learn: %w", err)
		}
		n++
	}
	return n, nil
}

// copyOut writes an embedded message into the directory of the demonstration.
func (d *demo) copyOut(name, to string) error {
	text, err := demoFiles.ReadFile("demo/" + name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return os.WriteFile(to, text, 0o600)
}
