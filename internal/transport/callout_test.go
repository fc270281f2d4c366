package transport

import (
	"testing"

	"gatepost/internal/smtpclient"
)

func hopsOf(t *testing.T, cfg Config) []Hop {
	t.Helper()
	cfg.Name, cfg.Hostname = "behind", "gw.example.com"
	made, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	asked, ok := made.(Callout)
	if !ok {
		t.Fatalf("a transport of kind %s cannot be asked", cfg.Kind)
	}
	hops, err := asked.Hops(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return hops
}

func TestHopsAreSpokenToAsMailIs(t *testing.T) {
	auth := &smtpclient.Credentials{Username: "gw", Password: "secret"}
	cases := []struct {
		name                         string
		cfg                          Config
		tls, require, verified, lmtp bool
	}{
		{"in clear text", Config{Kind: SMTP, TLS: TLSOff}, false, false, false, false},
		{"TLS if it works", Config{Kind: SMTP}, true, false, false, false},
		{"TLS or nothing", Config{Kind: SMTP, TLS: TLSRequire}, true, true, false, false},
		{"TLS with the right certificate", Config{Kind: SMTP, TLS: TLSVerify}, true, true, true, false},
		{"LMTP", Config{Kind: LMTP, TLS: TLSOff}, false, false, false, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Hosts, c.cfg.Auth = []string{"192.0.2.1:2525", "192.0.2.2:2525"}, auth
			hops := hopsOf(t, c.cfg)
			if len(hops) != 2 || hops[0].Address != "192.0.2.1:2525" || hops[1].Address != "192.0.2.2:2525" {
				t.Fatalf("got %+v", hops)
			}
			h := hops[0]
			if (h.TLS != nil) != c.tls || h.RequireTLS != c.require || h.Verified != c.verified || h.LMTP != c.lmtp || h.Auth != auth {
				t.Errorf("got %+v", h)
			}
		})
	}
}

func TestNoMoreHopsThanMailTries(t *testing.T) {
	if hops := hopsOf(t, Config{Kind: SMTP, Hosts: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, MaxHosts: 2}); len(hops) != 2 {
		t.Errorf("got %d hops, want 2", len(hops))
	}
}

func TestWhereThereAreNoHostsNobodyIsAsked(t *testing.T) {
	for _, cfg := range []Config{{Kind: Maildir, Path: t.TempDir()}, {Kind: Discard}} {
		cfg.Name, cfg.Hostname = "last", "gw.example.com"
		made, err := New(cfg, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := made.(Callout); ok {
			t.Errorf("a transport of kind %s says that it can be asked", cfg.Kind)
		}
	}
}
