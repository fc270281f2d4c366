package script

import (
	"context"
	"strings"
	"testing"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// plain runs lines as the language has them, counted as scripts are run; both
// return what x is then, or the error.
func plain(source string) (string, error) {
	thread := &starlark.Thread{Print: func(*starlark.Thread, string) {}}
	thread.SetMaxExecutionSteps(1_000_000)
	globals, err := starlark.ExecFileOptions(&syntax.FileOptions{TopLevelControl: true, GlobalReassign: true}, thread, "x.star", source, nil)
	if err != nil {
		return "", err
	}
	return show(globals)
}

func counting(source string) (string, error) {
	p := &Program{name: "x.star", limits: Limits{}.withDefaults(), patterns: newPatterns()}
	options := &syntax.FileOptions{TopLevelControl: true, GlobalReassign: true}
	file, err := options.Parse(p.name, source, 0)
	if err != nil {
		return "", err
	}
	rewrite(file)
	env := environment()
	compiled, err := starlark.FileProgram(file, env.Has)
	if err != nil {
		return "", err
	}
	c := newCall(p)
	c.begin(context.Background(), nil)
	globals, err := compiled.Init(&c.thread, env)
	if err != nil {
		return "", err
	}
	return show(globals)
}

func show(globals starlark.StringDict) (string, error) {
	x := globals["x"]
	if x == nil {
		return "", nil
	}
	if _, err := weigh(x, 1<<20); err != nil {
		return "", err
	}
	return x.Type() + " " + x.String(), nil
}

// What is compiled into calls must mean what it meant.
var meanings = []string{
	"x = 1 + 2 * 3 - 4 // 2 % 3",
	"x = 7 % 3, -7 % 3, 7 // -2, 7 / 2, 1.5 % 1, 2.5 // 1",
	"a = 5\nb = 7\nx = [a + b, a - b, a * b, a / b, a // b, a % b, a << b, a >> 1, a & b, a | b, a ^ b]",
	"a = 'x'\nb = 'y'\nx = [a + b, a * 3, 3 * a, a * -1, a * 0, a == b, a != b, a < b, a <= b, a > b, a >= b, a in b, a not in b]",
	"a = [1, 2]\nb = [3]\nx = [a + b, a * 2, 2 * a, a == b, a < b, 1 in a, [1] in [a, [1]], 5 not in a]",
	"a = (1, 2)\nb = (3,)\nx = [a + b, a * 2, a == b, a < b, 1 in a, a]",
	"a = {'k': 1}\nb = {'l': 2}\nx = [a | b, a == b, 'k' in a, 'm' not in a]",
	"x = '%s %r %d %x %o %c %% %e' % ('a', 'a', 5, 255, 8, 'c', 1.5)",
	"x = '%(a)s %(b)d' % {'a': 'x', 'b': 2}",
	"x = '%s' % 'one'",
	"x = '{} {} {a} {{}} {0!r}'.format('p', 'q', a='r') if False else '{} {} {a} {{}}'.format('p', 'q', a='r')",
	"x = '{0!r} {1}'.format('p', [1, 'b'])",
	"x = [1, 2]\ny = x\nx += [3]\nx = [x, y, x == y]",
	"x = [1, 2]\ny = x\nx = x + [3]\nx = [x, y]",
	"d = {'a': [1]}\nd['a'] += [2]\nd['b'] = 3\nd['b'] *= 2\nd['b'] -= 1\nx = d",
	"n = [0]\ndef f():\n    n[0] += 1\n    return 0\nd = {0: 10}\nd[f()] += 5\nx = [n, d]",
	"d = {'a': 1}\nd |= {'b': 2}\nx = d",
	"x = 'abc'\nx += 'def'\nx *= 2\nx %= ()",
	"a = 'abcdef'\nx = [a[1:3], a[:2], a[2:], a[::2], a[::-1], a[-3:-1], a[4:2], a[10:], a[:-10], a[5:1:-2], a[:-10:-1]]",
	"a = [0, 1, 2, 3, 4, 5]\nx = [a[1:3], a[:2], a[2:], a[::2], a[::-1], a[-3:-1], a[4:2], a[10:], a[:-10], a[5:1:-2], a[::-3], a[3::-1], a[-1:0:-1]]",
	"a = (0, 1, 2)\nx = [a[1:], a[::-1]]",
	"x = [range(10)[2:8:2], range(10)[::-1]]",
	"a, b = 1, 2\na, b = b, a\n(c, d), e = (1, 2), 3\nx = [a, b, c, d, e]",
	"def f(a, b=2, *args, c, d=4, **kw):\n    return [a, b, args, c, d, kw]\nx = [f(1, c=3), f(1, 2, 3, 4, c=5, e=6), f(*[1, 2, 3], **{'c': 7, 'z': 1})]",
	"x = (lambda *a, **k: (a, k))(1, 2, z=3)",
	"f = lambda a, b=2: a + b\nx = [f(1), f(1, 5), f(b=1, a=1)]",
	"x = [(a, b) for a in [1, 2, 3] if a != 2 for b in 'pq'.elems()]",
	"x = {k: v for k, v in [('a', 1), ('b', 2)]}",
	"x = [' aB '.strip(), 'aB'.lower(), 'aB'.upper(), 'ab cd'.title(), 'ab'.capitalize(), 'a,b'.split(','), 'a b'.split(), 'a\\nb'.splitlines(), 'abc'.find('c'), 'abab'.rfind('b'), 'abab'.count('ab'), ','.join(['a', 'b']), 'aab'.replace('a', 'c', 1), 'a=b'.partition('='), 'a=b=c'.rpartition('='), 'abc'.startswith('ab'), 'abc'.endswith(('x', 'c')), 'abc'.removeprefix('a'), '12'.isdigit(), 'a,b,c'.rsplit(',', 1), 'xxa'.lstrip('x'), 'axx'.rstrip('x'), 'abc'.index('b')]",
	"a = [3, 1, 2]\na.append(5)\na.insert(0, 9)\na.extend((7, 8))\na.remove(1)\nb = a.pop()\nc = a.pop(0)\nx = [a, b, c, a.index(2), sorted(a), sorted(a, reverse=True), sorted(['b', 'A'], key=lambda s: s.lower())]",
	"d = {'a': 1}\nd.update([('b', 2)], c=3)\nx = [d.keys(), d.values(), d.items(), d.get('z', 0), d.pop('a'), d.setdefault('q', 5), d, d.popitem()]",
	"f = 'abc'.upper\ng = getattr('abc', 'find')\nx = [f(), g('c'), hasattr('a', 'lower'), getattr('a', 'nope', 5)]",
	"x = [len('abc'), str(5), str('a'), repr('a'), int('12'), int('ff', 16), int(1.9), float('1.5'), bool([]), list((1, 2)), tuple([1]), dict(a=1), dict([('a', 1)], b=2), max(1, 3, 2), min([4, 2]), max(['aa', 'b'], key=len), any([0, 1]), all([1, 0]), list(reversed([1, 2])), list(enumerate(['a'], 1)), zip([1, 2], 'ab'.elems()), type([]), chr(65), ord('A'), abs(-2), hash('a') == hash('a'), list(range(5, 0, -2))]",
	"a = 3.0\nb = 3\nc = 4\nx = [a < b, a <= b, a > b, a >= b, a == b, a != b, b < a, b <= a, b < c, b <= c, c > b, c >= b, b >= c, b > c]",
	"x = not (1 == 1.0), 1 != 'a', None == None, (1, 2) == [1, 2], [] < [1]",
	"x = [1 if a > 1 else -a for a in (1, 2)]",
	"x = [b'ab' + b'c', b'ab' * 2, b'ab' == b'ab', b'a' in b'ab']",
	"x = (((1)))",
	"x = ()\ny = (x,)\nx = (x, y)",
	"def f():\n    total = 0\n    for i in range(10):\n        if i % 2:\n            continue\n        if i > 6:\n            break\n        total += i\n    return total\nx = f()",
	"x = 'a' 'b' + 'c'",
	"x = 1 << 70, (1 << 70) * 3, (1 << 70) + 1, -(1 << 70) // 7, (1 << 70) % 7",
	// Mistakes stay mistakes.
	"x = 'a' + 1", "x = [] + ()", "x = 1 + None", "x = {} * 2", "x = 'a' < 1", "x = 1 in 2", "x = 'a'.nope()", "x = [].nope",
	"x = [1][5]", "x = {}['a']", "x = 'a'[1:2:0]", "x = 5[1:]", "x = (1)(2)", "x = len()", "x = 1 << 600", "x = 1 << -1", "x = ''.join([1])",
	"x = 'a'.replace('b')", "x = {[]: 1}", "x = int('z')", "x = '%d' % 'a'", "x = '%s %s' % 'a'", "x = [0]\nx[3] += 1", "x = {}\nx['a'] += 1",
	"x = (1, 2)\nx[0] += 1", "x = [][0:'a']", "fail('no', 1)", "x = max()", "x = sorted(1)", "x = 'a'.format(1, b)", "x = '{1}'.format(1)",
}

func TestCountingChangesNoMeaning(t *testing.T) {
	for _, source := range meanings {
		want, wantErr := plain(source)
		got, gotErr := counting(source)
		if got != want || (gotErr == nil) != (wantErr == nil) {
			t.Errorf("%s\n got %s (%v)\nwant %s (%v)", source, got, gotErr, want, wantErr)
		}
	}
}

// FuzzMeaning compares the two on whatever a program may be. What is refused for
// its size is not compared; what is accepted is small enough to be run plainly.
func FuzzMeaning(f *testing.F) {
	for _, source := range meanings {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if len(source) > 2000 || strings.Contains(source, "hash") {
			return
		}
		got, err := counting(source)
		if err != nil {
			return
		}
		want, err := plain(source)
		if err != nil {
			for name := range environment() {
				if strings.Contains(err.Error(), "undefined: "+name) {
					return // a name that only scripts have
				}
			}
			t.Fatalf("%s\n got %s, plainly %v", source, got, err)
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", source, got, want)
		}
	})
}
