package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheLowestLimitOfTheCgroupsCounts(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("self", "0::/mail.slice/gatepost.service\n")
	self := filepath.Join(root, "self")
	if got := cgroupLimit(self, root); got != 0 {
		t.Errorf("without limits: %d", got)
	}
	write("mail.slice/gatepost.service/memory.max", "max\n")
	write("mail.slice/memory.max", "1000000\n")
	if got := cgroupLimit(self, root); got != 1_000_000 {
		t.Errorf("limit of the slice: %d", got)
	}
	write("mail.slice/gatepost.service/memory.max", "500000\n")
	if got := cgroupLimit(self, root); got != 500_000 {
		t.Errorf("limit of the service: %d", got)
	}
	if got := cgroupLimit(filepath.Join(root, "nothing"), root); got != 0 {
		t.Errorf("without cgroups: %d", got)
	}
}
