package mail

import (
	"strings"
	"testing"
	"time"
)

func TestIDTextRoundTripsAndSorts(t *testing.T) {
	early, late := FirstID(time.UnixMilli(1000)), FirstID(time.UnixMilli(2000))
	if early.String() >= late.String() {
		t.Errorf("text of IDs does not sort by time: %s, %s", early, late)
	}
	for range 1000 {
		id := NewID()
		back, err := ParseID(strings.ToUpper(id.String()))
		if err != nil || back != id {
			t.Fatalf("ParseID(%s) = %v, %v", id, back, err)
		}
		if age := time.Since(id.Time()); age < 0 || age > time.Minute {
			t.Fatalf("ID %s says it is %v old", id, age)
		}
	}
}

func TestBadIDsAreRefused(t *testing.T) {
	for _, s := range []string{"", "x", strings.Repeat("8", 26), strings.Repeat("u", 26), strings.Repeat("0", 27)} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) accepted", s)
		}
	}
	id := NewID().String()
	for _, s := range []string{id, id + ":", id + ":0", id + ":65536", id + ":-1", id + ":1x"} {
		if _, err := ParseQueueID(s); err == nil {
			t.Errorf("ParseQueueID(%q) accepted", s)
		}
	}
	q := QueueID{NewID(), 65535}
	if back, err := ParseQueueID(q.String()); err != nil || back != q {
		t.Errorf("ParseQueueID(%s) = %v, %v", q, back, err)
	}
}

func TestEveryReplyHasTextAndItsCodesAgree(t *testing.T) {
	for _, k := range ReplyKeys() {
		r := k.Reply()
		if r.Code < 200 || r.Code > 599 || len(r.Lines) != 1 || r.Lines[0] == "" {
			t.Errorf("reply %d is incomplete: %+v", k, r)
			continue
		}
		if r.Code/100 == 3 {
			if r.Enhanced != "" {
				t.Errorf("3xx reply with an enhanced code (RFC 2034 §4): %v", r)
			}
			continue
		}
		if r.Enhanced == "" || int(r.Enhanced[0]-'0') != r.Code/100 {
			t.Errorf("code and enhanced code differ in class: %v", r)
		}
	}
}

func TestReplyAppend(t *testing.T) {
	r := Reply{Code: 550, Enhanced: "5.7.1", Lines: []string{"a\r\nb", "c"}}
	want := "550-5.7.1 a??b\r\n550 5.7.1 c\r\n"
	if got := string(r.Append(nil)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	id := NewID()
	if got := string(r.WithID(id).Append(nil)); !strings.HasSuffix(got, "c ("+id.String()+")\r\n") || r.Lines[1] != "c" {
		t.Errorf("WithID: %q, and the original is now %q", got, r.Lines[1])
	}
}
