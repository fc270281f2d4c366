package script_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"gatepost/internal/script"
)

// What a script can do to use up time and memory, with an operation each that would
// do much in few steps if nobody counted. Without the counting most of these take
// gigabytes or minutes, and the test run does not survive them.
var greedy = map[string]string{
	"a string is repeated":              `x = "a" * (1 << 29)`,
	"a list is repeated":                `x = [0] * (1 << 29)`,
	"a tuple is repeated":               `x = (0, 1) * (1 << 28)`,
	"a number times a string":           `x = (1 << 29) * "a"`,
	"a string doubles":                  "x = 'abcdefgh'\nfor i in range(60):\n    x = x + x",
	"a string doubles in place":         "x = 'abcdefgh'\nfor i in range(60):\n    x += x",
	"a list doubles in place":           "x = [1]\nfor i in range(60):\n    x += x",
	"a list in a dict doubles in place": "x = {1: [1]}\nfor i in range(60):\n    x[1] += x[1]",
	"a list extends itself":             "x = [1]\nfor i in range(60):\n    x.extend(x)",
	"a method is called by its value":   "x = [1]\nf = x.extend\nfor i in range(60):\n    f(x)",
	"a method is called by its name":    "x = [1]\nfor i in range(60):\n    getattr(x, 'extend')(x)",
	"a tuple doubles":                   "x = (1, 2)\nfor i in range(60):\n    x = x + x",
	"a number is squared":               "x = 3\nfor i in range(60):\n    x = x * x",
	"a number is shifted":               "x = 1\nfor i in range(100000):\n    x = x << 500",
	"replace multiplies":                "x = ('a' * 1000000).replace('a', 'b' * 1000000)",
	"replace between letters":           "x = ('a' * 1000000).replace('', 'b' * 1000000)",
	"join multiplies":                   "x = ('b' * 1000000).join(['a'] * 100000)",
	"format repeats":                    "x = ('{0}' * 100000).format('b' * 1000000)",
	"percent repeats":                   "x = ('%(a)s' * 100000) % {'a': 'b' * 1000000}",
	"a range becomes a list":            "x = list(range(1 << 30))",
	"a range becomes a tuple":           "x = tuple(range(1 << 30))",
	"a range is spread":                 "x = max(*range(1 << 30))",
	"a range is summed up":              "x = max(range(1 << 30))",
	"a range is sorted":                 "x = sorted(range(1 << 30))",
	"a range is joined":                 "x = zip(range(1 << 30), range(1 << 30))",
	"all of a range":                    "x = all(range(1, 1 << 30))",
	"a range is counted":                "x = enumerate(range(1 << 30))",
	"a list shares itself and is shown": "x = [1]\nfor i in range(60):\n    x = [x, x]\ny = str(x)",
	"the same by percent":               "x = [1]\nfor i in range(60):\n    x = [x, x]\ny = '%r' % [x]",
	"the same by format":                "x = [1]\nfor i in range(60):\n    x = [x, x]\ny = '{}'.format(x)",
	"the same by echo":                  "x = [1]\nfor i in range(60):\n    x = [x, x]\necho(x)",
	"the same by fail":                  "x = [1]\nfor i in range(60):\n    x = [x, x]\nfail(x)",
	"the same is compared":              "x = [1]\ny = [1]\nfor i in range(60):\n    x = [x, x]\n    y = [y, y]\nz = x == y",
	"a wide one is compared":            "x = [1] * 2000\nx = [x] * 2000\nx = [x] * 2000\ny = [1] * 2000\ny = [y] * 2000\ny = [y] * 2000\nz = x == y",
	"a wide one is looked for":          "x = [1] * 2000\nx = [x] * 2000\nx = [x] * 2000\nz = x in [x] * 2000",
	"a tuple shares itself":             "x = (1, 2)\nfor i in range(60):\n    x = (x, x)\ny = {x: 1}",
	"a tuple of the rest shares itself": "def f(*a):\n    return a\nx = (1, 2)\nfor i in range(60):\n    x = f(x, x)\ny = {x: 1}",
	"the same by lambda":                "f = lambda *a: a\nx = (1, 2)\nfor i in range(60):\n    x = f(x, x)\ny = {x: 1}",
	"pairs share themselves":            "x = (1, 2)\nfor i in range(60):\n    x = list(zip([x], [x]))[0]\ny = {x: 1}",
	"dicts join":                        "x = {i: i for i in range(1000)}\nl = []\nfor i in range(100000):\n    l.append(x | x)",
	"slices are kept":                   "x = [1] * 100000\nl = []\nfor i in range(100000):\n    l.append(x[1:])",
	"lower letters are kept":            "x = 'A' * 1000000\nl = []\nfor i in range(100000):\n    l.append(x.lower())",
	"a string is split":                 "x = 'a,' * 1000000\nl = []\nfor i in range(100000):\n    l.append(x.split(','))",
	"a string is split into letters":    "x = 'a' * 4000000\nl = []\nfor i in range(100):\n    l.append(list(x.elems()))",
	"a large number is read":            "x = int('9' * 1000000)",
	"an endless loop":                   "x = 0\nfor i in range(1 << 40):\n    x = x + 1",
	"searching much":                    "x = ['a'] * 100000\nn = 0\nfor i in range(100000):\n    if 'b' in x:\n        n += 1",
	"reading much":                      "x = 'a' * 4000000\nn = 0\nfor i in range(100000):\n    n += x.count('ab')",
	"comparing much":                    "x = 'a' * 4000000\ny = 'a' * 4000000\nn = 0\nfor i in range(100000):\n    if [x] == [y]:\n        n += 1",
	"an expression and a long text":     "for i in range(100):\n    x = match('(a*)*(a|b|c|d)*(x+x+)+y', 'a' * 1000000)",
	"all matches, each to the end":      "x = findall('a.*z|a', 'a' * 1000000)",
	"JSON lies deep":                    "x = json_decode('[' * 100000 + ']' * 100000)",
	"lists lie deep":                    "x = []\nfor i in range(30000):\n    x = [x]\ny = str(x)",
}

