// Package sink is an SMTP server for tests that stands where the next hop of a
// gateway stands. It records what it was sent, down to the bytes on the wire,
// and does at each stage what a script tells it: answer so or so, wait, hang
// up. It shares no code with the product on purpose.
//
// Invariants:
//   - A mail is recorded before its final reply is written, and only if that
//     reply is positive; so what a client counts as delivered is here.
//   - Data ends at CRLF.CRLF only. What else a client sends is in the record.
package sink

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Stage is a point at which the sink answers.
type Stage string

// The stages of a session. EOD is the final dot, or the last chunk. Body is when the
// first 64 KiB of the data have come; an ordinary server says nothing then.
const (
	Banner   Stage = "banner"
	Ehlo     Stage = "ehlo"
	Helo     Stage = "helo"
	StartTLS Stage = "starttls"
	Auth     Stage = "auth"
	MailFrom Stage = "mail"
	RcptTo   Stage = "rcpt"
	Data     Stage = "data"
	Chunk    Stage = "chunk"
	Body     Stage = "body"
	EOD      Stage = "eod"
	Other    Stage = "other"
)

// Step is what a script is asked about.
type Step struct {
	Stage   Stage
	Line    string // the command line; "" for Banner and EOD
	Session int    // counted from 1
	Mail    Mail   // so far; with its data at EOD
}

// Reaction is what a script answers. The zero Reaction is what an ordinary
// server would do.
type Reaction struct {
	// Reply is sent as it is, CRLF added; it may hold several lines.
	Reply string
	// Wait delays the reaction until the channel is closed or the sink stops.
	Wait <-chan struct{}
	// Drop closes the connection instead of answering, Close after answering.
	Drop, Close bool
	// Keep records the mail although Drop or a negative Reply says otherwise: a
	// next hop that took the message and could not say so. At EOD only.
	Keep bool
}

// Script decides what the sink does. It runs on the session's goroutine.
type Script func(Step) Reaction

// Fail is a script that answers one stage with the reply and all others as an
// ordinary server.
func Fail(stage Stage, reply string) Script {
	return func(s Step) Reaction {
		if s.Stage == stage {
			return Reaction{Reply: reply}
		}
		return Reaction{}
	}
}

// Mail is one mail as it was received.
type Mail struct {
	Session int
	Helo    string
	TLS     bool
	From    string   // the whole argument of MAIL, with parameters
	To      []string // the whole arguments of the accepted RCPTs
	Data    []byte   // dots un-stuffed
	Chunked bool     // came by BDAT
}

// Options of a sink. The zero Options are an ordinary server on a free port.
type Options struct {
	Addr string // default "127.0.0.1:0"
	// Listener is where it takes connections, in the place of Addr.
	Listener net.Listener
	// Extensions are the EHLO lines after the first; default PIPELINING,
	// 8BITMIME and SIZE. STARTTLS is added where TLS is set, until TLS is active.
	Extensions []string
	TLS        *tls.Config
	Script     Script
	// Received is called with each recorded mail, before it is answered.
	Received func(Mail)
	// Discard drops the data and the record of the wire, for load.
	Discard bool
}

// Sink is a running server.
type Sink struct {
	Addr string

	o  Options
	ln net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change
	script   Script
	mails    []Mail
	raw      []*bytes.Buffer
	conns    map[net.Conn]bool
	stopping chan struct{}
	stopped  bool
}

// Start starts a sink that lives until the test ends.
func Start(t testing.TB, o Options) *Sink {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// New starts a sink that lives until Close.
func New(o Options) (*Sink, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Extensions == nil {
		o.Extensions = []string{"PIPELINING", "8BITMIME", "SIZE 104857600"}
	}
	ln, err := o.Listener, error(nil)
	if ln == nil {
		ln, err = net.Listen("tcp", o.Addr)
	}
	if err != nil {
		return nil, fmt.Errorf("start sink: %w", err)
	}
	s := &Sink{Addr: ln.Addr().String(), o: o, ln: ln, script: o.Script,
		changed: make(chan struct{}), conns: map[net.Conn]bool{}, stopping: make(chan struct{})}
	s.wg.Go(s.accept)
	return s, nil
}

// Close stops the sink and ends its sessions.
func (s *Sink) Close() {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.stopping)
		s.ln.Close()
		for c := range s.conns {
			c.Close()
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// SetScript replaces the script, for sessions under way too.
func (s *Sink) SetScript(script Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// Mails is what was received so far.
func (s *Sink) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Wire is every byte that each client sent so far, after decryption.
func (s *Sink) Wire() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, b := range s.raw {
		all = append(all, b.String())
	}
	return all
}

// Sessions is how many connections there were so far.
func (s *Sink) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.raw)
}

