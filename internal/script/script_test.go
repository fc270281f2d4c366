package script_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/script"
)

func TestCompileNamesFileLineAndColumn(t *testing.T) {
	for name, c := range map[string]struct{ source, want string }{
		"a syntax error":             {"def connect(s)\n    pass\n", "test.star:2:1: got newline, want ':'"},
		"an unknown name":            {"def connect(s):\n    rejct('no')\n", "test.star:2:5: undefined: rejct"},
		"nothing to run":             {"x = 1\n", "test.star: the script has nothing to run"},
		"other parameters":           {"def connect(a, b):\n    pass\n", "test.star:1:5: connect takes one parameter"},
		"a test with parameters":     {"def connect(s):\n    pass\ndef test_x(a):\n    pass\n", "test.star:3:5: a test takes no parameters"},
		"load":                       {"load('x.star', 'y')\ndef connect(s):\n    pass\n", "test.star:1:1: load is not available"},
		"while":                      {"def connect(s):\n    while True:\n        pass\n", "test.star:2:5: "},
		"an action of another stage": {"def connect(s):\n    quarantine('x')\n", "test.star:2:5: quarantine() is not possible at connect; it belongs in def content(s)"},
		"drop at content":            {"def content(s):\n    drop()\n", "drop() is not possible at content; it belongs in def connect(s) or def auth(s) or def recipient(s)"},
		"an expression":              {"def connect(s):\n    match(r'(?<=a)b', s.helo)\n", "test.star:2:11: expression"},
		"a reply with a code":        {"def connect(s):\n    reject('550 no')\n", "test.star:2:12: the text is what stands behind the code only"},
		"a reply of two lines":       {"def connect(s):\n    reject('a\\nb')\n", "test.star:2:12: the text must be one line"},
		"a second subject":           {"def content(s):\n    add_header('Subject', 'x')\n", "a second Subject would make the message ambiguous"},
		"our own field":              {"def content(s):\n    add_header('X-Gatepost-Verdict', 'x')\n", "written by mail servers only"},
		"a host from a value":        {"def auth(s):\n    http('https://{h}/', h=s.login)\n", "the host must be written out"},
		"no scheme":                  {"def auth(s):\n    http('users.example.com', h=s.login)\n", "want https://"},
		"a mistake at the top":       {"x = [1][3]\ndef connect(s):\n    pass\n", "test.star:1:8: "},
		"an action at the top":       {"score(1, 'x')\ndef connect(s):\n    pass\n", "test.star:1:6: score() outside of a stage function"},
		"a look-up at the top":       {"x = in_file('a.txt', 'b')\ndef connect(s):\n    pass\n", "test.star:1:12: in_file: not configured"},
		"a new meaning of None":      {"None = 1\ndef connect(s):\n    pass\n", "None cannot be assigned to"},
		"a large file":               {"#" + strings.Repeat("x", 300<<10), "larger than 256 KiB"},
		"deep brackets":              {"x = " + strings.Repeat("(", 100<<10), "excessive nesting"},
		"deep operators":             {"x = " + strings.Repeat("not ", 50<<10) + "1\n", "excessive nesting"},
	} {
		_, err := script.Compile(script.Config{Name: "test.star", Source: c.source})
		var errs script.Errors
		if !errors.As(err, &errs) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	_, err := script.Compile(script.Config{Name: "test.star", Source: "def connect(s):\n    one()\n    two()\n"})
	var errs script.Errors
	if !errors.As(err, &errs) || len(errs) != 2 || errs[1].Line != 3 || errs[1].Column != 5 {
		t.Errorf("%v", err)
	}
}

func TestWhatAScriptSees(t *testing.T) {
	for stage, lines := range map[script.Stage]string{
		script.Connect: `
echo(s.stage, s.client.address, s.client.network, s.client.name, s.client.country, s.listener, s.helo, s.esmtp, s.trusted, s.score, bool(s.tls), s.tls.version, s.tls.verified, s.user)
echo([(f.module, f.symbol, f.result, f.score, f.reason) for f in s.findings], s.found("dnsbl"), s.found("spf"), s.found("spf", "spf:pass"), s.found("dnsbl", "x"))`,
		script.Auth:      `echo(s.login, len(s.password))`,
		script.Recipient: `echo(s.envelope.sender, s.envelope.recipient, s.envelope.recipients, s.envelope.size, domain(s.envelope.sender), local(s.envelope.sender))`,
	} {
		r := said(t, visit(t, at(stage)), strings.TrimSpace(lines))
		want := map[script.Stage][]string{
			script.Connect: {
				"connect 192.0.2.7 192.0.2.0/24 mx1.shop.example  inbound mx1.shop.example True False 2.0 True TLSv1.3 False ",
				`[("dnsbl", "zen.example.org", "match", 2.0, "listed"), ("spf", "spf:pass", "clean", 0.0, "")] True False True False`,
			},
			script.Auth:      {"bob 7"},
			script.Recipient: {`sender@shop.example alice@example.com ["bob@example.com"] 4711 shop.example sender`},
		}[stage]
		if diff := cmp.Diff(want, r.Log); diff != "" {
			t.Errorf("%s: %s", stage, diff)
		}
	}
}

func TestIPv6ClientsHaveA64(t *testing.T) {
	in := visit(t, at(script.Connect))
	in.Session.Client = netip.MustParseAddrPort("[2001:db8:1:2:3::4]:25")
	if r := said(t, in, "echo(s.client.address, s.client.network)"); r.Log[0] != "2001:db8:1:2:3::4 2001:db8:1:2::/64" {
		t.Errorf("%q", r.Log)
	}
	in.Session.Client = netip.MustParseAddrPort("[::ffff:192.0.2.7]:25")
	if r := said(t, in, "echo(s.client.address, s.client.network)"); r.Log[0] != "192.0.2.7 192.0.2.0/24" {
		t.Errorf("%q", r.Log)
	}
}

const mixed = `From: "Shop" <news@Shop.example>
To: alice@example.com
Subject: =?utf-8?q?caf=C3=A9?= offer
X-Two: one
X-Two: two
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html

<p>See <a href="https://www.example.com/offer">here</a></p><p style="display:none">secret</p>
--b
Content-Type: application/octet-stream
Content-Disposition: attachment; filename="run.exe"

MZ
--b--
`

func TestWhatAScriptSeesOfAMessage(t *testing.T) {
	r := said(t, letter(t, mixed), `m = s.message
echo(m.subject, "|", m.author, "|", m.author_domains, m.size > 300)
echo(m.get("x-two"), m.get_all("X-TWO"), m.get("X-None"), m.get("X-None", None), m.get_all("X-None"))
echo(m.text.strip(), "|", m.hidden.strip())
echo([(u.url, u.host, u.domain, u.shown) for u in m.urls])
echo([(f.name, f.part, f.declared, f.encrypted) for f in m.files if f.name])
echo([(p.path, p.names, p.disposition) for p in m.parts])
echo(m.text == m.text, m.urls == m.urls)`)
	want := []string{
		`café offer | "Shop" <news@Shop.example> | ["shop.example"] True`,
		`one ["one", "two"]  None []`,
		`See here | secret`,
		`[("https://www.example.com/offer", "www.example.com", "example.com", "here")]`,
		`[("run.exe", "1.2", ["application/octet-stream"], False)]`,
		`[("1", [], ""), ("1.1", [], ""), ("1.2", ["run.exe"], "attachment")]`,
		`True True`,
	}
	if diff := cmp.Diff(want, r.Log); diff != "" {
		t.Error(diff)
	}
}

func TestDataThatIsNotThereYetSaysWhere(t *testing.T) {
	for lines, want := range map[string]string{
		"s.envelope":      "s.envelope is there in def recipient(s) and def content(s) only",
		"s.message":       "s.message is there in def content(s) only",
		"s.password":      "s.password is there in def auth(s) only",
		"s.nothing":       "session has no .nothing field or method",
		"s.client.nope":   "client has no .nope",
		"s.helo = 'x'":    "can't assign to .helo field of session",
		"s.findings[0]=1": "cannot assign to element of frozen list",
	} {
		r := say(t, visit(t, at(script.Connect)), lines)
		if r.Failed == nil || !strings.Contains(r.Failed.Text, want) || r.Failed.Line != 2 {
			t.Errorf("%s: %+v, want %s", lines, r.Failed, want)
		}
	}
}

func TestWhatAScriptSays(t *testing.T) {
	for lines, want := range map[string]script.Result{
		"accept()":                         {Verb: script.Accept},
		"reject('No')":                     {Verb: script.Reject, Text: "No", Reason: "No"},
		"reject(text='No')":                {Verb: script.Reject, Text: "No", Reason: "No"},
		"reject()":                         {Verb: script.Reject},
		"defer('Later')":                   {Verb: script.Defer, Text: "Later", Reason: "Later"},
		"quarantine('why')":                {Verb: script.Quarantine, Reason: "why"},
		"discard()":                        {Verb: script.Discard},
		"mark(tag='[S] ')":                 {Mark: true, Edits: script.Edits{SubjectTag: "[S] "}},
		"mark()":                           {Mark: true},
		"set_subject('[E] ')":              {Edits: script.Edits{SubjectTag: "[E] "}},
		"deliver(transport='t')":           {Transport: "t"},
		"header('X-A', 'b  c')":            {Edits: script.Edits{Fields: []string{"X-A: b c"}}},
		"add_header('X-A', 'ä')":           {Edits: script.Edits{Fields: []string{"X-A: =?utf-8?q?=C3=A4?="}}},
		"add_header('X-A', 'a\\r\\nB: c')": {Edits: script.Edits{Fields: []string{"X-A: a B: c"}}},
		"remove_header('X-A')":             {Edits: script.Edits{Remove: []string{"X-A"}}},
		"add_recipient('a@b.example')":     {Edits: script.Edits{Copy: []mail.Address{address(t, "a@b.example")}}},
		"redirect('a@b.example')":          {Edits: script.Edits{Redirect: []mail.Address{address(t, "a@b.example")}}},
	} {
		r := said(t, letter(t, mixed), lines+"\necho('on')")
		if r.Verb != "" {
			want.Findings = r.Findings
		} else {
			want.Log = []string{"on"}
		}
		if diff := cmp.Diff(&want, r); diff != "" {
			t.Errorf("%s: %s", lines, diff)
		}
	}
}

func TestScoresAddUpAndEachIsAFinding(t *testing.T) {
	r := said(t, visit(t), "score(2.5, 'young domain: 3 days')\nscore(-1)\necho(s.score)\nreject()")
	want := []mail.Finding{
		{Module: "script", Symbol: "young-domain-3-days", Result: mail.Match, Score: 2.5, Reason: "young domain: 3 days"},
		{Module: "script", Symbol: "score", Result: mail.Match, Score: -1},
	}
	if diff := cmp.Diff(want, r.Findings); diff != "" || r.Score != 1.5 || r.Log[0] != "3.5" {
		t.Errorf("%s %v %v", diff, r.Score, r.Log)
	}
}

func TestDecisionBeforeContent(t *testing.T) {
	for lines, want := range map[string]struct {
		act   mail.Act
		reply string
		delay time.Duration
	}{
		"pass":                         {mail.Accept, "", 0},
		"accept()":                     {mail.Accept, "", 0},
		"reject()":                     {mail.Reject, "550 5.7.1 Refused by policy", 0},
		"reject('Go away')":            {mail.Reject, "550 5.7.1 Go away", 0},
		"delay(1.5)\ndefer('Later')":   {mail.Defer, "451 4.7.1 Later", 1500 * time.Millisecond},
		"delay(1e9)":                   {mail.Accept, "", 5 * time.Minute},
		"drop()":                       {mail.Drop, "", 0},
		"delay(2)\nscore(1)\nfail('')": {mail.Accept, "", 0},
	} {
		d := say(t, visit(t), lines).Decision()
		if d.Act != want.act || d.Reply.String() != want.reply || d.Delay != want.delay {
			t.Errorf("%s: %+v", lines, d)
		}
	}
	if f := say(t, visit(t), "accept()").Decision().Findings; len(f) != 1 || f[0].Symbol != policy.SymbolAllow || f[0].Result != mail.Clean {
		t.Errorf("accept leaves %+v", f)
	}
}

func TestAnswerOfABackend(t *testing.T) {
	for lines, want := range map[string]policy.AuthAnswer{
		"accept(user='Bob', senders=['@x.example'])": {Result: policy.AuthYes, User: "Bob", Senders: []string{"@x.example"}},
		"reject('guess')": {Result: policy.AuthNo, Reason: "guess"},
		"pass":            {Result: policy.AuthNobody},
		"defer()":         {Result: policy.AuthUnknown},
		"fail('broken')":  {Result: policy.AuthUnknown, Reason: "fail: broken"},
		"drop()":          {Result: policy.AuthUnknown},
	} {
		if diff := cmp.Diff(want, say(t, visit(t, at(script.Auth)), lines).Answer()); diff != "" {
			t.Errorf("%s: %s", lines, diff)
		}
	}
}

// Whatever a script does at content, a flow can do with the words it knows.
func TestThenIsWhatFlowsUnderstand(t *testing.T) {
	r := said(t, letter(t, mixed), `mark(tag='[ä "x"] ')
score(1.5)
add_header("X-A", 'quote " and ä')
add_recipient("a@b.example")
redirect('"odd one"@b.example')
quarantine("x")`)
	then := r.Then()
	want := []string{"mark", "score:1.5", `header:"X-A: =?utf-8?q?quote_"_and_=C3=A4?="`, `subject:"[ä "x"] "`, "copy:a@b.example", `redirect:"odd one"@b.example`, "quarantine"}
	if diff := cmp.Diff(want, then); diff != "" {
		t.Error(diff)
	}
	var list []flow.FilterAction
	for _, s := range then {
		a, err := flow.ParseThen(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		list = append(list, a)
	}
	if err := flow.CheckThen(list); err != nil {
		t.Error(err)
	}
}

func TestFailureIsUnknownWithItsPlace(t *testing.T) {
	source := "def helper(x):\n    return x[5]\n\ndef recipient(s):\n    score(1, 'before')\n    deliver(transport='t')\n    delay(3)\n    helper([1])\n"
	r := compile(t, source).Run(t.Context(), visit(t))
	want := &script.Result{
		Score: 1,
		Failed: &script.Failure{Symbol: "error", Line: 2, Column: 13, Text: "list index 5 out of range [-1:0]",
			Traceback: []string{"test.star:2:13 in helper", "test.star:8:11 in recipient"}},
		Findings: []mail.Finding{
			{Module: "script", Symbol: "before", Result: mail.Match, Score: 1, Reason: "before"},
			{Module: "script", Symbol: "error", Result: mail.Unknown, Reason: "test.star:2:13: list index 5 out of range [-1:0]"},
		},
		Log: []string{"at test.star:2:13 in helper", "at test.star:8:11 in recipient", "list index 5 out of range [-1:0]"},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	if then := r.Then(); then != nil {
		t.Errorf("a script that failed wants %v", then)
	}
}

func TestLimitsHaveTheirSymbols(t *testing.T) {
	loop := "for i in range(1 << 40):\n    pass"
	for want, c := range map[string]struct {
		lines  string
		change func(*script.Config)
	}{
		"steps":  {loop, func(c *script.Config) { c.Limits.Steps = 1000 }},
		"time":   {loop, func(c *script.Config) { c.Limits.Steps, c.Limits.Time = 1<<60, time.Millisecond }},
		"memory": {"x = [0] * 1000000", func(c *script.Config) { c.Limits.Memory = 1000 }},
		"error":  {"for i in range(3):\n    dns('a')", func(c *script.Config) { c.Limits.Lookups = 2; c.Lookups.DNS = dnsFunc(noRecords) }},
	} {
		r := say(t, visit(t), c.lines, c.change)
		if r.Failed == nil || r.Failed.Symbol != want || r.Failed.Line == 0 {
			t.Errorf("want %s, got %+v", want, r.Failed)
		}
	}
}

func noRecords(context.Context, string, string) ([]string, error) { return nil, nil }

func TestTheEndOfTheContextEndsAScript(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := compile(t, "def connect(s):\n    for i in range(1 << 40):\n        pass\n", func(c *script.Config) { c.Limits.Steps = 1 << 60 })
	if r := p.Run(ctx, visit(t, at(script.Connect))); r.Failed == nil || r.Failed.Symbol != "timeout" {
		t.Errorf("%+v", r.Failed)
	}
}

func TestWaitingIsNotComputing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := say(t, visit(t), "dns('a')\nfor i in range(20000):\n    pass", func(c *script.Config) {
			c.Lookups.DNS = dnsFunc(func(context.Context, string, string) ([]string, error) {
				time.Sleep(5 * time.Second)
				return nil, nil
			})
		})
		if r.Failed != nil {
			t.Errorf("%+v", r.Failed)
		}
	})
}

