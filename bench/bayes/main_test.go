package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAccuracy holds the classifier to the figures that other filters reach on the
// same halves of the same corpus.
func TestAccuracy(t *testing.T) {
	dir := os.Getenv("GATEPOST_SPAM_CORPUS")
	if dir == "" {
		dir = filepath.Join(os.Getenv("GATEPOST_CORPORA"), "spamassassin")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("GATEPOST_SPAM_CORPUS does not name the folder of the SpamAssassin corpus")
	}
	samples, err := read(dir)
	if err != nil {
		t.Fatal(err)
	}
	train, test := split(samples, func(s *sample) bool { return s.test })
	m, err := measure(t.Context(), train, test, false)
	if err != nil {
		t.Fatal(err)
	}
	r := m.rates()
	if r.ham != 2112 || r.spam != 957 {
		t.Fatalf("%d ham and %d spam in the test half: not the corpus that the figures are for", r.ham, r.spam)
	}
	for _, goal := range []struct {
		name       string
		got, limit float64
	}{
		{"ham called spam", r.hamAsSpam, 0.05},
		{"spam missed", r.spamMissed, 0.52},
		{"spam unsure", r.spamUnsure, 8},
		{"ham unsure", r.hamUnsure, 2},
		{"1-AUC", r.area, 0.055},
	} {
		if goal.got > goal.limit {
			t.Errorf("%s: %.4f %%, over %.4f %%", goal.name, goal.got, goal.limit)
		}
	}
}

func TestArea(t *testing.T) {
	cases := []struct {
		name string
		list []judged
		want float64
	}{
		{"perfect", []judged{{sum: -1}, {sum: 1, spam: true}}, 0},
		{"the wrong way round", []judged{{sum: 1}, {sum: -1, spam: true}}, 1},
		{"all the same", []judged{{sum: 1}, {sum: 1, spam: true}}, 0.5},
		{"one of four pairs", []judged{{sum: 1}, {sum: 3}, {sum: 2, spam: true}, {sum: 4, spam: true}}, 0.25},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			if got := (&measurement{judged: tt.list}).area(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
