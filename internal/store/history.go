package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// History holds the events of the past in segments that package history makes and
// reads: here they are blobs with a first and a last event. With SQLite it is a file
// of its own, history.db, so that writing much there holds nobody up who waits for a
// record.
type History struct {
	engine engine
	own    bool // the engine is not that of a Store
	node   string
}

// HistorySegment is one segment. Its blobs are numbered from 0.
type HistorySegment struct {
	ID          int64
	Node        string
	First, Last mail.ID // IDs of events
	Events      int64
	Bytes       int64 // of head and blobs
	Head        []byte
}

// HistoryHour is what a node counted in an hour.
type HistoryHour struct {
	Hour time.Time // its begin
	Node string
	Data []byte
}

// maxHistoryBlobs bounds the blobs of a segment: their numbers are the low bits of
// their IDs.
const maxHistoryBlobs = 1 << 20

// maxHistoryWrite bounds the time of a change: merging writes some ten megabytes.
const maxHistoryWrite = 2 * time.Minute

// OpenHistory opens the history beside the records of a store, which must be closed
// after it. A SQLite file that is damaged is moved aside, and a new one begun: what
// happened is not worth a gateway that does not start.
func (s *Store) OpenHistory(ctx context.Context) (*History, error) {
	h := &History{engine: s.engine, node: s.options.Node}
	if s.options.URL != "" {
		return h, nil
	}
	e, err := openSQLite(ctx, s.options, sqliteHistory())
	if errors.Is(err, ErrDamaged) {
		if err = s.moveHistoryAside(err); err == nil {
			e, err = openSQLite(ctx, s.options, sqliteHistory())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	h.engine, h.own = e, true
	return h, nil
}

// moveHistoryAside gives the files of the history other names.
func (s *Store) moveHistoryAside(why error) error {
	path := filepath.Join(s.options.Dir, sqliteHistory().file)
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405")
	for _, companion := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+companion, aside+companion); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(why, err)
		}
	}
	s.options.Log.Error("the history was damaged: it is moved aside, and a new one begun", "file", aside, "error", why)
	return nil
}

// sqliteHistory is the file of the history. Pages are larger than SQLite's default,
// since most blobs are.
func sqliteHistory() sqliteSchema {
	return sqliteSchema{file: "history.db", migrations: "sqlite-history", parameters: "&_pragma=auto_vacuum(2)"}
}

// Close ends what OpenHistory began.
func (h *History) Close() error {
	if h.own {
		return h.engine.close()
	}
	return nil
}

// Health returns nil when the history can be read and written, else why not.
func (h *History) Health() error { return h.engine.health() }

// Node is the name of this node.
func (h *History) Node() string { return h.node }

// Segments are all segments of all nodes, those with the latest events first,
// without their heads.
func (h *History) Segments(ctx context.Context) (all []HistorySegment, err error) {
	err = h.engine.read(ctx, func(ctx context.Context, c *conn) error {
		all = nil
		return c.query(ctx, func(rows *sql.Rows) error {
			var s HistorySegment
			var first, last string
			if err := rows.Scan(&s.ID, &s.Node, &first, &last, &s.Events, &s.Bytes); err != nil {
				return err
			}
			var e1, e2 error
			s.First, e1 = mail.ParseID(first)
			s.Last, e2 = mail.ParseID(last)
			all = append(all, s)
			return errors.Join(e1, e2)
		}, "SELECT id, node, first, last, events, bytes FROM history_segments ORDER BY last DESC, id DESC")
	})
	if err != nil {
		return nil, fmt.Errorf("list history: %w", err)
	}
	return all, nil
}

