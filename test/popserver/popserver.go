// Package popserver is a POP3 server for tests that does what it is told: it has a
// mailbox, speaks the protocol properly by default, and can be made to answer any
// command otherwise, late, in pieces or not at all.
//
// Invariants:
//   - A Server works over any net.Conn, so also within a synctest bubble. It starts no
//     goroutine but the one for each connection, and waits by timers only.
//   - What clients said is kept, line by line and by connection: a test can see that
//     QUIT never came.
//   - Only QUIT deletes.
package popserver

import (
	"bufio"
	"crypto/md5"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Timestamp is what greetings carry for APOP.
const Timestamp = "<1896.697170952@dbc.mtview.ca.us>"

// Server is what all connections share. The fields are set before the first.
type Server struct {
	// User and Password are those of the one mailbox; default "joe" and "secret".
	User, Password string
	// Greeting is the first line; default "+OK POP3 server ready " and the Timestamp.
	Greeting string
	// Capabilities are the lines of CAPA; nil: CAPA is unknown.
	Capabilities []string
	// TLS, where set, is for STLS.
	TLS *tls.Config
	// Hook, where set, is asked first about each command (the verb in capitals with its
	// arguments; "" for the greeting). It answers on the connection itself and
	// returns true, or returns false.
	Hook func(c *Conn, command string) bool

	mu      sync.Mutex
	mails   []string
	deleted map[int]bool
	said    [][]string
	ended   []string
}

// Conn is one connection.
type Conn struct {
	net.Conn
	In     *bufio.Reader
	server *Server
	number int
	marked map[int]bool
	user   string
	in     bool
}

// New returns a server whose mailbox holds the mails, which are sent as they are: their
// dots stuffed, and a CRLF added where the last line has no end.
func New(mails ...string) *Server {
	return &Server{User: "joe", Password: "secret", mails: mails, deleted: map[int]bool{},
		Capabilities: []string{"TOP", "UIDL", "USER", "SASL PLAIN LOGIN CRAM-MD5", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8", "LANG", "X-OWN"}}
}

// Said is what the connections have said, one after the other.
func (s *Server) Said() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([][]string, len(s.said))
	for i, lines := range s.said {
		out[i] = slices.Clone(lines)
	}
	return out
}

// Lines is all that was said, in one piece.
func (s *Server) Lines() string {
	var b strings.Builder
	for _, lines := range s.Said() {
		b.WriteString(strings.Join(lines, "\n") + "\n")
	}
	return b.String()
}

// Ended is how the connections ended that are over: "quit" or "closed".
func (s *Server) Ended() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ended)
}

// Left are the numbers of the mails that were not deleted.
func (s *Server) Left() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []int
	for i := range s.mails {
		if !s.deleted[i+1] {
			left = append(left, i+1)
		}
	}
	return left
}

// Serve speaks over one connection until that ends.
func (s *Server) Serve(conn net.Conn) {
	defer conn.Close()
	c := &Conn{Conn: conn, In: bufio.NewReader(conn), server: s, marked: map[int]bool{}}
	s.mu.Lock()
	c.number = len(s.said)
	s.said = append(s.said, nil)
	s.mu.Unlock()
	how := "closed"
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended = append(s.ended, how)
	}()
	if s.Hook == nil || !s.Hook(c, "") {
		greeting := s.Greeting
		if greeting == "" {
			greeting = "+OK POP3 server ready " + Timestamp
		}
		c.Line(greeting)
	}
	for {
		line, err := c.In.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		c.heard(line)
		verb, arg, _ := strings.Cut(line, " ")
		verb = strings.ToUpper(verb)
		if s.Hook != nil && s.Hook(c, strings.TrimSpace(verb+" "+arg)) {
			continue
		}
		if verb == "QUIT" {
			how = "quit"
			c.expunge()
			c.Line("+OK bye")
			return
		}
		c.answer(verb, arg)
	}
}

func (c *Conn) heard(line string) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.said[c.number] = append(c.server.said[c.number], line)
}

// Line sends a line. Errors are the client's business.
func (c *Conn) Line(line string) { c.Raw(line + "\r\n") }

// Raw sends bytes as they are.
func (c *Conn) Raw(text string) { _, _ = c.Write([]byte(text)) }

// Slowly sends bytes in pieces of size, with a pause after each.
func (c *Conn) Slowly(text string, size int, pause time.Duration) {
	for len(text) > 0 {
		n := min(size, len(text))
		c.Raw(text[:n])
		text = text[n:]
		<-time.After(pause)
	}
}

// Mail is the number's mail as it is sent after the first line: stuffed, with the dot.
func (c *Conn) Mail(n int) string { return Stuffed(c.server.mails[n-1]) }

// Stuffed is a mail as RETR sends it.
func Stuffed(mail string) string {
	if strings.HasPrefix(mail, ".") {
		mail = "." + mail
	}
	mail = strings.ReplaceAll(mail, "\n.", "\n..")
	if mail != "" && !strings.HasSuffix(mail, "\n") {
		mail += "\r\n"
	}
	return mail + ".\r\n"
}

func (c *Conn) answer(verb, arg string) {
	switch verb {
	case "CAPA":
		c.capa()
	case "STLS":
		c.stls()
	case "USER":
		c.user = arg
		c.Line("+OK send PASS")
	case "PASS":
		c.login(c.user == c.server.User && arg == c.server.Password)
	case "APOP":
		sum := fmt.Sprintf("%x", md5.Sum([]byte(Timestamp+c.server.Password)))
		c.login(arg == c.server.User+" "+sum)
	case "AUTH":
		c.auth(arg)
	case "NOOP":
		c.Line("+OK")
	case "UTF8":
		c.Line("+OK UTF8 enabled")
	case "LANG":
		c.lang(arg)
	default:
		if !c.in {
			c.Line("-ERR unknown command")
			return
		}
		c.transaction(verb, arg)
	}
}

