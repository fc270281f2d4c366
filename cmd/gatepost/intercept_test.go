package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/config"
	"gatepost/internal/intercept"
)

// diverting is a configuration with a listener for each "mode address".
func diverting(listeners ...string) *config.Config {
	cfg := &config.Config{}
	for _, l := range listeners {
		mode, port, _ := strings.Cut(l, " ")
		address := config.HostPort{Host: "0.0.0.0", Port: map[string]int{"a": 2525, "b": 2526}[port]}
		cfg.Listeners = append(cfg.Listeners, config.Listener{Name: config.Name(port), Interception: mode, Address: []config.HostPort{address}, InterceptPorts: []int{25, 587}})
	}
	return cfg
}

func TestSocketsAreOpenedForOneKindOfInterception(t *testing.T) {
	for _, tt := range []struct{ name, old, next, want string }{
		{"nothing", "none a,redirect b", "none a,redirect b", ""},
		{"a new listener", "none a", "none a,tproxy b", ""},
		{"one that goes", "none a,tproxy b", "none a", ""},
		{"one that is diverted to from now on", "none a", "redirect a", "interception at 0.0.0.0:2525"},
		{"another mode", "redirect a,redirect b", "tproxy a,tproxy b", "interception at 0.0.0.0:2525,interception at 0.0.0.0:2526"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := modeChanges(diverting(strings.Split(tt.old, ",")...), diverting(strings.Split(tt.next, ",")...))
			if strings.Join(got, ",") != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestGuardKnowsTheListenersAndTheirPorts(t *testing.T) {
	cfg := diverting("redirect a", "none b")
	cfg.Admin.Listen = config.HostPort{Host: "192.0.2.5", Port: 8025}
	a := &app{}
	g := a.newGuard(cfg)
	for to, ours := range map[string]bool{
		"127.0.0.1:2525": true, "127.0.0.1:2526": true, "127.0.0.1:25": true, "127.0.0.1:587": true, "192.0.2.5:8025": true,
		"127.0.0.1:110": false, "192.0.2.5:25": false, "192.0.2.6:2525": false,
	} {
		if err := g.CheckDestination(netip.MustParseAddrPort(to)); (err != nil) != ours {
			t.Errorf("%s: %v", to, err)
		}
	}
	a.interception.guard.Store(g)
	if a.mayGoTo(netip.MustParseAddrPort("127.0.0.1:25")) == nil {
		t.Error("mail would be delivered to ourselves")
	}
}

func TestStatusTellsWhatIsDiverted(t *testing.T) {
	got := interceptions(diverting("tproxy a", "none b"))
	if len(got) != 1 || got["a"] != "tproxy from ports 25, 587" {
		t.Errorf("got %q", got)
	}
	if l := interceptedListeners(diverting("tproxy a", "none b")); len(l) != 1 || l[0].mode != "tproxy" || !slices.Equal(l[0].ports, []int{25, 587}) {
		t.Errorf("listeners %+v", l)
	}
	if mode := interceptMode(&config.Listener{}); mode != intercept.None {
		t.Errorf("mode %q", mode)
	}
}
