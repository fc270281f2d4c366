package dkim

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/message"
)

// sealed puts n sets around msg, each over what the one before left; change, where
// set, changes the message before it is sealed as instance i.
func sealed(t *testing.T, z zone, msg string, n int, change func(i int, msg string) string) string {
	t.Helper()
	signer := newSigner(t, "rsa.pem", Options{})
	for i := 1; i <= n; i++ {
		found := verify(t, z, msg).ARC.Status
		if change != nil {
			msg = change(i, msg)
		}
		set, err := signer.Seal(t.Context(), content(msg), found, fmt.Sprintf("mx%d.example.org; arc=%s; spf=pass smtp.mailfrom=a@example.org", i, found))
		if err != nil {
			t.Fatal(err)
		}
		msg = string(set) + msg
	}
	return msg
}

// AUT-02.
func TestChainsOfSealsPass(t *testing.T) {
	z := testZone(t)
	for _, n := range []int{1, 2, 5, maxSets} {
		v := verify(t, z, sealed(t, z, craft(t, "rsa.pem", base, plainMail), n, nil))
		if v.ARC.Status != Pass || v.ARC.Oldest != 0 || len(v.ARC.Sets) != n || v.Signatures[0].Status != Pass {
			t.Fatalf("%d sets: %+v", n, v)
		}
		last := v.ARC.Sets[n-1]
		want := ARCSet{
			Instance: n, Sealer: "example.org", Signer: "example.org", Selector: "rsa", CV: Pass,
			Results: fmt.Sprintf("mx%d.example.org;\tarc=pass;\tspf=pass smtp.mailfrom=a@example.org", n),
		}
		if n == 1 {
			want.CV, want.Results = None, strings.Replace(want.Results, "arc=pass", "arc=none", 1)
		}
		if last != want {
			t.Errorf("got %+v, want %+v", last, want)
		}
	}
}

func TestNoMoreSetsThanAChainMayHave(t *testing.T) {
	z := testZone(t)
	msg := sealed(t, z, plainMail, maxSets, nil)
	set, err := newSigner(t, "rsa.pem", Options{}).Seal(t.Context(), content(msg), Pass, "mx.example.org; none")
	if err != nil || set != nil {
		t.Errorf("set 51: %q, %v", set, err)
	}
	if v := verify(t, z, strings.ReplaceAll(msg, "i=50;", "i=51;")); v.ARC.Status != Fail {
		t.Errorf("instance 51: %+v", v.ARC)
	}
}

func TestChainsTellSinceWhenTheMessageIsTheSame(t *testing.T) {
	z := testZone(t)
	msg := sealed(t, z, craft(t, "rsa.pem", base, plainMail), 4, func(i int, msg string) string {
		if i == 3 {
			return strings.Replace(msg, "\r\nSubject: ", "\r\nSubject: [list] ", 1)
		}
		return msg
	})
	v := verify(t, z, msg)
	if v.ARC.Status != Pass || v.ARC.Oldest != 3 || v.Signatures[0].Status != Fail {
		t.Errorf("%+v", v)
	}
	body := sealed(t, z, plainMail, 3, func(i int, msg string) string {
		if i == 2 {
			return msg + "-- \r\na footer\r\n"
		}
		return msg
	})
	if v := verify(t, z, body); v.ARC.Status != Pass || v.ARC.Oldest != 2 {
		t.Errorf("a footer: %+v", v.ARC)
	}
}

// AUT-02.
func TestChainsBreak(t *testing.T) {
	z := testZone(t)
	msg := sealed(t, z, plainMail, 3, nil)
	header := message.ParseHeader([]byte(msg[:strings.Index(msg, "\r\n\r\n")+4]))
	field := func(name string, nth int) string {
		for _, f := range header.Fields() {
			if f.Is(name) {
				if nth--; nth == 0 {
					return f.Raw()
				}
			}
		}
		t.Fatalf("no %s", name)
		return ""
	}
	tests := []struct{ name, old, replacement, reason string }{
		{"the body is changed", "Hello", "Hallo", "message signature: the body was changed"},
		{"a signed field is changed", "Subject: x", "Subject: y", "message signature: the signature does not fit the header"},
		{"the results of the first set are changed", "mx1.example.org", "mx9.example.org", "seal: the signature does not fit the header"},
		{"the newest seal is missing", field(arcSeal, 1), "", "a set is incomplete"},
		{"the oldest seal is missing", field(arcSeal, 3), "", "a set is incomplete"},
		{"a message signature is missing", field(arcSignature, 2), "", "a set is incomplete"},
		{"results are missing", field(arcResults, 2), "", "a set is incomplete"},
		{"a set is missing", field(arcResults, 2) + field(arcSeal, 1), "", ""},
		{"a seal stands there twice", field(arcSeal, 2), field(arcSeal, 2) + field(arcSeal, 2), "ARC-Seal: the same instance twice"},
		{"results of no instance", "ARC-Authentication-Results: i=3;", "ARC-Authentication-Results: mx;", "ARC-Authentication-Results: i= is missing"},
		{"results of instance 0", "ARC-Authentication-Results: i=3;", "ARC-Authentication-Results: i=0;", "ARC-Authentication-Results: i= is no instance"},
		{"a seal that says fail", "cv=pass", "cv=fail", "a host before us found the chain broken"},
		{"a seal that says none above the first", "cv=pass", "cv=none", "cv= does not fit the instance"},
		{"a seal that says nothing", "cv=pass", "cv=", "ARC-Seal: cv= is unknown"},
		{"a first seal that says pass", "cv=none", "cv=pass", "cv= does not fit the instance"},
		{"a seal with h=", "; cv=pass", "; h=from; cv=pass", "ARC-Seal: h= must not be there"},
		{"a signature over a seal", "h=from", "h=arc-seal:from", "ARC-Message-Signature: a seal must not be signed"},
		{"a key that is not published", "s=rsa; t=", "s=none; t=", "seal: no key"},
		{"rsa-sha1", "ARC-Seal: a=rsa-sha256", "ARC-Seal: a=rsa-sha1", "ARC-Seal: rsa-sha1 is not accepted"},
		{"an ambiguous header section", "Subject: x", "X: y\n\nz\r\nSubject: x", "the header section is ambiguous"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.Replace(msg, tt.old, tt.replacement, 1)
			if tt.name == "a set is missing" {
				changed = strings.NewReplacer(field(arcResults, 2), "", field(arcSignature, 2), "", field(arcSeal, 2), "").Replace(msg)
				tt.reason = "a set is incomplete"
			}
			if changed == msg {
				t.Fatal("nothing was changed")
			}
			v := verify(t, z, changed)
			if v.ARC.Status != Fail || v.ARC.Reason != tt.reason || v.ARC.Temporary {
				t.Errorf("got %s (%s), want %s", v.ARC.Status, v.ARC.Reason, tt.reason)
			}
			if v.ARC.Trusted(func(string) bool { return true }) != nil {
				t.Error("a broken chain is trusted")
			}
		})
	}
}