// Head is that of a segment, or ErrNotFound where it was merged or dropped.
func (h *History) Head(ctx context.Context, segment int64) (head []byte, err error) {
	err = h.engine.read(ctx, func(ctx context.Context, c *conn) error {
		return c.row(ctx, "SELECT head FROM history_segments WHERE id = ?", segment).Scan(&head)
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return head, nil
}

// Blob is one of a segment, or ErrNotFound where that was merged or dropped.
func (h *History) Blob(ctx context.Context, segment int64, n uint32) (data []byte, err error) {
	err = h.engine.read(ctx, func(ctx context.Context, c *conn) error {
		return c.row(ctx, "SELECT data FROM history_blobs WHERE id = ?", blobID(segment, n)).Scan(&data)
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return data, nil
}

// Blobs are some of a segment by their numbers, or ErrNotFound where that was merged or
// dropped.
func (h *History) Blobs(ctx context.Context, segment int64, numbers []uint32) (blobs map[uint32][]byte, err error) {
	if len(numbers) == 0 {
		return nil, nil
	}
	ids := make([]any, len(numbers))
	wanted := make(map[uint32]bool, len(numbers))
	for i, n := range numbers {
		ids[i] = blobID(segment, n)
		wanted[n] = true
	}
	ids = padded(ids)
	err = h.engine.read(ctx, func(ctx context.Context, c *conn) error {
		blobs = make(map[uint32][]byte, len(wanted))
		return c.query(ctx, func(rows *sql.Rows) error {
			var id int64
			var data []byte
			err := rows.Scan(&id, &data)
			blobs[uint32(id%maxHistoryBlobs)] = data
			return err
		}, "SELECT id, data FROM history_blobs WHERE id IN ("+places(len(ids))+")", ids...)
	})
	if err == nil && len(blobs) < len(wanted) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return blobs, nil
}

func blobID(segment int64, n uint32) int64 { return segment*maxHistoryBlobs + int64(n) }

// HistoryWrite is a segment to be written, all or nothing.
type HistoryWrite struct {
	// Replaces are segments that go away: what is in them is in the new one.
	Replaces []int64
	// Fill puts the blobs in the order of their numbers, and then returns the segment
	// but for ID and Node. It may be called more than once.
	Fill func(put func(data []byte) error) (HistorySegment, error)
	// Hours are counts of this node, each in the place of what was there.
	Hours []HistoryHour
}

// Write writes a segment durably and returns it with its ID.
func (h *History) Write(ctx context.Context, w HistoryWrite) (seg HistorySegment, err error) {
	err = h.write(ctx, func(ctx context.Context, c *conn) error {
		// The ID is that of the row, which is written first and completed at the end.
		err := c.row(ctx, "INSERT INTO history_segments (node, first, last, events, bytes, head) VALUES (?, '', '', 0, 0, ?) RETURNING id",
			clean(h.node), []byte{}).Scan(&seg.ID)
		if err != nil {
			return err
		}
		id, bytes, n := seg.ID, int64(0), uint32(0)
		seg, err = w.Fill(func(data []byte) error {
			if n == maxHistoryBlobs {
				return errors.New("too many blobs in a segment of the history")
			}
			_, err := c.exec(ctx, "INSERT INTO history_blobs (id, data) VALUES (?, ?)", blobID(id, n), data)
			n++
			bytes += int64(len(data))
			return err
		})
		if err != nil {
			return err
		}
		seg.Head = append([]byte{}, seg.Head...) // nil would be NULL
		seg.ID, seg.Node, seg.Bytes = id, h.node, bytes+int64(len(seg.Head))
		if _, err = c.exec(ctx, "UPDATE history_segments SET first = ?, last = ?, events = ?, bytes = ?, head = ? WHERE id = ?",
			seg.First.String(), seg.Last.String(), seg.Events, seg.Bytes, seg.Head, id); err != nil {
			return err
		}
		for _, old := range w.Replaces {
			if err := dropSegment(ctx, c, old); err != nil {
				return err
			}
		}
		return h.putHours(ctx, c, w.Hours)
	})
	if err != nil {
		return seg, fmt.Errorf("write history: %w", err)
	}
	return seg, nil
}

func (h *History) putHours(ctx context.Context, c *conn, hours []HistoryHour) error {
	for _, hour := range hours {
		if _, err := c.exec(ctx, `INSERT INTO history_hours (hour, node, data) VALUES (?, ?, ?)
			ON CONFLICT (hour, node) DO UPDATE SET data = excluded.data`, hourNumber(hour.Hour), clean(h.node), hour.Data); err != nil {
			return err
		}
	}
	return nil
}

func dropSegment(ctx context.Context, c *conn, id int64) error {
	n, err := c.exec(ctx, "DELETE FROM history_segments WHERE id = ?", id)
	if err != nil || n == 0 {
		return err
	}
	_, err = c.exec(ctx, "DELETE FROM history_blobs WHERE id >= ? AND id < ?", blobID(id, 0), blobID(id+1, 0))
	return err
}

// Drop removes segments; that one is not there is no error.
func (h *History) Drop(ctx context.Context, segments ...int64) error {
	for batch := range slices.Chunk(segments, 8) {
		err := h.write(ctx, func(ctx context.Context, c *conn) error {
			for _, id := range batch {
				if err := dropSegment(ctx, c, id); err != nil {
					return err
				}
			}
			return shrink(ctx, c)
		})
		if err != nil {
			return fmt.Errorf("drop history: %w", err)
		}
	}
	return nil
}

// shrink gives free pages of SQLite's file back to the disk, some at a time, where
// there are many: a few will be used again soon.
func shrink(ctx context.Context, c *conn) error {
	if c.dialect != dialectSQLite {
		return nil
	}
	var free, pages int64
	err := errors.Join(c.row(ctx, "PRAGMA freelist_count").Scan(&free), c.row(ctx, "PRAGMA page_count").Scan(&pages))
	if err != nil || free < pages/4 || free < shrinkPages {
		return err
	}
	return c.query(ctx, func(*sql.Rows) error { return nil }, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", shrinkPages))
}

// shrinkPages is how many pages shrink gives back at a time: 64 MiB.
const shrinkPages = 4096

// Hours are the counts of all nodes for the hours that begin in [since, until), in
// their order.
func (h *History) Hours(ctx context.Context, since, until time.Time) (all []HistoryHour, err error) {
	err = h.engine.read(ctx, func(ctx context.Context, c *conn) error {
		all = nil
		return c.query(ctx, func(rows *sql.Rows) error {
			var hour HistoryHour
			var n int64
			err := rows.Scan(&n, &hour.Node, &hour.Data)
			hour.Hour = time.Unix(n*3600, 0).UTC()
			all = append(all, hour)
			return err
		}, "SELECT hour, node, data FROM history_hours WHERE hour >= ? AND hour < ? ORDER BY hour, node", hourNumber(since.Add(time.Hour-1)), hourNumber(until.Add(time.Hour-1)))
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return all, nil
}

func hourNumber(t time.Time) int64 { return t.Unix() / 3600 }

// DropHours removes the counts of hours that began before.
func (h *History) DropHours(ctx context.Context, before time.Time) error {
	err := h.write(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, "DELETE FROM history_hours WHERE hour < ?", hourNumber(before))
		return err
	})
	if err != nil {
		return fmt.Errorf("drop history: %w", err)
	}
	return nil
}

func (h *History) write(ctx context.Context, fn work) error {
	ctx, cancel := context.WithTimeout(ctx, maxHistoryWrite)
	defer cancel()
	return h.engine.write(ctx, fn)
}
