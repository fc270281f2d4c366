package archive

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nwaples/rardecode/v2"
)

// rarSession runs the RAR library in a goroutine of its own. Archives of versions
// before 5 bring programs for the library's virtual machine, and a chain of them
// can keep one call busy for minutes without a look at its input. Such a call
// cannot be stopped, but the walk need not wait for it: it gives up at its
// deadline, and the goroutine ends with the call, since its input is closed.
// Until then it holds its place in Unpacker.oldRAR, so that there are never more
// of them than that.
type rarSession struct {
	w        *walk
	input    *rarInput
	requests chan rarRequest
	answers  chan rarAnswer
	done     chan struct{}
	dead     error // once set, every call returns it
}

// rarRequest asks for the next member, or for more of the present one.
type rarRequest struct{ next bool }

type rarAnswer struct {
	header *rardecode.FileHeader
	data   []byte // valid until the next request
	err    error
}

// openRAR starts a session.
func (s *scope) openRAR(old bool, dict int64) (*rarSession, error) {
	if old {
		if err := s.w.waitOldRAR(); err != nil {
			return nil, err
		}
	}
	r := &rarSession{
		w:        s.w,
		input:    &rarInput{body: io.NewSectionReader(s.node.body, s.base, s.body.Size())},
		requests: make(chan rarRequest),
		answers:  make(chan rarAnswer, 1),
		done:     make(chan struct{}),
	}
	slots := s.w.unpacker.oldRAR
	go func() {
		defer close(r.done)
		if old {
			defer func() { <-slots }()
		}
		r.serve(dict)
	}()
	return r, nil
}

// waitOldRAR takes a place for an old archive.
func (w *walk) waitOldRAR() error {
	timer := time.NewTimer(time.Until(w.budget.deadline))
	defer timer.Stop()
	select {
	case w.unpacker.oldRAR <- struct{}{}:
		return nil
	case <-w.ctx.Done():
	case <-timer.C:
	}
	return w.giveUp()
}

// giveUp ends the walk because the time or the context is over.
func (w *walk) giveUp() error {
	if err := w.alive(); err != nil {
		return err
	}
	// The timer was a little early.
	w.note(nil, symTime, "not done after "+w.budget.limits.Time.String())
	return w.end(nil)
}

// serve answers requests until there are no more. It runs in the goroutine.
func (r *rarSession) serve(dict int64) {
	var z *rardecode.Reader
	var failed error
	buf := make([]byte, chunkSize)
	for request := range r.requests {
		var a rarAnswer
		if failed == nil {
			failed = safely(func() (err error) {
				if z == nil {
					if z, err = rardecode.NewReader(r.input, rardecode.MaxDictionarySize(dict)); err != nil {
						return err
					}
				}
				if request.next {
					a.header, err = z.Next()
					return err
				}
				n, err := z.Read(buf)
				a.data, a.err = buf[:n], err
				return nil
			})
		}
		if failed != nil {
			a.err = failed
		}
		r.answers <- a
	}
}

// ask sends a request and waits for the answer, up to the end of the time.
func (r *rarSession) ask(request rarRequest) rarAnswer {
	if r.dead != nil {
		return rarAnswer{err: r.dead}
	}
	r.requests <- request
	timer := time.NewTimer(time.Until(r.w.budget.deadline))
	defer timer.Stop()
	select {
	case a := <-r.answers:
		if err := r.input.failure(); err != nil {
			a.err = r.w.broken(err)
		}
		return a
	case <-r.w.ctx.Done():
	case <-timer.C:
	}
	r.dead = r.w.giveUp()
	return rarAnswer{err: r.dead}
}

func (r *rarSession) next() (*rardecode.FileHeader, error) {
	a := r.ask(rarRequest{next: true})
	return a.header, a.err
}

// Read reads the content of the present member.
func (r *rarSession) Read(p []byte) (int, error) {
	// The buffers of both sides have the same size.
	a := r.ask(rarRequest{})
	return copy(p, a.data), a.err
}

// close ends the session. It waits for the goroutine unless that is stuck; then
// the goroutine cannot reach the message any more.
func (r *rarSession) close() {
	r.input.close()
	close(r.requests)
	if r.dead == nil {
		<-r.done
	}
}

// rarInput is the archive as the goroutine reads it: not through the walk, which
// may be over before the goroutine is.
type rarInput struct {
	mu     sync.Mutex
	body   *io.SectionReader
	closed bool
	failed error // of the storage
}

var errClosed = errors.New("walk is over")

func (i *rarInput) Read(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return 0, errClosed
	}
	n, err := i.body.Read(p)
	if err != nil && err != io.EOF {
		i.failed = fmt.Errorf("read message: %w", err)
	}
	return n, err
}

func (i *rarInput) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
}

func (i *rarInput) failure() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.failed
}
