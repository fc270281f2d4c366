package trust_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/trust"
)

func session(addr netip.Addr) *mail.Session {
	return &mail.Session{Client: netip.AddrPortFrom(addr, 4711)}
}

func trusted(t *testing.T, tr *trust.Trust, addr string) bool {
	t.Helper()
	findings, err := tr.Check(t.Context(), &policy.Input{Stage: policy.Connect, Session: session(netip.MustParseAddr(addr))})
	if err != nil {
		t.Fatal(err)
	}
	if len(findings) == 0 {
		return false
	}
	if f := findings[0]; f.Module != trust.Use || f.Symbol != policy.SymbolAllow || f.Result != mail.Clean || f.Reason == "" {
		t.Errorf("finding %+v", f)
	}
	return true
}

func TestAClientThatPassedIsTrustedForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, err := trust.New(trust.Config{For: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if trusted(t, tr, "192.0.2.1") {
			t.Error("trusted from the start")
		}
		tr.Passed(session(netip.MustParseAddr("192.0.2.1")))
		if !trusted(t, tr, "192.0.2.1") || !trusted(t, tr, "::ffff:192.0.2.1") {
			t.Error("not trusted after it passed")
		}
		if trusted(t, tr, "192.0.2.2") {
			t.Error("its neighbour is trusted as well")
		}
		time.Sleep(time.Hour - 1)
		if !trusted(t, tr, "192.0.2.1") {
			t.Error("not trusted for as long as was said")
		}
		time.Sleep(time.Nanosecond)
		if trusted(t, tr, "192.0.2.1") {
			t.Error("trusted for longer: to be trusted must not make the time longer")
		}
		tr.Passed(session(netip.MustParseAddr("192.0.2.1")))
		tr.Forget(netip.MustParseAddr("192.0.2.1"))
		if trusted(t, tr, "192.0.2.1") {
			t.Error("trusted after it was forgotten")
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, err := trust.New(trust.Config{For: time.Hour, MaxClients: 1000})
		if err != nil {
			t.Fatal(err)
		}
		pass := func(first byte, n int) {
			for i := range n {
				tr.Passed(session(netip.AddrFrom4([4]byte{first, 0, byte(i >> 8), byte(i)})))
			}
		}
		pass(10, 5000)
		if tr.Clients() != 1000 {
			t.Errorf("%d clients", tr.Clients())
		}
		time.Sleep(2 * time.Hour)
		pass(11, 500)
		if !trusted(t, tr, "11.0.0.7") || tr.Clients() > 600 {
			t.Errorf("%d clients, of which 500 count", tr.Clients())
		}
	})
	if _, err := trust.New(trust.Config{}); err == nil {
		t.Error("a trust for no time is taken")
	}
}
