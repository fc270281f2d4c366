package dovecot

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"gatepost/test/sink"
	"gatepost/test/wire"
)

func TestServesWhatWasPut(t *testing.T) {
	p := Run(t, Config{Users: []string{"joe"}})
	if err := p.Put("joe", Name(1), []byte("Subject: one\r\n\r\nhello\r\n")); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	for _, step := range []struct{ say, want string }{
		{"", "+OK"}, {"USER joe", "+OK"}, {"PASS " + Password, "+OK"}, {"STAT", "+OK 1 "}, {"QUIT", "+OK"},
	} {
		if step.say != "" {
			fmt.Fprintf(c, "%s\r\n", step.say)
		}
		line, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, step.want) {
			t.Fatalf("%q: %q %v, want %q", step.say, line, err, step.want)
		}
	}
}

func TestUsersSubmitMail(t *testing.T) {
	if _, err := os.Stat("/usr/lib/dovecot/submission"); err != nil {
		t.Skip("dovecot-submissiond is not installed")
	}
	end := sink.Start(t, sink.Options{})
	p := Run(t, Config{Users: []string{"joe"}, Relay: end.Addr})
	c, hello, err := wire.Hello(p.Submission, wire.Options{})
	if err != nil || !hello.Has("AUTH") {
		t.Fatalf("%v, %v", hello, err)
	}
	defer c.Quit()
	if r, err := c.Cmd("AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00joe\x00"+Password))); err != nil || r.Code != 235 {
		t.Fatalf("%v, %v", r, err)
	}
	if r, err := c.Deliver("joe@in.example", []string{"bob@out.example"}, []byte("Subject: x\r\n\r\nx\r\n")); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	end.WaitMails(t, 1, 20*time.Second)
}
