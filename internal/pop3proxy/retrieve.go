package pop3proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/pop3"
	"gatepost/internal/smtp"
)

// request is a RETR or TOP; lines is how many of the body, -1 for all.
type request struct {
	verb          pop3.Verb
	number, lines int
}

func (r request) String() string {
	if r.lines < 0 {
		return "RETR " + strconv.Itoa(r.number)
	}
	return "TOP " + strconv.Itoa(r.number) + " " + strconv.Itoa(r.lines)
}

// kept is the last message that was judged in a session: who asks for its top and then
// for all of it gets both from one fetch.
type kept struct {
	number int
	from   Retrieval
	result *Retrieved
	env    *mail.Envelope
	uidl   string
	size   int64
}

// forget frees the message that is kept.
func (s *session) forget() {
	if s.kept != nil {
		s.kept.from.Close()
		s.kept = nil
	}
}

// retrieve answers RETR and TOP. TOP is RETR and a cut: what is to be judged is the whole
// message, whatever a client shows of it.
func (s *session) retrieve(r request) {
	f := &fetch{session: s, request: r, begun: time.Now()}
	f.sum.Verb, f.sum.Number = r.verb.String(), r.number
	scanner := s.set.hooks.Scanner
	if scanner == nil {
		f.env = s.envelope()
		f.passThrough("")
		return
	}
	if k := s.kept; k != nil && k.number == r.number {
		f.env, f.sum.UIDL, f.sum.Size, f.again = k.env, k.uidl, k.size, true
		f.deliver(k.result)
		return
	}
	key, ok := s.key(r.number)
	if !ok {
		return
	}
	f.env, f.sum.UIDL = s.envelope(), key.UIDL
	if key.UIDL != "" {
		if known, ok := scanner.Known(s.srv.ctx, f.env, key); ok && !known.Pass {
			f.deliver(known)
			return
		}
	}
	if s.set.PassLarge {
		size, ok := s.sizeOf(r.number)
		if !ok {
			return
		}
		if size > s.set.MaxMessageSize {
			f.passThrough("larger than max_message_size")
			return
		}
	}
	s.forget()
	f.fetch(scanner, key)
}

// key names a message. ok is false when the server is gone.
func (s *session) key(n int) (key mail.Mailed, ok bool) {
	key = mail.Mailed{Server: s.sess.Server, User: s.sess.User}
	const often = 3
	if key.User == "" || s.noUIDL >= often {
		return key, true
	}
	if key.UIDL = s.uidls[n]; key.UIDL != "" {
		return key, true
	}
	reply, _, ok := s.ask("UIDL " + strconv.Itoa(n))
	if !ok {
		return key, false
	}
	id, found := uidlOf(reply, n)
	if !found {
		s.noUIDL++
		return key, true
	}
	s.remember(n, id)
	key.UIDL = id
	return key, true
}

// sizeOf asks for the size of a message; 0 where the server does not tell.
func (s *session) sizeOf(n int) (size int64, ok bool) {
	reply, _, ok := s.ask("LIST " + strconv.Itoa(n))
	if !ok {
		return 0, false
	}
	words := strings.Fields(string(reply))
	if len(words) < 3 || pop3.ParseStatus(reply) != pop3.StatusOK {
		return 0, true
	}
	size, _ = strconv.ParseInt(words[2], 10, 64)
	return size, true
}

// envelope is what is known of a message before it is fetched: whose it is, and where
// it comes from.
func (s *session) envelope() *mail.Envelope {
	to := s.mailboxAddress()
	return &mail.Envelope{
		ID: mail.NewID(), Received: time.Now(), Session: s.snapshot(),
		Recipients: []mail.Recipient{{Address: to, Original: to, Route: mail.Route{Domain: "pop3", Flow: s.set.Flow}}},
	}
}

