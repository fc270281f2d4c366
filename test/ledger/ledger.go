// Package ledger keeps the books of a test: which messages were sent, which of
// them the server took responsibility for, and which arrived, by their unique
// identifier and a checksum of the body.
//
// Invariants:
//   - A message that was acknowledged must arrive at least once; one that was
//     not may arrive or not, but at most once per attempt to send it.
//   - What arrives is complete, byte for byte; a truncated or mixed-up message
//     is an error whether it was acknowledged or not.
package ledger

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// IDHeader and SumHeader are the header fields that the books are kept by.
const (
	IDHeader  = "X-Ledger-Id"
	SumHeader = "X-Ledger-Sha256"
)

// Message is one message to send.
type Message struct {
	ID   string
	Data []byte // header, empty line, body; CRLF line ends
}

// New makes a message with a body of about size bytes: lines of text, some of
// them starting with a dot.
func New(size int, headers ...string) Message {
	id := strings.ToLower(rand.Text())
	var body bytes.Buffer
	body.Grow(size + 128)
	for n := 0; body.Len() < size; n++ {
		dots := ""
		if n%7 == 0 {
			dots = "."
		}
		fmt.Fprintf(&body, "%sline %d of %s, so that no two messages are alike\r\n", dots, n, id)
	}
	return Wrap(id, body.Bytes(), headers...)
}

// Wrap makes a message of a body that the caller brings.
func Wrap(id string, body []byte, headers ...string) Message {
	sum := sha256.Sum256(body)
	var b bytes.Buffer
	b.Grow(len(body) + 512)
	fmt.Fprintf(&b, "%s: %s\r\n%s: %s\r\n", IDHeader, id, SumHeader, hex.EncodeToString(sum[:]))
	fmt.Fprintf(&b, "From: <sender@out.example>\r\nTo: <user@in.example>\r\nSubject: test %s\r\nMessage-ID: <%s@out.example>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n", id, id)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return Message{ID: id, Data: b.Bytes()}
}

// Book is the record of what was sent and what arrived. It is safe for
// concurrent use.
type Book struct {
	mu      sync.Mutex
	sent    map[string]*entry
	strange []string
}

type entry struct {
	attempts, acked, arrived int
	broken                   []string
}

// NewBook returns an empty book.
func NewBook() *Book { return &Book{sent: map[string]*entry{}} }

// Sending notes an attempt to send the message; call it before the first byte.
func (b *Book) Sending(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at(id).attempts++
}

// Acked notes that the server took responsibility: a 2xx to the final dot.
func (b *Book) Acked(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at(id).acked++
}

func (b *Book) at(id string) *entry {
	e := b.sent[id]
	if e == nil {
		e = &entry{}
		b.sent[id] = e
	}
	return e
}

// Arrived notes a message that came out at the other end, as it was received.
// Header fields may have been added.
func (b *Book) Arrived(data []byte) {
	id, why := Check(data)
	b.mu.Lock()
	defer b.mu.Unlock()
	if id == "" {
		b.strange = append(b.strange, why)
		return
	}
	e := b.at(id)
	e.arrived++
	if why != "" {
		e.broken = append(e.broken, why)
	}
}

// Check reads the identifier of a message and says what is wrong with it, ""
// where it is complete. A message of another origin has no identifier.
func Check(data []byte) (id, why string) {
	head, body, found := bytes.Cut(data, []byte("\r\n\r\n"))
	sum := ""
	for line := range strings.SplitSeq(string(head), "\r\n") {
		if v, ok := strings.CutPrefix(line, IDHeader+": "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(line, SumHeader+": "); ok {
			sum = v
		}
	}
	got := sha256.Sum256(body)
	switch {
	case id == "":
		return "", "message without " + IDHeader + ": " + clip(string(head))
	case !found:
		return id, "the header section has no end"
	case sum != hex.EncodeToString(got[:]):
		return id, fmt.Sprintf("body of %d bytes is not what was sent", len(body))
	}
	return id, ""
}

// Pending is how many acknowledged messages have not arrived yet.
func (b *Book) Pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, e := range b.sent {
		if e.acked > 0 && e.arrived == 0 {
			n++
		}
	}
	return n
}

// Totals are the number of messages that were sent, acknowledged and arrived at
// least once.
func (b *Book) Totals() (sent, acked, arrived int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.sent {
		sent++
		acked += min(e.acked, 1)
		arrived += min(e.arrived, 1)
	}
	return sent, acked, arrived
}

// Duplicates is how many messages arrived more often than they were sent.
func (b *Book) Duplicates() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, e := range b.sent {
		n += max(0, e.arrived-max(e.attempts, 1))
	}
	return n
}

// Audit returns what is wrong with the books. Copies beyond the first of each
// attempt are counted against the allowance, which is for crashes between a
// delivery and the note of it.
func (b *Book) Audit(allowedDuplicates int) []string {
	duplicates := b.Duplicates()
	b.mu.Lock()
	defer b.mu.Unlock()
	wrong := slices.Clone(b.strange)
	for id, e := range b.sent {
		if e.acked > 0 && e.arrived == 0 {
			wrong = append(wrong, id+": acknowledged and lost")
		}
		if e.attempts == 0 {
			wrong = append(wrong, id+": arrived, but was never sent")
		}
		for _, why := range e.broken {
			wrong = append(wrong, id+": "+why)
		}
	}
	if duplicates > allowedDuplicates {
		wrong = append(wrong, strconv.Itoa(duplicates)+" duplicates, at most "+strconv.Itoa(allowedDuplicates))
	}
	slices.Sort(wrong)
	return wrong
}

func clip(s string) string { return s[:min(len(s), 200)] }
