package config

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gatepost/internal/dns/dnslist"
	"gatepost/internal/mail"
	"gatepost/internal/policy/rate"
)

// isTable reports whether values of the type are tables in the file; the other
// structs (HostPort and the like) are written as strings.
func isTable(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	return len(keysOf(t)) > 0
}

// scalar binds a string, number or boolean.
func (b *binder) scalar(v reflect.Value, n *node, k key, s scope, p *place) {
	want := kindString
	switch v.Kind() {
	case reflect.Bool:
		want = kindBool
	case reflect.Int:
		want = kindInteger
	case reflect.Float64:
		want = kindFloat
	}
	if n.kind != want && (want != kindFloat || n.kind != kindInteger) {
		b.wrongType(n, v.Type(), s, p)
		return
	}
	if f := checkText(n, k); f != nil {
		p.bad = true
		b.problem(n.pos, s.path, f)
		return
	}
	f := setScalar(v, n.text, k, b.dir)
	if f == nil {
		f = checkRange(v, n, k)
	}
	if f != nil {
		p.bad = true
		b.problem(n.pos, s.path, f)
	}
}

// checkText is what holds for every string, whatever it means.
func checkText(n *node, k key) *fault {
	if n.kind != kindString {
		return nil
	}
	if i := strings.IndexFunc(n.text, unicode.IsControl); i >= 0 {
		return &fault{ruleControlChar, "has a line end or another control character", ""}
	}
	if n.text == "" && k.tag.Get("required") == "true" {
		return &fault{ruleRequired, "is empty", ""}
	}
	enum := k.tag.Get("enum")
	if enum == "" {
		return nil
	}
	choices := strings.Split(enum, ",")
	for _, c := range choices {
		if c == n.text {
			return nil
		}
	}
	f := &fault{ruleBadChoice, fmt.Sprintf("%q is not one of %s", n.text, quotedList(choices)), ""}
	if len(choices) == 1 {
		f.message = fmt.Sprintf("%q is not %q", n.text, choices[0])
	}
	if meant := closest(n.text, choices); meant != "" {
		f.hint = fmt.Sprintf("did you mean %q?", meant)
	}
	return f
}

// setScalar parses text into v according to its type.
func setScalar(v reflect.Value, text string, k key, dir string) *fault {
	switch v.Interface().(type) {
	case string:
		v.SetString(text)
		return nil
	case bool:
		v.SetBool(text == "true")
		return nil
	case int:
		n, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			return &fault{ruleOutOfRange, text + " is too large", rangeHint(k)}
		}
		v.SetInt(n)
		return nil
	case float64:
		return set(v)(parseNumber(text))
	case mail.Action:
		v.SetString(text)
		return nil
	case Path:
		v.SetString(string(absolute(text, dir)))
		return nil
	case Source:
		return set(v)(parseSource(text, dir))
	case TableSource:
		return set(v)(parseTableSource(text, dir))
	case HostPort:
		if text == "" {
			return nil
		}
		if k.tag.Get("port") == "socket" {
			return set(v)(parseSocket(text, dir))
		}
		return set(v)(parseHostPort(text, portTag(k), dir))
	}
	return setQuantity(v, text, k)
}

func setQuantity(v reflect.Value, text string, k key) *fault {
	star := text == "*" && k.tag.Get("any") != "true"
	switch v.Interface().(type) {
	case Size:
		return set(v)(parseSize(text))
	case Rate:
		return set(v)(parseRate(text))
	case time.Duration:
		return set(v)(parseDuration(text))
	case netip.Prefix:
		return set(v)(parseNetwork(text))
	case netip.Addr:
		return set(v)(parseIP(text))
	case mail.Address:
		return set(v)(parseMailAddress(text))
	case BaseURL:
		return set(v)(parseBaseURL(text))
	case URL:
		return set(v)(parseURL(text, k.tag.Get("schemes"), k.tag.Get("example")))
	case TimeOfDay:
		return set(v)(parseTimeOfDay(text))
	case Zone:
		return set(v)(parseZone(text))
	case dnslist.Zone:
		return set(v)(parseList(text))
	case rate.Limit:
		return set(v)(parseLimit(text))
	case Name:
		if star {
			return &fault{ruleBadName, `"*" can't stand here`, ""}
		}
		return set(v)(parseName(text))
	case DomainName:
		if star {
			return &fault{ruleBadDomain, `"*" can't stand here`, "name the domain"}
		}
		return set(v)(parseDomain(text))
	}
	return &fault{ruleWrongType, "has the type " + v.Type().String() + ", which nothing reads", ""}
}

