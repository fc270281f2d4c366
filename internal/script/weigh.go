package script

import (
	"errors"

	"go.starlark.net/starlark"
)

// Sizes of values in memory, in bytes, about.
const (
	sizeValue  = 16 // an interface
	sizeObject = 32 // what it points to
	sizeEntry  = 64 // an entry of a dict
)

// maxDepth is how deep values may lie in values where one of them is looked
// through as a whole.
const maxDepth = 100

var errDeep = errors.New("lists, tuples or dicts lie too deep in each other")

// weigh returns how large a value is, as it would be written out: what stands in
// it twice counts twice. Beyond limit it is errMemory. This is what keeps the
// operations that look through a whole value (comparing, printing, copying,
// hashing) in proportion.
func weigh(v starlark.Value, limit int64) (int64, error) {
	s := scale{left: limit}
	err := s.add(v, 0)
	return limit - s.left, err
}

type scale struct{ left int64 }

func (s *scale) take(n int64) error {
	if s.left -= n; s.left < 0 {
		return errMemory
	}
	return nil
}

func (s *scale) add(v starlark.Value, depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	switch v := v.(type) {
	case starlark.String:
		return s.take(sizeValue + int64(len(v)))
	case starlark.Bytes:
		return s.take(sizeValue + int64(len(v)))
	case starlark.Int:
		if _, small := v.Int64(); small {
			return s.take(sizeValue)
		}
		return s.take(sizeObject + int64(v.BigInt().BitLen()/8))
	case starlark.Tuple:
		return s.all(len(v), func(i int) starlark.Value { return v[i] }, depth)
	case *starlark.List:
		return s.all(v.Len(), v.Index, depth)
	case *starlark.Dict:
		for k, e := range v.Entries() {
			if err := s.take(sizeEntry); err != nil {
				return err
			}
			if err := s.add(k, depth+1); err != nil {
				return err
			}
			if err := s.add(e, depth+1); err != nil {
				return err
			}
		}
		return s.take(sizeObject)
	case *starlark.Function:
		return s.defaults(v, depth)
	case starlark.Indexable: // a range
		return s.take(sizeObject)
	}
	return s.take(sizeValue)
}

// defaults weighs what a function holds: freezing it freezes them.
func (s *scale) defaults(f *starlark.Function, depth int) error {
	if err := s.take(sizeObject); err != nil {
		return err
	}
	for i := range f.NumParams() {
		if v := f.ParamDefault(i); v != nil {
			if err := s.add(v, depth+1); err != nil {
				return err
			}
		}
	}
	for i := range f.NumFreeVars() {
		_, v := f.FreeVar(i)
		// A function may hold itself; what it holds besides is looked at once.
		if _, isFunction := v.(*starlark.Function); isFunction || v == nil {
			continue
		}
		if err := s.add(v, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (s *scale) all(n int, at func(int) starlark.Value, depth int) error {
	if err := s.take(sizeObject + int64(n)*sizeValue); err != nil {
		return err
	}
	for i := range n {
		if err := s.add(at(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// length is how many elements there are to go through.
func length(v starlark.Value) int64 {
	if n := starlark.Len(v); n > 0 {
		return int64(n)
	}
	return 0
}

// weigh weighs a value within what the call may still take, and counts the time
// that it takes to look through it.
func (c *call) weigh(v starlark.Value) (int64, error) {
	if c.cause != nil {
		return 0, c.cause
	}
	n, err := weigh(v, c.limits().Memory-c.bytes)
	if errors.Is(err, errMemory) {
		c.cause = errMemory
	}
	if err != nil {
		return 0, err
	}
	if n >= 64 {
		if c.thread.Steps += uint64(n) / 64; c.thread.Steps >= c.steps {
			c.look()
		}
	}
	return n, c.cause
}

// weighAll weighs arguments.
func (c *call) weighAll(args starlark.Tuple, kwargs []starlark.Tuple) (int64, error) {
	var sum int64
	for _, a := range args {
		n, err := c.weigh(a)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	for _, kw := range kwargs {
		n, err := c.weigh(kw[1])
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
