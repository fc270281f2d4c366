package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gatepost/internal/policy/auth/authfile"
)

// passwordCmd hashes a password for a file of users.
type passwordCmd struct {
	Name   string `arg:"" optional:"" help:"Name of the user; then the whole line of the file is printed."`
	Bcrypt bool   `help:"Make a bcrypt hash, which sees 72 bytes of a password, instead of Argon2id."`
}

// Help is the long help text.
func (*passwordCmd) Help() string {
	return `Asks for a password twice, without showing it, and prints its hash as a block
auth-file wants it: "name hash" in a line. Where standard input is no terminal, its
first line is the password.

  gatepost password bob@example.com >> /etc/gatepost/users.txt

What the user may send as may stand behind the hash, with commas between.`
}

// Run implements the subcommand.
func (c *passwordCmd) Run(t *terminal) error {
	password, err := readPassword(os.Stdin, t.err)
	if err != nil {
		return err
	}
	hash := authfile.Hash
	if c.Bcrypt {
		hash = authfile.HashBcrypt
	}
	line, err := hash(password)
	if err == nil && c.Name != "" {
		line, err = authfile.Line(c.Name, line)
	}
	if err != nil {
		return err
	}
	return t.print(line + "\n")
}

// maxPassword is more than any client may send.
const maxPassword = 4096

// readPassword asks at a terminal, or reads the first line of what is none.
func readPassword(in *os.File, prompt io.Writer) (string, error) {
	lines := bufio.NewReader(io.LimitReader(in, 2*maxPassword))
	old, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return readLine(lines)
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ECHONL
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETSF, &quiet); err != nil {
		return "", fmt.Errorf("hide the password: %w", err)
	}
	first, err := ask(lines, prompt, "Password: ")
	if err == nil {
		var again string
		if again, err = ask(lines, prompt, "Again: "); err == nil && again != first {
			err = errors.New("the passwords are not the same")
		}
	}
	if back := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, old); back != nil {
		err = errors.Join(err, fmt.Errorf("show what is typed again: %w", back))
	}
	return first, err
}

func ask(lines *bufio.Reader, prompt io.Writer, text string) (string, error) {
	if _, err := io.WriteString(prompt, text); err != nil {
		return "", err
	}
	return readLine(lines)
}

// readLine reads a line without its end.
func readLine(lines *bufio.Reader) (string, error) {
	line, err := lines.ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		return "", fmt.Errorf("read password: %w", err)
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if len(line) > maxPassword || strings.ContainsRune(line, 0) {
		return "", errors.New("the password is too long, or has a NUL in it")
	}
	return line, nil
}