// set stores a parser's result: set(v)(parse(text)).
func set(v reflect.Value) func(any, *fault) *fault {
	return func(value any, f *fault) *fault {
		if f == nil {
			v.Set(reflect.ValueOf(value))
		}
		return f
	}
}

// portTag is the default port of a key; -1: something listens there, and the
// port must be given.
func portTag(k key) int {
	switch tag := k.tag.Get("port"); tag {
	case "required":
		return -1
	default:
		n, _ := strconv.Atoi(tag) // "" is 0: filled in later, by the kind of transport
		return n
	}
}

// checkRange holds numbers and quantities against the tags min and max.
func checkRange(v reflect.Value, n *node, k key) *fault {
	low, high := k.tag.Get("min"), k.tag.Get("max")
	switch {
	case low != "" && compareNumbers(v, bound(v.Type(), low, k)) < 0:
		return &fault{ruleOutOfRange, n.literal() + " is too small", rangeHint(k)}
	case high != "" && compareNumbers(v, bound(v.Type(), high, k)) > 0:
		return &fault{ruleOutOfRange, n.literal() + " is too large", rangeHint(k)}
	}
	return nil
}

func compareNumbers(a, b reflect.Value) int {
	if a.Kind() == reflect.Float64 {
		return cmp.Compare(a.Float(), b.Float())
	}
	return cmp.Compare(a.Int(), b.Int())
}

func bound(t reflect.Type, text string, k key) reflect.Value {
	v := reflect.New(t).Elem()
	setScalar(v, text, k, "")
	return v
}

// parseNumber reads a number with or without a fraction, not one of the strange
// ones.
func parseNumber(s string) (float64, *fault) {
	n, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	if whole, wholeErr := strconv.ParseInt(s, 0, 64); wholeErr == nil {
		n, err = float64(whole), nil // 0x10
	}
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, &fault{ruleOutOfRange, s + " is no number to count with", ""}
	}
	return n, nil
}

func rangeHint(k key) string {
	low, high := k.tag.Get("min"), k.tag.Get("max")
	switch {
	case low != "" && high != "":
		return "allowed is " + low + " to " + high
	case low != "":
		return "allowed is " + low + " or more"
	}
	return ""
}

// setDefault parses the tag default. Lists are written there as in the file.
func setDefault(v reflect.Value, k key) {
	text := k.tag.Get("default")
	if v.Kind() != reflect.Slice {
		setScalar(v, text, k, "")
		return
	}
	root, _, syntax := parseTree([]byte("x = " + text))
	if syntax != nil {
		return
	}
	elems := root.kids["x"].elems
	v.Set(reflect.MakeSlice(v.Type(), len(elems), len(elems)))
	for i, e := range elems {
		setScalar(v.Index(i), e.text, k, "")
	}
}

// typeNoun names a type for messages: "a size".
func typeNoun(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[int]():
		return "a whole number"
	case reflect.TypeFor[float64]():
		return "a number"
	case reflect.TypeFor[Size]():
		return "a size"
	case reflect.TypeFor[Rate]():
		return "a rate"
	case reflect.TypeFor[time.Duration]():
		return "a duration"
	}
	switch {
	case t.Kind() == reflect.Slice:
		return "a list"
	case isTable(t), t.Kind() == reflect.Map:
		return "a table"
	}
	return "a string"
}

// wanted shows how a value of the type is written.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[bool]():
		return "true or false without quotes"
	case reflect.TypeFor[int]():
		return "it without quotes, such as 20"
	case reflect.TypeFor[float64]():
		return "it without quotes, such as 5 or 2.5"
	case reflect.TypeFor[Size]():
		return `"50MiB" or the like`
	case reflect.TypeFor[Rate]():
		return `"500B/s" or the like`
	case reflect.TypeFor[time.Duration]():
		return `"90s", "15m", "2d" or the like`
	}
	switch {
	case t.Kind() == reflect.Slice:
		return "a list in brackets"
	case isTable(t), t.Kind() == reflect.Map:
		return "{ key = value, … } or a section"
	}
	return "it in quotes"
}

// exampleLiteral writes the tag example as it would stand in a file.
func exampleLiteral(t reflect.Type, example string) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t == reflect.TypeFor[int]() || t.Kind() == reflect.Float64 || t.Kind() == reflect.Bool {
		return example
	}
	return strconv.Quote(example)
}
