package dialogue

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// write makes a file beside the configuration.
func write(t *testing.T, g *gatepost.Instance, name, text string) string {
	t.Helper()
	path := filepath.Join(g.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// explained is an object that "gatepost scan --json" prints.
type explained struct {
	File, Flow string
	Verdict    struct {
		Action, Block, Rule, Reason, Threat string
		Score                               float64
	}
	Reports []struct {
		Use      string
		Findings []struct {
			Module, Symbol, Result, Reason, Name string
			Score                                float64
		}
	}
	Tree struct {
		Path     string
		Types    []string
		Children []struct {
			Path  string
			Types []string
			Names []struct{ Text string }
		}
	}
	Files []struct {
		Name  string
		Path  []string
		Types []string
	}
}

// "gatepost scan" says the same as what happens to the message, word for word,
// and nothing happens.
func TestScanTellsWhy(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("no programs", `attachment_name = '\.exe$'`, `then = "quarantine"`) +
		filter("points", "subject = 'offer'", `then = "score:2.5"`) + filter("bob", "recipient = 'bob@in.example'", `then = "discard"`) +
		filter("ada", "sender = 'ada@out.example'", `then = "score:1"`) + filter("near", "client = '192.0.2.0/24'", `then = "score:0.5"`) +
		flowOf(`{ use = "filters" }, { use = "links" }, { use = "score", mark = 5 }`) +
		"[[flow]]\nname = \"other\"\nstage = \"content\"\nblocks = [{ use = \"score\", mark = 1 }]\n"})
	program := write(t, g, "program.eml", twoParts("an offer \x1b[31m", "setup.exe", "MZ"))
	zipped := write(t, g, "zipped.eml", attach("files.zip", plainZip(t)))

	var list []explained
	ask(t, g, &list, "scan", "--json", program, zipped)
	if len(list) != 2 || list[0].File != program || list[1].File != zipped {
		t.Fatalf("%+v", list)
	}
	x := list[0]
	if v := x.Verdict; v.Action != "quarantine" || v.Block != "filters" || v.Rule != "no programs" || v.Reason != `attachment_name matched "setup.exe" in "setup.exe"` || v.Threat != "filter" || x.Flow != "inbound" {
		t.Errorf("verdict %+v in flow %s", v, x.Flow)
	}
	uses := ""
	for _, r := range x.Reports {
		uses += r.Use + " "
		if r.Use == "filters" && (len(r.Findings) != 2 || r.Findings[0].Symbol != "no programs" || r.Findings[1].Symbol != "points") {
			t.Errorf("findings of filters %+v", r.Findings)
		}
	}
	if uses != "filters links structure " {
		t.Errorf("reports of %s", uses)
	}
	if r := x.Tree; r.Path != "1" || r.Types[0] != "multipart/mixed" || len(r.Children) != 2 || r.Children[1].Path != "1.2" || r.Children[1].Names[0].Text != "setup.exe" {
		t.Errorf("tree %+v", r)
	}
	raw, err := g.Run("scan", "--json", zipped)
	if err != nil || strings.Contains(raw, `"Path"`) || !strings.Contains(raw, `"path":`) {
		t.Errorf("JSON with keys in upper case: %s, %v", raw, err)
	}
	if v := list[1].Verdict; v.Action != "deliver" || !strings.Contains(fmt.Sprint(list[1].Files), "[files.zip secret.txt]") {
		t.Errorf("verdict %+v, files %+v", v, list[1].Files)
	}

	out, err := g.Run("scan", program, zipped)
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, "scan", out, program+`: quarantine by filters (no programs): attachment_name matched "setup.exe" in "setup.exe", score 0.0, flow inbound, `,
		"\n  filters    match          no programs  attachment_name matched \"setup.exe\" in \"setup.exe\" [setup.exe]\n", "\n  filters    match          points       subject matched ", "\n  structure  clean ", "\nAs it was read:\n  1  multipart/mixed\n    1.1  text/plain",
		"    1.2  application/octet-stream  \"setup.exe\"  is ", zipped+": deliver, score 0.0, flow inbound, ", "\nIn archives and documents:\n  files.zip > secret.txt  text/plain")
	if strings.ContainsRune(out, '\x1b') {
		t.Error("the terminal is told what the sender wrote")
	}

	ask(t, g, &list, "scan", "--json", "--recipient", "bob@in.example", "--sender", "ada@out.example", "--client", "192.0.2.7", zipped)
	if v := list[0].Verdict; v.Action != "discard" || v.Rule != "bob" {
		t.Errorf("for bob: %+v", v)
	}
	ask(t, g, &list, "scan", "--json", "--sender", "ada@out.example", "--client", "192.0.2.7", zipped)
	if v := list[0].Verdict; v.Action != "deliver" || v.Score != 1.5 {
		t.Errorf("from ada: %+v", v)
	}
	ask(t, g, &list, "scan", "--json", "--flow", "other", program)
	if v := list[0].Verdict; v.Action != "deliver" || list[0].Flow != "other" {
		t.Errorf("in flow other: %+v", list[0])
	}
	drained(t, g)
	quarantine(t, g, 0)
	if n := len(s.Mails()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
}