// Open is how many connections there are now.
func (s *Sink) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Wait waits until done says so; it asks after every change of the sink. It
// reports whether that happened in time.
func (s *Sink) Wait(timeout time.Duration, done func() bool) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if done() {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return done()
		}
	}
}

// WaitMails waits for n mails and fails the test if they don't come.
func (s *Sink) WaitMails(t testing.TB, n int, timeout time.Duration) []Mail {
	t.Helper()
	if !s.Wait(timeout, func() bool { return len(s.Mails()) >= n }) {
		t.Fatalf("sink has %d mails after %v, want %d", len(s.Mails()), timeout, n)
	}
	return s.Mails()
}

func (s *Sink) touch() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Sink) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.stopped {
			c.Close()
		} else {
			s.conns[c] = true
			record := &bytes.Buffer{}
			s.raw = append(s.raw, record)
			ss := &session{sink: s, conn: c, number: len(s.raw), record: record}
			s.wg.Go(func() { s.serve(c, ss) })
			s.touch()
		}
		s.mu.Unlock()
	}
}

func (s *Sink) serve(c net.Conn, ss *session) {
	defer func() {
		ss.conn.Close() // says good-bye where TLS is active
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.touch()
		s.mu.Unlock()
	}()
	ss.attach(c)
	ss.run()
}

// recorder keeps what the client sends.
type recorder struct{ ss *session }

