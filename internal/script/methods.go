package script

import (
	"errors"
	"fmt"
	"strings"

	"go.starlark.net/starlark"
)

// methodNames are the methods of strings, lists, dicts and bytes.
var methodNames = map[string]bool{
	"append": true, "capitalize": true, "clear": true, "codepoint_ords": true, "codepoints": true, "count": true,
	"elem_ords": true, "elems": true, "endswith": true, "extend": true, "find": true, "format": true, "get": true,
	"index": true, "insert": true, "isalnum": true, "isalpha": true, "isdigit": true, "islower": true, "isspace": true,
	"istitle": true, "isupper": true, "items": true, "join": true, "keys": true, "lower": true, "lstrip": true,
	"partition": true, "pop": true, "popitem": true, "remove": true, "removeprefix": true, "removesuffix": true,
	"replace": true, "rfind": true, "rindex": true, "rpartition": true, "rsplit": true, "rstrip": true,
	"setdefault": true, "split": true, "splitlines": true, "startswith": true, "strip": true, "title": true,
	"update": true, "upper": true, "values": true,
}

// methodOp is x.name(…).
func methodOp(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	name, _ := args[1].(starlark.String)
	var result starlark.Value
	err := c.method(args[0], string(name), args[2:], kwargs, &result)
	return result, err
}

// attrOp is x.name where it is not called at once: what comes of it counts when
// it is called.
func attrOp(c *call, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	name, _ := args[1].(starlark.String)
	return attribute(args[0], string(name))
}

// attribute is x.name, and for a method one that counts.
func attribute(x starlark.Value, name string) (starlark.Value, error) {
	if builtinReceiver(x) && methodNames[name] {
		if _, err := attr(x, name); err != nil {
			return nil, err
		}
		return bind(name, func(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var result starlark.Value
			err := c.method(x, name, args, kwargs, &result)
			return result, err
		}), nil
	}
	return attr(x, name)
}

// attr is x.name as the language has it.
func attr(x starlark.Value, name string) (starlark.Value, error) {
	if h, ok := x.(starlark.HasAttrs); ok {
		v, err := h.Attr(name)
		if v != nil || err != nil {
			return v, err
		}
	}
	return nil, fmt.Errorf("%s has no .%s field or method", x.Type(), name)
}

func builtinReceiver(x starlark.Value) bool {
	switch x.(type) {
	case starlark.String, starlark.Bytes, *starlark.List, *starlark.Dict:
		return true
	}
	return false
}

// method calls a method and counts what it reads before and what it made after.
func (c *call) method(x starlark.Value, name string, args starlark.Tuple, kwargs []starlark.Tuple, result *starlark.Value) error {
	f, err := attr(x, name)
	if err != nil {
		return err
	}
	if !builtinReceiver(x) {
		v, err := starlark.Call(&c.thread, f, args, kwargs)
		if result != nil {
			*result = v
		}
		return err
	}
	if err := c.beforeMethod(x, name, args, kwargs); err != nil {
		return err
	}
	callable, ok := f.(starlark.Callable)
	if !ok {
		return fmt.Errorf("%s.%s is no function", x.Type(), name)
	}
	v, err := callable.CallInternal(&c.thread, args, kwargs)
	if err != nil {
		return err
	}
	if result != nil {
		*result = v
	}
	return c.after(v)
}

// after counts a new value.
func (c *call) after(v starlark.Value) error {
	switch v := v.(type) {
	case starlark.String:
		return c.charge(int64(len(v)))
	case *starlark.List:
		return c.charge(int64(v.Len()) * (sizeValue + sizeObject))
	}
	return c.charge(sizeValue)
}

// beforeMethod counts what a method reads, and what those will make that can
// make much of little.
func (c *call) beforeMethod(x starlark.Value, name string, args starlark.Tuple, kwargs []starlark.Tuple) error {
	switch x := x.(type) {
	case starlark.String:
		if err := c.work(int64(len(x))); err != nil {
			return err
		}
		switch name {
		case "format":
			return c.beforeFormat(string(x), args, kwargs, false)
		case "join":
			return c.beforeJoin(x, args)
		case "replace":
			return c.beforeReplace(x, args)
		case "split", "rsplit", "splitlines":
			return c.beforeSplit(x, args)
		}
	case *starlark.List:
		if name == "extend" && len(args) == 1 {
			return c.charge(sizeValue * length(args[0]))
		}
		if err := c.work(length(x)); err != nil {
			return err
		}
		if name == "index" || name == "remove" {
			n, err := c.weighAll(args, nil)
			if err != nil {
				return err
			}
			return c.work(n * length(x))
		}
	case *starlark.Dict:
		switch name {
		case "items", "keys", "values":
			return c.charge(size(x))
		case "update":
			n, err := c.weighAll(args, kwargs)
			if err != nil {
				return err
			}
			return c.charge(n)
		}
	}
	return nil
}

// beforeFormat is for "…".format(…) and "…" % dict: an argument may be written as
// often as there are places for it. once says that each is written once, as in
// "…" % (…).
func (c *call) beforeFormat(format string, args starlark.Tuple, kwargs []starlark.Tuple, once bool) error {
	n, err := c.weighAll(args, kwargs)
	if err != nil {
		return err
	}
	if places := int64(strings.Count(format, "{") + strings.Count(format, "%")); !once && places > 1 {
		if n > maxString/places {
			return errBigString
		}
		n *= places
	}
	if n += int64(len(format)); n > maxString {
		return errBigString
	}
	return c.charge(n)
}

func (c *call) beforeJoin(sep starlark.String, args starlark.Tuple) error {
	if len(args) != 1 {
		return nil // refused by the language
	}
	n, err := c.weigh(args[0])
	if err != nil {
		return err
	}
	n += length(args[0]) * int64(len(sep))
	if n > maxString+sizeValue*length(args[0]) {
		return errBigString
	}
	return c.charge(n)
}

func (c *call) beforeReplace(x starlark.String, args starlark.Tuple) error {
	if len(args) < 2 {
		return nil
	}
	old, ok1 := args[0].(starlark.String)
	to, ok2 := args[1].(starlark.String)
	if !ok1 || !ok2 {
		return nil
	}
	n := int64(len(x)) + int64(strings.Count(string(x), string(old)))*int64(len(to))
	if n > maxString {
		return errBigString
	}
	return c.charge(n)
}

// beforeSplit counts the parts before they are made: each takes more than the
// letters in it.
func (c *call) beforeSplit(x starlark.String, args starlark.Tuple) error {
	parts := int64(0)
	if sep, ok := first(args).(starlark.String); ok && sep != "" {
		parts = int64(strings.Count(string(x), string(sep)))
	} else {
		for i := range len(x) {
			if x[i] <= ' ' {
				parts++
			}
		}
	}
	return c.charge((parts + 1) * (sizeValue + sizeObject))
}

func first(args starlark.Tuple) starlark.Value {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

// errKeywords refuses keyword arguments where there are none.
var errKeywords = errors.New("takes no keyword arguments")
