package milter

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Commands to the milter.
const (
	cmdNegotiate = 'O'
	cmdMacro     = 'D'
	cmdConnect   = 'C'
	cmdHelo      = 'H'
	cmdMail      = 'M'
	cmdRcpt      = 'R'
	cmdData      = 'T' // from version 4 on
	cmdHeader    = 'L'
	cmdEOH       = 'N'
	cmdBody      = 'B'
	cmdEOM       = 'E'
	cmdAbort     = 'A'
	cmdQuit      = 'Q'
)

// Answers of the milter.
const (
	saysContinue  = 'c'
	saysAccept    = 'a'
	saysReject    = 'r'
	saysDiscard   = 'd'
	saysTempfail  = 't'
	saysReply     = 'y'
	saysSkip      = 's'
	saysProgress  = 'p'
	saysShutdown  = '4'
	saysConnFail  = 'f'
	asksAdd       = 'h'
	asksInsert    = 'i'
	asksChange    = 'm'
	asksHold      = 'q'
	asksBody      = 'b'
	asksAddRcpt   = '+'
	asksAddRcpt2  = '2' // with parameters
	asksDelRcpt   = '-'
	asksNewSender = 'e'
)

// version is the newest of the protocol that is spoken here, oldest the oldest.
const (
	version = 6
	oldest  = 2
)

// allActions are what a milter may ask for at the end of the message. They are all
// offered, because libmilter hangs up where one is missing that the milter might
// want one day; which of them are done is decided when it does.
const allActions = 0xff

// Steps that the milter may leave out, and answers that it may spare itself.
const (
	noConnect = 1 << iota
	noHelo
	noMail
	noRcpt
	noBody
	noHeaders
	noEOH
	quietHeader
	noUnknown
	noData
	canSkip
	wantRejected // the milter is shown recipients that were refused: there are none
	quietConnect
	quietHelo
	quietMail
	quietRcpt
	quietData
	quietUnknown
	quietEOH
	quietBody
	leadingSpace
)

// allSteps is what is offered.
const allSteps = leadingSpace<<1 - 1

const (
	// maxChunk is how much of the body goes into a packet, and maxData how much of
	// anything: libmilter takes no more.
	maxChunk = 65535
	maxData  = 65535
	// maxPacket bounds packets of the milter, in bytes.
	maxPacket = 128 << 10
	// maxTalk bounds everything that it says at the end of the message.
	maxTalk = 128 << 20
)

// packet is what the milter said.
type packet struct {
	code byte
	data []byte
}

// readPacket reads one packet.
func readPacket(r *bufio.Reader) (packet, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return packet{}, fmt.Errorf("read answer: %w", unexpected(err))
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n < 1 || n > maxPacket {
		return packet{}, fmt.Errorf("the milter sends a packet of %d bytes", n)
	}
	p := packet{code: head[4]}
	if n > 1 {
		p.data = make([]byte, n-1)
		if _, err := io.ReadFull(r, p.data); err != nil {
			return packet{}, fmt.Errorf("read answer: %w", unexpected(err))
		}
	}
	return p, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// writePacket writes one packet.
func writePacket(w *bufio.Writer, code byte, data []byte) error {
	if len(data) > maxData {
		return fmt.Errorf("%d bytes do not fit into a packet for the milter", len(data))
	}
	var head [5]byte
	binary.BigEndian.PutUint32(head[:4], uint32(len(data)+1))
	head[4] = code
	_, err := w.Write(head[:])
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		return fmt.Errorf("send to the milter: %w", err)
	}
	return nil
}

// texts puts strings into a packet. A NUL would end one early and make the milter
// see less than there is.
func texts(list ...string) []byte {
	var b []byte
	for _, s := range list {
		b = append(b, strings.ReplaceAll(s, "\x00", "?")...)
		b = append(b, 0)
	}
	return b
}

// cutText takes the first string out of a packet.
func cutText(data []byte) (text string, rest []byte, ok bool) {
	first, rest, ok := bytes.Cut(data, []byte{0})
	return string(first), rest, ok
}
