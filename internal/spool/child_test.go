package spool

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/mail"
)

// childDirEnv makes the test binary run childMain instead of the tests.
const childDirEnv = "GATEPOST_SPOOL_CHILD"

// childMain fills the spool in dir without end and says on standard output what
// it was promised: "ack ID size" after a commit, "done ID" before a Done, "synced
// ID" when a later commit has made it durable.
func childMain(dir string) {
	s, err := Open(Options{Dir: dir, MemTableSize: 1 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { childWork(s, rand.New(rand.NewPCG(uint64(i), 1)), say) })
	}
	wg.Wait()
}

func childWork(s *Spool, rng *rand.Rand, say func(string, ...any)) {
	var done []mail.ID
	for {
		size := rng.IntN(10 << 10)
		if rng.IntN(10) == 0 {
			size = chunkSize * (1 + rng.IntN(4))
		}
		id := mail.NewID()
		if err := tryPut(s, id, testBody(size), 1); err != nil {
			say("error %v", err)
			os.Exit(1)
		}
		say("ack %s %d", id, size)
		for _, d := range done {
			say("synced %s", d)
		}
		done = done[:0]
		if rng.IntN(2) == 0 {
			say("done %s", id)
			if err := s.Done(mail.QueueID{Message: id, N: 1}); err != nil {
				say("error %v", err)
				os.Exit(1)
			}
			done = append(done, id)
		}
	}
}

// promises is what a child said before it died.
type promises struct {
	size         map[mail.ID]int
	done, synced map[mail.ID]bool
}

func (p *promises) read(r io.Reader, enough func(acks int)) error {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		word, rest, _ := strings.Cut(sc.Text(), " ")
		if word == "error" {
			return fmt.Errorf("child: %s", rest)
		}
		var size int
		idText, sizeText, _ := strings.Cut(rest, " ")
		id, err := mail.ParseID(idText)
		if err != nil {
			continue // torn by the kill
		}
		switch word {
		case "ack":
			if _, err := fmt.Sscanf(sizeText+"\n", "%d\n", &size); err != nil {
				continue
			}
			p.size[id] = size
			enough(len(p.size))
		case "done":
			p.done[id] = true
		case "synced":
			p.synced[id] = true
		}
	}
	return nil
}

func TestNoAcknowledgedMessageIsLostByKill9(t *testing.T) {
	dir := t.TempDir()
	p := promises{size: map[mail.ID]int{}, done: map[mail.ID]bool{}, synced: map[mail.ID]bool{}}
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDirEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		noError(t, err)
		noError(t, cmd.Start())
		want := len(p.size) + 300 + 211*round
		noError(t, p.read(out, func(acks int) {
			if acks == want {
				noError(t, cmd.Process.Kill())
			}
		}))
		_ = cmd.Wait()
		p.check(t, dir)
	}
}

// check opens the spool and compares it with the promises.
func (p *promises) check(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(withDefaults(t, Options{Dir: dir}))
	noError(t, err)
	defer func() { noError(t, s.Close()) }()
	found := make(map[mail.QueueID]bool)
	noError(t, s.Scan(func(e Entry) error { found[e.ID] = true; return nil }))
	for id, size := range p.size {
		q := mail.QueueID{Message: id, N: 1}
		switch {
		case found[q] && p.synced[id]:
			t.Errorf("%s came back", id)
		case !found[q] && !p.done[id]:
			t.Errorf("%s is lost", id)
		case found[q]:
			if sum(storedBody(t, s, id)) != sum(testBody(size)) {
				t.Errorf("body of %s differs", id)
			}
		}
	}
	for q := range found {
		if _, err := s.Envelope(q.Message); err != nil {
			t.Errorf("half a message: %v", err)
		}
		storedBody(t, s, q.Message)
	}
	noError(t, verifyNoOrphans(s, found))
	noError(t, verifyNothingAside(s))
	t.Logf("%d acknowledged, %d there", len(p.size), len(found))
}