func (r recorder) Write(p []byte) (int, error) {
	s := r.ss.sink
	if s.o.Discard {
		return len(p), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.ss.record.Write(p)
}

// session is one connection.
type session struct {
	sink   *Sink
	conn   net.Conn
	r      *bufio.Reader
	number int
	record *bytes.Buffer
	mail   Mail
	tls    bool
	chunks bytes.Buffer
}

func (ss *session) attach(c net.Conn) {
	ss.conn = c
	ss.r = bufio.NewReader(io.TeeReader(c, recorder{ss}))
}

// act asks the script and answers; it reports whether the session goes on, and
// whether the answer was positive.
func (ss *session) act(stage Stage, line, normal string) (goOn, positive bool) {
	ss.sink.mu.Lock()
	script := ss.sink.script
	ss.sink.mu.Unlock()
	var re Reaction
	if script != nil {
		ss.mail.Session, ss.mail.TLS = ss.number, ss.tls
		re = script(Step{Stage: stage, Line: line, Session: ss.number, Mail: ss.mail})
	}
	if re.Wait != nil {
		select {
		case <-re.Wait:
		case <-ss.sink.stopping:
			return false, false
		}
	}
	reply := re.Reply
	if reply == "" {
		reply = normal
	}
	if stage == Body && reply == "" {
		return !re.Drop, true
	}
	positive = strings.HasPrefix(reply, "2") || strings.HasPrefix(reply, "3")
	if stage == EOD && (positive && !re.Drop || re.Keep) {
		ss.keep()
	}
	if re.Drop {
		return false, false
	}
	if _, err := io.WriteString(ss.conn, reply+"\r\n"); err != nil {
		return false, false
	}
	return !re.Close, positive
}

func (ss *session) keep() {
	s := ss.sink
	m := ss.mail
	m.Session, m.TLS = ss.number, ss.tls
	if s.o.Received != nil {
		s.o.Received(m)
	}
	if s.o.Discard {
		m.Data = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
	s.touch()
}

func (ss *session) run() {
	if goOn, _ := ss.act(Banner, "", "220 sink.example ESMTP"); !goOn {
		return
	}
	for {
		line, err := ss.r.ReadString('\n')
		if err != nil || !ss.command(strings.TrimRight(line, "\r\n")) {
			return
		}
	}
}

func (ss *session) command(line string) bool {
	verb, arg, _ := strings.Cut(line, " ")
	switch verb = strings.ToUpper(verb); verb {
	case "EHLO", "HELO":
		return ss.hello(verb, line, arg)
	case "STARTTLS":
		return ss.startTLS(line)
	case "AUTH":
		goOn, _ := ss.act(Auth, line, "235 2.7.0 welcome")
		return goOn
	case "MAIL":
		goOn, ok := ss.act(MailFrom, line, "250 2.1.0 sender ok")
		if ok {
			ss.mail = Mail{Helo: ss.mail.Helo, From: after(arg, "FROM:")}
		}
		return goOn
	case "RCPT":
		goOn, ok := ss.act(RcptTo, line, "250 2.1.5 recipient ok")
		if ok {
			ss.mail.To = append(ss.mail.To, after(arg, "TO:"))
		}
		return goOn
	case "DATA":
		return ss.data(line)
	case "BDAT":
		return ss.bdat(line, arg)
	case "RSET":
		ss.mail = Mail{Helo: ss.mail.Helo}
		ss.chunks.Reset()
		goOn, _ := ss.act(Other, line, "250 2.0.0 reset")
		return goOn
	case "QUIT":
		ss.act(Other, line, "221 2.0.0 bye")
		return false
	}
	goOn, _ := ss.act(Other, line, "250 2.0.0 ok")
	return goOn
}

func (ss *session) hello(verb, line, arg string) bool {
	ss.mail = Mail{Helo: arg}
	if verb == "HELO" {
		goOn, _ := ss.act(Helo, line, "250 sink.example")
		return goOn
	}
	lines := append([]string{"sink.example"}, ss.sink.o.Extensions...)
	if ss.sink.o.TLS != nil && !ss.tls {
		lines = append(lines, "STARTTLS")
	}
	for i := range lines {
		if i < len(lines)-1 {
			lines[i] = "250-" + lines[i]
		} else {
			lines[i] = "250 " + lines[i]
		}
	}
	goOn, _ := ss.act(Ehlo, line, strings.Join(lines, "\r\n"))
	return goOn
}

func (ss *session) startTLS(line string) bool {
	if ss.sink.o.TLS == nil || ss.tls {
		goOn, _ := ss.act(StartTLS, line, "502 5.5.1 no")
		return goOn
	}
	goOn, ok := ss.act(StartTLS, line, "220 2.0.0 go ahead")
	if !goOn || !ok {
		return goOn
	}
	tc := tls.Server(ss.conn, ss.sink.o.TLS)
	if tc.Handshake() != nil {
		return false
	}
	ss.tls, ss.mail = true, Mail{}
	ss.attach(tc)
	return true
}

func (ss *session) data(line string) bool {
	normal := "354 go ahead"
	if len(ss.mail.To) == 0 {
		normal = "503 5.5.1 no recipients"
	}
	goOn, ok := ss.act(Data, line, normal)
	if !goOn || !ok {
		return goOn
	}
	var data bytes.Buffer
	asked := false
	for {
		line, err := ss.r.ReadBytes('\n')
		if err != nil {
			return false
		}
		if !asked && data.Len() >= 64<<10 {
			asked = true
			if goOn, _ := ss.act(Body, "", ""); !goOn {
				return false
			}
		}
		// Only CRLF.CRLF: the line is ".\r\n" and the one before ended in CRLF.
		if string(line) == ".\r\n" && (data.Len() == 0 || bytes.HasSuffix(data.Bytes(), []byte("\r\n"))) {
			break
		}
		if line[0] == '.' && (data.Len() == 0 || bytes.HasSuffix(data.Bytes(), []byte("\r\n"))) {
			line = line[1:]
		}
		data.Write(line)
	}
	return ss.end(data.Bytes(), false)
}

func (ss *session) bdat(line, arg string) bool {
	size, last, _ := strings.Cut(arg, " ")
	n, err := strconv.ParseInt(size, 10, 32)
	if err != nil || n < 0 {
		goOn, _ := ss.act(Chunk, line, "501 5.5.4 bad size")
		return goOn
	}
	if _, err := io.CopyN(&ss.chunks, ss.r, n); err != nil {
		return false
	}
	if !strings.EqualFold(last, "LAST") {
		goOn, _ := ss.act(Chunk, line, "250 2.0.0 chunk ok")
		return goOn
	}
	data := bytes.Clone(ss.chunks.Bytes())
	ss.chunks.Reset()
	return ss.end(data, true)
}

func (ss *session) end(data []byte, chunked bool) bool {
	ss.mail.Data, ss.mail.Chunked = data, chunked
	goOn, _ := ss.act(EOD, "", "250 2.0.0 ok")
	ss.mail = Mail{Helo: ss.mail.Helo}
	return goOn
}

// after is the text after the prefix, in whatever case it was written.
func after(s, prefix string) string {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return strings.TrimSpace(s[len(prefix):])
	}
	return s
}
