package srs

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const (
	secret  = "a secret of 16 bytes"
	another = "another secret, as long"
)

func today() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func newRewriter(t testing.TB, secrets ...string) *Rewriter {
	t.Helper()
	r, err := New(Config{Secrets: secrets, Domain: "gw.example"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func forward(t testing.TB, r *Rewriter, local, domain string) string {
	t.Helper()
	out, err := r.Forward(local, domain, today())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatIsWrappedIsUnwrapped(t *testing.T) {
	r := newRewriter(t, secret)
	for _, local := range []string{"anna", "Anna.Berg+news", "a=b", "a=b=c", "=", "bounce-12345-anna=x.org", "SRS0", "srs", "a b", `a"b\c`, "jürgen"} {
		out := forward(t, r, local, "example.org")
		if !strings.HasPrefix(out, "SRS0=") || !Is(out) || len(out) > 64 {
			t.Errorf("%q became %q", local, out)
		}
		for _, back := range []string{out, "srs0" + out[4:]} {
			user, domain, err := r.Reverse(back, today())
			if err != nil || user != local || domain != "example.org" {
				t.Errorf("%q came back as %q at %q, %v", back, user, domain, err)
			}
		}
		// Some hosts do not keep the case of a local part.
		user, _, err := r.Reverse(strings.ToLower(out), today())
		if err != nil || user != strings.ToLower(local) {
			t.Errorf("%q in lower case came back as %q, %v", out, user, err)
		}
	}
}

func TestAChainOfForwarders(t *testing.T) {
	first, second, third := newRewriter(t, secret), newRewriter(t, another), newRewriter(t, "a third secret, as long")
	a := forward(t, first, "anna", "example.org")
	b := forward(t, second, a, "first.example")
	c := forward(t, third, b, "second.example")
	if !strings.HasPrefix(b, "SRS1=") || !strings.Contains(b, "=first.example==") || !strings.HasPrefix(c, "SRS1=") || strings.Contains(c, "second.example") {
		t.Fatalf("%s\n%s\n%s", a, b, c)
	}
	// The bounce goes from the last straight to the first.
	for forwarder, wrapped := range map[*Rewriter]string{second: b, third: c} {
		local, domain, err := forwarder.Reverse(wrapped, today())
		if err != nil || local != a || domain != "first.example" {
			t.Errorf("%s: %s at %s, %v", wrapped, local, domain, err)
		}
	}
	// Others use another separator behind SRS0; it is kept.
	other := "SRS0+abcd=12=example.org=anna"
	local, domain, err := second.Reverse(forward(t, second, other, "first.example"), today())
	if err != nil || local != other || domain != "first.example" {
		t.Errorf("%s came back as %s at %s, %v", other, local, domain, err)
	}
}

func TestForgedAddressesAreRefused(t *testing.T) {
	r := newRewriter(t, secret)
	good := forward(t, r, "anna", "example.org")
	chain := forward(t, r, good, "first.example")
	for name, local := range map[string]string{
		"another user":               strings.Replace(good, "anna", "eve", 1),
		"another domain":             strings.Replace(good, "example.org", "victim.example", 1),
		"another day":                good[:12] + "A" + good[13:],
		"no hash":                    "SRS0==AA=example.org=anna",
		"half a hash":                "SRS0=" + good[5:8] + good[11:],
		"another secret":             forward(t, newRewriter(t, another), "anna", "example.org"),
		"another first forwarder":    strings.Replace(chain, "first.example", "victim.example", 1),
		"a part moved to the user":   strings.Replace(good, "example.org=anna", "example.or=ganna", 1),
		"SRS1 with the hash of SRS0": "SRS1" + good[4:],
	} {
		if user, domain, err := r.Reverse(local, today()); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %s gave %q at %q, %v", name, local, user, domain, err)
		}
	}
	for _, local := range []string{"anna", "SRS0", "SRS0=", "SRS0=a=b", "SRS0=a=b=c", "SRS0=a=b=c=", "SRS2=a=b=c=d", "SRS1=a==b", "SRS1=a=b=", "SRS0a=b=c=d=e", ""} {
		if user, domain, err := r.Reverse(local, today()); !errors.Is(err, ErrNotSRS) && !errors.Is(err, ErrForged) || user+domain != "" {
			t.Errorf("%q gave %q at %q, %v", local, user, domain, err)
		}
	}
}

func TestAddressesExpire(t *testing.T) {
	r := newRewriter(t, secret)
	for _, start := range []time.Time{today(), time.Unix(0, 0).Add(cycle * day), time.Unix(0, 0).Add((20*cycle - 3) * day)} {
		local, err := r.Forward("anna", "example.org", start)
		if err != nil {
			t.Fatal(err)
		}
		for after, want := range map[int]error{-1: nil, 0: nil, 21: nil, 22: ErrExpired, 500: ErrExpired, -2: ErrExpired} {
			if _, _, err := r.Reverse(local, start.Add(time.Duration(after)*day)); !errors.Is(err, want) {
				t.Errorf("from %s, after %d days: %v, want %v", start, after, err, want)
			}
		}
	}
}

func TestSecretsAreExchangedWithoutLosingBounces(t *testing.T) {
	before := newRewriter(t, secret)
	between := newRewriter(t, another, secret)
	after := newRewriter(t, another)
	old, young := forward(t, before, "anna", "example.org"), forward(t, between, "anna", "example.org")
	for name, tt := range map[string]struct {
		r     *Rewriter
		local string
		want  error
	}{
		"an old one, both secrets": {between, old, nil},
		"a new one, both secrets":  {between, young, nil},
		"a new one, new secret":    {after, young, nil},
		"an old one, new secret":   {after, old, ErrForged},
		"a new one, old secret":    {before, young, ErrForged},
		"SRS1 of the old secret":   {between, forward(t, before, old, "x.example"), nil},
	} {
		if _, _, err := tt.r.Reverse(tt.local, today()); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestWhatCannotBeWrapped(t *testing.T) {
	r := newRewriter(t, secret)
	for _, tt := range []struct {
		local, domain string
		want          error
	}{
		{"", "example.org", ErrSender}, {"anna", "", ErrSender}, {"anna", "[192.0.2.1]", ErrSender}, {"a\r\nb", "example.org", ErrSender}, {"SRS1=a", "example.org", ErrSender},
		{strings.Repeat("a", 38), "example.org", ErrTooLong}, {strings.Repeat("a", 37), "example.org", nil},
	} {
		if out, err := r.Forward(tt.local, tt.domain, today()); !errors.Is(err, tt.want) {
			t.Errorf("%q at %q: %q, %v, want %v", tt.local, tt.domain, out, err, tt.want)
		}
	}
}

func TestNewChecksItsConfiguration(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no secret":      {Domain: "gw.example"},
		"no domain":      {Secrets: []string{secret}},
		"secret 2 has":   {Secrets: []string{secret, "short"}, Domain: "gw.example"},
		"max_age is":     {Secrets: []string{secret}, Domain: "gw.example", MaxAge: time.Hour},
		"hash_length is": {Secrets: []string{secret}, Domain: "gw.example", HashLength: 3},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReverse: nothing comes out of a local part that a secret did not sign, and
// whatever Forward makes comes back.
func FuzzReverse(f *testing.F) {
	r := newRewriter(f, secret)
	f.Add("SRS0=ABCDEF=AA=example.org=anna", "example.org")
	f.Add("SRS1=ABCDEF=first.example==ABCDEF=AA=example.org=anna", "x.example")
	f.Add("SRS1=a=b=", "a=b")
	f.Add("SRS0+a=b=c=d", "[1.2.3.4]")
	f.Fuzz(func(t *testing.T, local, domain string) {
		if user, at, err := r.Reverse(local, today()); err == nil {
			again, err := r.Forward(user, at, today())
			if err != nil || !strings.EqualFold(again[:5], local[:5]) {
				t.Fatalf("%q was taken for %q at %q (%q, %v)", local, user, at, again, err)
			}
		}
		out, err := r.Forward(local, domain, today())
		if err != nil || strings.Contains(domain, "=") {
			return
		}
		if !strings.HasPrefix(out, "SRS1") {
			if user, at, err := r.Reverse(out, today()); err != nil || user != local || at != domain {
				t.Fatalf("%q at %q became %q and came back as %q at %q, %v", local, domain, out, user, at, err)
			}
		}
	})
}

func BenchmarkForward(b *testing.B) {
	r := newRewriter(b, secret)
	for b.Loop() {
		if _, err := r.Forward("anna", "example.org", today()); err != nil {
			b.Fatal(err)
		}
	}
}
