package script

import (
	"fmt"
	"math/bits"

	"go.starlark.net/starlark"
)

// environment is every name that a script may use beside its own.
func environment() starlark.StringDict {
	env := starlark.StringDict{}
	operators(env)
	universe(env)
	actions(env)
	lookupFunctions(env)
	helpers(env)
	testFunctions(env)
	return env
}

// universe replaces those functions of the language whose work grows with what
// they are given by ones that count first.
func universe(env starlark.StringDict) {
	for _, name := range []string{"list", "tuple", "dict", "reversed", "enumerate", "zip", "any", "all", "bytes", "hash"} {
		env[name] = counted(name, func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) error {
			return c.beforeIterate(args, kwargs, 1)
		})
	}
	for _, name := range []string{"sorted", "max", "min"} {
		env[name] = counted(name, func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) error {
			passes := int64(1)
			if name == "sorted" {
				passes += int64(bits.Len64(uint64(length(first(args)))))
			}
			return c.beforeIterate(args, kwargs, passes)
		})
	}
	for _, name := range []string{"str", "repr", "fail", "print"} {
		env[name] = counted(name, func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) error {
			n, err := c.weighAll(args, kwargs)
			if err == nil && n > maxString {
				err = errBigString
			}
			if err != nil {
				return err
			}
			return c.charge(n)
		})
	}
	for _, name := range []string{"int", "float"} {
		env[name] = counted(name, func(c *call, args starlark.Tuple, _ []starlark.Tuple) error {
			// Reading digits takes longer than in proportion.
			if s, ok := first(args).(starlark.String); ok && len(s) > 1000 {
				return errBigInt
			}
			return nil
		})
	}
	env["getattr"] = bind("getattr", getattr)
}

// counted wraps a function of the language.
func counted(name string, before func(*call, starlark.Tuple, []starlark.Tuple) error) *starlark.Builtin {
	f := starlark.Universe[name].(*starlark.Builtin)
	return starlark.NewBuiltin(name, func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if err := before(callOf(t), args, kwargs); err != nil {
			return nil, err
		}
		// CallInternal and not Call: the frame is there already.
		return f.CallInternal(t, args, kwargs)
	})
}

// beforeIterate counts going through the arguments so many times and making a
// list or tuples of what is in them.
func (c *call) beforeIterate(args starlark.Tuple, kwargs []starlark.Tuple, passes int64) error {
	n, err := c.weighAll(args, kwargs)
	if err != nil {
		return err
	}
	for _, a := range args {
		// A range is small and goes on for long.
		n += 3 * sizeObject * length(a)
	}
	if n > c.limits().Memory {
		c.cause = errMemory
		return errMemory
	}
	if err := c.work(n * (passes - 1)); err != nil {
		return err
	}
	return c.charge(n)
}

// getattr gives methods that count, as x.name does.
func getattr(_ *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if len(kwargs) > 0 || len(args) < 2 || len(args) > 3 {
		return nil, fmt.Errorf("getattr: want an object, a name and perhaps a default")
	}
	name, ok := args[1].(starlark.String)
	if !ok {
		return nil, fmt.Errorf("getattr: the name must be a string, got %s", args[1].Type())
	}
	v, err := attribute(args[0], string(name))
	if err != nil && len(args) == 3 {
		return args[2], nil
	}
	return v, err
}

// Functions returns the names of the functions that scripts have beside those of
// the language, for documentation.
func Functions() []string {
	var names []string
	for _, name := range environment().Keys() {
		if name[0] != ' ' && starlark.Universe[name] == nil {
			names = append(names, name)
		}
	}
	return names
}
