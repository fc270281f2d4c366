package auth

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

func limits(t *testing.T, cfg LimitsConfig) *Limits {
	t.Helper()
	l, err := NewLimits(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestMessagesOverALimitAreHeld(t *testing.T) {
	for _, tt := range []struct {
		name       string
		cfg        LimitsConfig
		recipients int
		allowed    int // messages until the limit
		after      time.Duration
		want       string
	}{
		{"messages in an hour", LimitsConfig{MessagesPerHour: 3}, 5, 3, time.Hour, "4 messages in an hour"},
		{"recipients in an hour", LimitsConfig{RecipientsPerHour: 10}, 4, 2, time.Hour, "12 recipients in an hour"},
		{"messages in a day", LimitsConfig{MessagesPerDay: 3}, 1, 3, 24 * time.Hour, "4 messages in a day"},
		{"recipients in a day", LimitsConfig{RecipientsPerDay: 10}, 10, 1, 24 * time.Hour, "20 recipients in a day"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limits(t, tt.cfg)
				for i := range tt.allowed {
					if a := l.Allow("bob", tt.recipients); !a.OK {
						t.Fatalf("message %d: %+v", i, a)
					}
				}
				if a := l.Allow("BOB", tt.recipients); a.OK || !a.Tell || !strings.HasPrefix(a.Reason, tt.want) {
					t.Errorf("over the limit: %+v", a)
				}
				if a := l.Allow("bob", tt.recipients); a.OK || a.Tell {
					t.Errorf("told twice: %+v", a)
				}
				if a := l.Allow("eve", tt.recipients); !a.OK {
					t.Errorf("another user: %+v", a)
				}
				time.Sleep(tt.after - tt.after/10)
				if a := l.Allow("bob", tt.recipients); a.OK {
					t.Error("the limit ended too early")
				}
				time.Sleep(tt.after/10 + time.Second)
				if a := l.Allow("bob", tt.recipients); !a.OK {
					t.Errorf("after the time: %+v", a)
				}
			})
		})
	}
}

func TestRecipientsOfOneMessage(t *testing.T) {
	l := limits(t, LimitsConfig{RecipientsPerMessage: 100})
	if a := l.Allow("bob", 101); a.OK {
		t.Error("101 recipients went on")
	}
	if a := l.Allow("bob", 100); !a.OK {
		t.Errorf("what was held counts: %+v", a)
	}
	if u := l.Usage("Bob"); u != (Usage{MessagesHour: 1, MessagesDay: 1, RecipientsHour: 100, RecipientsDay: 100}) {
		t.Errorf("%+v", u)
	}
	if u := l.Usage("eve"); u != (Usage{}) {
		t.Errorf("%+v", u)
	}
}

func TestUsersAreForgottenWhereThereAreTooMany(t *testing.T) {
	l := limits(t, LimitsConfig{MaxUsers: 10})
	for i := range 100 {
		l.Allow(fmt.Sprint("user", i), 1)
	}
	if len(l.users) > 10 {
		t.Errorf("%d users", len(l.users))
	}
}

func TestWhoMaySendAsWhom(t *testing.T) {
	ours := func(domain string) bool { return domain == "example.com" || domain == "example.net" }
	for _, tt := range []struct {
		name    string
		user    string
		senders []string
		sender  string
		want    string // the rules that allow it
	}{
		{"nobody", "bob", nil, "", "any domains own"},
		{"the own address", "bob@example.com", nil, "bob@example.com", "any domains own"},
		{"whatever the case", "Bob@Example.com", nil, "BOB@example.com", "any domains own"},
		{"with a tag", "bob@example.com", nil, "bob+lists@example.com", "any domains own"},
		{"a tag alone", "bob@example.com", nil, "+bob@example.com", "any domains"},
		{"another address of ours", "bob@example.com", nil, "ceo@example.com", "any domains"},
		{"a foreign address", "bob@example.com", nil, "bob@gmail.example", "any"},
		{"a name in our domains", "bob", nil, "bob@example.net", "any domains own"},
		{"a name with a tag", "bob", nil, "bob+x@example.net", "any domains own"},
		{"a name in a foreign domain", "bob", nil, "bob@gmail.example", "any"},
		{"an address that is listed", "bob", []string{"Sales@example.com"}, "sales@example.com", "any domains own"},
		{"an address that is not listed", "bob", []string{"sales@example.com"}, "bob@example.com", "any domains"},
		{"a foreign address that is listed", "bob", []string{"bob@gmail.example"}, "bob@gmail.example", "any domains own"},
		{"a domain that is listed", "bob", []string{"@partner.example"}, "x@partner.example", "any domains own"},
		{"a domain below one that is listed", "bob", []string{"@partner.example"}, "x@sub.partner.example", "any"},
		{"a name that looks like a domain", "@gmail.example", nil, "x@gmail.example", "any"},
		{"no user", "", nil, "@gmail.example", "any"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sender mail.Address
			if tt.sender != "" {
				local, domain, _ := strings.Cut(tt.sender, "@")
				sender = mail.Address{Local: local, Domain: domain, Raw: tt.sender}
			}
			var got []string
			for _, rule := range []SendAs{SendAsAny, SendAsDomains, SendAsOwn} {
				if MaySend(rule, &mail.Session{User: tt.user, Senders: tt.senders}, sender, ours) {
					got = append(got, string(rule))
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("allowed by %q, want %q", got, tt.want)
			}
		})
	}
}
