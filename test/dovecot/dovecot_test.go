package dovecot

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
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
