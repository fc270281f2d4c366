package script

import (
	"errors"
	"fmt"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// maxBits bounds whole numbers; maxString bounds one string, in bytes.
const (
	maxBits   = 4096
	maxString = 4 << 20
)

var (
	errBigInt    = fmt.Errorf("a number of more than %d bits", maxBits)
	errBigString = fmt.Errorf("a string of more than %d MiB", maxString>>20)
)

// builtin is a function that a script, or what it is compiled into, calls.
type builtin func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

// bind makes a value of a function.
func bind(name string, f builtin) *starlark.Builtin {
	return starlark.NewBuiltin(name, func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		return f(callOf(t), args, kwargs)
	})
}

// operators are what rewrite compiles operations into.
func operators(env starlark.StringDict) {
	for op, name := range binaryOps {
		env[name] = bind(op.String(), func(c *call, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
			return c.binary(op, args[0], args[1])
		})
		env[name+inPlaceMark] = bind(op.String()+"=", func(c *call, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
			return c.inPlace(op, args[0], args[1])
		})
	}
	for name, f := range map[string]builtin{
		opAttr: attrOp, opMethod: methodOp, opSlice: sliceOp, opSpread: spreadOp, opTuple: tupleOp, opCheck: checkOp, opAugIdx: augIdxOp,
	} {
		env[name] = bind(strings.TrimSpace(name), f)
	}
	env[opNone] = starlark.None
}

// binary computes x op y.
func (c *call) binary(op syntax.Token, x, y starlark.Value) (starlark.Value, error) {
	switch op {
	case syntax.EQL, syntax.NEQ, syntax.LT, syntax.LE, syntax.GT, syntax.GE:
		return c.compare(op, x, y)
	case syntax.IN, syntax.NOT_IN:
		return c.member(op, x, y)
	}
	if err := c.before(op, x, y); err != nil {
		return nil, err
	}
	z, err := starlark.Binary(op, x, y)
	if z == nil && err == nil {
		err = fmt.Errorf("unknown binary op: %s %s %s", x.Type(), op, y.Type())
	}
	if s, ok := z.(starlark.String); ok && op == syntax.PERCENT {
		// Quoting may have made it longer.
		err = c.charge(int64(len(s)))
	}
	return z, err
}

// before counts what x op y will make.
func (c *call) before(op syntax.Token, x, y starlark.Value) error {
	switch x := x.(type) {
	case starlark.Int:
		if y, ok := y.(starlark.Int); ok {
			return beforeInts(op, x, y)
		}
		if op == syntax.STAR {
			return c.beforeRepeat(y, x)
		}
		return nil
	case starlark.String:
		if op == syntax.PERCENT {
			_, once := y.(starlark.Tuple)
			return c.beforeFormat(string(x), starlark.Tuple{y}, nil, once)
		}
	}
	switch op {
	case syntax.STAR:
		if n, ok := y.(starlark.Int); ok {
			return c.beforeRepeat(x, n)
		}
	case syntax.PLUS, syntax.PIPE:
		m, n := size(x), size(y)
		if _, ok := x.(starlark.String); ok && m+n > maxString {
			return errBigString
		}
		if err := c.charge(m + n); err != nil {
			return err
		}
		if _, ok := x.(starlark.Tuple); ok {
			return c.small(x, y)
		}
	}
	return nil
}

// size is how large a copy of a value is, what is in it not copied.
func size(v starlark.Value) int64 {
	switch v := v.(type) {
	case starlark.String:
		return sizeValue + int64(len(v))
	case starlark.Bytes:
		return sizeValue + int64(len(v))
	case *starlark.Dict:
		return sizeObject + int64(v.Len())*sizeEntry
	}
	return sizeObject + sizeValue*length(v)
}

func beforeInts(op syntax.Token, x, y starlark.Int) error {
	_, smallX := x.Int64()
	n, smallY := y.Int64()
	if smallX && smallY && op != syntax.LTLT {
		return nil
	}
	a, b := x.BigInt().BitLen(), y.BigInt().BitLen()
	bits := max(a, b) + 1
	switch op {
	case syntax.STAR:
		bits = a + b
	case syntax.LTLT:
		if !smallY || n < 0 || n > maxBits {
			return nil // refused by the language
		}
		bits = a + int(n)
	}
	if bits > maxBits {
		return errBigInt
	}
	return nil
}

