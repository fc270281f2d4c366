// Package oledoc reads what the compound files of Office hold: the source of
// macros ([MS-OVBA]), embedded files (OLE 1 objects and packages), and the records
// of a workbook that say what runs ([MS-XLS]).
//
// Invariants:
//   - Input is read as a stream, and output is bounded by what the caller allows.
//   - What is cut off gives what came before the cut.
package oledoc

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// ErrCorrupt says that the bytes are not what they should be.
var ErrCorrupt = errors.New("corrupt")

// VBA decompresses a container of MS-OVBA §2.4.1, up to limit bytes.
func VBA(in []byte, limit int) ([]byte, error) {
	if len(in) == 0 || in[0] != 1 {
		return nil, ErrCorrupt
	}
	var out []byte
	for in = in[1:]; len(in) >= 2 && len(out) < limit; {
		header := binary.LittleEndian.Uint16(in)
		const signature = 0x3000
		if header&0x7000 != signature {
			return out, ErrCorrupt
		}
		size := min(int(header&0x0fff)+3, len(in))
		chunk := in[2:size]
		in = in[size:]
		if header&0x8000 == 0 {
			out = append(out, chunk...)
			continue
		}
		out = unpackChunk(out, chunk)
	}
	return out[:min(len(out), limit)], nil
}

// chunkSize is what a chunk unpacks to at most.
const chunkSize = 4096

// unpackChunk appends the content of a compressed chunk: groups of eight tokens,
// each a byte or a copy of what came before in the chunk.
func unpackChunk(out, chunk []byte) []byte {
	start := len(out)
	for len(chunk) > 0 {
		flags := chunk[0]
		chunk = chunk[1:]
		for bit := 0; bit < 8 && len(chunk) > 0; bit++ {
			if flags>>bit&1 == 0 {
				out = append(out, chunk[0])
				chunk = chunk[1:]
				continue
			}
			if len(chunk) < 2 {
				return out
			}
			offset, length := copyToken(binary.LittleEndian.Uint16(chunk), len(out)-start)
			chunk = chunk[2:]
			if offset > len(out)-start || len(out)-start+length > chunkSize {
				return out
			}
			for range length {
				out = append(out, out[len(out)-offset])
			}
		}
	}
	return out
}

// copyToken splits a token as far along the chunk as done bytes (§2.4.1.3.19.1).
func copyToken(token uint16, done int) (offset, length int) {
	bits := 4
	for 1<<bits < done {
		bits++
	}
	bits = min(bits, 12)
	mask := uint16(0xffff) >> bits
	return int(token>>(16-bits)) + 1, int(token&mask) + 3
}

// Module is one module of a VBA project.
type Module struct {
	Stream string // the name of its stream
	Offset int64  // where the source begins there
}

// Modules reads the dir stream of a VBA project, decompressed (§2.3.4.2).
func Modules(dir []byte) []Module {
	const version, streamName, offset, terminator = 0x0009, 0x001a, 0x0031, 0x002b
	var list []Module
	var m Module
	for len(dir) >= 6 {
		id, size := binary.LittleEndian.Uint16(dir), int64(binary.LittleEndian.Uint32(dir[2:]))
		if id == version {
			// The size leaves two bytes out.
			size += 2
		}
		dir = dir[6:]
		if size > int64(len(dir)) {
			break
		}
		data := dir[:size]
		dir = dir[size:]
		switch {
		case id == streamName:
			m.Stream = string(data)
		case id == offset && len(data) >= 4:
			m.Offset = int64(binary.LittleEndian.Uint32(data))
		case id == terminator && m.Stream != "":
			list = append(list, m)
			m = Module{}
		}
	}
	return list
}

// Source finds the source of a module in its stream: at the offset that the
// project states or, where that leads nowhere, where the first line of every
// source begins, "Attribute" with its first flag byte.
func Source(stream []byte, offset int64, limit int) []byte {
	if offset >= 0 && offset < int64(len(stream)) {
		if source, err := VBA(stream[offset:], limit); err == nil && len(source) > 0 {
			return source
		}
	}
	at := bytes.Index(stream, []byte("\x00Attribut"))
	if at < 3 {
		return nil
	}
	source, _ := VBA(stream[at-3:], limit) // what could be read
	return source
}

// Starters are the procedures that run without being asked.
var starters = []string{
	"autoopen", "autoexec", "autoclose", "autonew", "autoexit", "auto_open", "auto_close", "document_open", "document_close", "document_new",
	"documentopen", "workbook_open", "workbook_activate", "workbook_beforeclose", "presentation_open", "application_startup",
	"_layout", "_gotfocus", "_mousemove", "inkpicture", "_painted",
}

// RunsByItself reports that a source has a procedure that runs on opening or
// closing the document.
func RunsByItself(source []byte) bool {
	lower := bytes.ToLower(source)
	for _, s := range starters {
		if bytes.Contains(lower, []byte(s)) {
			return true
		}
	}
	return false
}

// Workbook is what the first part of a workbook stream says.
type Workbook struct {
	// MacroSheets counts sheets of Excel 4.0 macros.
	MacroSheets int
	// Encrypted says that the rest needs a password.
	Encrypted bool
	// DDE says that cells come from another program.
	DDE bool
}

// ReadWorkbook reads the records of a Workbook stream up to the end of the
// globals ([MS-XLS] §2.1.7.20.3).
func ReadWorkbook(r io.Reader) Workbook {
	const (
		eof, filePass, boundSheet, supBook = 0x0a, 0x2f, 0x85, 0x1ae
		macroSheet                         = 1
	)
	var w Workbook
	in := bufio.NewReader(r)
	for {
		var h [4]byte
		if _, err := io.ReadFull(in, h[:]); err != nil {
			return w
		}
		id, size := binary.LittleEndian.Uint16(h[:]), int(binary.LittleEndian.Uint16(h[2:]))
		data, _ := in.Peek(min(size, 64)) // less where the stream ends
		switch id {
		case eof:
			return w
		case filePass:
			w.Encrypted = true
		case boundSheet:
			if len(data) > 5 && data[5] == macroSheet {
				w.MacroSheets++
			}
		case supBook:
			// A link to another workbook has a path, one to a program has its
			// name and topic with this between.
			const separator = 3
			w.DDE = w.DDE || len(data) > 4 && binary.LittleEndian.Uint16(data[2:]) > 1 && isDDE(data[4:], separator)
		}
		if _, err := in.Discard(size); err != nil {
			return w
		}
	}
}

// isDDE tells "cmd\x03arguments" from the path of a file, which begins with a
// control character.
func isDDE(name []byte, separator byte) bool {
	i := bytes.IndexByte(name, separator)
	return i > 1 && name[1] > separator
}