// What goes wrong is said in one line, with the status that scripts look at.
func TestScanAndTrainSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	g := behind(t, next(t, sink.Options{}), gatepost.Settings{Listener: scanning, More: flowOf(`{ use = "bayes" }`)})
	file := write(t, g, "a.eml", "Subject: x\n\nbody\n")
	gone := filepath.Join(g.Dir, "gone.eml")
	tests := []struct {
		status int
		want   string
		args   []string
	}{
		{1, "scan " + gone + ": open " + gone + ": no such file or directory", []string{"scan", gone}},
		{1, "is a directory", []string{"scan", g.Dir}},
		{1, `there is no content flow "nonsense"`, []string{"scan", "--flow", "nonsense", file}},
		{2, "nonsense", []string{"scan", "--client", "nonsense", file}},
		{2, "file", []string{"scan"}},
		{2, "maybe", []string{"train", "maybe", file}},
		{2, "path", []string{"train", "ham"}},
		{1, "no such file or directory", []string{"train", "ham", gone}},
		{1, `no such message in the quarantine: "nonsense"`, []string{"quarantine", "show", "nonsense"}},
		{1, "no such message in the quarantine", []string{"quarantine", "show", "01hzy3v7q2r8m5n6k4j3h2g1f0"}},
		{1, "no such message in the quarantine", []string{"quarantine", "get", "01hzy3v7q2r8m5n6k4j3h2g1f0"}},
		{1, "no such message in the quarantine", []string{"quarantine", "release", "01hzy3v7q2r8m5n6k4j3h2g1f0"}},
		{1, "no such message in the quarantine", []string{"quarantine", "delete", "01hzy3v7q2r8m5n6k4j3h2g1f0"}},
		{2, "nonsense", []string{"quarantine", "list", "--threat", "nonsense"}},
		{2, "nonsense", []string{"quarantine", "list", "--since", "nonsense"}},
	}
	for _, tt := range tests {
		if said := fails(t, g, tt.status, tt.args...); !strings.Contains(said, tt.want) {
			t.Errorf("%q says %q, want %q", tt.args, said, tt.want)
		}
	}
	g.Stop()
	for _, args := range [][]string{{"scan", file}, {"train", "ham", file}, {"bayes", "status"}, {"quarantine", "list"}, {"quarantine", "get", "01hzy3v7q2r8m5n6k4j3h2g1f0"}} {
		if said := fails(t, g, 1, args...); !strings.Contains(said, "the gateway is not running: nobody answers on "+g.SocketFile) {
			t.Errorf("%q says %q", args, said)
		}
	}
}

// No flow, nothing to say: scan tells that too.
func TestScanWithoutAFlow(t *testing.T) {
	t.Parallel()
	g := behind(t, next(t, sink.Options{}), gatepost.Settings{})
	file := write(t, g, "a.eml", "Subject: x\n\nbody\n")
	if said := fails(t, g, 1, "scan", file); !strings.Contains(said, "no content flow applies: name one with --flow") {
		t.Errorf("says %q", said)
	}
}

// SCN-12: what is trained counts, once, and can be undone; what was learned makes
// the score of the next message, after a restart too.
func TestTrainingTeaches(t *testing.T) {
	t.Parallel()
	eachWay(t, trainingTeaches)
}

