// Package slapd runs a real OpenLDAP server of its own for tests: its own
// configuration, its own database in a directory of its own, nothing of the
// system's instance.
//
// Invariants:
//   - It needs Debian's slapd package and no particular user.
//   - It listens on loopback and on a socket in its directory.
//   - It takes a bind without a password for an anonymous user and says yes, as
//     the standard lets it (RFC 4513 §5.1.2): clients must not rely on its no.
package slapd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/test/peer"
)

// Base is the suffix of the database, Admin who may do everything in it.
const (
	Base     = "dc=example,dc=com"
	Admin    = "cn=admin,dc=example,dc=com"
	Password = "admin secret"
)

// Config says how the instance is set up.
type Config struct {
	// LDIF is what the database holds below Base, which is there already.
	LDIF string
	// CertFile and KeyFile are for StartTLS and ldaps.
	CertFile, KeyFile string
	// Conf are further lines of slapd.conf, in the section of the database.
	Conf string
}

// Instance is a slapd that runs.
type Instance struct {
	// URL, Secure and Socket are its addresses: ldap, ldaps ("" without a
	// certificate) and ldapi.
	URL, Secure, Socket string

	dir  string
	cmd  *exec.Cmd
	done chan struct{}
	out  lockedBuffer
}

// lockedBuffer is read while the process writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Run sets an instance up, starts it, and stops it when the test ends. The test
// is skipped where slapd is not installed.
func Run(t testing.TB, c Config) *Instance {
	t.Helper()
	peer.Require(t, "slapd", "slapadd")
	// The path of a socket may be 107 bytes long; that of t.TempDir has the name of
	// the test in it.
	dir, err := os.MkdirTemp("", "slapd")
	if err != nil {
		t.Fatal(err)
	}
	p := &Instance{dir: dir}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("slapd: %s", p.out.String())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := p.setUp(c); err != nil {
		t.Fatal(err)
	}
	// A port that was free a moment ago may be taken: slapd cannot be asked which
	// one it got.
	for range 3 {
		if err = p.Start(); err == nil {
			return p
		}
	}
	t.Fatal(err)
	return nil
}

// modules is where Debian has the parts that can be loaded.
const modules = "/usr/lib/ldap"

func (p *Instance) setUp(c Config) error {
	conf := `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile ` + filepath.Join(p.dir, "pid") + `
modulepath ` + modules + `
moduleload back_mdb
moduleload memberof
allow bind_anon_cred bind_anon_dn
`
	if c.CertFile != "" {
		conf += "TLSCertificateFile " + c.CertFile + "\nTLSCertificateKeyFile " + c.KeyFile + "\n"
		p.Secure = "ldaps"
	}
	conf += `database mdb
maxsize 16777216
suffix "` + Base + `"
rootdn "` + Admin + `"
rootpw "` + Password + `"
directory "` + filepath.Join(p.dir, "db") + `"
` + c.Conf + "\n"
	root := "dn: " + Base + "\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n"
	if err := os.Mkdir(filepath.Join(p.dir, "db"), 0o700); err != nil {
		return fmt.Errorf("make slapd directory: %w", err)
	}
	for name, text := range map[string]string{"slapd.conf": conf, "data.ldif": root + c.LDIF} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("configure slapd: %w", err)
		}
	}
	add := exec.Command(peer.Find("slapadd"), "-f", p.conf(), "-l", filepath.Join(p.dir, "data.ldif"))
	if out, err := add.CombinedOutput(); err != nil {
		return fmt.Errorf("fill slapd: %w: %s", err, out)
	}
	return nil
}

func (p *Instance) conf() string { return filepath.Join(p.dir, "slapd.conf") }

// Start starts slapd at its addresses and waits until it answers.
func (p *Instance) Start() error {
	if p.URL == "" {
		p.URL = "ldap://" + freeAddress()
		if p.Secure != "" {
			p.Secure = "ldaps://" + freeAddress()
		}
		p.Socket = "ldapi://" + strings.ReplaceAll(filepath.Join(p.dir, "sock"), "/", "%2F")
	}
	urls := strings.TrimSpace(p.URL + " " + p.Socket + " " + p.Secure)
	cmd := exec.Command(peer.Find("slapd"), "-f", p.conf(), "-h", urls, "-d", "0")
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd, p.done = cmd, make(chan struct{})
	started := make(chan error)
	go func() {
		// The thread must live as long as the process: see Pdeathsig.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		p.cmd = nil
		return fmt.Errorf("start slapd: %w", err)
	}
	if err := p.ready(); err != nil {
		p.Stop()
		p.URL = ""
		return err
	}
	return nil
}

var errNotReady = errors.New("slapd does not answer")

// ready waits until the last listener takes connections.
func (p *Instance) ready() error {
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		nc, err := net.DialTimeout("tcp", strings.TrimPrefix(p.URL, "ldap://"), time.Second)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("slapd ended: %s", p.out.String())
		case <-deadline.C:
			return errNotReady
		case <-tick.C:
		}
	}
}

// Stop ends slapd. It may be started again, at the same addresses.
func (p *Instance) Stop() {
	if p.cmd == nil {
		return
	}
	// It has ended already where this fails.
	_ = p.cmd.Process.Kill()
	<-p.done
	p.cmd = nil
}

// freeAddress finds a port that was free a moment ago.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}
