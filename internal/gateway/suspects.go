package gateway

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"gatepost/internal/mail"
	"gatepost/internal/spool"
)

// maxStalls is how often a message may kill or stall its scanner.
const maxStalls = 3

// maxSlots bounds the messages that are noted at the same time; beyond it scans go
// on unnoted.
const maxSlots = 256

// Suspects remembers which messages were being scanned when the process died, so
// that one that kills it is not tried for ever. What is being scanned is noted in
// a small file by plain writes, which survive the death of the process though not
// that of the machine: that is not the message's fault. The counts are settings of
// the spool.
type Suspects struct {
	file  *os.File
	spool *spool.Spool

	mu     sync.Mutex
	free   []int64 // offsets of slots
	counts map[mail.ID]int
}

// suspectPrefix starts the names of the settings.
const suspectPrefix = "scan-stalls/"

// OpenSuspects opens the file, which is made if it is not there, and counts what
// it names.
func OpenSuspects(path string, s *spool.Spool) (*Suspects, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open list of scans under way: %w", err)
	}
	u := &Suspects{file: file, spool: s, counts: make(map[mail.ID]int)}
	if err := u.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read list of scans under way: %w", err), file.Close())
	}
	return u, nil
}

func (u *Suspects) load() error {
	stored, err := u.spool.Settings(suspectPrefix)
	if err != nil {
		return err
	}
	for name, v := range stored {
		id, err := mail.ParseID(name[len(suspectPrefix):])
		n, err2 := strconv.Atoi(string(v))
		if err == nil && err2 == nil {
			u.counts[id] = n
		}
	}
	for i := range int64(maxSlots) {
		var id mail.ID
		if _, err := u.file.ReadAt(id[:], i*int64(len(id))); err == nil && !id.IsZero() {
			u.Blame(id)
		}
		u.free = append(u.free, i*int64(len(id)))
	}
	if err := u.file.Truncate(0); err != nil {
		return err
	}
	return u.file.Truncate(maxSlots * int64(len(mail.ID{})))
}

// Close closes the file.
func (u *Suspects) Close() error { return u.file.Close() }

// Begin notes that a message is being scanned; the function that it returns ends
// that. That a note cannot be written is no reason not to scan.
func (u *Suspects) Begin(id mail.ID) (end func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.free) == 0 {
		return func() {}
	}
	at := u.free[len(u.free)-1]
	u.free = u.free[:len(u.free)-1]
	_, _ = u.file.WriteAt(id[:], at)
	return func() {
		var none mail.ID
		_, _ = u.file.WriteAt(none[:], at)
		u.mu.Lock()
		defer u.mu.Unlock()
		u.free = append(u.free, at)
	}
}

// Count is how often the message killed or stalled its scanner.
func (u *Suspects) Count(id mail.ID) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.counts[id]
}

// Blame counts once more, and returns the count.
func (u *Suspects) Blame(id mail.ID) int {
	u.mu.Lock()
	u.counts[id]++
	n := u.counts[id]
	u.mu.Unlock()
	// Should this fail, the count of this run still holds.
	_ = u.spool.PutSetting(suspectPrefix+id.String(), []byte(strconv.Itoa(n)))
	return n
}

// Forget drops the count of a message that is resolved.
func (u *Suspects) Forget(id mail.ID) {
	u.mu.Lock()
	_, known := u.counts[id]
	delete(u.counts, id)
	u.mu.Unlock()
	if known {
		_ = u.spool.DeleteSetting(suspectPrefix + id.String())
	}
}