// mailboxAddress is the user as an address: his name, if it is one, or his name at the
// server.
func (s *session) mailboxAddress() mail.Address {
	user := s.sess.User
	if user == "" {
		user = "unknown"
	}
	if a, err := smtp.ParseAddress(user); err == nil {
		return a
	}
	host, _, err := net.SplitHostPort(s.sess.Server)
	if err != nil {
		host = s.set.Hostname
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		host = "[" + host + "]"
	} else if err == nil {
		host = "[IPv6:" + ip.WithZone("").String() + "]"
	}
	for _, local := range []string{user, `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(user) + `"`, "unknown"} {
		for _, domain := range []string{host, s.set.Hostname} {
			if a, err := smtp.ParseAddress(local + "@" + domain); err == nil {
				return a
			}
		}
	}
	return mail.Address{}
}

// fetch is one RETR or TOP on its way.
type fetch struct {
	*session
	request
	env   *mail.Envelope
	begun time.Time
	// status is the server's answer, greeted says that the client has one.
	status  []byte
	greeted bool
	// taken says that the server has nothing more to say; nextWait is when the client gets
	// the next line to wait by.
	taken    bool
	nextWait time.Time
	// ours says that the server is not to blame for a failure.
	ours bool
	// again says that the message is one that was told of in this session.
	again bool
	sum   MessageSummary
}

// Why a message does not reach a client. errClient is for the one who is gone.
var (
	errClient   = errors.New("the client is gone")
	errTooLarge = errors.New("the message is larger than max_message_size")
	errSilent   = errors.New("the server stopped in the middle of the message")
	errRest     = errors.New("the rest of the message takes too long")
)

// fetch gets the message, has it judged, and gives it to the client.
func (f *fetch) fetch(scanner Scanner, key mail.Mailed) {
	place, err := scanner.Retrieve(f.srv.ctx, f.env, key)
	if err != nil {
		f.fail(fmt.Errorf("make place for message: %w", err))
		return
	}
	keep := false
	defer func() {
		if !keep {
			place.Close()
		}
	}()
	// RFC 1939 §5: servers may mark it as read; so does TOP, for this.
	reply, bare, ok := f.ask("RETR " + strconv.Itoa(f.number))
	if !ok {
		f.account(FateFailed, "server lost")
		return
	}
	if pop3.ParseStatus(reply) != pop3.StatusOK {
		f.relay(f.verb.String(), reply)
		return
	}
	f.status = bytes.Clone(reply)
	f.nextWait = time.Now().Add(f.set.WaitAfter)
	if err := f.take(place, bare); err != nil {
		f.fail(err)
		return
	}
	f.taken, f.env.Size = true, f.sum.Size
	f.sum.Fetch = time.Since(f.begun)
	result, err := f.judge(place)
	if err != nil {
		f.fail(err)
		return
	}
	keep = true
	f.kept = &kept{number: f.number, from: place, result: result, env: f.env, uidl: key.UIDL, size: f.sum.Size}
	f.deliver(result)
}

// take reads the message from the server. Where it can't be kept, the rest is read all
// the same, within limits, so that the session stays in step.
func (f *fetch) take(place io.Writer, bare bool) error {
	u := f.up
	f.srv.borrow(u.in)
	defer f.srv.giveBack(u.in)
	un := pop3.Unstuffer{LFOnly: bare}
	var failed error
	var giveUp time.Time
	for {
		for buf := u.in.Buffered(); len(buf) > 0; {
			text, n, end := un.Next(buf)
			if failed == nil {
				if failed = f.store(place, text); failed != nil {
					f.ours = true
					giveUp = time.Now().Add(f.set.DrainTimeout)
				}
			}
			u.in.Discard(n)
			buf = buf[n:]
			if end {
				return failed
			}
		}
		if err := f.more(giveUp); err != nil {
			return errors.Join(failed, u.fail(err))
		}
	}
}

func (f *fetch) store(place io.Writer, text []byte) error {
	if f.sum.Size += int64(len(text)); f.sum.Size > f.set.MaxMessageSize {
		return errTooLarge
	}
	if len(text) == 0 {
		return nil
	}
	if _, err := place.Write(text); err != nil {
		return fmt.Errorf("keep message: %w", err)
	}
	return nil
}

