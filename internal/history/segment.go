package history

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// segment is one that is being read.
type segment struct {
	h    *History
	info store.HistorySegment
	head *head
}

// open reads the head of a segment, or has it.
func (h *History) open(ctx context.Context, info store.HistorySegment) (*segment, error) {
	if known := h.heads.get(info.ID); known != nil {
		return &segment{h, info, known}, nil
	}
	b, err := h.cfg.Store.Head(ctx, info.ID)
	if err != nil {
		return nil, err
	}
	parsed, err := parseHead(b)
	if err != nil {
		return nil, fmt.Errorf("segment %d: %w", info.ID, err)
	}
	h.heads.put(info.ID, parsed)
	return &segment{h, info, parsed}, nil
}

// block returns the lines of a block.
func (s *segment) block(ctx context.Context, n int) ([]byte, error) {
	packed, err := s.h.cfg.Store.Blob(ctx, s.info.ID, uint32(n))
	if err != nil {
		return nil, err
	}
	raw, err := s.h.codec.unpack(packed, make([]byte, 0, min(s.head.blocks[n].raw, maxBlock)))
	if err != nil {
		return nil, fmt.Errorf("segment %d block %d: %w", s.info.ID, n, err)
	}
	return raw, nil
}

// eachLine calls fn with the events whose IDs are not below from.
func (s *segment) eachLine(ctx context.Context, from mail.ID, fn func(id mail.ID, line []byte) error) error {
	for n := range s.head.blocks {
		if n+1 < len(s.head.blocks) && compareID(s.head.blocks[n+1].id, from) <= 0 {
			continue
		}
		raw, err := s.block(ctx, n)
		if err != nil {
			return err
		}
		for len(raw) > 0 {
			var line []byte
			line, raw, _ = bytes.Cut(raw, []byte{'\n'})
			id, ok := lineID(line)
			if !ok {
				return fmt.Errorf("segment %d block %d: %w", s.info.ID, n, errDamaged)
			}
			if compareID(id, from) < 0 {
				continue
			}
			if err := fn(id, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// list is that of an entry.
func (s *segment) list(ctx context.Context, e entry) ([]byte, error) {
	if e.list != nil {
		return e.list, nil
	}
	return s.h.cfg.Store.Blob(ctx, s.info.ID, e.blob)
}

// find returns the entries of terms, those that no event has left out. It reads the
// pages of all of them at once.
func (s *segment) find(ctx context.Context, terms []term) (map[term]entry, error) {
	var numbers []uint32
	infos := make(map[uint32]pageInfo)
	wanted := make(map[uint32][]term)
	for _, t := range terms {
		if info, ok := s.head.page(t); ok {
			if _, ok := infos[info.blob]; !ok {
				numbers = append(numbers, info.blob)
			}
			infos[info.blob] = info
			wanted[info.blob] = append(wanted[info.blob], t)
		}
	}
	pages, err := s.h.cfg.Store.Blobs(ctx, s.info.ID, numbers)
	if err != nil {
		return nil, err
	}
	found := make(map[term]entry)
	for n, page := range pages {
		r := newPageReader(infos[n], page)
		last := slices.Max(wanted[n])
		for {
			e, ok, err := r.next()
			if err != nil {
				return nil, err
			}
			if !ok || e.term > last {
				break
			}
			if slices.Contains(wanted[n], e.term) {
				found[e.term] = e
			}
		}
	}
	return found, nil
}

// maxHeads bounds the heads that are kept: some ten kilobytes each.
const maxHeads = 512

// headCache keeps the heads of segments, which never change.
type headCache struct {
	mu    sync.Mutex
	known map[int64]*head
}

func (c *headCache) get(id int64) *head {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[id]
}

func (c *headCache) put(id int64, h *head) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[int64]*head)
	}
	for old := range c.known {
		if len(c.known) < maxHeads {
			break
		}
		delete(c.known, old)
	}
	c.known[id] = h
}

func (c *headCache) forget(ids []int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.known, id)
	}
}
