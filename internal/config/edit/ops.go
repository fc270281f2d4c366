package edit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Op is an operation as programs send it.
type Op struct {
	// Op is "set", "remove", "insert" or "move"; those who know what names what take
	// "rename" as well.
	Op string `json:"op"`
	// Path is as ParsePath reads it.
	Path string `json:"path"`
	// Value is for set and insert: a string, number, boolean, list or object, whose keys
	// keep their order.
	Value json.RawMessage `json:"value,omitempty"`
	// Index is where insert and move put an element; absent or negative: at the end.
	Index *int `json:"index,omitempty"`
}

// Do carries out operations: all or none.
func (d *Document) Do(ops ...Op) error {
	return d.try(func() error {
		for i, op := range ops {
			if err := d.DoOne(op); err != nil {
				return fmt.Errorf("operation %d: %w", i+1, err)
			}
		}
		return nil
	})
}

// DoOne carries out an operation.
func (d *Document) DoOne(op Op) error {
	p, err := ParsePath(op.Path)
	if err != nil {
		return err
	}
	index := -1
	if op.Index != nil {
		index = *op.Index
	}
	switch op.Op {
	case "remove":
		return d.Remove(p)
	case "move":
		if index < 0 {
			index = d.Len(listOf(p)) - 1
		}
		return d.Move(p, index)
	case "set", "insert":
		v, err := decodeJSON(op.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", op.Path, err)
		}
		if op.Op == "set" {
			return d.Set(p, v)
		}
		return d.Insert(p, index, v)
	}
	return fmt.Errorf("%q is none of set, remove, insert, move", op.Op)
}

// decodeJSON reads a value and keeps the order of keys.
func decodeJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err != nil {
		return nil, fmt.Errorf("read value: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read value: there is more than one")
	}
	return v, nil
}

func decodeValue(d *json.Decoder, deep int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	if deep > maxDepth {
		return nil, errShape
	}
	switch t := t.(type) {
	case string, bool:
		return t, nil
	case json.Number:
		if i, err := t.Int64(); err == nil {
			return i, nil
		}
		return t.Float64()
	case json.Delim:
		if t == '[' {
			return decodeItems(d, deep)
		}
		return decodeKeys(d, deep)
	}
	return nil, errors.New("there is no null; remove the key instead")
}

func decodeItems(d *json.Decoder, deep int) (any, error) {
	list := []any{}
	for d.More() {
		v, err := decodeValue(d, deep+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

func decodeKeys(d *json.Decoder, deep int) (any, error) {
	table := Table{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		v, err := decodeValue(d, deep+1)
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, errShape
		}
		table = append(table, Entry{name, v})
	}
	_, err := d.Token()
	return table, err
}

// ParseValue reads a value as the file writes it: `20`, `"text"`, `["a", "b"]`.
func ParseValue(text string) (any, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, ErrControl
	}
	var m map[string]any
	if err := toml.Unmarshal([]byte("value = "+text), &m); err != nil || len(m) != 1 {
		return nil, fmt.Errorf("%w: %.100q is no value", ErrSyntax, text)
	}
	return m["value"], nil
}

// Literal writes a value as the file does, on one line.
func Literal(v any) (string, error) { return encode(v) }

// LineEnds gives a text the line ends of another, which it was made from: forms send
// CRLF whatever the file has.
func LineEnds(text, like string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	if i := strings.IndexByte(like, '\n'); i > 0 && like[i-1] == '\r' {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	return text
}
