package authres_test

import (
	"math"
	"strings"
	"testing"

	"gatepost/internal/dns/dnstest"
	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/scan/authres"
)

func from(address string) string { return strings.Replace(plain, "ann@example.org", address, 1) }

func TestMessagesOfStrangers(t *testing.T) {
	w := newWorld(t)
	own, other := w.signer(t, "example.org", "s1"), w.signer(t, "esp.example", "s1")
	signed := sign(t, own, plain)
	tests := []struct {
		name, client, sender, text string
		want                       string
		score                      float64
	}{
		{"from where it should, signed", goodClient, "ann@example.org", signed, "spf:pass dkim:pass dmarc:pass", -0.1},
		{"from where it should", goodClient, "ann@example.org", plain, "spf:pass dkim:none dmarc:pass", 0},
		{"forwarded, signed", badClient, "ann@example.org", signed, "spf:fail dkim:pass dmarc:pass", -0.1},
		{"forged", badClient, "ann@example.org", plain, "spf:fail dkim:none dmarc:fail=reject", 3},
		{"a changed body", badClient, "ann@example.org", strings.Replace(signed, "Good", "Bad", 1), "spf:fail dkim:fail dmarc:fail=reject", 3},
		{"a changed body from where it should", goodClient, "ann@example.org", strings.Replace(signed, "Good", "Bad", 1), "spf:pass dkim:fail dmarc:pass", 0},
		{"another's signature", badClient, "x@nowhere.example", sign(t, other, plain), "spf:none dkim:pass dmarc:fail=reject", 3},
		{"two signatures", badClient, "x@nowhere.example", sign(t, other, signed), "spf:none dkim:pass dkim:pass dmarc:pass", -0.1},
		{"the null sender, by HELO", goodClient, "", from("ann@helo.example"), "spf:pass dkim:none dmarc:none", 0},
		{"a subdomain", badClient, "", from("ann@sub.example.org"), "spf:fail dkim:none dmarc:fail=quarantine", 2},
		{"a domain that only watches", badClient, "x@watching.example", from("x@watching.example"), "spf:fail dkim:none dmarc:fail=none", 1.5},
		{"no policy, SPF fails", badClient, "x@nopolicy.example", from("x@nopolicy.example"), "spf:fail dkim:none dmarc:none", 1},
		{"SPF fails softly", badClient, "x@soft.example", from("x@soft.example"), "spf:softfail dkim:none dmarc:none", 0.5},
		{"a record that cannot be read", badClient, "x@bad.example", from("x@bad.example"), "spf:permerror dkim:none dmarc:none", 0.2},
		{"two authors", goodClient, "ann@example.org", from("ann@example.org>, Eve <eve@watching.example"), "spf:pass dkim:none dmarc:fail=none", 0.5},
		{"no author", goodClient, "ann@example.org", strings.Replace(plain, "From:", "X-From:", 1), "spf:pass dkim:none dmarc:permerror", 0.5},
		{"an IPv4 client in IPv6", "::ffff:" + goodClient, "ann@example.org", plain, "spf:pass dkim:none dmarc:pass", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := w.scan(t, envelope(t, tt.client, tt.sender), tt.text)
			if got := symbols(found); got != tt.want {
				t.Errorf("got %s, want %s\n%+v", got, tt.want, found)
			}
			if got := score(found); math.Abs(got-tt.score) > 1e-9 {
				t.Errorf("score %v, want %v", got, tt.score)
			}
			for _, f := range found {
				if f.Module != "authres" || f.Reason == "" {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

func TestWhoseAddressTellsNothing(t *testing.T) {
	w := newWorld(t)
	text := from("ann@example.org")
	signed := sign(t, w.signer(t, "example.org", "s1"), plain)
	tests := []struct {
		name      string
		direction scan.Direction
		change    func(*mail.Envelope)
	}{
		{"a trusted client", scan.Outbound, func(e *mail.Envelope) { e.Session.Trusted = true }},
		{"a user", scan.Outbound, func(e *mail.Envelope) { e.Session.User = "ann" }},
		{"a mailbox", scan.POP3, func(*mail.Envelope) {}},
		{"a private address", scan.Inbound, func(e *mail.Envelope) { *e = *envelope(t, "10.1.2.3", "ann@example.org") }},
		{"a shared address", scan.Inbound, func(e *mail.Envelope) { *e = *envelope(t, "100.64.1.1", "ann@example.org") }},
		{"a local one of IPv6", scan.Inbound, func(e *mail.Envelope) { *e = *envelope(t, "fe80::1%eth0", "ann@example.org") }},
		{"loopback", scan.Inbound, func(e *mail.Envelope) { *e = *envelope(t, "127.0.0.1", "ann@example.org") }},
		{"no address", scan.Inbound, func(e *mail.Envelope) { *e = *envelope(t, "", "ann@example.org") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := envelope(t, badClient, "ann@example.org")
			tt.change(env)
			found := w.scanAs(t, tt.direction, env, text)
			if got := symbols(found); got != "spf:none dkim:none dmarc:none" || score(found) != 0 {
				t.Errorf("got %+v", found)
			}
			if found := w.scanAs(t, tt.direction, env, signed); symbols(found) != "spf:none dkim:pass dmarc:pass" {
				t.Errorf("signed: got %+v", found)
			}
		})
	}
	if n := w.server.Count("example.org", "TXT"); n != 0 {
		t.Errorf("%d records of SPF were looked up", n)
	}
}

// AUT-09: an outage never becomes a failure.
func TestOutages(t *testing.T) {
	down := dnstest.Behaviour{Rcode: "SERVFAIL"}
	tests := []struct {
		name, client string
		fail         []string
		signed       bool
		want         string
	}{
		{"of SPF", badClient, []string{"example.org"}, false, "spf:temperror? dkim:none dmarc:temperror?"},
		{"of SPF, signed", badClient, []string{"example.org"}, true, "spf:temperror dkim:pass dmarc:pass"},
		{"of the key", badClient, []string{"s1._domainkey.example.org"}, true, "spf:fail dkim:temperror? dmarc:temperror?"},
		{"of the key, SPF passes", goodClient, []string{"s1._domainkey.example.org"}, true, "spf:pass dkim:temperror dmarc:pass"},
		{"of the policy", badClient, []string{"_dmarc.example.org"}, false, "spf:fail dkim:none dmarc:temperror?"},
		{"of everything", badClient, []string{"*"}, true, "spf:temperror? dkim:temperror? dmarc:temperror?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			text := plain
			if tt.signed {
				text = sign(t, w.signer(t, "example.org", "s1"), plain)
			}
			for _, name := range tt.fail {
				w.server.Script(name, "TXT", down)
			}
			found := w.scan(t, envelope(t, tt.client, "ann@example.org"), text)
			if got := symbols(found); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if v := verdict(found, flow.DMARCPolicy); v.Action != mail.ActionDeliver {
				t.Errorf("verdict %+v", v)
			}
		})
	}
}

// verdict is what a flow makes of findings that does what domains ask for.
func verdict(found []mail.Finding, mode string) mail.Verdict {
	block := flow.Defaults(authres.Name)
	block.Key, block.DMARC = "k", mode
	f := &flow.Flow{Name: "in", Blocks: []flow.Block{block}}
	return flow.Decide(f, []scan.Report{{Key: "k", Use: authres.Name, Findings: found}}, &mail.Recipient{})
}

func TestFlowDoesWhatTheDomainAsksFor(t *testing.T) {
	w := newWorld(t)
	forged := w.scan(t, envelope(t, badClient, "ann@example.org"), plain)
	below := w.scan(t, envelope(t, badClient, ""), from("ann@sub.example.org"))
	passed := w.scan(t, envelope(t, goodClient, "ann@example.org"), plain)
	tests := []struct {
		name  string
		found []mail.Finding
		mode  string
		want  mail.Action
	}{
		{"reject", forged, flow.DMARCPolicy, mail.ActionReject},
		{"reject, softened", forged, flow.DMARCQuarantine, mail.ActionQuarantine},
		{"reject, only scored", forged, flow.DMARCScore, mail.ActionDeliver},
		{"quarantine", below, flow.DMARCPolicy, mail.ActionQuarantine},
		{"nothing", passed, flow.DMARCPolicy, mail.ActionDeliver},
	}
	for _, tt := range tests {
		if v := verdict(tt.found, tt.mode); v.Action != tt.want {
			t.Errorf("%s: %+v", tt.name, v)
		}
	}
}

func TestTrustedForwarders(t *testing.T) {
	const passed = "list.example; spf=pass smtp.mailfrom=ann@example.org; dmarc=pass header.from=example.org"
	tests := []struct {
		name, results, trusted string
		want                   string
	}{
		{"that saw it pass", passed, "list.example", "dmarc:overridden"},
		{"that nobody trusts", passed, "other.example", "dmarc:fail=reject"},
		{"that saw it fail", "list.example; dkim=pass header.d=example.org; dmarc=fail header.from=example.org", "list.example", "dmarc:fail=reject"},
		{"that saw another author", "list.example; dmarc=pass header.from=evil.example", "list.example", "dmarc:fail=reject"},
		{"that knew only the signature", "list.example; dkim=pass header.d=example.org", "list.example", "dmarc:overridden"},
		{"that knew only another's signature", "list.example; dkim=pass header.d=evil.example", "list.example", "dmarc:fail=reject"},
		{"that knew only the envelope", "list.example; spf=pass (why not) smtp.mailfrom=\"bounce@example.org\"", "list.example", "dmarc:overridden"},
		{"whose words stand in a comment", "list.example; none (; dmarc=pass header.from=example.org)", "list.example", "dmarc:fail=reject"},
		{"that knew nothing", "list.example; none", "list.example", "dmarc:fail=reject"},
	}
	w := newWorld(t)
	own, list := w.signer(t, "example.org", "s1"), w.signer(t, "list.example", "arc")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.Replace(sign(t, own, plain), "Subject: hello", "Subject: [list] hello", 1)
			found := w.scan(t, envelope(t, badClient, "bounce@list.example"), w.seal(t, list, tt.results, changed), tt.trusted)
			if got := symbols(found); got != "spf:pass dkim:fail arc:pass "+tt.want {
				t.Errorf("got %s", got)
			}
			if tt.want == "dmarc:overridden" && score(found) != 0 {
				t.Errorf("score %v", score(found))
			}
		})
	}
	changed := strings.Replace(sign(t, own, plain), "Subject: hello", "Subject: [list] hello", 1)
	sealed := w.seal(t, list, passed, changed)
	found := w.scan(t, envelope(t, badClient, "bounce@list.example"), strings.Replace(sealed, "Good", "Bad", 1), "list.example")
	if got := symbols(found); got != "spf:pass dkim:fail arc:fail dmarc:fail=reject" {
		t.Errorf("changed behind the seal: %s", got)
	}
	w2 := newWorld(t)
	w2.server.Script("arc._domainkey.list.example", "TXT", dnstest.Behaviour{Rcode: "SERVFAIL"})
	found = w2.scan(t, envelope(t, badClient, "bounce@list.example"), sealed, "list.example")
	if got := symbols(found); !strings.HasSuffix(got, "arc:fail dmarc:temperror?") {
		t.Errorf("the forwarder's key cannot be looked up: %s", got)
	}
}

// AUT-08.
func TestManySignatures(t *testing.T) {
	w := newWorld(t)
	s := w.signer(t, "example.org", "s1")
	field := strings.TrimSuffix(sign(t, s, plain), plain)
	found := w.scan(t, envelope(t, goodClient, "ann@example.org"), strings.Repeat(field, 100)+plain)
	passed := 0
	for _, f := range found {
		if f.Symbol == "dkim:pass" {
			passed++
		}
	}
	if passed != 8 || len(found) > 200 {
		t.Errorf("%d signatures pass, %d findings", passed, len(found))
	}
	if line := string(authres.Field("gw.example", found)); strings.Count(line, "dkim=pass") != 1 {
		t.Errorf("equal signatures are said once: %s", line)
	}
}
