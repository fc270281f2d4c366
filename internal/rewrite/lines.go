package rewrite

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"

	"github.com/gaissmai/bart"

	"gatepost/internal/smtp"
)

// Limits of a file.
const (
	maxFile = 256 << 20
	// maxBad bounds the bad lines that are remembered.
	maxBad = 1000
)

// Errors of files.
var (
	ErrNotFile  = errors.New("it is not a regular file")
	ErrTooLarge = errors.New("it is larger than 256 MiB")
)

// BadLine is a line that is no entry.
type BadLine struct {
	Number  int // from 1
	Message string
}

// rules is what a file or the lines of a configuration say.
type rules struct {
	stage        Stage
	hasTransport func(string) bool

	plain    map[string]rule
	patterns []pattern // in the order of the lines
	networks bart.Table[int]
	nets     []rule // in the order of the lines; networks holds their indexes
	entries  int
}

// rule is one entry.
type rule struct {
	result string
	line   int
}

// pattern is an entry with a regular expression.
type pattern struct {
	rule
	text   string
	expr   *regexp.Regexp
	unless bool // "!/…/": holds where it does not match
}

// CheckFile reads the file of a stage as New would, and tells how many entries it
// has and which lines are bad.
func CheckFile(stage Stage, path string, hasTransport func(string) bool) (entries int, bad []BadLine, err error) {
	r, bad, err := readFile(stage, path, hasTransport)
	if err != nil {
		return 0, nil, err
	}
	return r.entries, bad, nil
}

// CheckLine tells what is wrong with a line in the configuration itself; "" for
// nothing.
func CheckLine(stage Stage, line string, hasTransport func(string) bool) string {
	_, bad := readLines(stage, line, hasTransport)
	if len(bad) > 0 {
		return bad[0].Message
	}
	return ""
}

func readFile(stage Stage, path string, hasTransport func(string) bool) (*rules, []BadLine, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() { // to open a pipe would be to wait for its writer
		return nil, nil, fmt.Errorf("%s: %w", path, ErrNotFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxFile {
		return nil, nil, fmt.Errorf("%s: %w", path, ErrTooLarge)
	}
	r, bad := readLines(stage, string(text), hasTransport)
	return r, bad, nil
}

// readLines reads entries as postmap does: one in a line, a line that begins with
// white space continues the one before, "#" at the start of a line is a comment.
func readLines(stage Stage, text string, hasTransport func(string) bool) (*rules, []BadLine) {
	r := &rules{stage: stage, hasTransport: hasTransport, plain: map[string]rule{}}
	var bad []BadLine
	var entry string
	var at int
	flush := func() {
		if entry == "" {
			return
		}
		if message := r.add(entry, at); message != "" && len(bad) < maxBad {
			bad = append(bad, BadLine{at, message})
		}
		entry = ""
	}
	number := 0
	for line := range strings.SplitSeq(strings.TrimPrefix(text, "\xef\xbb\xbf"), "\n") {
		number++
		line = strings.TrimRight(line, " \t\r")
		content := strings.TrimLeft(line, " \t")
		switch {
		case content == "" || content[0] == '#':
			// Neither ends an entry: postmap goes on behind it.
		case content != line && entry != "":
			entry += " " + content
		default:
			flush()
			entry, at = content, number
		}
	}
	flush()
	return r, bad
}

// add takes in one entry and says what is wrong with it.
func (r *rules) add(text string, line int) string {
	if strings.HasPrefix(text, "/") || strings.HasPrefix(text, "!/") {
		return r.addPattern(text, line)
	}
	if first, _, _ := strings.Cut(text, " "); strings.EqualFold(first, "if") || strings.EqualFold(first, "endif") {
		return first + " is not supported: write the conditions into the expressions"
	}
	key, result := cutKey(text)
	if result == "" {
		return fmt.Sprintf("%q has no result", key)
	}
	if message := r.checkResult(result); message != "" {
		return message
	}
	if network, ok := parseNetwork(key); ok {
		r.nets = append(r.nets, rule{result, line})
		if _, exists := r.networks.Get(network); !exists { // the first entry counts
			r.networks.Insert(network, len(r.nets)-1)
		}
		r.entries++
		return ""
	}
	name, ok := r.plainKey(key)
	if !ok {
		return fmt.Sprintf("%q is no pattern", key)
	}
	if first, exists := r.plain[name]; exists {
		if first.result == result {
			return ""
		}
		return fmt.Sprintf("%q stands in line %d already, with another result", key, first.line)
	}
	r.plain[name] = rule{result, line}
	r.entries++
	return ""
}

// cutKey splits an entry at the first white space outside of quotes.
func cutKey(text string) (key, result string) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			return text[:i], strings.TrimLeft(text[i:], " \t")
		}
	}
	return text, ""
}

// parseNetwork reads an address or a network. IPv4 in IPv6 is IPv4.
func parseNetwork(key string) (netip.Prefix, bool) {
	if strings.HasPrefix(key, "[") && strings.HasSuffix(key, "]") {
		key = key[1 : len(key)-1]
	}
	if ip, err := netip.ParseAddr(key); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), true
	}
	network, err := netip.ParsePrefix(key)
	return network.Masked(), err == nil
}

// plainKey brings a pattern into the form in which it is looked up.
func (r *rules) plainKey(key string) (string, bool) {
	if r.stage == TransportMap {
		if key == "*" {
			return key, true
		}
		if !strings.Contains(strings.TrimPrefix(key, "@"), "@") {
			bare := strings.TrimPrefix(key, "@")
			domain, err := smtp.CanonicalDomain(strings.TrimPrefix(bare, "."))
			if err != nil {
				return "", false
			}
			if strings.HasPrefix(bare, ".") {
				domain = "." + domain
			}
			return domain, true
		}
	}
	if domain, ok := strings.CutPrefix(key, "@"); ok {
		name, err := smtp.CanonicalDomain(domain)
		return "@" + name, err == nil
	}
	if a, err := smtp.ParseAddress(key); err == nil {
		return a.Key(), true
	}
	// A local part alone: any domain will do to read it.
	a, err := smtp.ParseAddress(key + "@x.example")
	if err != nil {
		return "", false
	}
	return strings.ToLower(a.Local), true
}

// addPattern reads "/expression/flags result". As in Postfix, case does not matter
// unless the flag i says that it does.
func (r *rules) addPattern(text string, line int) string {
	p := pattern{unless: text[0] == '!'}
	body := strings.TrimPrefix(text, "!")[1:]
	end := 0
	for end < len(body) && body[end] != '/' {
		if body[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(body) {
		return "the expression has no end"
	}
	flags, result := cutKey(body[end+1:])
	expr := "(?i)"
	for _, f := range flags {
		switch f {
		case 'i':
			expr = ""
		case 'm', 'x': // Postfix's, for line ends and the syntax: neither changes anything here
		default:
			return fmt.Sprintf("%q is no flag of an expression", f)
		}
	}
	compiled, err := regexp.Compile(expr + body[:end])
	if err != nil {
		return fmt.Sprintf("the expression is bad: %v", err)
	}
	if result == "" {
		return "the expression has no result"
	}
	groups := compiled.NumSubexp()
	if p.unless {
		groups = -1
	}
	if message := checkTemplate(result, groups); message != "" {
		return message
	}
	if message := r.checkCount(result); message != "" {
		return message
	}
	p.text, p.expr, p.rule = "/"+body[:end]+"/", compiled, rule{result, line}
	r.patterns = append(r.patterns, p)
	r.entries++
	return ""
}