func (c *call) beforeRepeat(x starlark.Value, n starlark.Int) error {
	one := size(x)
	switch x := x.(type) {
	case starlark.String:
		one = int64(len(x))
	case starlark.Bytes, *starlark.List, starlark.Tuple:
	default:
		return nil // no repetition: a number, or refused by the language
	}
	times, ok := n.Int64()
	switch {
	case n.Sign() <= 0 || one == 0:
		return nil
	case !ok || times > c.limits().Memory/one:
		c.cause = errMemory
		return errMemory
	}
	if _, ok := x.(starlark.String); ok && times > maxString/one {
		return errBigString
	}
	if err := c.charge(one * times); err != nil {
		return err
	}
	if t, ok := x.(starlark.Tuple); ok {
		n, err := c.weigh(t)
		if err == nil && n > maxTuple/times {
			err = errBigTuple
		}
		return err
	}
	return nil
}

// inPlace computes x op= y: lists and dicts that may be changed grow in place.
func (c *call) inPlace(op syntax.Token, x, y starlark.Value) (starlark.Value, error) {
	switch x := x.(type) {
	case *starlark.List:
		if op == syntax.PLUS {
			return x, c.method(x, "extend", starlark.Tuple{y}, nil, nil)
		}
	case *starlark.Dict:
		if _, ok := y.(*starlark.Dict); ok && op == syntax.PIPE {
			return x, c.method(x, "update", starlark.Tuple{y}, nil, nil)
		}
	}
	return c.binary(op, x, y)
}

// compare is for two values of which the source does not tell that one is small.
func (c *call) compare(op syntax.Token, x, y starlark.Value) (starlark.Value, error) {
	a, okA := x.(starlark.String)
	b, okB := y.(starlark.String)
	if okA && okB {
		if err := c.charge(0); err != nil {
			return nil, err
		}
		switch op {
		case syntax.EQL:
			return starlark.Bool(a == b), nil
		case syntax.NEQ:
			return starlark.Bool(a != b), nil
		}
	}
	if composite(x) && composite(y) {
		if _, err := c.weigh(x); err != nil {
			return nil, err
		}
	}
	ok, err := starlark.Compare(op, x, y)
	return starlark.Bool(ok), err
}

func composite(v starlark.Value) bool {
	switch v.(type) {
	case *starlark.List, starlark.Tuple, *starlark.Dict, starlark.String, starlark.Bytes:
		return true
	}
	return false
}

func (c *call) member(op syntax.Token, x, y starlark.Value) (starlark.Value, error) {
	// A list is searched by comparing, a dict by hashing, a string by reading.
	switch y := y.(type) {
	case *starlark.List, starlark.Tuple:
		n := int64(1)
		if _, ok := x.(starlark.String); !ok && composite(x) {
			var err error
			if n, err = c.weigh(x); err != nil {
				return nil, err
			}
		}
		if err := c.work(n * (1 + length(y))); err != nil {
			return nil, err
		}
	case starlark.String:
		if err := c.work(int64(len(y))); err != nil {
			return nil, err
		}
	}
	return starlark.Binary(op, x, y)
}

// work counts time: n bytes or small values that are looked at.
func (c *call) work(n int64) error {
	if c.cause == nil && n >= 64 {
		if c.thread.Steps += uint64(n) / 64; c.thread.Steps >= c.steps {
			c.look()
		}
	}
	return c.cause
}

// maxTuple bounds what a tuple holds, tuples in it included. Tuples are the one
// kind of value whose hash looks through all of it.
const maxTuple = 1 << 20

var errBigTuple = errors.New("a tuple of more than 1 MiB")

// small refuses tuples that would become too large. Most hold no tuple and cost
// no more than a look at each element.
func (c *call) small(elements ...starlark.Value) error {
	var sum int64
	for _, e := range elements {
		switch e := e.(type) {
		case starlark.Tuple:
			n, err := c.weigh(e)
			if err != nil {
				return err
			}
			sum += n
		case starlark.String:
			sum += int64(len(e))
		}
		if sum > maxTuple {
			return errBigTuple
		}
	}
	return nil
}

