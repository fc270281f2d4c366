package filter

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of lists in files.
const (
	maxListSize = 64 << 20
	maxListLine = 4096
)

// filePrefix says that a value is the path of a list.
const filePrefix = "file:"

// value is one value of a condition.
type value struct {
	text string
	// where is file and line for a value out of a list, "" else.
	where string
}

// fail reports a mistake in a value, with its line where it is in a list.
func (c *compiler) failValue(path string, v value, err error) {
	if v.where != "" {
		err = fmt.Errorf("%s: %w", v.where, err)
	}
	c.fail(path, err)
}

// values returns the values of a condition: a string or a list of strings, those
// in files included.
func (c *compiler) values(path string, v any) []value {
	var texts []string
	switch v := v.(type) {
	case string:
		texts = []string{v}
	case []string:
		texts = v
	case []any:
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				c.fail(path, errors.New("must be a string or a list of strings"))
				return nil
			}
			texts = append(texts, s)
		}
	default:
		c.fail(path, errors.New("must be a string or a list of strings"))
		return nil
	}
	if len(texts) == 0 {
		c.fail(path, errors.New("an empty list: the condition could never hold"))
	}
	var values []value
	for _, s := range texts {
		name, ok := strings.CutPrefix(s, filePrefix)
		if !ok {
			values = append(values, value{text: s})
			continue
		}
		list, err := c.readList(name)
		if err != nil {
			c.fail(path, err)
			continue
		}
		values = append(values, list...)
	}
	return values
}

// readList reads a list: a value on each line; empty lines and those that begin
// with # are left out. A "#" behind a value belongs to it, since expressions may
// hold one. An empty list is none, so that a list can be filled later.
func (c *compiler) readList(name string) ([]value, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.dir, path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxListSize {
		return nil, fmt.Errorf("read list: %s is no file of at most %d MiB", path, maxListSize>>20)
	}
	var list []value
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, maxListLine), maxListLine)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		if text == "" || text[0] == '#' {
			continue
		}
		where := name + ":" + strconv.Itoa(n)
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("%s: not UTF-8", where)
		}
		list = append(list, value{text: text, where: where})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read list %s: %w", name, err)
	}
	return list, nil
}

func (c *compiler) bool(path string, v any) bool {
	b, ok := v.(bool)
	if !ok {
		c.fail(path, errors.New("must be true or false"))
	}
	return b
}

// integer accepts what TOML and JSON decoders give.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, v >= 0
	case int:
		return int64(v), v >= 0
	case float64:
		return int64(v), v >= 0 && v == math.Trunc(v) && v < 1<<53
	}
	return 0, false
}

func (c *compiler) count(path string, v any) int64 {
	n, ok := integer(v)
	if !ok {
		c.fail(path, errors.New("must be a number, 0 or more"))
	}
	return n
}

// units are the suffixes of sizes, the same as in the rest of the configuration.
var units = [...]struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

// size reads "10MiB"; a bare number is bytes.
func (c *compiler) size(path string, v any) int64 {
	if n, ok := integer(v); ok {
		return n
	}
	s, _ := v.(string)
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err == nil && n >= 0 && n <= math.MaxInt64/u.bytes {
			return n * u.bytes
		}
		break
	}
	c.fail(path, errors.New(`must be a size: "500KiB", "10MiB"`))
	return 0
}
