package netns

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/firewall"
	"gatepost/internal/intercept"
)

func prefixes(list ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// state is the firewall and the routing of a host, as its tools show them.
func state(t *testing.T, h *Host) string {
	t.Helper()
	var b strings.Builder
	for _, args := range [][]string{
		{"nft", "list", "ruleset"},
		{"ip", "-4", "rule"}, {"ip", "-6", "rule"},
		{"ip", "-4", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"},
	} {
		b.WriteString(h.Run(t, args[0], args[1:]...))
	}
	return b.String()
}

// settled gives a host rules and routes that are not ours.
func settled(t *testing.T, h *Host) {
	t.Helper()
	const theirs = "table inet theirs { chain c { type filter hook input priority 0; tcp dport 99 drop; }\n}\n" +
		"table ip gatepost { chain c { }\n}\n"
	if out, err := h.Try(t, theirs, "nft", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	h.Run(t, "ip", "rule", "add", "fwmark", "0x1", "lookup", "100")
	h.Run(t, "ip", "route", "add", "local", "default", "dev", "lo", "table", "100")
}

func TestApplyTwiceIsTheSameAndRemoveLeavesTheRestAlone(t *testing.T) {
	for _, mode := range []intercept.Mode{intercept.Redirect, intercept.TProxy} {
		t.Run(string(mode), func(t *testing.T) {
			n := Topology(t)
			settled(t, n.Gateway)
			before := state(t, n.Gateway)
			c := divert(mode)
			c.Output, c.ExemptUsers, c.Interfaces = true, []uint32{7}, []string{"clients", "vnet*"}
			c.ExemptClients, c.ExemptServers = prefixes("10.0.0.0/8", "10.1.0.0/16"), prefixes("fd00::/8")
			apply(t, n.Gateway, c)
			once := state(t, n.Gateway)
			if once == before || !strings.Contains(once, "table inet gatepost") {
				t.Fatalf("nothing was applied:\n%s", once)
			}
			apply(t, n.Gateway, c)
			if twice := state(t, n.Gateway); twice != once {
				t.Errorf("applied twice:\n%s\nonce:\n%s", twice, once)
			}
			remove(t, n.Gateway, c)
			if after := state(t, n.Gateway); after != before {
				t.Errorf("after removal:\n%s\nbefore:\n%s", after, before)
			}
			remove(t, n.Gateway, c) // nothing there: no error
		})
	}
}

func remove(t *testing.T, h *Host, c firewall.Config) {
	t.Helper()
	if err := h.Do(func() error { return firewall.Remove(t.Context(), c) }); err != nil {
		t.Fatal(err)
	}
}

func TestChangeOfModeLeavesNothingOfTheOther(t *testing.T) {
	n := Topology(t)
	apply(t, n.Gateway, divert(intercept.Redirect))
	redirect := state(t, n.Gateway)
	apply(t, n.Gateway, divert(intercept.TProxy))
	if tproxy := state(t, n.Gateway); tproxy == redirect {
		t.Fatal("the mode did not change")
	}
	apply(t, n.Gateway, divert(intercept.Redirect))
	if again := state(t, n.Gateway); again != redirect {
		t.Errorf("after redirect, tproxy, redirect:\n%s\nafter redirect:\n%s", again, redirect)
	}
}

func TestScriptDoesWhatApplyDoes(t *testing.T) {
	for _, mode := range []intercept.Mode{intercept.Redirect, intercept.TProxy} {
		n := Topology(t)
		plan, err := firewall.New(divert(mode))
		if err != nil {
			t.Fatal(err)
		}
		apply(t, n.Gateway, divert(mode))
		want := state(t, n.Gateway)
		remove(t, n.Gateway, divert(mode))
		for range 2 {
			if out, err := n.Gateway.Try(t, plan.Script(), "sh"); err != nil || out != "" {
				t.Fatalf("%v: %s", err, out)
			}
			if got := state(t, n.Gateway); got != want {
				t.Errorf("%s: by script:\n%s\nby Apply:\n%s", mode, got, want)
			}
		}
	}
}

func TestRulesThatTheKernelRefusesChangeNothing(t *testing.T) {
	n := Topology(t)
	apply(t, n.Gateway, divert(intercept.Redirect))
	before := state(t, n.Gateway)
	plan, err := firewall.New(divert(intercept.Redirect))
	if err != nil {
		t.Fatal(err)
	}
	// The table is deleted and made again in one transaction, which fails here.
	plan.Rules = strings.Replace(plan.Rules, "redirect to :2526", "jump nowhere", 1)
	if err := n.Gateway.Do(func() error { return plan.Apply(t.Context()) }); err == nil || !strings.Contains(err.Error(), "nft -f -") {
		t.Errorf("got %v", err)
	}
	if after := state(t, n.Gateway); after != before {
		t.Errorf("afterwards:\n%s\nbefore:\n%s", after, before)
	}
}

// The namespace is root's, so a process without rights in it is one of nobody.
func TestLackOfPermissionSaysSo(t *testing.T) {
	n := New(t, "host")
	plan, err := firewall.New(divert(intercept.Redirect))
	if err != nil {
		t.Fatal(err)
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("setpriv is not installed")
	}
	out, err := n.Try(t, plan.Script(), setpriv, "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "sh")
	if err == nil || !slices.ContainsFunc(strings.Split(out, "\n"), func(l string) bool {
		return strings.Contains(l, "Operation not permitted") || strings.Contains(l, "you must be root")
	}) {
		t.Errorf("nft said %q (%v); the error text of package firewall looks for that", out, err)
	}
}