func trainingTeaches(t *testing.T, on way) {
	s := next(t, sink.Options{})
	g := behind(t, s, on(t, gatepost.Settings{Listener: scanning, More: "[bayes]\nmin_trained = 20\n" + flowOf(`{ use = "bayes" }, { use = "score", mark = 3, quarantine = 30, subject_tag = "[SPAM] " }`)}))
	var status struct {
		Ready    bool
		Reason   string
		Messages int
		Scopes   []struct {
			Scope     string
			Ham, Spam int
		}
	}
	ask(t, g, &status, "bayes", "status", "--json")
	if status.Ready || status.Reason == "" || status.Messages != 0 {
		t.Errorf("at first: %+v", status)
	}
	letter := func(n int, words string) string {
		return fmt.Sprintf("From: sender%d@out.example\nSubject: %s %d\nMessage-ID: <%d.%s@out.example>\n\n%s\n", n, words[:7], n, n, words[:4], strings.Repeat(words+"\n", 3))
	}
	const good, bad = "meeting minutes project budget garden picnic", "lottery winner casino pills cheap miracle"
	mbox := ""
	for i := range 25 {
		write(t, g, fmt.Sprintf("ham/%d.eml", i), letter(i, good))
		mbox += "From x@out.example Mon Nov  2 10:00:00 2026\n" + letter(i, bad) + "\n"
	}
	spam := write(t, g, "spam.mbox", mbox)
	ham := filepath.Join(g.Dir, "ham")
	train := func(want string, args ...string) {
		t.Helper()
		out, err := g.Run(append([]string{"train"}, args...)...)
		if err != nil || !strings.HasPrefix(out, want) {
			t.Errorf("train %q prints %q, %v, want %q", args, out, err, want)
		}
	}
	train("25 messages learned as ham, 0 changed nothing, in ", "ham", ham)
	train("25 messages learned as spam, 0 changed nothing, in ", "spam", spam)
	train("0 messages learned as spam, 25 changed nothing, in ", "spam", spam)
	ask(t, g, &status, "bayes", "status", "--json")
	if !status.Ready || status.Messages != 50 || len(status.Scopes) != 1 || status.Scopes[0].Ham != 25 || status.Scopes[0].Spam != 25 {
		t.Errorf("after training: %+v", status)
	}
	out, err := g.Run("bayes", "status")
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, "bayes status", out, "Messages get a score.\n", "(all mail)  25   25    yes")

	c := g.Hello("")
	give(t, c, "ada@out.example", "good@in.example", letter(99, good))
	give(t, c, "ada@out.example", "bad@in.example", letter(99, bad))
	mustContain(t, "the spam", string(theMail(t, s, "bad@in.example").Data), "X-Gatepost-Verdict: mark (score, mark)\r\n", "X-Gatepost-Report: bayes:", "Subject: [SPAM] lottery 99\r\n")
	mustContain(t, "the ham", string(theMail(t, s, "good@in.example").Data), "X-Gatepost-Verdict: deliver\r\n", "\r\nSubject: meeting 99\r\n", "X-Gatepost-Score: -")
	file := write(t, g, "bad.eml", letter(99, bad))
	if out, err := g.Run("scan", file); err != nil || !strings.Contains(out, "lottery") || !strings.Contains(out, "spam with a probability of ") {
		t.Errorf("scan prints %s, %v", out, err)
	}

	c.Quit()
	g.Stop()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	give(t, g.Hello(""), "ada@out.example", "again@in.example", letter(98, bad))
	mustContain(t, "the spam after a restart", string(theMail(t, s, "again@in.example").Data), "X-Gatepost-Verdict: mark (score, mark)\r\n")
	train("25 messages forgotten, 0 changed nothing, in ", "forget", spam)
	train("1 messages learned as spam, 0 changed nothing, in ", "spam", filepath.Join(ham, "7.eml"))
	var sum struct{ Learned, Known int }
	ask(t, g, &sum, "train", "--json", "ham", filepath.Join(ham, "7.eml"))
	ask(t, g, &status, "bayes", "status", "--json")
	if sum.Learned != 1 || status.Ready || status.Messages != 25 || status.Scopes[0].Ham != 25 || status.Scopes[0].Spam != 0 {
		t.Errorf("after forgetting: %+v, %+v", sum, status)
	}
	give(t, g.Hello(""), "ada@out.example", "last@in.example", letter(97, bad))
	mustContain(t, "what was spam before", string(theMail(t, s, "last@in.example").Data), "X-Gatepost-Verdict: deliver\r\n", "\r\nSubject: lottery 97\r\n")
	b, _ := json.Marshal(status)
	if !strings.Contains(string(b), "below") && status.Reason == "" {
		t.Errorf("the status does not say why there is no score: %s", b)
	}
}
