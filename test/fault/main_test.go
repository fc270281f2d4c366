package fault

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"gatepost/test/gatepost"
)

// The test binary is three programs: the toy server where toyVar names one, the
// tests, and, as root, a shell around the tests that gives them a mount
// namespace of their own.
const (
	toyVar       = "GATEPOST_TOY"
	namespaceVar = "GATEPOST_PRIVATE_MOUNTS"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(toyVar) != "":
		os.Exit(toyMain(os.Getenv(toyVar)))
	case os.Getuid() == 0 && os.Getenv(namespaceVar) == "":
		os.Exit(inPrivateMounts())
	}
	// Scenarios wait more than they work, so more of them than there are cores
	// may run at once. A -parallel on the command line wins.
	if err := flag.Set("test.parallel", "5"); err != nil {
		panic(err)
	}
	os.Exit(gatepost.Main(m))
}

// inPrivateMounts runs this program again in a mount namespace of its own.
func inPrivateMounts() int {
	runtime.LockOSThread() // Pdeathsig is the death of the thread
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), namespaceVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "run in a mount namespace:", err)
		}
		return 1
	}
	return 0
}
