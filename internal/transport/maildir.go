package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// maildir writes messages into maildirs, one file per message and maildir, with
// the line ends of the system (LF), as every program that reads maildirs expects.
// A message is delivered when file and directory are on the disk.
type maildir struct {
	path string
	host string // for file names
}

func newMaildir(cfg Config) (Transport, error) {
	if cfg.Path == "" {
		return nil, errors.New("no path")
	}
	if !filepath.IsAbs(cfg.Path) {
		return nil, fmt.Errorf("path %q is not absolute", cfg.Path)
	}
	for rest := cfg.Path; ; {
		_, after, found := strings.Cut(rest, "{")
		if !found {
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed || name != "user" && name != "domain" && name != "address" {
			return nil, fmt.Errorf("path %q: want {user}, {domain} or {address}", cfg.Path)
		}
		rest = tail
	}
	// "/" and ":" have a meaning in the names of a maildir.
	host := strings.NewReplacer("/", "_", ":", "_").Replace(cfg.Hostname)
	return &maildir{path: filepath.Clean(cfg.Path), host: host}, nil
}

// Close implements Transport.
func (*maildir) Close() error { return nil }

// Deliver implements Transport.
func (t *maildir) Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome {
	out := make([]mail.Outcome, len(d.Recipients))
	byPath := make(map[string][]int)
	var order []string
	for i := range d.Recipients {
		path, err := t.pathFor(d.Recipients[i].Address)
		if err != nil {
			out[i] = ownOutcome(mail.Failed, mail.ReplyBadMailbox, "rcpt", err)
			continue
		}
		if _, ok := byPath[path]; !ok {
			order = append(order, path)
		}
		byPath[path] = append(byPath[path], i)
	}
	for _, path := range order {
		o := t.store(ctx, d, path, byPath[path])
		for _, i := range byPath[path] {
			out[i] = o
		}
	}
	return out
}

var errMailboxName = errors.New("not usable as a file name")

// pathFor fills in the recipient. Only what can't lead anywhere else may stand in
// a path: no separators, no leading dot, no control characters, no 8-bit.
func (t *maildir) pathFor(a mail.Address) (string, error) {
	if !strings.Contains(t.path, "{") {
		return t.path, nil
	}
	user, domain := strings.ToLower(a.Local), strings.ToLower(a.Domain)
	for name, part := range map[string]string{"{user}": user, "{domain}": domain, "{address}": user} {
		if strings.Contains(t.path, name) && !safeName(part) {
			return "", fmt.Errorf("%s %q: %w", name, part, errMailboxName)
		}
	}
	address := user
	if domain != "" {
		address += "@" + domain
	}
	return strings.NewReplacer("{user}", user, "{domain}", domain, "{address}", address).Replace(t.path), nil
}

func safeName(s string) bool {
	if s == "" || len(s) > 200 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("._-+=~#&", c) >= 0 {
			continue
		}
		return false
	}
	return true
}

// store writes one file and says how that went.
func (t *maildir) store(ctx context.Context, d *mail.Delivery, dir string, rcpts []int) mail.Outcome {
	err := ctx.Err()
	if err == nil {
		err = t.write(d, dir, rcpts)
	}
	o := ownOutcome(mail.Delivered, mail.ReplyDelivered, "eod", nil)
	o.Host = dir
	if err == nil {
		return o
	}
	o.Status, o.Reply, o.Cause = mail.Deferred, mail.ReplyLocalError.Reply(), err.Error()
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		o.Reply = mail.ReplyNoSpace.Reply()
	case ctx.Err() != nil:
		o.Reply = mail.ReplyInterrupted.Reply()
	}
	return o
}

// write goes by the maildir protocol: a file in tmp, then a name in new, each
// step on the disk before the next.
func (t *maildir) write(d *mail.Delivery, dir string, rcpts []int) error {
	if err := makeMaildir(dir); err != nil {
		return err
	}
	// Time, a number that nobody else has, host. Neither a second process nor a
	// restart can make the same name.
	name := strconv.FormatInt(time.Now().Unix(), 10) + "." + mail.NewID().String() + "." + t.host
	tmp, final := filepath.Join(dir, "tmp", name), filepath.Join(dir, "new", name)
	if err := t.writeFile(tmp, d, rcpts); err != nil {
		return errors.Join(err, removeIfThere(tmp))
	}
	if err := os.Rename(tmp, final); err != nil {
		return errors.Join(err, removeIfThere(tmp))
	}
	return syncDir(filepath.Join(dir, "new"))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (t *maildir) writeFile(path string, d *mail.Delivery, rcpts []int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 32<<10)
	w := &unixLines{w: b, asIs: d.Message.Envelope.Body == mail.BodyBinary}
	content := message.NewContent(d.Message).Prepend(deliveryHeader(d, rcpts))
	_, err = content.Reader().WriteTo(w)
	if err == nil {
		err = w.end()
	}
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// deliveryHeader is what final delivery adds: Return-Path (RFC 5321 §4.4) and a
// Delivered-To for each recipient.
func deliveryHeader(d *mail.Delivery, rcpts []int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Return-Path: <%s>\r\n", d.Message.Envelope.Sender.Raw)
	for _, i := range rcpts {
		fmt.Fprintf(&b, "Delivered-To: %s\r\n", d.Recipients[i].Address.Raw)
	}
	return b.Bytes()
}

// makeMaildir makes the directories that are missing, readable by us only.
func makeMaildir(dir string) error {
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := makeDir(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes a directory and those above it, in a way that survives a power
// cut as the mail in it will.
func makeDir(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if errors.Is(err, os.ErrNotExist) {
		if err := makeDir(filepath.Dir(path)); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// unixLines turns CRLF into LF.
type unixLines struct {
	w      io.Writer
	asIs   bool
	heldCR bool
}

// Write implements io.Writer.
func (u *unixLines) Write(p []byte) (int, error) {
	if u.asIs {
		return u.w.Write(p)
	}
	n := len(p)
	if u.heldCR && n > 0 {
		u.heldCR = false
		if p[0] != '\n' {
			if _, err := u.w.Write([]byte{'\r'}); err != nil {
				return 0, err
			}
		}
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\r')
		if i < 0 {
			_, err := u.w.Write(p)
			return n, err
		}
		end := i
		switch {
		case i+1 == len(p):
			u.heldCR = true
		case p[i+1] != '\n':
			end++
		}
		if _, err := u.w.Write(p[:end]); err != nil {
			return 0, err
		}
		p = p[i+1:]
	}
	return n, nil
}

// end writes a CR that nothing followed.
func (u *unixLines) end() error {
	if !u.heldCR {
		return nil
	}
	_, err := u.w.Write([]byte{'\r'})
	return err
}
