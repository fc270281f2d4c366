package script

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.starlark.net/starlark"
)

// helpers puts what works on values alone into the environment.
func helpers(env starlark.StringDict) {
	for name, f := range map[string]builtin{
		"domain": domainOf, "local": localOf, "lower": lower, "match": matchText, "findall": findAll,
		"json_decode": jsonDecode, "json_encode": jsonEncode, "now": now, "same": same,
	} {
		env[name] = bind(name, f)
	}
}

// oneString is the only argument of a function.
func oneString(name string, args starlark.Tuple, kwargs []starlark.Tuple) (string, error) {
	if len(args) == 1 && len(kwargs) == 0 {
		if s, ok := args[0].(starlark.String); ok {
			return string(s), nil
		}
	}
	var s string
	err := starlark.UnpackPositionalArgs(name, args, kwargs, 1, &s)
	return s, err
}

func domainOf(_ *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	s, err := oneString("domain", args, kwargs)
	if err != nil {
		return nil, err
	}
	return starlark.String(s[strings.LastIndexByte(s, '@')+1:]), nil
}

func localOf(_ *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	s, err := oneString("local", args, kwargs)
	if err != nil {
		return nil, err
	}
	return starlark.String(s[:max(strings.LastIndexByte(s, '@'), 0)]), nil
}

func lower(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	s, err := oneString("lower", args, kwargs)
	if err != nil {
		return nil, err
	}
	return starlark.String(strings.ToLower(s)), c.charge(int64(len(s)))
}

// same compares secrets in a time that does not tell how much of them is equal.
func same(_ *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var a, b string
	if err := starlark.UnpackPositionalArgs("same", args, kwargs, 2, &a, &b); err != nil {
		return nil, err
	}
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return starlark.Bool(subtle.ConstantTimeCompare(x[:], y[:]) == 1), nil
}

// clock is what now() gives.
type clock struct {
	object
	t time.Time
}

var clockAttrs = attrNames{"day", "hour", "minute", "month", "time", "unix", "weekday", "year"}

func (v *clock) String() string      { return v.t.Format(time.RFC3339) }
func (v *clock) Type() string        { return "clock" }
func (v *clock) AttrNames() []string { return clockAttrs }

// Attr implements starlark.HasAttrs.
func (v *clock) Attr(name string) (starlark.Value, error) {
	switch name {
	case "year":
		return starlark.MakeInt(v.t.Year()), nil
	case "month":
		return starlark.MakeInt(int(v.t.Month())), nil
	case "day":
		return starlark.MakeInt(v.t.Day()), nil
	case "hour":
		return starlark.MakeInt(v.t.Hour()), nil
	case "minute":
		return starlark.MakeInt(v.t.Minute()), nil
	case "time":
		return starlark.String(v.t.Format("15:04")), nil
	case "weekday":
		return starlark.String(strings.ToLower(v.t.Weekday().String()[:3])), nil
	case "unix":
		return starlark.MakeInt64(v.t.Unix()), nil
	}
	return nil, nil
}

func now(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if c.in == nil {
		return nil, errors.New("now: the time when the script is loaded is not that of a message; ask for it in a function")
	}
	if err := starlark.UnpackPositionalArgs("now", args, kwargs, 0); err != nil {
		return nil, err
	}
	if f := c.sources().Now; f != nil {
		return &clock{t: f()}, nil
	}
	return &clock{t: time.Now()}, nil
}

func jsonDecode(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var text string
	var otherwise starlark.Value
	if err := starlark.UnpackArgs("json_decode", args, kwargs, "text", &text, "default?", &otherwise); err != nil {
		return nil, err
	}
	if len(text) > maxJSON {
		return nil, fmt.Errorf("json_decode: more than %d KiB", maxJSON>>10)
	}
	// What it becomes is larger than its text by a factor that is known.
	if err := c.charge(int64(len(text)) * sizeEntry / 2); err != nil {
		return nil, err
	}
	v, err := decodeJSON(text)
	if err != nil {
		if otherwise != nil {
			return otherwise, nil
		}
		return nil, fmt.Errorf("json_decode: %w", err)
	}
	return v, nil
}

func jsonEncode(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackPositionalArgs("json_encode", args, kwargs, 1, &v); err != nil {
		return nil, err
	}
	n, err := c.weigh(v)
	if err == nil && n > maxString {
		err = errBigString
	}
	if err == nil {
		err = c.charge(2 * n)
	}
	if err != nil {
		return nil, err
	}
	text, err := encodeJSON(v)
	return starlark.String(text), err
}
