package main

import (
	"slices"
	"testing"
)

func TestResultsOfADirectory(t *testing.T) {
	for _, tt := range []struct {
		name, attribute string
		values, want    []string
	}{
		{"addresses of Exchange are told by their kind", "proxyaddresses", []string{"SMTP:anna@a.example", "smtp:berg@a.example", "sip:anna@a.example", "X500:/o=x/cn=anna", "anna@bare.example"}, []string{"anna@a.example", "berg@a.example"}},
		{"other attributes are taken as they are", "mail", []string{"anna@a.example"}, []string{"anna@a.example"}},
		{"a transport keeps its domain", "mailTransport", []string{"smtp:hub.a.example"}, []string{"smtp:hub.a.example"}},
	} {
		if got := resultsOf(tt.attribute, tt.values); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}
