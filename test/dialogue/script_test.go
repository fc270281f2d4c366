package dialogue

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// TestDialogues plays the files testdata/*.txtar against the real binary. The
// sections of a file are carried out in their order, but for those of the first
// group, which are the surroundings.
//
//	limits, listener, transport, global, retry, tls, more
//	              parts of the configuration, see gatepost.Settings; {NAME} stands for
//	              the address of that sink, {dir} for the directory
//	file NAME     a file beside the configuration
//	sink [NAME]   a next hop, called "next" if it has no name: lines "STAGE reply" of
//	              what it answers otherwise than usual, and "extensions WORD…" with a
//	              comma between two. A second such section changes its answers
//
//	client [ADDRESS]
//	              a session from that address:
//	                hello     banner and EHLO, without a look at what is announced
//	                C: text   the client sends a line; several in a row in one write
//	                C| "text" the same as a quoted string and without line end
//	                C*N text  the same N times; %d is the number
//	                S: text   the next line of the server; * stands for anything
//	                S*N text  the same N times
//	                S$        the server closes
//	                TLS       STARTTLS, its reply and the handshake
//	mail [NAME]   a mail that the sink got: the arguments of MAIL and RCPT, a
//	              line each, and the message; ** stands for any lines. CR, LF and NUL that end no line are
//	              shown as ␍ ␊ ␀, other bytes that are no text as \x80
//	queue         what waits, a line each: sender, recipients, transport, state,
//	              number of attempts, last error
//	log           lines of which mail.log has one each; those after "!" it lacks
//	run           "$ command" of gatepost, with what it prints; "$ ! command" must fail
//	restart, reload
//	              the gateway is stopped and started, or gets SIGHUP
//
// At the end the queue must become empty, and no sink may have a mail that was
// not asked for.
func TestDialogues(t *testing.T) {
	playAll(t, dialogues(t, "testdata"), false)
}

// TestDialoguesWithFlowsOn plays the same files against a gateway with flows of every
// stage: nothing that holds without them may be lost by them. A file of the same name
// in testdata/flowson is in the place of one whose replies flows are meant to change.
func TestDialoguesWithFlowsOn(t *testing.T) {
	files := dialogues(t, "testdata")
	maps.Copy(files, dialogues(t, "testdata/flowson"))
	playAll(t, files, true)
}

// dialogues are the files of a directory, by their names.
func dialogues(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues in %s: %v", dir, err)
	}
	named := map[string]string{}
	for _, file := range files {
		named[strings.TrimSuffix(filepath.Base(file), ".txtar")] = file
	}
	return named
}

func playAll(t *testing.T, files map[string]string, on bool) {
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			(&player{t: t, on: on, sinks: map[string]*sink.Sink{}, seen: map[string]map[int]bool{}}).play(archive)
		})
	}
}

// player plays one file.
type player struct {
	t     *testing.T
	on    bool // with flows of every stage
	g     *gatepost.Instance
	sinks map[string]*sink.Sink
	seen  map[string]map[int]bool // the mails of a sink that were asked for
}

func (p *player) play(a *txtar.Archive) {
	var rest []txtar.File
	dir := p.t.TempDir()
	settings := map[string]string{}
	for _, f := range a.Files {
		name, arg, _ := strings.Cut(f.Name, " ")
		switch name {
		case "limits", "listener", "transport", "global", "retry", "tls", "more":
			settings[name] = strings.TrimSpace(string(f.Data))
		case "file":
			if err := os.WriteFile(filepath.Join(dir, arg), f.Data, 0o600); err != nil {
				p.t.Fatal(err)
			}
		case "sink":
			if p.sinks[sinkName(arg)] != nil {
				rest = append(rest, f)
				continue
			}
			p.sinks[sinkName(arg)] = next(p.t, p.sinkOptions(string(f.Data)))
		default:
			rest = append(rest, f)
		}
	}
	if p.sinks["next"] == nil {
		p.sinks["next"] = next(p.t, sink.Options{})
	}
	fill := []string{"{dir}", dir}
	for name, s := range p.sinks {
		p.seen[name] = map[int]bool{}
		fill = append(fill, "{"+name+"}", s.Addr)
	}
	for name, text := range settings {
		settings[name] = strings.NewReplacer(fill...).Replace(text)
	}
	with := gatepost.Settings{
		Next: p.sinks["next"].Addr, Limits: settings["limits"], Listener: settings["listener"], Transport: settings["transport"],
		Global: settings["global"], Retry: settings["retry"], TLS: settings["tls"], More: settings["more"],
	}
	if p.on {
		with = flowsOn(p.t, with)
	}
	p.g = gatepost.Start(p.t, gatepost.Options{Dir: dir, Settings: with})
	for _, f := range rest {
		p.section(f)
		if p.t.Failed() {
			return
		}
	}
	p.end()
}