func TestAPanicIsUnknown(t *testing.T) {
	p := compile(t, "def recipient(s):\n    dns('a')\n", func(c *script.Config) {
		c.Lookups.DNS = dnsFunc(func(context.Context, string, string) ([]string, error) { panic("bug") })
	})
	for range 3 {
		if r := p.Run(t.Context(), visit(t)); r.Failed == nil || !strings.Contains(r.Failed.Text, "panic: bug") || r.Findings[0].Result != mail.Unknown {
			t.Errorf("%+v", r)
		}
	}
}

func TestThousandsOfSessionsShareOneScript(t *testing.T) {
	p := compile(t, "SEEN = {'a': [1]}\ndef recipient(s):\n    x = [s.envelope.sender] * 50\n    score(len(x), x[0])\n    if s.envelope.size % 3 == 0:\n        SEEN['a'].append(1)\n    reject(s.envelope.sender)\n")
	var wg sync.WaitGroup
	for i := range 2000 {
		wg.Go(func() {
			in := visit(t, func(in *script.Input) {
				in.Envelope.Sender = address(t, fmt.Sprintf("u%d@x.example", i))
				in.Envelope.Size = int64(i)
			})
			r := p.Run(t.Context(), in)
			if i%3 == 0 {
				if r.Failed == nil || !strings.Contains(r.Failed.Text, "frozen list") {
					t.Errorf("%d: %+v", i, r)
				}
			} else if r.Text != fmt.Sprintf("u%d@x.example", i) || r.Findings[0].Reason != r.Text {
				t.Errorf("%d: %+v", i, r)
			}
		})
	}
	wg.Wait()
}

