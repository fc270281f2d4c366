package gateway_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
)

// ownReceived is the Received field of a message of rig.envelope.
func ownReceived(env *mail.Envelope, recipient string) string {
	if recipient != "" {
		recipient = "\tfor <" + recipient + ">"
	}
	s := "Received: from client.example ([192.0.2.7])\n\tby gw.example.com with ESMTP id " + env.ID.String()
	if recipient != "" {
		s += "\n" + recipient
	}
	return crlf(s + ";\n\tMon, 2 Nov 2026 10:00:00 +0000\n")
}

func TestForgedFieldsAreCutAndNothingElse(t *testing.T) {
	// Each field is sent alone between two others.
	tests := []struct {
		name, field string
		cut         bool
	}{
		{"our results", "Authentication-Results: gw.example.com; spf=pass\n", true},
		{"no results", "Authentication-Results: gw.example.com; none\n", true},
		{"no result part at all", "Authentication-Results: gw.example.com\n", true},
		{"with a version", "Authentication-Results: gw.example.com 1; spf=pass\n", true},
		{"version behind a tab", "Authentication-Results: gw.example.com\t1;spf=pass\n", true},
		{"in another case", "AUTHENTICATION-results: GW.Example.COM; spf=pass\n", true},
		{"without a space", "Authentication-Results:gw.example.com;spf=pass\n", true},
		{"white space before the colon", "Authentication-Results : gw.example.com; spf=pass\n", true},
		{"quoted", "Authentication-Results: \"gw.example.com\"; spf=pass\n", true},
		{"quoted with a backslash", "Authentication-Results: \"gw\\.example.com\"; spf=pass\n", true},
		{"folded before the name", "Authentication-Results:\n gw.example.com; spf=pass\n", true},
		{"folded behind the name", "Authentication-Results: gw.example.com\n\t; spf=pass\n\tsmtp.mailfrom=a@b.example\n", true},
		{"a comment before", "Authentication-Results: (not ours) gw.example.com; spf=pass\n", true},
		{"a comment behind", "Authentication-Results: gw.example.com (really); spf=pass\n", true},
		{"a comment with a semicolon", "Authentication-Results: (a;b) gw.example.com; spf=pass\n", true},
		{"nested comments", "Authentication-Results: (a (b) \\) c) gw.example.com; spf=pass\n", true},
		{"a comment that is folded", "Authentication-Results: (a\n b)\n gw.example.com; spf=pass\n", true},
		{"a quote in a comment", "Authentication-Results: (\"a) gw.example.com; spf=pass\n", true},
		{"of another host", "Authentication-Results: mx.other.example; spf=pass\n", false},
		{"of a host whose name contains ours", "Authentication-Results: agw.example.com; spf=pass\n", false},
		{"of a host below ours", "Authentication-Results: gw.example.com.evil.example; spf=pass\n", false},
		{"our name in a result", "Authentication-Results: mx.other.example; spf=pass smtp.helo=gw.example.com\n", false},
		{"our name in a comment", "Authentication-Results: mx.other.example (gw.example.com); spf=pass\n", false},
		{"sealed results of ours belong to a signature", "ARC-Authentication-Results: i=1; gw.example.com; spf=pass\n", false},
		{"a field with a longer name", "X-Authentication-Results: gw.example.com; spf=pass\n", false},
		{"a field that is ours alone", "X-Gatepost-Verdict: clean\n", true},
		{"in another case", "x-gatePOST-score: 0\n", true},
		{"white space before the colon", "X-Gatepost-Verdict\t: clean\n", true},
		{"folded", "X-Gatepost-Verdict:\n clean\n\tvery\n", true},
		{"a name that only begins alike", "X-Gateposts: 1\n", false},
		{"our name in the text", "X-Note: X-Gatepost-Verdict: clean\n", false},
		{"a continuation that looks like one", "X-Note: a\n X-Gatepost-Verdict: clean\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+strings.TrimSpace(tt.field), func(t *testing.T) {
			r := newRig(t, rigOptions{})
			env := r.envelope("ada@out.example", "bob@in.example")
			got := r.accept(env, crlf("From: ada@out.example\n"+tt.field+"Subject: test\n\n"+tt.field+"\nbody\n"))
			kept := tt.field
			if tt.cut {
				kept = ""
			}
			want := ownReceived(env, "bob@in.example") + crlf("From: ada@out.example\n"+kept+"Subject: test\n\n"+tt.field+"\nbody\n")
			if diff := cmp.Diff(want, delivered(t, got.m)); diff != "" {
				t.Errorf("delivered (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSeveralForgedFieldsAreCutFromAnyPlace(t *testing.T) {
	r := newRig(t, rigOptions{})
	env := r.envelope("ada@out.example", "bob@in.example")
	got := r.accept(env, crlf("X-Gatepost-A: 1\nAuthentication-Results: gw.example.com; none\nSubject: s\nX-Gatepost-B: 2\n 3\n\nX-Gatepost-C: body\n"))
	want := ownReceived(env, "bob@in.example") + crlf("Subject: s\n\nX-Gatepost-C: body\n")
	if diff := cmp.Diff(want, delivered(t, got.m)); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if got := readAll(t, got.m.Body); !strings.HasPrefix(got, "X-Gatepost-A: 1\r\n") {
		t.Error("the spool does not hold what the client sent")
	}
}

func TestReceivedNamesTheRecipientOnlyWhereThereIsOne(t *testing.T) {
	r := newRig(t, rigOptions{})
	one := r.envelope("ada@out.example", "bob@in.example")
	got := delivered(t, r.accept(one, small).m)
	if want := ownReceived(one, "bob@in.example") + small; got != want {
		t.Errorf("delivered %q, want %q", got, want)
	}
	// The second is on another way, and would learn of the first.
	two := r.trusted(r.envelope("ada@out.example", "bob@in.example"), "secret@far.example")
	two.Session.Trusted = false
	got = delivered(t, r.accept(two, small).m)
	if want := ownReceived(two, "") + small; got != want {
		t.Errorf("delivered %q, want %q", got, want)
	}
}

func TestReceivedSaysHowTheMessageCame(t *testing.T) {
	r := newRig(t, rigOptions{})
	env := r.envelope("ada@out.example", "bob@in.example")
	env.Session.TLS = mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
	env.Session.Helo = "evil) by x; Mon\r\nX-Gatepost-Verdict: clean"
	env.Session.Name = "mail.client.example"
	env.SMTPUTF8 = true
	got := delivered(t, r.accept(env, small).m)
	want := crlf("Received: from evil??by?x??Mon??X-Gatepost-Verdict:?clean (mail.client.example [192.0.2.7])\n" +
		"\t(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)\n" +
		"\tby gw.example.com with UTF8SMTPS id " + env.ID.String() + "\n\tfor <bob@in.example>;\n\tMon, 2 Nov 2026 10:00:00 +0000\n")
	if !strings.HasPrefix(got, want) {
		t.Errorf("delivered %q, want it to begin with %q", got, want)
	}
}

func TestOurOwnSideGetsTheFieldsThatItsMessageLacks(t *testing.T) {
	tests := []struct {
		name, header string
		trusted      bool
		want         []string // of Date and Message-ID, those that are added
	}{
		{"a trusted client with neither", "Subject: s\n", true, []string{"Date", "Message-ID"}},
		{"a trusted client with a date", "date: yesterday\n", true, []string{"Message-ID"}},
		{"a trusted client with an identifier", "MESSAGE-ID: <1@out.example>\n", true, []string{"Date"}},
		{"a trusted client with both", "Date: x\nMessage-ID: <1@out.example>\n", true, nil},
		{"a trusted client with no header section", "", true, []string{"Date", "Message-ID"}},
		{"a stranger with neither", "Subject: s\n", false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			env := r.envelope("ada@out.example", "bob@in.example")
			env.Session.Trusted = tt.trusted
			got := r.accept(env, crlf(tt.header+"\nbody\n"))
			fields := map[string]string{
				"Date":       "Date: Mon, 2 Nov 2026 10:00:00 +0000\n",
				"Message-ID": "Message-ID: <" + env.ID.String() + "@gw.example.com>\n",
			}
			want := ownReceived(env, "bob@in.example")
			for _, name := range tt.want {
				want += crlf(fields[name])
			}
			want += crlf(tt.header + "\nbody\n")
			if diff := cmp.Diff(want, delivered(t, got.m)); diff != "" {
				t.Errorf("delivered (-want +got):\n%s", diff)
			}
			// A retry after a restart reads envelope and body again.
			again, err := r.spool.Envelope(env.ID)
			if err != nil {
				t.Fatal(err)
			}
			body, err := r.spool.Body(env.ID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, delivered(t, mail.Message{Envelope: again, Body: body})); diff != "" {
				t.Errorf("delivered by a retry (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAuthenticatedUserIsOurOwnSide(t *testing.T) {
	r := newRig(t, rigOptions{})
	env := r.envelope("ada@out.example", "bob@in.example")
	env.Session.User = "ada"
	got := delivered(t, r.accept(env, crlf("Subject: s\n\nbody\n")).m)
	if !strings.Contains(got, "with ESMTPA id") || !strings.Contains(got, "\r\nMessage-ID: <"+env.ID.String()) {
		t.Errorf("delivered %q", got)
	}
}

// What begins with white space, or is no field at all, must not become a part of
// the field that is put in front of it.
func TestWhatIsNoHeaderSectionIsNotSwallowedByOurFields(t *testing.T) {
	for _, data := range []string{" leading\n\nbody\n", "\tleading\nSubject: s\n\nbody\n", " \n\nbody\n"} {
		t.Run(strings.TrimSpace(data), func(t *testing.T) {
			r := newRig(t, rigOptions{})
			env := r.envelope("ada@out.example", "bob@in.example")
			got := delivered(t, r.accept(env, crlf(data)).m)
			rest, ok := strings.CutPrefix(got, ownReceived(env, "bob@in.example"))
			if !ok || strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t") {
				t.Errorf("delivered %q: the line belongs to our Received field now", got)
			}
			if !strings.HasSuffix(got, "\r\n\r\nbody\r\n") {
				t.Errorf("delivered %q: the body has changed", got)
			}
		})
	}
}

func TestListsAndLogsGetOnePrintableLine(t *testing.T) {
	r := newRig(t, rigOptions{})
	env := r.envelope("ada@out.example", "bob@in.example")
	r.accept(env, "Subject: a\r\n\x1b[31m=?utf-8?q?b=0Ac?="+strings.Repeat("d", 300)+"\r\nMessage-ID: <x\x07y@out.example>\r\n\r\n")
	for _, s := range []string{env.Subject, env.MessageID} {
		if strings.ContainsAny(s, "\r\n\x1b\x07") || len(s) > 200 || s == "" {
			t.Errorf("%q", s)
		}
	}
}
