// Command gatepost is the mail security gateway and the tools of its
// administrator: one file for each subcommand, and the wiring of all packages in
// serve.go and its neighbours. Nothing here decides about mail; the packages
// below internal do.
//
// Exit status: 0 done, 1 could not, 2 wrong usage.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// commands is the grammar of the command line.
type commands struct {
	Serve      serveCmd      `cmd:"" help:"Run the gateway."`
	Check      checkCmd      `cmd:"" help:"Check a configuration file, and do nothing else."`
	Queue      queueCmd      `cmd:"" help:"Look at the mail that waits, and change it."`
	Quarantine quarantineCmd `cmd:"" help:"Look at the mail that is held back, and decide about it."`
	Flow       flowCmd       `cmd:"" help:"Explain what the flows do."`
	Greylist   greylistCmd   `cmd:"" help:"Look at who has to try again, and decide about it."`
	Senders    sendersCmd    `cmd:"" help:"Look at who is allowed and who is blocked, and change it."`
	Scan       scanCmd       `cmd:"" help:"Run the content flow on messages and say what it sees, and why."`
	Route      routeCmd      `cmd:"" help:"Say where mail for an address goes, and why."`
	Script     scriptCmd     `cmd:"" help:"Try the scripts of flows."`
	Train      trainCmd      `cmd:"" help:"Teach the Bayesian filter what is ham and what is spam."`
	Bayes      bayesCmd      `cmd:"" help:"Look at what the Bayesian filter has learned."`
	History    historyCmd    `cmd:"" help:"Search what happened: to messages, sessions and deliveries."`
	Explain    explainCmd    `cmd:"" help:"Look at a message that waits or is held again, with the rules of now."`
	Log        logCmd        `cmd:"" help:"Search the log files."`
	Trace      traceCmd      `cmd:"" help:"Show what happens while it happens."`
	Status     statusCmd     `cmd:"" help:"Show how the running gateway is."`
	Config     configCmd     `cmd:"" help:"Look at the configuration of the running gateway, and change it."`
	Reload     reloadCmd     `cmd:"" help:"Have the running gateway load its configuration again."`
	Firewall   firewallCmd   `cmd:"" help:"Make the rules that divert connections to Gatepost."`
	DKIM       dkimCmd       `cmd:"" name:"dkim" help:"Make keys for DKIM signatures."`
	User       userCmd       `cmd:"" help:"Make and change the accounts of the web administration."`
	Password   passwordCmd   `cmd:"" help:"Make the hash of a password for a file of users."`
	Demo       demoCmd       `cmd:"" help:"Show Gatepost at work in a scratch directory."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

const description = `Gatepost stands between the Internet and your mail servers.

Exit status: 0 done, 1 could not, 2 wrong usage.`

// The exit statuses.
const (
	exitDone  = 0
	exitCould = 1
	exitUsage = 2
)

// usageError is what is wrong with the command line, or with a selector that
// only the server could judge.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errSaid ends a command that has told already why it could not.
var errSaid = errors.New("said already")

// terminal is where a command reads and writes.
type terminal struct{ out, err io.Writer }

func main() {
	os.Exit(run(os.Args[1:], &terminal{out: os.Stdout, err: os.Stderr}))
}

// run carries out one command line and returns the exit status.
func run(args []string, t *terminal) int {
	var c commands
	parser, err := kong.New(&c,
		kong.Name("gatepost"), kong.Description(description),
		kong.Writers(t.out, t.err), kong.Bind(t),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}))
	if err != nil {
		fmt.Fprintf(t.err, "gatepost: %v\n", err)
		return exitCould
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		err = usageError{err}
	} else {
		err = ctx.Run()
	}
	return t.status(err)
}

// status tells an error and returns the exit status that stands for it.
func (t *terminal) status(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errSaid):
		return exitCould
	case errors.As(err, &usage):
		fmt.Fprintf(t.err, "gatepost: %v\nTry --help.\n", err)
		return exitUsage
	default:
		fmt.Fprintf(t.err, "gatepost: %v\n", err)
		return exitCould
	}
}
