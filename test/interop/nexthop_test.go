package interop

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/sink"
)

// fate is a fault of a next hop and what must become of a message for it.
type fate struct {
	name     string
	stage    sink.Stage
	reaction sink.Reaction
	// report is the status in a report to the sender; then the fault stays. Without
	// one the fault happens once and the message must arrive.
	report string
}

func fates() []fate {
	var list []fate
	for _, stage := range []sink.Stage{sink.Banner, sink.Ehlo, sink.MailFrom, sink.RcptTo, sink.Data, sink.EOD} {
		for _, reply := range []string{"421 4.3.2 closing", "450 4.2.1 busy", "451 4.3.0 error", "452 4.3.1 full",
			"550 5.7.1 no", "552 5.2.2 quota", "554 5.6.0 never"} {
			f := fate{name: string(stage) + "-" + reply[:3], stage: stage, reaction: sink.Reaction{Reply: reply}}
			// A refusal to talk at all is not a verdict on the mail, and EHLO is
			// followed by HELO; else 5xx is final.
			if reply[0] == '5' && stage != sink.Banner && stage != sink.Ehlo {
				f.report = reply[4:9]
			}
			list = append(list, f)
		}
	}
	return append(list,
		// DUR-23: no answer to the final dot, and the mail was not taken.
		fate{name: "vanishes", stage: sink.EOD, reaction: sink.Reaction{Drop: true}},
		// DUR-24: answers that make no sense where they stand.
		fate{name: "data-250", stage: sink.Data, reaction: sink.Reaction{Reply: "250 2.0.0 fine"}},
		fate{name: "rcpt-354", stage: sink.RcptTo, reaction: sink.Reaction{Reply: "354 go ahead"}},
		fate{name: "unasked-250", stage: sink.MailFrom, reaction: sink.Reaction{Reply: "250 2.1.0 ok\r\n250 2.1.5 and one more"}},
		fate{name: "garbage", stage: sink.MailFrom, reaction: sink.Reaction{Reply: "hello there"}},
	)
}

// script makes the fault happen, once or always.
func (f fate) script() sink.Script {
	var happened atomic.Bool
	return func(s sink.Step) sink.Reaction {
		if s.Stage == f.stage && (f.report != "" || happened.CompareAndSwap(false, true)) {
			return f.reaction
		}
		return sink.Reaction{}
	}
}

// DUR-20, DUR-23, DUR-24 through the whole of the product: what is temporary is
// tried again and arrives once, what is final is reported once, to the sender,
// from the null sender, with the next hop's words.
func TestEveryFaultOfANextHopHasItsFate(t *testing.T) {
	end := sink.Start(t, sink.Options{}) // where reports go
	var more strings.Builder
	hops := map[string]*sink.Sink{}
	for _, f := range fates() {
		hop := sink.Start(t, sink.Options{Script: f.script()})
		hops[f.name] = hop
		fmt.Fprintf(&more, "[[domain]]\nname = \"%[1]s.example\"\ntransport = \"%[1]s\"\n\n[[transport]]\nname = \"%[1]s\"\nkind = \"smtp\"\nhosts = [%[2]q]\nretry = { delays = [\"1s\"], give_up_after = \"1h\", warn_after = \"50m\" }\n\n", f.name, hop.Addr)
	}
	g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{Next: end.Addr, More: more.String()}})
	ids := map[string]string{}
	c := g.Hello("")
	for _, f := range fates() {
		m := ledger.New(500)
		ids[f.name] = m.ID
		if r, err := c.Deliver(f.name+"@out.example", []string{"user@" + f.name + ".example"}, m.Data); err != nil || r.Code != 250 {
			t.Fatalf("%s: %v, %v", f.name, r, err)
		}
	}
	for _, f := range fates() {
		t.Run(f.name, func(t *testing.T) {
			if f.report != "" {
				text := report(t, end, f.name+"@out.example")
				mustContain(t, "report", text, "Action: failed", "Status: "+f.report, "Diagnostic-Code: smtp;", "user@"+f.name+".example", ids[f.name])
				if n := len(hops[f.name].Mails()); n != 0 {
					t.Errorf("%d mails arrived that were refused", n)
				}
				return
			}
			arrived(t, hops[f.name], ids[f.name])
		})
	}
	counts := map[string]int{}
	for _, m := range end.Mails() {
		counts[m.To[0]]++
	}
	for _, f := range fates() {
		want := map[bool]int{true: 0, false: 1}[f.report == ""]
		if n := counts["<"+f.name+"@out.example>"]; n != want {
			t.Errorf("%s: %d reports, want %d", f.name, n, want)
		}
		if n := len(hops[f.name].Mails()); f.report == "" && n != 1 {
			t.Errorf("%s: arrived %d times", f.name, n)
		}
	}
}
