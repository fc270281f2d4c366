package bayes

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"gatepost/internal/scan"
)

// maxDigest is how much of a body goes into its digest, in bytes.
const maxDigest = 4 << 20

// digest is the identity of a message: its Message-ID and its body. Trace fields,
// marks in the header section, the line ends and empty lines at the end differ
// between copies of one message (as it was received, from a mailbox, from the
// quarantine) and are left out. Without a Message-ID, Date, From and Subject stand
// for it.
func digest(ctx context.Context, in *scan.Input) ([32]byte, error) {
	h := sha256.New()
	names := []string{"Message-ID"}
	if in.Header.Get("Message-ID") == "" {
		names = []string{"Date", "From", "Subject"}
	}
	for _, name := range names {
		// The length keeps one value from running into the next.
		value := in.Header.Get(name)
		fmt.Fprintf(h, "%d:%s\n", len(value), value)
	}
	body := in.Message.Body
	end := min(body.Size(), in.Header.Size+maxDigest)
	lines := lineHash{Hash: h}
	buf := make([]byte, 32<<10)
	for at := in.Header.Size; at < end; {
		if err := ctx.Err(); err != nil {
			return [32]byte{}, err
		}
		n, err := body.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
		lines.write(buf[:n])
		at += int64(n)
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return [32]byte{}, err
		}
	}
	return [32]byte(h.Sum(nil)), nil
}

// lineHash hashes text without carriage returns and without what is white at its end.
type lineHash struct {
	hash.Hash
	held []byte // white space that may be the end
}

// maxHeld bounds the white space that is remembered.
const maxHeld = 4 << 10

func (l *lineHash) write(b []byte) {
	start := 0 // of what is neither hashed nor held
	for i, c := range b {
		switch c {
		case '\r', '\n', ' ', '\t':
			if start < i {
				l.flush(b[start:i])
			}
			start = i + 1
			if c != '\r' && len(l.held) < maxHeld {
				l.held = append(l.held, c)
			}
		}
	}
	if start < len(b) {
		l.flush(b[start:])
	}
}

// flush hashes what was held and then text that is not white.
func (l *lineHash) flush(text []byte) {
	l.Write(l.held)
	l.held = l.held[:0]
	l.Write(text)
}
