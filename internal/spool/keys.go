package spool

import (
	"encoding/binary"

	"gatepost/internal/mail"
)

// The families of keys. A key is one family byte, then the message ID (16
// bytes, ordered by time), then what the family needs:
//
//	b ID chunk(4)  a piece of the body, at most chunkSize bytes
//	e ID           the envelope
//	i ID n(2)      a queue item
//	m ID           a mark: look at this message when the spool is opened
//	n ID           a note, under an ID of its own
//	s ID n(2)      the schedule record of an item
//	t name         a setting
//	v              the version of this layout
//
// Bodies come first so that a scan of the small records never reads past them.
//
// How a key is deleted follows from how often it is written. b, e and n are
// written exactly once, under an ID that is never used again: SingleDelete
// makes record and tombstone vanish together in memory, so mail that is
// delivered soon never reaches a table file. i, s, m and t may be rewritten and
// need a Delete.
const (
	famBody     = 'b'
	famEnvelope = 'e'
	famItem     = 'i'
	famMark     = 'm'
	famNote     = 'n'
	famSchedule = 's'
	famSetting  = 't'
	famVersion  = 'v'
)

const (
	idLen      = len(mail.ID{})
	bodyKeyLen = 1 + idLen + 4
	itemKeyLen = 1 + idLen + 2
	msgKeyLen  = 1 + idLen
)

func putMsgKey(k []byte, fam byte, id mail.ID) {
	k[0] = fam
	copy(k[1:], id[:])
}

func msgKey(fam byte, id mail.ID) []byte {
	k := make([]byte, msgKeyLen)
	putMsgKey(k, fam, id)
	return k
}

func putBodyKey(k []byte, id mail.ID, chunk uint32) {
	putMsgKey(k, famBody, id)
	binary.BigEndian.PutUint32(k[msgKeyLen:], chunk)
}

func putItemKey(k []byte, fam byte, id mail.QueueID) {
	putMsgKey(k, fam, id.Message)
	binary.BigEndian.PutUint16(k[msgKeyLen:], id.N)
}

func itemKey(fam byte, id mail.QueueID) []byte {
	k := make([]byte, itemKeyLen)
	putItemKey(k, fam, id)
	return k
}

// parseItemKey reads a key of the families i and s.
func parseItemKey(k []byte) (id mail.QueueID, ok bool) {
	if len(k) != itemKeyLen {
		return id, false
	}
	copy(id.Message[:], k[1:])
	id.N = binary.BigEndian.Uint16(k[msgKeyLen:])
	return id, true
}

// after returns the smallest key greater than k.
func after(k []byte) []byte {
	return append(append(make([]byte, 0, len(k)+1), k...), 0)
}

// prefixEnd returns the smallest key greater than every key with the prefix.
// The prefixes used here never end in 0xff only.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// keyName is how logs and SetAside name a key: "item ID:n", "body ID chunk 3".
func keyName(k []byte) string {
	if len(k) == 0 {
		return "empty key"
	}
	var id mail.ID
	if len(k) >= msgKeyLen {
		copy(id[:], k[1:])
	}
	switch {
	case k[0] == famBody && len(k) == bodyKeyLen:
		return "body " + id.String() + " chunk " + utoa(binary.BigEndian.Uint32(k[msgKeyLen:]))
	case k[0] == famEnvelope && len(k) == msgKeyLen:
		return "envelope " + id.String()
	case k[0] == famMark && len(k) == msgKeyLen:
		return "mark " + id.String()
	case k[0] == famNote && len(k) == msgKeyLen:
		return "note " + id.String()
	case k[0] == famItem && len(k) == itemKeyLen:
		q, _ := parseItemKey(k)
		return "item " + q.String()
	case k[0] == famSchedule && len(k) == itemKeyLen:
		q, _ := parseItemKey(k)
		return "schedule " + q.String()
	case k[0] == famSetting:
		return "setting " + quote(k[1:])
	}
	return "key " + quote(k)
}
