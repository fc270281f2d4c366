package spamd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"gatepost/internal/message"
)

const (
	// maxHead bounds the head of an answer and maxBody what follows, in bytes.
	maxHead = 8 << 10
	maxBody = 64 << 10
	// maxScore is more than any honest score.
	maxScore = 100_000
	// maxSymbols is how many rules a reason names, maxSymbol how long one may be.
	maxSymbols = 40
	maxSymbol  = 60
)

// answer is what spamd thinks of a message.
type answer struct {
	spam             bool
	score, threshold float64
	symbols          []string
}

// readAnswer reads one answer:
//
//	SPAMD/1.1 0 EX_OK
//	Content-length: 20
//	Spam: True ; 7.4 / 5.0
//
//	BAYES_99,MISSING_MID
func readAnswer(r *bufio.Reader) (answer, error) {
	var a answer
	left := maxHead
	first, err := readLine(r, &left)
	if err != nil {
		return a, err
	}
	protocol, rest, _ := strings.Cut(first, " ")
	status, _, _ := strings.Cut(rest, " ")
	code, err := strconv.ParseUint(status, 10, 16)
	if err != nil || !strings.HasPrefix(protocol, "SPAMD/1.") {
		return a, fmt.Errorf("spamd answers %q, which is no answer", message.SafeText(first, maxText))
	}
	if code != 0 {
		return a, fmt.Errorf("spamd answers %q", message.SafeText(rest, maxText))
	}
	length, judged := -1, false
	for {
		line, err := readLine(r, &left)
		if err != nil {
			return a, err
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || n > maxBody || length >= 0 {
				return a, fmt.Errorf("spamd announces %q bytes", message.SafeText(value, maxText))
			}
			length = int(n)
		case "spam":
			if judged || !a.judge(value) {
				return a, fmt.Errorf("spamd answers Spam: %q", message.SafeText(value, maxText))
			}
			judged = true
		}
	}
	if !judged || length < 0 {
		return a, errors.New("spamd answers without a length or a score")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return a, fmt.Errorf("read answer: %w", unexpected(err))
	}
	a.symbols = symbols(string(body))
	return a, nil
}

// readLine reads a line without its end.
func readLine(r *bufio.Reader, left *int) (string, error) {
	part, err := r.ReadSlice('\n')
	if *left -= len(part); *left < 0 || errors.Is(err, bufio.ErrBufferFull) {
		return "", errors.New("spamd answers with too long a head")
	}
	if err != nil {
		return "", fmt.Errorf("read answer: %w", unexpected(err))
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(part), "\n"), "\r"), nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// judge reads "True ; 7.4 / 5.0".
func (a *answer) judge(value string) bool {
	word, numbers, ok := strings.Cut(value, ";")
	score, threshold, ok2 := strings.Cut(numbers, "/")
	if !ok || !ok2 {
		return false
	}
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "true", "yes":
		a.spam = true
	case "false", "no":
	default:
		return false
	}
	return parseNumber(score, &a.score) && parseNumber(threshold, &a.threshold)
}

func parseNumber(s string, v *float64) bool {
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	*v = n
	return err == nil && math.Abs(n) <= maxScore // NaN is neither
}

// symbols reads the names of the rules that matched.
func symbols(body string) []string {
	var list []string
	for name := range strings.SplitSeq(body, ",") {
		if name = message.SafeText(strings.TrimSpace(name), maxSymbol); name == "" {
			continue
		}
		if len(list) == maxSymbols {
			return append(list, "…")
		}
		list = append(list, name)
	}
	return list
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
