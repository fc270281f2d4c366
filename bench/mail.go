package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// mailSet is the mail of the part scan, in directories: what is sent, and what
// the classifier learns, in learn/ham and learn/spam.
type mailSet struct {
	what, send, learn string
}

// learnAtMost is how many messages of a kind are learned.
const learnAtMost = 500

// prepareMail writes the messages where the load and the training find them.
// Of mail that was given every other message is learned, the rest is sent.
func (b *bench) prepareMail() (*mailSet, error) {
	m := &mailSet{send: filepath.Join(b.dir, "mail", "send"), learn: filepath.Join(b.dir, "mail", "learn"), what: "generated messages"}
	rng := rand.New(rand.NewPCG(1, 2))
	var ham, spam, send [][]byte
	for range learnAtMost {
		ham, spam = append(ham, generate(rng, hamWords)), append(spam, generate(rng, spamWords))
		send = append(send, generate(rng, hamWords), generate(rng, append(hamWords, spamWords...)))
	}
	if b.o.mail != "" {
		given, err := readMail(b.o.mail)
		if err != nil {
			return nil, err
		}
		m.what, ham, send = "messages of "+filepath.Base(filepath.Dir(b.o.mail)), nil, nil
		for i, text := range given {
			if i%2 == 0 {
				ham = append(ham, text)
			} else {
				send = append(send, text)
			}
		}
	}
	if b.o.spam != "" {
		var err error
		if spam, err = readMail(b.o.spam); err != nil {
			return nil, err
		}
	}
	sum := 0
	for _, text := range send {
		sum += len(text)
	}
	m.what = fmt.Sprintf("%d %s in turn, %d bytes on average", len(send), m.what, sum/max(len(send), 1))
	return m, errors.Join(writeMail(m.send, send), writeMail(filepath.Join(m.learn, "ham"), ham[:min(len(ham), learnAtMost)]),
		writeMail(filepath.Join(m.learn, "spam"), spam[:min(len(spam), learnAtMost)]))
}

// readMail reads the files of a directory or that match a pattern, without a
// line "From " of a mailbox.
func readMail(pattern string) ([][]byte, error) {
	if info, err := os.Stat(pattern); err == nil && info.IsDir() {
		pattern = filepath.Join(pattern, "*")
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("find mail: %w", err)
	}
	var list [][]byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read mail: %w", err)
		}
		if bytes.HasPrefix(text, []byte("From ")) {
			_, text, _ = bytes.Cut(text, []byte("\n"))
		}
		list = append(list, text)
	}
	if len(list) < 2 {
		return nil, fmt.Errorf("find mail: %d files match %s", len(list), pattern)
	}
	return list, nil
}

func writeMail(dir string, list [][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	for i, text := range list {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d", i)), text, 0o644); err != nil {
			return fmt.Errorf("write mail: %w", err)
		}
	}
	return nil
}

var (
	hamWords = strings.Fields(`the and of to in a for we project meeting please find attached report review thanks regards patch server
		version question update Monday morning customer invoice order delivery address plan team budget draft comments release`)
	spamWords = strings.Fields(`free offer money winner click now limited guarantee casino bonus cheap pills credit loan prize act urgent
		unsubscribe amazing discount exclusive risk cash order lowest price deal miracle weight income home business`)
)

// generate makes a message: a text, or a text as HTML too, or with a file.
func generate(rng *rand.Rand, words []string) []byte {
	var b strings.Builder
	text := sentences(rng, words, 40+rng.IntN(600))
	domain := fmt.Sprintf("sender%d.example", rng.IntN(200))
	fmt.Fprintf(&b, "Received: from mx.%s (mx.%[1]s [192.0.2.%d])\n\tby relay.example with ESMTP id %x;\n\tMon, 2 Nov 2026 10:%02d:%02d +0000\n",
		domain, 1+rng.IntN(250), rng.Uint64(), rng.IntN(60), rng.IntN(60))
	fmt.Fprintf(&b, "From: %s <user%d@%s>\nTo: user@bench.example\nSubject: %s\nDate: Mon, 2 Nov 2026 10:00:00 +0000\nMessage-ID: <%x@%[3]s>\nMIME-Version: 1.0\n",
		words[rng.IntN(len(words))], rng.IntN(50), domain, strings.TrimSpace(sentences(rng, words, 5)), rng.Uint64())
	boundary := fmt.Sprintf("=_%x", rng.Uint64())
	html := func() {
		fmt.Fprintf(&b, "Content-Type: text/html; charset=utf-8\n\n<html><head><style>p { margin: 0 } .x { display: none }</style></head><body>\n")
		for p := range strings.SplitSeq(text, "\n") {
			fmt.Fprintf(&b, "<p style=\"color:#333\">%s <a href=\"https://www.%s/p/%d?u=%d\">%s</a></p>\n", p, domain, rng.IntN(1000), rng.IntN(1000), words[rng.IntN(len(words))])
		}
		b.WriteString("</body></html>\n")
	}
	switch rng.IntN(4) {
	case 0:
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\n\n%s\nhttps://www.%s/\n", text, domain)
	case 1, 2:
		fmt.Fprintf(&b, "Content-Type: multipart/alternative; boundary=%q\n\n--%[1]s\nContent-Type: text/plain; charset=utf-8\n\n%s\n--%[1]s\n", boundary, text)
		html()
		fmt.Fprintf(&b, "--%s--\n", boundary)
	default:
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\n\n--%[1]s\n", boundary)
		html()
		fmt.Fprintf(&b, "--%s\nContent-Type: application/octet-stream; name=\"file%d.bin\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment\n\n", boundary, rng.IntN(1000))
		file := make([]byte, 1000+rng.IntN(40_000))
		for i := range file {
			file[i] = byte(rng.Uint32())
		}
		for coded := base64.StdEncoding.EncodeToString(file); coded != ""; {
			n := min(76, len(coded))
			b.WriteString(coded[:n] + "\n")
			coded = coded[n:]
		}
		fmt.Fprintf(&b, "--%s--\n", boundary)
	}
	return []byte(b.String())
}

// sentences are n words in lines.
func sentences(rng *rand.Rand, words []string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(words[rng.IntN(len(words))])
		if i%12 == 11 {
			b.WriteString(".\n")
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}