func TestAnOutageMakesAChainFailForNow(t *testing.T) {
	msg := sealed(t, testZone(t), plainMail, 2, nil)
	v := verify(t, zone{"rsa._domainkey.example.org": nil}, msg)
	if v.ARC.Status != Fail || !v.ARC.Temporary || v.ARC.Reason != "seal: the key cannot be looked up" {
		t.Errorf("%+v", v.ARC)
	}
}

func TestABrokenChainIsSealedOnce(t *testing.T) {
	z := testZone(t)
	signer := newSigner(t, "rsa.pem", Options{})
	msg := strings.Replace(sealed(t, z, plainMail, 2, nil), "Subject: x", "Subject: y", 1)
	found := verify(t, z, msg).ARC
	if found.Status != Fail {
		t.Fatalf("%+v", found)
	}
	set, err := signer.Seal(t.Context(), content(msg), found.Status, "mx.example.org; arc=fail")
	if err != nil || !strings.Contains(string(set), "cv=fail;") || !strings.Contains(string(set), "i=3;") {
		t.Fatalf("%s, %v", set, err)
	}
	msg = string(set) + msg
	if v := verify(t, z, msg).ARC; v.Status != Fail || v.Reason != "a host before us found the chain broken" {
		t.Errorf("%+v", v)
	}
	if set, err := signer.Seal(t.Context(), content(msg), Fail, "mx.example.org; arc=fail"); err != nil || set != nil {
		t.Errorf("sealed again: %s, %v", set, err)
	}
	// Whoever says pass of what was broken is not believed.
	broken := strings.Replace(sealed(t, z, plainMail, 1, nil), "ARC-Seal: ", "X-Seal: ", 1)
	set, err = signer.Seal(t.Context(), content(broken), Pass, "mx.example.org; arc=pass")
	if err != nil || !strings.Contains(string(set), "cv=fail;") {
		t.Errorf("an incomplete chain: %s, %v", set, err)
	}
	unreadable := "ARC-Seal: i=x; rubbish\r\n" + plainMail
	if set, err := signer.Seal(t.Context(), content(unreadable), Fail, "mx.example.org; arc=fail"); err != nil || set != nil {
		t.Errorf("an unreadable chain: %s, %v", set, err)
	}
}

func TestSealRefusesResultsThatEndTheField(t *testing.T) {
	signer := newSigner(t, "rsa.pem", Options{})
	for _, results := range []string{"", "mx.example.org; none\r\nX: y", "mx\x00", "mx; \xff"} {
		if set, err := signer.Seal(t.Context(), content(plainMail), None, results); err == nil {
			t.Errorf("%q: %s", results, set)
		}
	}
}

func TestTrustedEndsAtTheFirstStranger(t *testing.T) {
	c := Chain{Status: Pass, Sets: []ARCSet{{1, "a.example", "", "", None, ""}, {2, "b.example", "", "", Pass, ""}, {3, "c.example", "", "", Pass, ""}}}
	tests := []struct {
		trusted string
		want    int
	}{
		{"c.example", 3}, {"b.example c.example", 2}, {"a.example b.example c.example", 1},
		{"a.example c.example", 3}, {"a.example b.example", 0}, {"", 0},
	}
	for _, tt := range tests {
		set := c.Trusted(func(d string) bool { return strings.Contains(tt.trusted, d) })
		if set == nil && tt.want != 0 || set != nil && set.Instance != tt.want {
			t.Errorf("trusting %q: got %+v, want %d", tt.trusted, set, tt.want)
		}
	}
}
