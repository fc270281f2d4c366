package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// maxFileSize bounds the configuration file, and each small file that it names.
const maxFileSize = 16 << 20

// Load reads the configuration file. The Config is nil where one of the
// problems is an error; with warnings only there are both. Problems are in the
// order of the file.
func Load(path string) (*Config, []Problem) {
	data, err := readFile(path, maxFileSize)
	if err != nil {
		return nil, []Problem{{Rule: string(ruleUnreadable), File: path, Message: "can't be read: " + fileError(err)}}
	}
	full, err := filepath.Abs(path)
	if err != nil {
		full = path
	}
	return load(path, filepath.Dir(full), data, thisHost())
}

// LoadText is Load for a text that the file does not hold yet. staged maps absolute
// paths of files that it names to others that stand for them, so that a change of
// several files is checked as a whole before any of them is written; problems are told
// under the paths that the configuration names, while the Config has the others.
func LoadText(path string, text []byte, staged map[string]string) (*Config, []Problem) {
	full, err := filepath.Abs(path)
	if err != nil {
		full = path
	}
	cfg, problems := loadStaged(&binder{file: path, dir: filepath.Dir(full), places: map[any]*place{}}, text, thisHost(), staged)
	for real, other := range staged {
		for i := range problems {
			p := &problems[i]
			p.File = strings.ReplaceAll(p.File, other, real)
			p.Message = strings.ReplaceAll(p.Message, other, real)
			p.Hint = strings.ReplaceAll(p.Hint, other, real)
		}
	}
	return cfg, problems
}

// host is what a configuration leaves to the host that it is read on.
type host struct {
	name      string // "" where it has none
	addresses []netip.Addr
}

// thisHost asks the system. What it does not say stays empty.
func thisHost() host {
	h := host{}
	if name, err := os.Hostname(); err == nil {
		h.name = name
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return h
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				h.addresses = append(h.addresses, ip.Unmap())
			}
		}
	}
	return h
}

// load is Load after the file was read: dir is where relative paths begin.
func load(name, dir string, data []byte, on host) (*Config, []Problem) {
	return loadStaged(&binder{file: name, dir: dir, places: map[any]*place{}}, data, on, nil)
}

// loadStaged is load where other files stand for some that the configuration names.
func loadStaged(b *binder, data []byte, on host, staged map[string]string) (*Config, []Problem) {
	// Editors of some systems put a byte order mark in front.
	data = slices.Clip(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	root, duplicates, syntax := parseTree(data)
	if syntax != nil {
		b.problem(syntax.at, "", &fault{ruleSyntax, "this is not TOML: " + syntax.message, syntaxHint(syntax.message)})
		return nil, b.problems
	}
	for _, d := range duplicates {
		b.problem(d.at, d.path, &fault{ruleDuplicateKey, fmt.Sprintf("this %s stands here a second time", d.what), fmt.Sprintf("the first is in line %d", d.first.line)})
	}
	cfg := &Config{}
	b.table(reflect.ValueOf(cfg).Elem(), root, scope{at: pos{1, 1}})
	cfg.stage(staged, b.dir)
	v := &validator{binder: b, cfg: cfg, host: on}
	v.computedDefaults()
	v.check()
	b.sort()
	if HasErrors(b.problems) {
		return nil, b.problems
	}
	cfg.absoluteLists(b.dir)
	addImplied(cfg.Flows)
	return cfg, b.problems
}

// syntaxHint guesses the commonest mistake: a value without quotes. The parser
// says "expected newline" where a number or a word that begins like one ends.
func syntaxHint(message string) string {
	for _, sign := range []string{"strings must be quoted", "at start of value", "expected keyword", "expected newline", "expected \"", "expected digit"} {
		if strings.Contains(message, sign) {
			return `put text, sizes and durations in quotes: "50MiB"`
		}
	}
	return ""
}

func (b *binder) sort() {
	slices.SortStableFunc(b.problems, func(x, y Problem) int {
		return cmp.Or(
			// Problems of the file itself come before those of files it names.
			boolCompare(x.File != b.file, y.File != b.file),
			cmp.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
}

func boolCompare(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// computedDefaults sets what depends on other keys or on the host.
func (v *validator) computedDefaults() {
	c := v.cfg
	v.interceptionDefaults()
	if c.Hostname == "" && !v.places[&c.Hostname].bad {
		canonical, err := smtp.CanonicalDomain(v.host.name)
		if err != nil {
			v.report(ruleNoHostname, &c.Hostname, "is not set, and this host has no name that could stand for it", `write hostname = "gw.example.com" with the name that other servers know this host by`)
		} else {
			c.Hostname = DomainName(canonical)
		}
	}
	if c.Postmaster.IsNull() && !v.places[&c.Postmaster].bad {
		domain := string(c.Hostname)
		if i := slices.IndexFunc(c.Domains, func(d Domain) bool { return d.Name != "*" && d.Name != "" }); i >= 0 {
			domain = string(c.Domains[i].Name)
		}
		if domain != "" {
			c.Postmaster = mail.Address{Local: "postmaster", Domain: domain, Raw: "postmaster@" + domain}
		}
	}
	for i := range c.Transports {
		// Who only shortens give_up_after wants no error about a default.
		if r := &c.Transports[i].Retry; !v.isSet(&r.WarnAfter) && r.WarnAfter >= r.GiveUpAfter {
			r.WarnAfter = 0
		}
		port := 25
		switch {
		case c.Transports[i].Kind == "lmtp":
			port = 24
		case c.Transports[i].ImplicitTLS:
			port = 465
		}
		for j := range c.Transports[i].Hosts {
			if h := &c.Transports[i].Hosts[j]; h.Unix == "" && h.Port == 0 {
				h.Port = port
			}
		}
	}
	v.scanDefaults()
}

// readFile reads a file that must not be larger than limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errIsDirectory
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it is larger than %s", Size(limit))
	}
	return data, nil
}

var errIsDirectory = errors.New("it is a directory")

// fileError shortens what the system says about a file: its name is known.
func fileError(err error) string {
	var pe *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	case errors.As(err, &pe):
		return pe.Err.Error()
	}
	return err.Error()
}
