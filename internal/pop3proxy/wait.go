package pop3proxy

import (
	"fmt"
	"time"

	"gatepost/internal/pop3"
)

// waitLine is what a client gets that waits for a message: a header field that means
// nothing, in front of those of the message or the notice.
const waitLine = "X-Gatepost-Wait: the message is being checked\r\n"

// noopTimeout is how long a server may take for a NOOP: the client gets its next line
// late by so much.
const noopTimeout = 10 * time.Second

// wait keeps the client from hanging up: +OK and a header line, then another one at each
// interval. It commits us: after this there is a message, or the end of the connection.
func (f *fetch) wait() error {
	if !f.greeted {
		f.greeted = true
		f.say(f.verb.String(), "+OK message follows")
	}
	f.put([]byte(waitLine))
	if f.over || f.flush() != nil {
		return errClient
	}
	f.sum.Waits++
	f.nextWait = time.Now().Add(f.set.WaitInterval)
	if f.taken {
		f.keepAlive()
	}
	return nil
}

// keepAlive keeps the server from hanging up while the client is served: a NOOP, whose
// answer the client never sees. A server that fails at it is missed only by the next command.
func (f *fetch) keepAlive() {
	u := f.up
	if u.dead != nil || time.Since(u.used) < f.set.WaitInterval {
		return
	}
	u.patience(noopTimeout)
	reply, _, err := u.exchange("NOOP")
	if err == nil && pop3.ParseStatus(reply) == pop3.StatusContinue {
		_ = u.fail(fmt.Errorf("answer to NOOP: %w", errNoReply))
	}
	u.used = time.Now()
}
