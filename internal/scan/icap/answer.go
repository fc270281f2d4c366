package icap

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strconv"
	"strings"

	"gatepost/internal/message"
)

// maxHead bounds the head of an answer and of the HTTP message in it, in bytes.
const maxHead = 64 << 10

// head is the head of an answer.
type head struct {
	status string // "204 Unmodified"
	code   int
	fields []field
}

// field is one field; the lines of its value are joined by "\n".
type field struct{ name, value string }

func (h *head) get(name string) string {
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

// keep reports whether the connection stays open.
func (h *head) keep() bool { return !strings.EqualFold(h.get("Connection"), "close") }

// bodyless reports whether nothing follows the head.
func (h *head) bodyless() bool {
	e := strings.ReplaceAll(h.get("Encapsulated"), " ", "")
	return e == "" || e == "null-body=0"
}

// named reports whether the server names a threat.
func (h *head) named() bool {
	return h.get("X-Infection-Found") != "" || h.get("X-Virus-ID") != "" || h.get("X-Violations-Found") != ""
}

// readLine reads a line without its end.
func readLine(r *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if *left -= len(part); *left < 0 {
			return "", fmt.Errorf("head of more than %d bytes", maxHead)
		}
		if err == nil {
			return string(bytes.TrimRight(line, "\r\n")), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", fmt.Errorf("read answer: %w", err)
		}
	}
}

func readHead(r *bufio.Reader) (*head, error) {
	left := maxHead
	line, err := readLine(r, &left)
	if err != nil {
		return nil, err
	}
	h := &head{}
	version, status, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(status, " ")
	h.code, err = strconv.Atoi(code)
	if version != "ICAP/1.0" || err != nil || len(code) != 3 {
		return nil, fmt.Errorf("the server answers %q, which is no ICAP", message.SafeText(line, maxName))
	}
	h.status = message.SafeText(status, maxName)
	for {
		line, err := readLine(r, &left)
		if err != nil {
			return nil, err
		}
		switch {
		case line == "":
			return h, nil
		case line[0] == ' ' || line[0] == '\t':
			if n := len(h.fields); n > 0 {
				h.fields[n-1].value += "\n" + strings.TrimSpace(line)
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return nil, fmt.Errorf("the server sends %q, which is no field", message.SafeText(line, maxName))
			}
			h.fields = append(h.fields, field{name, strings.TrimSpace(value)})
		}
	}
}

// content is what an answer carries.
type content struct {
	start  string // first line of the HTTP message
	isBody bool
	sum    [sha256.Size]byte
}

// readContent reads what the Encapsulated field announces (RFC 3507 §4.4.1), to
// its end, so that an answer that is cut off is none.
func readContent(h *head, r *bufio.Reader, limit int64) (*content, error) {
	c := &content{}
	if h.code == 204 || h.bodyless() {
		return c, nil
	}
	kind, offset := "", 0
	for item := range strings.SplitSeq(h.get("Encapsulated"), ",") {
		name, at, _ := strings.Cut(strings.TrimSpace(item), "=")
		n, err := strconv.Atoi(strings.TrimSpace(at))
		if err != nil || n < offset || n > maxHead {
			return nil, fmt.Errorf("the server sends Encapsulated: %q", message.SafeText(h.get("Encapsulated"), maxName))
		}
		kind, offset = strings.ToLower(name), n
	}
	block := make([]byte, offset)
	if _, err := io.ReadFull(r, block); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	line, _, _ := bytes.Cut(block, []byte("\n"))
	c.start = message.SafeText(strings.TrimSpace(string(line)), maxName)
	switch kind {
	case "null-body":
		return c, nil
	case "res-body", "req-body", "opt-body":
	default:
		return nil, fmt.Errorf("the server sends Encapsulated: %q", message.SafeText(h.get("Encapsulated"), maxName))
	}
	c.isBody = true
	sum := sha256.New()
	// What comes in the place of a file may be larger than the file, within reason.
	n, err := io.Copy(sum, io.LimitReader(httputil.NewChunkedReader(r), limit+maxHead+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read answer: %w", err)
	case n > limit+maxHead:
		return nil, errors.New("the answer is larger than what was sent may be")
	}
	sum.Sum(c.sum[:0])
	return c, endOfChunks(r)
}

// endOfChunks reads the trailer and the empty line behind the last chunk.
func endOfChunks(r *bufio.Reader) error {
	left := maxHead
	for {
		line, err := readLine(r, &left)
		if err != nil || line == "" {
			return err
		}
	}
}

// answer is what the server thinks.
type answer struct {
	clean     bool
	threat    string // its name, one short line
	container bool   // the threat is an archive that it does not open
	instead   string // what came in the place of what was sent
}

// judge understands a complete answer. sent is the sum of what was sent.
func judge(h *head, c *content, sent []byte) (answer, error) {
	if h.code != 200 && h.code != 204 {
		return answer{}, fmt.Errorf("the server answers %q", h.status)
	}
	if h.named() {
		return threat(h), nil
	}
	switch {
	case h.code == 204:
		return answer{clean: true}, nil
	case c.isBody && bytes.Equal(c.sum[:], sent) && !refusal(c.start):
		return answer{clean: true}, nil
	case c.start == "":
		return answer{}, errors.New("the server answers 200 and nothing with it")
	}
	return answer{instead: c.start}, nil
}

// refusal reports whether the first line of an HTTP message is that of an answer
// other than 200.
func refusal(start string) bool {
	version, rest, _ := strings.Cut(start, " ")
	return strings.HasPrefix(version, "HTTP/") && !strings.HasPrefix(rest, "200")
}

// threat reads the fields in which servers name what they found:
//
//	X-Infection-Found: Type=0; Resolution=2; Threat=Name;
//	X-Violations-Found: 1
//		file
//		Name
//		id
//		resolution
//	X-Virus-ID: Name
func threat(h *head) answer {
	a := answer{}
	for item := range strings.SplitSeq(h.get("X-Infection-Found"), ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		switch strings.ToLower(key) {
		case "type":
			a.container = strings.TrimSpace(value) == "2"
		case "threat":
			a.threat = value
		}
	}
	if lines := strings.Split(h.get("X-Violations-Found"), "\n"); a.threat == "" && len(lines) > 2 {
		a.threat = lines[2]
	}
	if a.threat == "" {
		a.threat = h.get("X-Virus-ID")
	}
	a.threat = message.SafeText(strings.TrimSpace(a.threat), maxName)
	if a.threat == "" {
		a.threat = "a threat without a name"
	}
	return a
}
