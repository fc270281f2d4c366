package logs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Format is how a record is written.
type Format string

// The formats. The empty Format is FormatText.
const (
	FormatText Format = "text"
	FormatJSON Format = "json"
)

// The names of the files in Config.Dir. MailFile has everything.
const (
	MailFile      = "mail.log"
	smtpProxyFile = "smtp_proxy.log"
	popProxyFile  = "pop_proxy.log"
)

// Config says where and how to log. The zero Config logs text from level info
// to standard error.
type Config struct {
	// Dir holds the log files; it is made, with mode 0750, if it is missing.
	// "" logs to Stderr only.
	Dir    string
	Level  slog.Level
	Format Format
	// MaxSize is the number of bytes at which a file is rotated; default 100 MiB.
	MaxSize int64
	// Backups is how many rotated files are kept besides the current one
	// (mail.log.1 is the youngest); default 10, negative none.
	Backups int
	// Buffer is how many bytes of lines may wait for one slow or failing file;
	// default 4 MiB. Lines beyond it are dropped and counted.
	Buffer int
	// MaxValue is the number of bytes at which one value is cut; default 4096.
	MaxValue int
	// FlushEvery is how long a line may wait in memory; default 200 ms.
	FlushEvery time.Duration
	// Patience is how long Reopen, Reload and Close wait for a disk that hangs;
	// default 5 s.
	Patience time.Duration
	// Stderr replaces os.Stderr, for tests.
	Stderr io.Writer
}

func (c Config) withDefaults() Config {
	if c.Format == "" {
		c.Format = FormatText
	}
	if c.MaxSize <= 0 {
		c.MaxSize = 100 << 20
	}
	if c.Backups == 0 {
		c.Backups = 10
	}
	c.Backups = max(c.Backups, 0)
	if c.Buffer <= 0 {
		c.Buffer = 4 << 20
	}
	if c.MaxValue <= 0 {
		c.MaxValue = 4096
	}
	if c.FlushEvery <= 0 {
		c.FlushEvery = 200 * time.Millisecond
	}
	if c.Patience <= 0 {
		c.Patience = 5 * time.Second
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	return c
}

// Logs owns the log files. Its methods may be called from any goroutine.
type Logs struct {
	level slog.LevelVar
	json  atomic.Bool
	// split says that smtp_proxy.log and pop_proxy.log are files of their own; without a
	// directory one stream holds all.
	split     atomic.Bool
	maxValue  int
	mail      *sink
	smtpProxy *sink
	popProxy  *sink

	mu  sync.Mutex // guards cfg; held while files are opened at a reload, never by a logging goroutine
	cfg Config

	transactions, retrievals slog.Handler
}

// Open opens the log files and starts their writers; Close ends them.
func Open(cfg Config) (*Logs, error) {
	cfg = cfg.withDefaults()
	outs, err := openOutputs(cfg)
	if err != nil {
		return nil, err
	}
	l := &Logs{cfg: cfg, maxValue: cfg.MaxValue}
	l.level.Set(cfg.Level)
	l.json.Store(cfg.Format == FormatJSON)
	l.split.Store(cfg.Dir != "")
	l.mail = newSink(MailFile, outs[0], cfg, l.notice(MailFile))
	l.smtpProxy = newSink(smtpProxyFile, outs[1], cfg, l.notice(smtpProxyFile))
	l.popProxy = newSink(popProxyFile, outs[2], cfg, l.notice(popProxyFile))
	l.retrievals = newHandler(l, "POP-Proxy", lineWriter{mail: l.mail, also: l.popProxy, both: &l.split})
	l.transactions = newHandler(l, "SMTP-Proxy", lineWriter{mail: l.mail, also: l.smtpProxy, both: &l.split})
	return l, nil
}

// outputs are those of mail.log, smtp_proxy.log and pop_proxy.log.
type outputs [3]output

// openOutputs opens what the configuration asks for, all or none.
func openOutputs(cfg Config) (outputs, error) {
	if cfg.Dir == "" {
		return outputs{&stream{w: cfg.Stderr}, &stream{w: cfg.Stderr}, &stream{w: cfg.Stderr}}, nil
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return outputs{}, fmt.Errorf("make log directory: %w", err)
	}
	var outs outputs
	for i, name := range []string{MailFile, smtpProxyFile, popProxyFile} {
		f := &file{path: filepath.Join(cfg.Dir, name), maxSize: cfg.MaxSize, backups: cfg.Backups}
		if err := f.Reopen(); err != nil {
			for _, before := range outs[:i] {
				err = errors.Join(err, before.Close())
			}
			return outputs{}, err
		}
		outs[i] = f
	}
	return outs, nil
}

// Logger returns a logger for mail.log whose lines carry the component's tag:
// "SMTP-Proxy", "POP-Proxy", "Queue", "Spool", "Admin", "Email-Scanner", ….
func (l *Logs) Logger(component string) *slog.Logger {
	return slog.New(newHandler(l, component, lineWriter{mail: l.mail}))
}

// Reopen closes and opens the files by name, for SIGHUP and logrotate. After an
// error the old file stays in use.
func (l *Logs) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(
		l.mail.do(output.Reopen, l.cfg.Patience),
		l.smtpProxy.do(output.Reopen, l.cfg.Patience),
		l.popProxy.do(output.Reopen, l.cfg.Patience))
}

// Reload applies another configuration: level, format, directory and limits of
// the files; Buffer, MaxValue, FlushEvery and Patience stay as they were opened.
// When a new file cannot be opened nothing changes.
func (l *Logs) Reload(cfg Config) error {
	cfg = cfg.withDefaults()
	l.mu.Lock()
	defer l.mu.Unlock()
	if cfg.Dir != l.cfg.Dir || cfg.MaxSize != l.cfg.MaxSize || cfg.Backups != l.cfg.Backups {
		outs, err := openOutputs(cfg)
		if err != nil {
			return err
		}
		if err := errors.Join(l.mail.replace(outs[0], l.cfg.Patience), l.smtpProxy.replace(outs[1], l.cfg.Patience),
			l.popProxy.replace(outs[2], l.cfg.Patience)); err != nil {
			return err
		}
		l.split.Store(cfg.Dir != "")
	}
	l.level.Set(cfg.Level)
	l.json.Store(cfg.Format == FormatJSON)
	l.cfg = cfg
	return nil
}

// Dropped returns how many lines were lost since Open.
func (l *Logs) Dropped() uint64 {
	return l.mail.lost.Load() + l.smtpProxy.lost.Load() + l.popProxy.lost.Load()
}

// Health returns nil when the files can be written, else why not.
func (l *Logs) Health() error {
	return errors.Join(l.mail.health(), l.smtpProxy.health(), l.popProxy.health())
}

// Flush writes what waits in memory, within Config.Patience.
func (l *Logs) Flush() error {
	nothing := func(output) error { return nil }
	return errors.Join(l.mail.do(nothing, l.mail.patience), l.smtpProxy.do(nothing, l.smtpProxy.patience),
		l.popProxy.do(nothing, l.popProxy.patience))
}

// Close writes what waits in memory and closes the files. It gives up on a disk
// that hangs after Config.Patience. Lines logged later are lost silently.
func (l *Logs) Close() error {
	return errors.Join(l.mail.close(), l.smtpProxy.close(), l.popProxy.close())
}
