// Command bayes measures the classifier of package scan/bayes on mail of which it
// is known what it is: it learns one half, classifies the other, and prints how
// often it was wrong and how fast it was. docs/bayes.md has the results.
//
//	go run ./bench/bayes -corpus DIR
//
// DIR holds folders of messages, one in each file, whose names contain "ham" or
// "spam". Which half a message is in follows from its name, so that every run and
// every other filter can be given the same halves.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/scan/bayes"
	"gatepost/internal/store"
)

func main() {
	corpus := flag.String("corpus", "", "directory with folders of ham and spam")
	learn := flag.Int("learn", 0, "learn so many messages of each kind only (0: all)")
	show := flag.Bool("show", false, "print why each wrong message was judged so")
	folds := flag.Bool("folds", false, "leave the test half alone: cross-validate within the training half")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *corpus, options{learn: *learn, show: *show, folds: *folds}); err != nil {
		fmt.Fprintln(os.Stderr, "bayes:", err)
		os.Exit(1)
	}
}

// options are what to measure.
type options struct {
	learn int
	show  bool
	folds bool
}

// sample is one message of the corpus.
type sample struct {
	name string
	spam bool
	test bool
	fold int
	data []byte // with CRLF
}

// foldCount is into how many parts the training half is cut with -folds.
const foldCount = 5

func run(ctx context.Context, out io.Writer, corpus string, o options) error {
	samples, err := read(corpus)
	if err != nil {
		return err
	}
	if !o.folds {
		train, test := split(samples, func(s *sample) bool { return s.test })
		m, err := measure(ctx, limit(train, o.learn), test, o.show)
		if err != nil {
			return err
		}
		return m.print(out)
	}
	half, _ := split(samples, func(s *sample) bool { return s.test })
	var all measurement
	for fold := range foldCount {
		train, test := split(half, func(s *sample) bool { return s.fold == fold })
		m, err := measure(ctx, limit(train, o.learn), test, o.show)
		if err != nil {
			return err
		}
		all.add(m)
	}
	return all.print(out)
}

// read reads the corpus.
func read(dir string) ([]sample, error) {
	var samples []sample
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".json" || filepath.Ext(path) == ".js" {
			return err
		}
		folder := filepath.Base(filepath.Dir(path))
		s := sample{name: folder + "." + strings.TrimSuffix(d.Name(), ".txt"), spam: strings.Contains(folder, "spam")}
		if !s.spam && !strings.Contains(folder, "ham") {
			return nil
		}
		if s.data, err = os.ReadFile(path); err != nil {
			return err
		}
		s.prepare()
		samples = append(samples, s)
		return nil
	})
	if err == nil && len(samples) == 0 {
		err = fmt.Errorf("no messages below %q", dir)
	}
	return samples, err
}

// prepare finds out the half of the message and makes it as it came over the wire:
// without the line that an mbox puts in front, with CRLF. Nothing else is changed.
func (s *sample) prepare() {
	label := "ham"
	if s.spam {
		label = "spam"
	}
	sum := sha256.Sum256([]byte("mailgw-split-v1:" + label + "/" + s.name))
	s.test = binary.BigEndian.Uint32(sum[:])%2 == 1
	s.fold = int(sum[8]) % foldCount
	if bytes.HasPrefix(s.data, []byte("From ")) {
		_, s.data, _ = bytes.Cut(s.data, []byte("\n"))
	}
	s.data = bytes.ReplaceAll(s.data, []byte("\r\n"), []byte("\n"))
	s.data = bytes.ReplaceAll(s.data, []byte("\n"), []byte("\r\n"))
}

func split(samples []sample, test func(*sample) bool) (train, rest []sample) {
	for i := range samples {
		if test(&samples[i]) {
			rest = append(rest, samples[i])
		} else {
			train = append(train, samples[i])
		}
	}
	return train, rest
}

// limit takes n messages of each kind, spread over all; 0 is all.
func limit(samples []sample, n int) []sample {
	if n <= 0 {
		return samples
	}
	byHash := slices.Clone(samples)
	slices.SortFunc(byHash, func(a, b sample) int {
		x, y := sha256.Sum256([]byte(a.name)), sha256.Sum256([]byte(b.name))
		return bytes.Compare(x[:], y[:])
	})
	count := map[bool]int{}
	return slices.DeleteFunc(byHash, func(s sample) bool {
		count[s.spam]++
		return count[s.spam] > n
	})
}

// input makes what modules are given.
func (s *sample) input(ctx context.Context) (*scan.Input, error) {
	in, err := scan.NewInput(ctx, mail.Message{Body: bytes.NewReader(s.data)}, scan.Inbound, scan.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return in, nil
}

// measure learns and classifies with a fresh database.
func measure(ctx context.Context, train, test []sample, show bool) (*measurement, error) {
	dir, err := os.MkdirTemp("", "bayes")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	db, err := store.Open(ctx, store.Options{Dir: dir, Node: "bench"})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	c := bayes.New(bayes.Config{Store: db})
	m := &measurement{}
	if err := m.learn(ctx, c, train); err != nil {
		return nil, err
	}
	if err := m.classify(ctx, c, test, show); err != nil {
		return nil, err
	}
	m.status, err = c.Status(ctx)
	return m, err
}

func (m *measurement) learn(ctx context.Context, c *bayes.Classifier, train []sample) error {
	begun, cpu := time.Now(), processorTime()
	batch := c.NewBatch()
	for i := range train {
		in, err := train[i].input(ctx)
		if err != nil {
			return err
		}
		if err := batch.Train(ctx, "", in, train[i].spam); err != nil {
			return err
		}
	}
	if err := batch.Flush(ctx); err != nil {
		return err
	}
	m.learned, m.learnTime, m.learnCPU = len(train), time.Since(begun), processorTime()-cpu
	return nil
}

func (m *measurement) classify(ctx context.Context, c *bayes.Classifier, test []sample, show bool) error {
	begun, cpu := time.Now(), processorTime()
	for i := range test {
		s := &test[i]
		in, err := s.input(ctx)
		if err != nil {
			return err
		}
		r, err := c.Classify(ctx, in, "")
		if err != nil {
			return err
		}
		m.judged = append(m.judged, judged{name: s.name, spam: s.spam, class: r.Class, sum: r.Sum})
		if wrong := map[bool]string{true: "ham", false: "spam"}[s.spam]; show && r.Class == wrong {
			fmt.Printf("%s is %s:\n  for spam %v\n  for ham  %v\n", s.name, r.Class, r.Spam, r.Ham)
		}
	}
	m.testTime, m.testCPU = time.Since(begun), processorTime()-cpu
	return nil
}
