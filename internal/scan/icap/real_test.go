package icap

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/test/clamd"
	"gatepost/test/peer"
)

// cICAP runs a real c-icap with its virus_scan service, which asks a real clamd,
// and its echo service. It returns the host and port.
func cICAP(t *testing.T) string {
	t.Helper()
	peer.Require(t, "c-icap", "clamd")
	modules, _ := filepath.Glob("/usr/lib/*/c_icap/virus_scan.so")
	if len(modules) == 0 {
		peer.Missing(t, "libc-icap-mod-virus-scan is not installed; scripts/deps installs what tests need")
	}
	scanner := clamd.Run(t, clamd.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir, libs := t.TempDir(), filepath.Dir(modules[0])
	conf := fmt.Sprintf(`PidFile %[1]s/pid
CommandsSocket %[1]s/ctl
Port %[2]s
StartServers 1
MaxServers 1
ThreadsPerChild 4
TmpDir %[1]s
ServerLog %[1]s/log
AccessLog %[1]s/access
ModulesDir %[3]s
ServicesDir %[3]s
LoadMagicFile /etc/c-icap/c-icap.magic
Service echo srv_echo.so
Service antivirus_module virus_scan.so
ServiceAlias avscan virus_scan?allow204=on&sizelimit=off&mode=simple
virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GRAPHICS STREAM DOCUMENT
virus_scan.MaxObjectSize 100M
Module common clamd_mod.so
clamd_mod.ClamdSocket %[4]s
`, dir, address, libs, strings.TrimPrefix(scanner.Unix, "unix:"))
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(peer.Find("c-icap"), "-N", "-f", filepath.Join(dir, "conf"))
	cmd.Stdout, cmd.Stderr = &out, &out
	// It has a child for the requests.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("c-icap: %s%s", log, out.String())
		}
	})
	return address
}

// real makes a Scanner of a service, when that is there.
func real(t *testing.T, address, service string, cfg Config) *Scanner {
	t.Helper()
	cfg.URL = "icap://" + address + "/" + service
	cfg.Retry = 50 * time.Millisecond
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = s.Check(t.Context()); err == nil || strings.Contains(err.Error(), "does not find") {
			return s
		}
		select {
		case <-deadline.C:
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

func TestRealICAP(t *testing.T) {
	address := cICAP(t)
	s := real(t, address, "avscan", Config{})
	if st := s.State(); !st.OK || !strings.Contains(st.Service, "C-ICAP") || st.Tag == "" {
		t.Fatalf("state %+v", st)
	}
	large := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("MZ\x90\x00 and more "), 1<<18))
	for name, msg := range map[string]string{"a text": plain, "a large file": attachment(large)} {
		if found, err := s.Scan(t.Context(), input(t, msg)); err != nil || len(found) > 0 {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	found, err := s.Scan(t.Context(), input(t, attachment(base64.StdEncoding.EncodeToString(clamd.EICAR()))))
	if err != nil || len(found) != 1 || !strings.HasPrefix(found[0].Symbol, "Test.Eicar") {
		t.Errorf("EICAR: %v, %v", found, err)
	}
}

func TestRealEchoServiceIsNoScanner(t *testing.T) {
	address := cICAP(t)
	s := real(t, address, "echo", Config{})
	if found, err := s.Scan(t.Context(), input(t, plain)); err == nil || len(found) > 0 || !strings.Contains(err.Error(), "EICAR") {
		t.Errorf("%v, %v", found, err)
	}
	s = real(t, address, "echo", Config{SkipCanary: true})
	if found, err := s.Scan(t.Context(), input(t, attachment(strings.Repeat("TVqQAAAA", 50_000)))); err != nil || len(found) > 0 {
		t.Errorf("what comes back as it was: %v, %v", found, err)
	}
}
