package main

import (
	"fmt"
	"testing"

	"gatepost/internal/config"
)

func TestAListenerKeepsItsProtocol(t *testing.T) {
	named := func(pairs ...string) *config.Config {
		c := &config.Config{}
		for i := 0; i < len(pairs); i += 2 {
			c.Listeners = append(c.Listeners, config.Listener{Name: config.Name(pairs[i]), Protocol: pairs[i+1]})
		}
		return c
	}
	got := protocolChanges(named("a", "smtp", "b", "pop3", "c", "smtp"), named("a", "pop3", "b", "pop3", "d", "pop3"))
	if fmt.Sprint(got) != "[protocol of the listener a]" {
		t.Errorf("%q", got)
	}
}
