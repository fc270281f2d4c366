package authfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of a file.
const (
	maxFile  = 64 << 20
	maxLine  = 8 << 10
	maxShown = 10 // complaints in one error
)

// table is a file that was read. It never changes.
type table struct {
	users    map[string]user // by name in lower case
	dummy    secret          // costs what most of them cost, and is nobody's
	warnings []string
	stamp    stamp
}

// user is one line.
type user struct {
	name    string
	secret  secret
	senders []string
}

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
	info     fs.FileInfo
	// fresh says that the file changed right before it was read: the next change may
	// carry the same time.
	fresh bool
}

func stampOf(info fs.FileInfo, now time.Time) stamp {
	return stamp{modified: info.ModTime(), size: info.Size(), info: info, fresh: now.Sub(info.ModTime()) < 2*time.Second}
}

func (s stamp) same(info fs.FileInfo) bool {
	return !s.fresh && s.modified.Equal(info.ModTime()) && s.size == info.Size() && os.SameFile(s.info, info)
}

var (
	errNotFile = errors.New("it is not a regular file")
	errTooBig  = errors.New("it is larger than 64 MiB")
)

// load reads the file.
func load(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read users: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read users %s: %w", path, errNotFile)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("read users %s: %w", path, errTooBig)
	}
	// The time before the first byte is read: what is written later is another version.
	s := stampOf(info, time.Now())
	t, err := parse(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read users %s: %w", path, err)
	}
	t.stamp = s
	switch mode := info.Mode().Perm(); {
	case mode&0o004 != 0:
		t.warnings = append(t.warnings, fmt.Sprintf("everybody on this machine may read the passwords (mode %04o): chmod o-r", mode))
	case mode&0o022 != 0:
		t.warnings = append(t.warnings, fmt.Sprintf("others than the owner may change the passwords (mode %04o): chmod go-w", mode))
	}
	return t, nil
}

// parse reads the lines.
func parse(r io.Reader) (*table, error) {
	t := &table{users: make(map[string]user)}
	var errs []error
	lines := make(map[string]int)
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, 4096), maxLine)
	number := 0
	for scanner.Scan() {
		number++
		line := scanner.Bytes()
		if number == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		u, err := parseLine(string(line))
		key := strings.ToLower(u.name)
		switch {
		case err == nil && u.name == "":
			continue
		case err == nil && lines[key] > 0:
			err = fmt.Errorf("%q stands in line %d already", u.name, lines[key])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		lines[key] = number
		t.users[key] = u
	}
	if err := scanner.Err(); err != nil {
		errs = append(errs, fmt.Errorf("line %d: %w", number+1, err))
	}
	if len(errs) > maxShown {
		errs = append(errs[:maxShown], fmt.Errorf("and %d lines more", len(errs)-maxShown))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	t.setDummy()
	return t, nil
}

var (
	errWords   = errors.New(`want a name, a password and nothing or what the user may send as: "bob secret bob@example.com,@example.org"`)
	errName    = errors.New("the name is not UTF-8, longer than 255 bytes or has control characters")
	errSenders = errors.New("want addresses and domains with commas between")
)

// parseLine reads one line; a name "" says that there is nothing in it.
func parseLine(line string) (user, error) {
	words := strings.Fields(line)
	switch {
	case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		return user{}, nil
	case len(words) < 2 || len(words) > 3:
		return user{}, errWords
	}
	u := user{name: words[0]}
	if len(u.name) > 255 || !utf8.ValidString(u.name) || strings.ContainsFunc(u.name, unicode.IsControl) {
		return user{}, errName
	}
	var err error
	if u.secret, err = parseSecret(words[1]); err != nil {
		return user{}, err
	}
	if len(words) == 3 {
		u.senders, err = parseSenders(words[2])
	}
	return u, err
}

// parseSenders reads "bob@example.com,@example.org,example.net".
func parseSenders(s string) ([]string, error) {
	var all []string
	for one := range strings.SplitSeq(s, ",") {
		if one = strings.ToLower(one); one == "" {
			continue
		}
		at := strings.LastIndexByte(one, '@')
		if at < 0 {
			one, at = "@"+one, 0
		}
		if domain := one[at+1:]; !strings.Contains(domain, ".") || strings.Trim(domain, ".") != domain {
			// A word that is none of both is most likely the end of a password with a
			// space in it.
			return nil, errSenders
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, errSenders
	}
	return all, nil
}

// setDummy makes a secret of the kind that most lines have, with the cost that most
// of those have.
func (t *table) setDummy() {
	count := make(map[string]int)
	best := ""
	t.dummy = plain("").dummy()
	for _, u := range t.users {
		kind := u.secret.kind()
		count[kind]++
		// The order of a map must not matter: among equals the costlier name wins.
		if count[kind] > count[best] || count[kind] == count[best] && kind > best {
			best, t.dummy = kind, u.secret.dummy()
		}
	}
}