func tupleOp(c *call, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	// The arguments are a fresh slice only where the interpreter makes one; a copy
	// is safe whatever it does.
	t := make(starlark.Tuple, len(args))
	copy(t, args)
	if err := c.charge(size(t)); err != nil {
		return nil, err
	}
	return t, c.small(t...)
}

// checkOp looks at the rest parameter of a function, and returns the second
// argument if there is one.
func checkOp(c *call, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	if t, ok := args[0].(starlark.Tuple); ok {
		if err := c.small(t...); err != nil {
			return nil, err
		}
	}
	return args[len(args)-1], nil
}

func spreadOp(c *call, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	return args[0], c.charge(size(args[0]))
}

func sliceOp(c *call, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	x := args[0]
	if s, ok := x.(starlark.String); !ok || args[3] != starlark.None {
		if err := c.charge(size(x) + int64(len(s))); err != nil {
			return nil, err
		}
	}
	return sliceOf(x, args[1], args[2], args[3])
}

// sliceOf is x[lo:hi:step].
func sliceOf(x, lo, hi, step starlark.Value) (starlark.Value, error) {
	s, ok := x.(starlark.Sliceable)
	if !ok {
		return nil, fmt.Errorf("invalid slice operand %s", x.Type())
	}
	n, by := s.Len(), 1
	if step != starlark.None {
		var err error
		if by, err = starlark.AsInt32(step); err != nil {
			return nil, fmt.Errorf("invalid slice step: %w", err)
		}
		if by == 0 {
			return nil, errors.New("zero is not a valid slice step")
		}
	}
	// Going backwards the ends are n-1 and the place before the first.
	first, last := 0, n
	low, high := 0, n
	if by < 0 {
		first, last = n-1, -1
		low, high = -1, n-1
	}
	from, err := bound(lo, n, first, low, high)
	if err != nil {
		return nil, fmt.Errorf("invalid start index: %w", err)
	}
	to, err := bound(hi, n, last, low, high)
	if err != nil {
		return nil, fmt.Errorf("invalid end index: %w", err)
	}
	if by > 0 {
		to = max(from, to)
	} else {
		to = min(from, to)
	}
	return s.Slice(from, to, by), nil
}

// bound is an end of a slice, within low and high.
func bound(v starlark.Value, n, otherwise, low, high int) (int, error) {
	if v == starlark.None {
		return otherwise, nil
	}
	i, err := starlark.AsInt32(v)
	if err != nil {
		return 0, err
	}
	if i < 0 {
		i += n
	}
	return min(max(i, low), high), nil
}

// augIdxOp is x[i] op= y.
func augIdxOp(c *call, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	x, i, y := args[0], args[1], args[3]
	name, _ := args[2].(starlark.String)
	old, err := index(x, i)
	if err != nil {
		return nil, err
	}
	for op, n := range binaryOps {
		if n+inPlaceMark != string(name) {
			continue
		}
		z, err := c.inPlace(op, old, y)
		if err != nil {
			return nil, err
		}
		return starlark.None, setIndex(x, i, z)
	}
	return nil, fmt.Errorf("unknown operator %s", name)
}

func index(x, i starlark.Value) (starlark.Value, error) {
	switch x := x.(type) {
	case starlark.Mapping:
		v, found, err := x.Get(i)
		if err == nil && !found {
			err = fmt.Errorf("key %v not in %s", i, x.Type())
		}
		return v, err
	case starlark.Indexable:
		n, err := position(i, x.Len())
		if err != nil {
			return nil, err
		}
		return x.Index(n), nil
	}
	return nil, fmt.Errorf("unhandled index operation %s[%s]", x.Type(), i.Type())
}

func setIndex(x, i, v starlark.Value) error {
	switch x := x.(type) {
	case starlark.HasSetKey:
		return x.SetKey(i, v)
	case starlark.HasSetIndex:
		n, err := position(i, x.Len())
		if err != nil {
			return err
		}
		return x.SetIndex(n, v)
	}
	return fmt.Errorf("%s value does not support item assignment", x.Type())
}

func position(i starlark.Value, n int) (int, error) {
	at, err := starlark.AsInt32(i)
	if err != nil {
		return 0, err
	}
	if at < 0 {
		at += n
	}
	if at < 0 || at >= n {
		return 0, fmt.Errorf("index %v out of range: there are %d elements", i, n)
	}
	return at, nil
}