func (c *Conn) capa() {
	if c.server.Capabilities == nil {
		c.Line("-ERR unknown command")
		return
	}
	c.Raw("+OK\r\n" + strings.Join(c.server.Capabilities, "\r\n") + "\r\n.\r\n")
}

func (c *Conn) stls() {
	if c.server.TLS == nil {
		c.Line("-ERR no TLS")
		return
	}
	c.Line("+OK begin TLS")
	c.handshake(c.server.TLS)
}

// StartTLS puts TLS on the connection, and greets: for POP3S.
func (c *Conn) StartTLS(cfg *tls.Config) {
	if c.handshake(cfg) {
		c.Line("+OK POP3 server ready " + Timestamp)
	}
}

func (c *Conn) handshake(cfg *tls.Config) bool {
	conn := tls.Server(c.Conn, cfg)
	if conn.Handshake() != nil {
		c.Close()
		return false
	}
	c.Conn, c.In = conn, bufio.NewReader(conn)
	return true
}

func (c *Conn) login(ok bool) {
	if !ok {
		c.Line("-ERR [AUTH] no such user or wrong password")
		return
	}
	c.in = true
	c.Line("+OK logged in")
}

// auth is AUTH with PLAIN, LOGIN and CRAM-MD5, whose digest is not looked at.
func (c *Conn) auth(arg string) {
	mechanism, initial, _ := strings.Cut(arg, " ")
	ask := func(challenge string) string {
		c.Line("+ " + base64.StdEncoding.EncodeToString([]byte(challenge)))
		line, err := c.In.ReadString('\n')
		if err != nil {
			return ""
		}
		line = strings.TrimRight(line, "\r\n")
		c.heard(line)
		text, _ := base64.StdEncoding.DecodeString(line)
		return string(text)
	}
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		text, _ := base64.StdEncoding.DecodeString(initial)
		if initial == "" {
			text = []byte(ask(""))
		}
		c.login(string(text) == "\x00"+c.server.User+"\x00"+c.server.Password)
	case "LOGIN":
		user := ask("Username:")
		c.login(user == c.server.User && ask("Password:") == c.server.Password)
	case "CRAM-MD5":
		c.login(strings.HasPrefix(ask(Timestamp), c.server.User+" "))
	default:
		c.Line("-ERR [AUTH] unknown mechanism")
	}
}

func (c *Conn) lang(arg string) {
	if arg == "" {
		c.Raw("+OK\r\nen English\r\nde Deutsch\r\n.\r\n")
		return
	}
	c.Line("+OK " + arg + " now")
}

func (c *Conn) transaction(verb, arg string) {
	s := c.server
	first, rest, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(first)
	exists := err == nil && n >= 1 && n <= len(s.mails) && !c.marked[n] && !s.gone(n)
	switch {
	case verb == "STAT":
		count, size := c.sum()
		c.Line(fmt.Sprintf("+OK %d %d", count, size))
	case verb == "LAST":
		c.Line("+OK 0")
	case verb == "RSET":
		c.marked = map[int]bool{}
		c.Line("+OK")
	case (verb == "LIST" || verb == "UIDL") && arg == "":
		c.list(verb)
	case verb != "LIST" && verb != "UIDL" && verb != "RETR" && verb != "TOP" && verb != "DELE":
		c.Line("-ERR unknown command")
	case !exists:
		c.Line("-ERR no such message")
	case verb == "LIST":
		c.Line(fmt.Sprintf("+OK %d %d", n, len(s.mails[n-1])))
	case verb == "UIDL":
		c.Line(fmt.Sprintf("+OK %d uid-%d", n, n))
	case verb == "RETR":
		c.Line(fmt.Sprintf("+OK %d octets", len(s.mails[n-1])))
		c.Raw(c.Mail(n))
	case verb == "TOP":
		lines, _ := strconv.Atoi(rest)
		c.Line("+OK")
		c.Raw(Stuffed(Top(s.mails[n-1], lines)))
	case verb == "DELE":
		c.marked[n] = true
		c.Line("+OK deleted")
	}
}

func (s *Server) gone(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deleted[n]
}

func (c *Conn) sum() (count, size int) {
	for i, m := range c.server.mails {
		if !c.marked[i+1] && !c.server.gone(i+1) {
			count, size = count+1, size+len(m)
		}
	}
	return count, size
}

func (c *Conn) list(verb string) {
	c.Line("+OK")
	for i, m := range c.server.mails {
		switch {
		case c.marked[i+1] || c.server.gone(i+1):
		case verb == "LIST":
			c.Line(fmt.Sprintf("%d %d", i+1, len(m)))
		default:
			c.Line(fmt.Sprintf("%d uid-%d", i+1, i+1))
		}
	}
	c.Line(".")
}

func (c *Conn) expunge() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	for n := range c.marked {
		c.server.deleted[n] = true
	}
}

// Top is the header of a mail with CRLF line ends, the empty line, and so many lines of
// the body.
func Top(mail string, lines int) string {
	header, body, ok := strings.Cut(mail, "\r\n\r\n")
	if !ok {
		return mail
	}
	all := strings.SplitAfter(body, "\n")
	return header + "\r\n\r\n" + strings.Join(all[:min(lines, len(all))], "")
}
