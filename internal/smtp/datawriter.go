package smtp

import (
	"bytes"
	"errors"
	"io"
)

// ErrIllegalData says that mail data for a remote holds a bare CR, a bare LF or
// a NUL. What a next hop makes of such bytes nobody knows, so they never leave.
var ErrIllegalData = errors.New("bare CR, LF or NUL in outbound mail data")

// dataForm is what a DataWriter makes of the data.
type dataForm uint8

const (
	formDot    dataForm = iota // DATA: dot-stuffed, ended by a dot
	formText                   // BDAT with text: as it is, but for illegal line ends
	formBinary                 // BDAT with BODY=BINARYMIME: as it is
)

// DataWriter writes mail data to a remote. It is the last line of defence
// against message smuggling: it refuses whatever another reader could take for
// an end of line that CRLF is not (RFC 5321 §2.3.8). Nothing of a piece that is
// refused has been written.
//
// It writes through a buffer that the caller lends it; data that fits in there
// goes out in one write, together with the final dot.
type DataWriter struct {
	w       io.Writer
	buf     []byte
	form    dataForm
	midLine bool // the last byte was not a LF
	heldCR  bool // a CR at the end of a piece, kept until its LF is seen
	written int64
	err     error
}

// NewDataWriter returns a writer for the data after a 354. It buffers in
// buf[len(buf):cap(buf)]; what buf already holds goes out first.
func NewDataWriter(w io.Writer, buf []byte) *DataWriter {
	return &DataWriter{w: w, buf: buf}
}

// NewChunkWriter returns a writer for the data of a BDAT command (RFC 3030 §2):
// the same checks, unless binary is set, but no dot-stuffing and no final dot.
func NewChunkWriter(w io.Writer, buf []byte, binary bool) *DataWriter {
	form := formText
	if binary {
		form = formBinary
	}
	return &DataWriter{w: w, buf: buf, form: form}
}

// Written is how many bytes of data were accepted, before dot-stuffing.
func (d *DataWriter) Written() int64 { return d.written }

// Write takes a piece of the message, CRLF line ends. It refuses a piece with
// ErrIllegalData; after any error the writer stays in it.
func (d *DataWriter) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if d.form == formBinary {
		d.emit(p)
	} else {
		d.writeText(p)
	}
	if d.err != nil {
		return 0, d.err
	}
	d.written += int64(len(p))
	return len(p), nil
}

// writeText checks all of p, then writes it.
func (d *DataWriter) writeText(p []byte) {
	if !d.legal(p) {
		d.err = ErrIllegalData
		return
	}
	body := p
	if d.heldCR {
		d.emit(crlf)
		d.heldCR, d.midLine, body = false, false, p[1:]
	}
	if n := len(body) - 1; n >= 0 && body[n] == '\r' {
		d.heldCR, body = true, body[:n]
	}
	if len(body) == 0 {
		return
	}
	if d.form == formDot {
		d.stuff(body)
	} else {
		d.emit(body)
	}
	d.midLine = body[len(body)-1] != '\n'
}

// legal reports whether p, after what was written before, has no LF without a
// CR before it, no CR without a LF after it but at its end, and no NUL.
func (d *DataWriter) legal(p []byte) bool {
	if bytes.IndexByte(p, 0) >= 0 || d.heldCR && p[0] != '\n' {
		return false
	}
	pairs := 0
	for from := 0; from < len(p); pairs++ {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			break
		}
		i += from
		if i > 0 && p[i-1] != '\r' || i == 0 && !d.heldCR {
			return false
		}
		from = i + 1
	}
	// Each LF has its CR; the CRs must not be more than that.
	crs := bytes.Count(p, cr)
	if d.heldCR {
		crs++
	}
	if p[len(p)-1] == '\r' {
		crs--
	}
	return crs == pairs
}

// stuff writes p with a dot before each dot that starts a line (RFC 5321 §4.5.2).
func (d *DataWriter) stuff(p []byte) {
	if !d.midLine && p[0] == '.' {
		d.emit(dot)
	}
	for {
		i := bytes.Index(p, stuffed)
		if i < 0 {
			d.emit(p)
			return
		}
		d.emit(p[:i+1])
		d.emit(dot)
		p = p[i+1:]
	}
}

// emit appends to the buffer and sends what is full of it.
func (d *DataWriter) emit(p []byte) {
	for d.err == nil && len(p) > cap(d.buf)-len(d.buf) {
		if len(d.buf) == 0 {
			_, d.err = d.w.Write(p)
			return
		}
		n := cap(d.buf) - len(d.buf)
		d.buf = append(d.buf, p[:n]...)
		p = p[n:]
		d.flush()
	}
	if d.err == nil {
		d.buf = append(d.buf, p...)
	}
}

func (d *DataWriter) flush() {
	_, d.err = d.w.Write(d.buf)
	d.buf = d.buf[:0]
}

// Close ends the data and sends what is buffered. After DATA it adds CRLF where
// the last line lacks it, and the final dot. ErrIllegalData means that the data
// ended in a CR and was not ended; any other error that the end may have been sent.
func (d *DataWriter) Close() error {
	if d.err != nil {
		return d.err
	}
	if d.heldCR {
		d.err = ErrIllegalData
		return d.err
	}
	if d.form == formDot {
		if d.midLine {
			d.emit(crlf)
		}
		d.emit(endOfData)
	}
	if d.err == nil && len(d.buf) > 0 {
		d.flush()
	}
	return d.err
}

// Byte strings that must not be changed.
var (
	cr        = []byte("\r")
	crlf      = []byte("\r\n")
	dot       = []byte(".")
	stuffed   = []byte("\n.")
	endOfData = []byte(".\r\n")
)