func TestHostileTextStaysText(t *testing.T) {
	in := visit(t)
	in.Session.Helo = "evil\r\n250 ok\u202e\x00ü"
	r := said(t, in, "echo(s.helo)\nscore(1, s.helo)\nreject('550 ' + s.helo)")
	if strings.HasPrefix(r.Text, "550") {
		t.Errorf("text %q", r.Text)
	}
	for _, s := range []string{r.Log[0], r.Findings[0].Reason, r.Findings[0].Symbol, r.Reason} {
		if strings.ContainsAny(s, "\r\n\x00\u202e") {
			t.Errorf("%q", s)
		}
	}
	if err := flow.CheckReply(r.Text); err != nil {
		t.Errorf("%q: %v", r.Text, err)
	}
}

func TestThePasswordIsNotLogged(t *testing.T) {
	r := say(t, visit(t, at(script.Auth)), "echo('the password is ' + s.password)\nfail(s.password)")
	if text := fmt.Sprintf("%+v %+v", r, r.Failed); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
}

func TestDeliverKnowsTheTransports(t *testing.T) {
	only := func(c *script.Config) { c.Transports = []string{"a"} }
	for _, line := range []string{"deliver(transport='nope')", "deliver('nope')"} {
		_, err := script.Compile(script.Config{Name: "x.star", Source: "def recipient(s):\n    " + line + "\n", Transports: []string{"a"}})
		if err == nil || !strings.Contains(err.Error(), `x.star:2:`) || !strings.Contains(err.Error(), `no transport is called "nope"`) {
			t.Errorf("%s: %v", line, err)
		}
	}
	r := say(t, visit(t), "deliver(transport=local('nope@example.com'))", only)
	if r.Failed == nil || !strings.Contains(r.Failed.Text, `no transport is called "nope"`) {
		t.Errorf("%+v", r)
	}
}

