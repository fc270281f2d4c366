package popa3d

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestServesItsMailbox(t *testing.T) {
	p := Run(t, "From a@b.example Thu Jan  1 00:00:00 2026\nSubject: one\n\nhello\n\n")
	c, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	for _, step := range []struct{ say, want string }{
		{"", "+OK"}, {"USER " + User, "+OK"}, {"PASS " + Password, "+OK"}, {"STAT", "+OK 1 "}, {"DELE 1", "+OK"}, {"QUIT", "+OK"},
	} {
		if step.say != "" {
			fmt.Fprintf(c, "%s\r\n", step.say)
		}
		line, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, step.want) {
			t.Fatalf("%q: %q %v, want %q", step.say, line, err, step.want)
		}
	}
	if text, err := p.Mailbox(); err != nil || text != "" {
		t.Errorf("mailbox holds %q %v after its only message was deleted", text, err)
	}
}