// more waits for more of the message, and keeps the client waiting meanwhile. giveUp,
// unless zero, is when it has been enough.
func (f *fetch) more(giveUp time.Time) error {
	silent := time.Now().Add(f.up.timeout)
	for {
		until := silent
		if giveUp.IsZero() {
			until = earlier(until, f.nextWait)
		} else {
			until = earlier(until, giveUp)
		}
		f.up.conn.SetReadDeadline(until)
		_, err := f.up.in.Fill()
		now := time.Now()
		if !giveUp.IsZero() && !now.Before(giveUp) {
			return errRest
		}
		if giveUp.IsZero() && !now.Before(f.nextWait) {
			if err := f.wait(); err != nil {
				return err
			}
		}
		if err == nil {
			return nil
		}
		if !isTimeout(err) {
			return fmt.Errorf("read message: %w", err)
		}
		if !now.Before(silent) {
			return errSilent
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// fail answers for a message that can't be had: while the client has had nothing, with
// -ERR, else with the end of the connection, so that it takes nothing for a message.
func (f *fetch) fail(err error) {
	fate, reply := FateFailed, "-ERR [SYS/TEMP] the message could not be checked, try again later"
	if errors.Is(err, errTooLarge) {
		fate, reply = FateRefused, "-ERR [SYS/PERM] the message is too large"
	}
	f.log(slog.LevelWarn, "message not passed", slog.String("id", f.env.ID.String()), slog.String("client", f.sess.Client.String()),
		slog.String("user", f.sess.User), slog.String("server", f.sess.Server), slog.Int("number", f.number), slog.String("error", err.Error()))
	f.account(fate, err.Error())
	switch {
	case errors.Is(err, errClient):
		f.out = nil
		f.endBecause("connection lost")
	case f.greeted:
		f.endBecause("message not passed")
	case f.up.dead != nil && !f.ours:
		f.lost(f.up.dead)
	default:
		f.say(f.verb.String(), reply)
		if f.up.dead != nil {
			f.endBecause("message not passed")
		}
	}
}

// account tells what became of the message.
func (f *fetch) account(fate Fate, reason string) {
	f.sum.Fate, f.sum.Reason, f.sum.Total = fate, reason, time.Since(f.begun)
	if fate == FatePassed || fate == FateUnscanned || fate == FateReplaced {
		f.session.sum.Messages++
	}
	if fate == FateReplaced {
		f.session.sum.Replaced++
	}
	size := f.sum.Size
	if f.again {
		size = 0 // the server was not asked again
	}
	if o := f.srv.opts.Observer; o != nil {
		o.POPRetrieved(f.set.Listener, fate, size, f.sum.Scan)
	}
	if t := f.set.hooks.Traffic; t != nil && !(f.again && f.verb == pop3.VerbTOP) {
		t.Retrieved(f.env, f.sum)
	}
}

// judge has the message judged, and keeps both sides waiting meanwhile.
func (f *fetch) judge(place Retrieval) (*Retrieved, error) {
	begun := time.Now()
	defer func() { f.sum.Scan = time.Since(begun) }()
	ctx, cancel := context.WithCancel(f.srv.ctx)
	defer cancel()
	type answer struct {
		result *Retrieved
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a = answer{nil, fmt.Errorf("judge message: panic: %v", p)}
			}
			answered <- a
		}()
		a.result, a.err = place.Judge(ctx)
	}()
	for {
		timer := time.NewTimer(time.Until(f.nextWait))
		select {
		case a := <-answered:
			timer.Stop()
			if a.err == nil && (a.result == nil || !a.result.Pass && len(a.result.Notice) == 0) {
				a.err = errors.New("judge message: there is no verdict")
				if a.result != nil && a.result.Reason != "" {
					a.err = errors.New("judge message: " + a.result.Reason)
				}
			}
			return a.result, a.err
		case <-timer.C:
		}
		if err := f.wait(); err != nil {
			cancel()
			<-answered // it uses the message until then
			return nil, err
		}
	}
}
