package clamd_test

import (
	"crypto/md5"
	"encoding/hex"
	"strings"
	"testing"

	"gatepost/test/clamd"
)

func TestTheTestFileIsTheTestFile(t *testing.T) {
	sum := md5.Sum(clamd.EICAR())
	if got := hex.EncodeToString(sum[:]); got != "44d88612fea8a8f36de82e1278abb02f" {
		t.Errorf("EICAR has the sum %s", got)
	}
}

func TestItStartsAnswersStopsAndStartsAgain(t *testing.T) {
	p := clamd.Run(t, clamd.Config{TCP: true})
	version := func() string {
		t.Helper()
		answer, err := p.Command("VERSION")
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if v := version(); !strings.HasPrefix(v, "ClamAV ") {
		t.Errorf("VERSION says %q", v)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if answer, err := p.Command("PING"); err == nil {
		t.Errorf("answers %q after it was stopped", answer)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	version()
	if err := p.Signature("more.hdb", "00000000000000000000000000000000:1:Test.More\n"); err != nil {
		t.Fatal(err)
	}
	p.Reload(t)
	version()
}
