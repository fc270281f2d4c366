package gateway

import (
	"fmt"
	"testing"

	"gatepost/internal/mail"
)

// One reply stands for all members of an alias: what it says holds for each of them,
// and nothing is lost of which the client was told that it was taken.
func TestOneReplyForAllMembersOfAnAlias(t *testing.T) {
	const (
		take, refuse, wait = mail.ActionDeliver, mail.ActionReject, mail.ActionDefer
	)
	type who struct {
		rcpt         string
		action       mail.Action
		member, copy bool
	}
	for _, tt := range []struct {
		name    string
		who     []who
		answers string
		actions string
	}{
		{"each for himself", []who{{"a", take, false, false}, {"b", refuse, false, false}, {"c", wait, false, false}}, "[250 554 451]", "[deliver reject defer]"},
		{"a member refuses", []who{{"a", take, true, false}, {"a", refuse, false, false}}, "[250]", "[deliver quarantine]"},
		{"all members refuse", []who{{"a", refuse, true, false}, {"a", refuse, false, false}}, "[554]", "[reject reject]"},
		{"a member has to wait", []who{{"a", take, true, false}, {"a", wait, false, false}, {"b", take, false, false}}, "[451 250]", "[defer defer deliver]"},
		{"one refuses, one has to wait", []who{{"a", refuse, true, false}, {"a", wait, false, false}}, "[451]", "[defer defer]"},
		{"named twice", []who{{"a", refuse, false, false}, {"b", take, false, false}, {"a", refuse, false, false}}, "[554 250 554]", "[reject deliver reject]"},
		{"a copy is not answered for", []who{{"z", refuse, false, true}, {"a", take, false, false}}, "[250]", "[quarantine deliver]"},
		{"a copy that has to wait is kept", []who{{"a", take, false, false}, {"z", wait, false, true}}, "[250]", "[deliver quarantine]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := &mail.Envelope{}
			for _, w := range tt.who {
				env.Recipients = append(env.Recipients, mail.Recipient{
					Original: mail.Address{Raw: w.rcpt + "@in.example"}, Member: w.member, Copy: w.copy, Verdict: &mail.Verdict{Action: w.action},
				})
			}
			codes, actions := []int{}, []mail.Action{}
			for _, r := range answers(env) {
				codes = append(codes, r.Code)
			}
			for i := range env.Recipients {
				actions = append(actions, env.Recipients[i].Verdict.Action)
			}
			if fmt.Sprint(codes) != tt.answers || fmt.Sprint(actions) != tt.actions {
				t.Errorf("answers %v, actions %v; want %s and %s", codes, actions, tt.answers, tt.actions)
			}
		})
	}
}