func sinkName(arg string) string {
	if arg == "" {
		return "next"
	}
	return arg
}

func (p *player) section(f txtar.File) {
	name, arg, _ := strings.Cut(f.Name, " ")
	text := string(f.Data)
	switch name {
	case "client":
		p.client(arg, text)
	case "mail":
		p.mail(sinkName(arg), text)
	case "queue":
		p.queue(text)
	case "log":
		p.log(text)
	case "run":
		p.run(text)
	case "sink":
		p.sinks[sinkName(arg)].SetScript(p.sinkOptions(text).Script)
	case "restart":
		p.g.Stop()
		if err := p.g.Start(); err != nil {
			p.t.Fatal(err)
		}
	case "reload":
		if _, err := p.g.Run("reload"); err != nil {
			p.t.Fatal(err)
		}
	default:
		p.t.Fatalf("unknown section %q", f.Name)
	}
}

// sinkOptions reads a section "sink".
func (p *player) sinkOptions(text string) sink.Options {
	p.t.Helper()
	var o sink.Options
	replies := map[sink.Stage]string{}
	for line := range strings.Lines(text) {
		stage, reply, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch stage {
		case "":
		case "extensions":
			o.Extensions = strings.Split(reply, ", ")
		default:
			known := []sink.Stage{sink.Banner, sink.Ehlo, sink.Helo, sink.MailFrom, sink.RcptTo, sink.Data, sink.EOD, sink.Other}
			if !slices.Contains(known, sink.Stage(stage)) {
				p.t.Fatalf("unknown stage %q", stage)
			}
			replies[sink.Stage(stage)] = reply
		}
	}
	o.Script = func(s sink.Step) sink.Reaction { return sink.Reaction{Reply: replies[s.Stage]} }
	return o
}

// client plays one session.
func (p *player) client(source, text string) {
	p.t.Helper()
	c, err := wire.Dial(p.g.SMTP, wire.Options{Source: source})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	s := session{t: p.t, on: p.on, c: c}
	n := 0
	for line := range strings.Lines(text) {
		n++
		s.line(n, strings.TrimRight(line, "\n"))
		if p.t.Failed() {
			return
		}
	}
	s.flush()
}

// session is a client while its dialogue is played.
type session struct {
	t    *testing.T
	on   bool
	c    *wire.Conn
	out  strings.Builder
	came []string // lines of a reply that were not compared yet
}

// next is the next line of the server.
func (s *session) next() (string, error) {
	if len(s.came) == 0 {
		r, err := s.c.Reply()
		if err != nil {
			return "", err
		}
		if s.on {
			r.Lines = greetedOnce(r.Code, r.Lines)
		}
		for i, text := range r.Lines {
			mark := "-"
			if i == len(r.Lines)-1 {
				mark = " "
			}
			s.came = append(s.came, strconv.Itoa(r.Code)+mark+text)
		}
	}
	line := s.came[0]
	s.came = s.came[1:]
	return line, nil
}

func (s *session) flush() {
	if s.out.Len() > 0 {
		if err := s.c.Send(s.out.String()); err != nil {
			s.t.Fatal(err)
		}
		s.out.Reset()
	}
}

func (s *session) line(n int, line string) {
	word, rest, _ := strings.Cut(line, " ")
	times := 1
	if head, count, ok := strings.Cut(word, "*"); ok {
		var err error
		if times, err = strconv.Atoi(count); err != nil {
			s.t.Fatalf("line %d: %v", n, err)
		}
		word = head + ":"
	}
	if word != "C:" && word != "C|" {
		s.flush()
	}
	switch word {
	case "C:":
		for i := range times {
			s.out.WriteString(strings.ReplaceAll(rest, "%d", strconv.Itoa(i+1)) + "\r\n")
		}
	case "C|":
		raw, err := strconv.Unquote(rest)
		if err != nil {
			s.t.Fatalf("line %d: %v", n, err)
		}
		s.out.WriteString(raw)
	case "S:":
		for range times {
			if got, err := s.next(); err != nil || !matches(rest, got) {
				s.t.Fatalf("line %d: got %q, %v, want %q", n, got, err, rest)
			}
		}
	case "S$":
		if got, err := s.next(); err == nil {
			s.t.Fatalf("line %d: got %q, want the end", n, got)
		}
	case "TLS":
		if r, err := s.c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil || r.Code != 220 {
			s.t.Fatalf("line %d: %v, %v", n, r, err)
		}
	case "hello":
		s.hello(n)
	case "", "#":
	default:
		s.t.Fatalf("line %d: unknown word %q", n, word)
	}
}