func TestNoOperationTakesMuchInOneStep(t *testing.T) {
	for name, lines := range greedy {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begun := time.Now()
			r := say(t, visit(t), lines)
			runtime.ReadMemStats(&after)
			if r.Failed == nil {
				t.Fatalf("it went through: %+v", r)
			}
			if made := after.TotalAlloc - before.TotalAlloc; made > 400<<20 {
				t.Errorf("it made %d MiB before it was stopped", made>>20)
			}
			t.Logf("%v, %d KiB: %s: %s", time.Since(begun).Round(time.Microsecond), (after.TotalAlloc-before.TotalAlloc)>>10, r.Failed.Symbol, r.Failed.Text)
		})
	}
}

// The same must hold when a script is loaded, where there is no session yet.
func TestNoOperationTakesMuchWhenLoading(t *testing.T) {
	for name, lines := range greedy {
		if strings.Contains(lines, "echo") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			// Names at the top level are assigned to once, so it goes into a function.
			source := "def work():\n    " + strings.ReplaceAll(lines, "\n", "\n    ") + "\nwork()\ndef connect(s):\n    pass\n"
			if _, err := script.Compile(script.Config{Name: "test.star", Source: source}); err == nil {
				t.Fatal("it was loaded")
			}
		})
	}
}

func TestScriptThatWaitsIsNotComputing(t *testing.T) {
	r := say(t, visit(t), "dns('a.example')", func(c *script.Config) {
		c.Limits.Lookup = time.Millisecond
		c.Lookups.DNS = dnsFunc(func(ctx context.Context, _, _ string) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	if r.Failed == nil || !strings.Contains(r.Failed.Text, "deadline") {
		t.Errorf("%+v", r.Failed)
	}
}

type dnsFunc func(ctx context.Context, name, kind string) ([]string, error)

func (f dnsFunc) Lookup(ctx context.Context, name, kind string) ([]string, error) {
	return f(ctx, name, kind)
}