func TestStageWithoutFunctionSaysNothing(t *testing.T) {
	p := compile(t, "def connect(s):\n    reject()\n")
	if r := p.Run(t.Context(), visit(t)); r.Verb != "" || r.Failed != nil {
		t.Errorf("%+v", r)
	}
	if got := p.Stages(); !slices.Equal(got, []script.Stage{script.Connect}) {
		t.Errorf("%v", got)
	}
}

func TestPatternsFindWhatTheLibraryFinds(t *testing.T) {
	for _, c := range []struct{ lines, want string }{
		{`echo(match(r"(\d)(x)?", "a1b"))`, `["1", "1", ""]`},
		{`echo(match("z", "abc"))`, "None"},
		{`echo(findall(r"\b\w", "ab cd"))`, `["a", "c"]`},
		{`echo(findall(r"(\w)\d", "a1b2"))`, `["a", "b"]`},
		{`echo(findall("", "ab"))`, `["", "", ""]`},
		{`echo(len(findall(r"^x", LONG)), len(findall(r"(?m)^\^", LONG)), findall(r"\bab(\d+)", LONG)[:2], len(findall("x*", LONG)))`, `1 1000 ["12", "12"] 1000`},
	} {
		source := "LONG = \"x1 ab12cd \\n^ä\" * 30000\ndef recipient(s):\n    " + c.lines + "\n"
		// The race detector makes it slow, and how long it takes is not what this is about.
		patient := func(cfg *script.Config) { cfg.Limits.Time = time.Minute }
		if r := compile(t, source, patient).Run(t.Context(), visit(t)); r.Failed != nil || r.Log[0] != c.want {
			t.Errorf("%s: %v %+v", c.lines, r.Log, r.Failed)
		}
	}
}