func (s *session) hello(n int) {
	if len(s.came) > 0 {
		s.t.Fatalf("line %d: %q was not looked at", n, s.came)
	}
	if r, err := s.c.Reply(); err != nil || r.Code != 220 {
		s.t.Fatalf("line %d: banner %v, %v", n, r, err)
	}
	if r, err := s.c.Cmd("EHLO client.example"); err != nil || r.Code != 250 {
		s.t.Fatalf("line %d: answer to EHLO %v, %v", n, r, err)
	}
}

// mail waits for a mail of a sink that is as wanted. Mails overtake each other.
func (p *player) mail(name, want string) {
	p.t.Helper()
	s := p.sinks[name]
	if s == nil {
		p.t.Fatalf("no sink %q", name)
	}
	if !s.Wait(patience, func() bool { return p.take(name, want) }) {
		for _, m := range p.left(name) {
			compare(p.t, "mail at "+name, want, p.show(m))
		}
		p.t.Fatalf("no such mail at %s:\n%s", name, want)
	}
}

// take notes that a mail was asked for, if there is one as wanted.
func (p *player) take(name, want string) bool {
	for i, m := range p.sinks[name].Mails() {
		if !p.seen[name][i] && sameLines(want, p.show(m)) {
			p.seen[name][i] = true
			return true
		}
	}
	return false
}

// left are the mails of a sink that were not asked for yet.
func (p *player) left(name string) (left []sink.Mail) {
	for i, m := range p.sinks[name].Mails() {
		if !p.seen[name][i] {
			left = append(left, m)
		}
	}
	return left
}

// show writes a mail as the section "mail" has it.
func (p *player) show(m sink.Mail) string {
	if p.on {
		m = withoutFields(m)
	}
	var b strings.Builder
	b.WriteString(m.From + "\n")
	for _, to := range m.To {
		b.WriteString(to + "\n")
	}
	for line := range strings.SplitAfterSeq(string(m.Data), "\r\n") {
		text, ended := strings.CutSuffix(line, "\r\n")
		b.WriteString(visible(text))
		if ended {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// visible shows what is no text.
func visible(s string) string {
	s = strings.NewReplacer("\r", "␍", "\n", "␊", "\x00", "␀").Replace(s)
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if s[i] < 0x80 {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, `\x%02x`, s[i])
		}
	}
	return b.String()
}

// queue waits until the queue is what it is to be.
func (p *player) queue(want string) {
	p.t.Helper()
	got := ""
	ok := gatepost.Holds(patience, func() bool {
		rows, err := p.g.Queue()
		if err != nil {
			p.t.Fatal(err)
		}
		var lines []string
		for _, r := range rows {
			lines = append(lines, fmt.Sprintf("%s %s %s %s %v %s", r["sender"], r["recipients"], r["transport"], r["state"], r["attempts"], orEmpty(r["last_error"])))
		}
		got = strings.Join(lines, "\n")
		return sameLines(want, got)
	})
	if !ok {
		compare(p.t, "queue", want, got)
	}
}

func orEmpty(v any) string {
	s, _ := v.(string)
	return s
}

// log waits until mail.log has the lines.
func (p *player) log(text string) {
	p.t.Helper()
	has := func(pattern string) bool {
		return slices.ContainsFunc(strings.Split(p.g.MailLog(), "\n"), func(line string) bool { return matches("*"+pattern+"*", line) })
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if lack, ok := strings.CutPrefix(line, "! "); ok {
			if has(lack) {
				p.t.Errorf("mail.log has a line %q", lack)
			}
			continue
		}
		if !gatepost.Holds(patience, func() bool { return has(line) }) {
			p.t.Errorf("mail.log has no line %q", line)
		}
	}
}

// run carries out commands.
func (p *player) run(text string) {
	p.t.Helper()
	for _, block := range strings.Split("\n"+text, "\n$ ")[1:] {
		command, want, _ := strings.Cut(block, "\n")
		args, fails := strings.CutPrefix(command, "! ")
		out, err := p.g.Run(strings.Fields(args)...)
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) || (err != nil) != fails {
			p.t.Fatalf("%s: %v", command, err)
		}
		if fails {
			_, said, _ := strings.Cut(err.Error(), exit.String()+": ")
			out += said
		}
		compare(p.t, command, want, out)
	}
}

// end checks that nothing is left over.
func (p *player) end() {
	p.t.Helper()
	drained(p.t, p.g)
	for name := range p.sinks {
		for _, m := range p.left(name) {
			p.t.Errorf("a mail at %s that nobody asked for:\n%s", name, p.show(m))
		}
	}
}
