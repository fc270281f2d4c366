package quarantine

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

func TestPeopleGetDigestsWhenTheyChose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, "gw1")
		b := newBench(t, s)
		other := newBench(t, s)
		other.out = b.out
		until(1, 12, 0) // a Saturday
		d := b.idleDigests()
		for _, c := range []DigestSetting{
			{Address: "Never@example.com", Often: Never}, {Address: "week@example.com", Often: Weekly, Hour: 9}, {Address: "late@example.com", Often: Daily, Hour: 20},
		} {
			must(t, d.Choose(t.Context(), c))
		}
		everybody := []string{"never@example.com", "week@example.com", "late@example.com", "other@example.com"}
		b.hold(sample{subject: "one"}, everybody...)
		one, two := b.digests(), other.digests()
		until(2, 12, 0)
		b.hold(sample{subject: "two"}, everybody...)
		until(3, 23, 0)
		// Two nodes, and everybody once.
		if got := b.out.to(); got != "01 20:00 late@example.com, 02 07:00 other@example.com, 02 20:00 late@example.com, 03 07:00 other@example.com, 03 09:00 week@example.com" {
			t.Fatal(got)
		}
		_, plain, _ := readDigest(t, b.out.sent[4].raw)
		if !strings.Contains(plain, "Subject:  one") || !strings.Contains(plain, "Subject:  two") {
			t.Errorf("the week's digest tells of the week: %s", plain)
		}
		// An earlier hour tells of nothing twice, and leaves nothing out.
		must(t, d.Choose(t.Context(), DigestSetting{Address: "late@example.com", Often: Daily, Hour: 6}))
		b.hold(sample{subject: "three"}, "late@example.com", "never@example.com")
		until(3, 23, 1)
		must(t, d.Choose(t.Context(), DigestSetting{Address: "never@example.com", Often: Daily, Hour: 8}))
		until(5, 0, 0)
		if got := b.out.to(); !strings.HasSuffix(got, "03 09:00 week@example.com, 04 06:00 late@example.com") {
			t.Error(got)
		}
		_, plain, _ = readDigest(t, b.out.sent[5].raw)
		if strings.Contains(plain, "Subject:  two") || !strings.Contains(plain, "Subject:  three") {
			t.Errorf("after the change: %s", plain)
		}
		stopNow(t, one, two)
	})
}

func TestADigestOfTheirOwnThatCannotBeSentIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, openStore(t, "gw1"))
		until(1, 12, 0)
		d := b.digests()
		must(t, d.Choose(t.Context(), DigestSetting{Address: "anna@example.com", Often: Daily, Hour: 14}))
		b.hold(sample{}, "anna@example.com")
		b.out.setFail(errors.New("no space left on device"))
		until(1, 14, 1)
		b.out.setFail(nil)
		until(1, 15, 30)
		if got := b.out.to(); got != "01 14:01 anna@example.com" {
			t.Error(got)
		}
		stopNow(t, d)
	})
}

func TestAChoiceIsCheckedAndShown(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	d := b.idleDigests()
	if s, err := d.Setting(t.Context(), "Anna@Example.COM"); err != nil || s != (DigestSetting{Address: "anna@example.com", Often: Daily, Hour: 7}) {
		t.Errorf("as configured: %+v %v", s, err)
	}
	for _, c := range []DigestSetting{
		{Address: "anna@example.com", Often: "hourly"}, {Address: "anna@example.com", Often: Daily, Hour: 24},
		{Address: "anna@example.com", Often: Daily, Hour: -1}, {Address: "anna\r\n@example.com", Often: Daily}, {Often: Daily},
	} {
		if err := d.Choose(t.Context(), c); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	must(t, d.Choose(t.Context(), DigestSetting{Address: "anna@example.com", Often: Weekly, Hour: 22}))
	if s, err := d.Setting(t.Context(), "ANNA@example.com"); err != nil || s != (DigestSetting{Address: "anna@example.com", Often: Weekly, Hour: 22, Own: true}) {
		t.Errorf("as chosen: %+v %v", s, err)
	}
}

// TestALinkAsksForWhatOnlyAdministratorsRelease, and one for settings names no message.
func TestALinkAsksForWhatOnlyAdministratorsRelease(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	l := b.links()
	virus := b.hold(sample{threat: mail.ThreatVirus}, "anna@example.com", "bob@example.com")
	ask := b.token(l, Token{Action: LinkAsk, Message: virus, Recipient: "anna@example.com"})
	if _, err := l.Look(t.Context(), ask); err != nil || b.show(virus).Entries[0].Asked {
		t.Fatalf("looking asked, or failed: %v", err)
	}
	if _, err := l.Follow(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	if e := b.show(virus).Entries; !e[0].Asked || e[0].By != "anna@example.com" || e[0].State != Held || e[1].Asked || len(b.out.released) != 0 {
		t.Errorf("%+v", e)
	}
	settings := b.token(l, Token{Action: LinkSettings, Recipient: "anna@example.com"})
	if link, err := l.Look(t.Context(), settings); err != nil || link.Recipient != "anna@example.com" || link.Action != LinkSettings {
		t.Errorf("%+v %v", link, err)
	}
	if _, err := l.Follow(t.Context(), settings); !errors.Is(err, ErrForbidden) {
		t.Errorf("a link for settings released or deleted: %v", err)
	}
	if _, err := l.Look(t.Context(), b.token(l, Token{Action: LinkSettings, Recipient: "anna@example.com", Expires: time.Now().Add(-time.Second)})); !errors.Is(err, ErrLinkExpired) {
		t.Error(err)
	}
}
