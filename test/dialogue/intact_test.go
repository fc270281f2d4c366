package dialogue

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// MIM-27: what is delivered is what was scanned, and that is what was sent, less
// nothing and with fields in front only; what is quarantined is what was sent. A
// hundred shapes of messages and several hundred mutants of them go to two
// recipients: the flow of one delivers everything, that of the other holds what is
// ambiguous, so that the same message is often both delivered and held.
func TestContentComesOutAsItWentIn(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 104857600"}})
	deliver := `{ use = "structure", on_ambiguous = "deliver", on_encrypted = "deliver", on_damaged = "deliver", on_limit = "deliver", on_unknown = "defer" }, ` +
		`{ use = "filters" }, { use = "links" }, { use = "bayes" }, { use = "score", mark = 50 }`
	g := behind(t, s, gatepost.Settings{Listener: scanning, Limits: "max_sessions_per_ip = 100",
		More: filter("nothing", "body = 'no such words'", `then = "reject"`) + flowOf(`{ use = "filters" }, { use = "links" }, { use = "score", mark = 50 }`) +
			"[[flow]]\nname = \"all\"\nstage = \"content\"\nblocks = [" + deliver + "]\n[[domain]]\nname = \"all.example\"\ntransport = \"next\"\nflows = { content = \"all\" }\n"})
	const seed = 27
	sent := append(shapes(), mutants(rand.New(rand.NewPCG(seed, 1)), 400)...)
	sent = append(sent, corpus(t)...)
	ids := make([]string, len(sent))
	var wg sync.WaitGroup
	const clients = 4
	for n := range clients {
		c := g.Hello("")
		wg.Go(func() {
			for i := n; i < len(sent); i += clients {
				r, err := c.Deliver("ada@out.example", []string{fmt.Sprintf("m%d@all.example", i), fmt.Sprintf("m%d@in.example", i)}, sent[i])
				if err != nil || r.Code != 250 {
					t.Errorf("message %d: %v, %v: %.500q", i, r, err, sent[i])
					return
				}
				_, id, _ := strings.Cut(r.Text(), "(")
				ids[i] = strings.TrimSuffix(id, ")")
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	drained(t, g)
	delivered := map[string][]byte{}
	for _, m := range s.Mails() {
		for _, to := range m.To {
			to, _, _ = strings.Cut(to, " ")
			delivered[to] = m.Data
		}
	}
	api := apiOf(g)
	both := 0
	for i, want := range sent {
		all, in := delivered[fmt.Sprintf("<m%d@all.example>", i)], delivered[fmt.Sprintf("<m%d@in.example>", i)]
		intact(t, i, want, all)
		if in != nil {
			intact(t, i, want, in)
			continue
		}
		if got := body(t, api, "/api/v1/quarantine/"+ids[i]+"/body"); !bytes.Equal(got, want) {
			t.Errorf("message %d: the quarantine has %.300q, sent was %.300q", i, got, want)
		}
		both++
	}
	t.Logf("%d messages, %d of them held for one of two", len(sent), both)
	if both < 20 || both > len(sent)-20 {
		t.Errorf("%d of %d messages were held: the shapes show nothing", both, len(sent))
	}
}

// intact checks that a message arrived with nothing but our fields in front.
func intact(t *testing.T, i int, sent, got []byte) {
	t.Helper()
	// DATA ends with a line end, whatever the message ended with.
	front, ok := bytes.CutSuffix(got, sent)
	if !ok {
		t.Errorf("message %d: sent was %.400q, there arrived %.800q", i, sent, got)
		return
	}
	received := 0
	for line := range strings.Lines(string(front)) {
		switch name, _, _ := strings.Cut(line, ":"); {
		case name == "Received":
			received++
		case strings.HasPrefix(name, "X-Gatepost-"), strings.HasPrefix(line, "\t"), strings.HasPrefix(line, " "):
		default:
			t.Errorf("message %d: in front stands %q", i, line)
		}
	}
	if received != 1 || !strings.HasPrefix(string(front), "X-Gatepost-ID: ") {
		t.Errorf("message %d: in front stands %q", i, front)
	}
}

// apiOf talks to the gateway's socket.
func apiOf(g *gatepost.Instance) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", g.SocketFile)
	}}}
}

// body is what the API has at a path.
func body(t *testing.T, api *http.Client, path string) []byte {
	t.Helper()
	resp, err := api.Get("http://gatepost" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s %.200s, %v", path, resp.Status, b, err)
	}
	return b
}

// shapes are messages as they are, and as they should not be.
func shapes() (all [][]byte) {
	head := "From: ada@out.example\nTo: bob@in.example\nSubject: shape\nMIME-Version: 1.0\n"
	long := strings.Repeat("x", 5000)
	words := strings.Repeat("Some words with a link to http://www.example.com/path?a=b and = signs.\n", 30)
	text := base64.StdEncoding.EncodeToString([]byte(words))
	qp := "a =3D b=20\nsoft=\n break \t\n=4x =\n.\n..\n"
	bodies := []string{
		"", "\n", "body\n", "\n\n\n", ".\n", "..\n.\n.a\n", words, long + "\n", strings.Repeat("x", 998) + "\n", strings.Repeat(long+"\n.\n", 30),
		"caf\xc3\xa9 \xff\xfe \x80\n", "tabs\tand\x01\x02\x7f\x1b[0m\n", "begin 644 a.txt\n#0V%T\n`\nend\n", "=ybegin line=128 size=3 name=a\n\x8d\n=yend size=3\n",
		"From the start of a line\n>From there\n", " leading\n\ttabs\n trailing \t \n", qp, text + "\n",
	}
	kinds := []string{
		"", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n", "Content-Type: text/html\n",
		"Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n", "Content-Type: application/octet-stream; name=\"a.bin\"\nContent-Transfer-Encoding: base64\n",
	}
	add := func(s string) { all = append(all, []byte(crlf(s))) }
	for _, b := range bodies {
		for _, k := range kinds {
			add(head + k + "\n" + b)
		}
		add(head + "Content-Type: multipart/mixed; boundary=\"=b\"\n\npreamble\n--=b\n" + kinds[1] + "\n" + b + "\n--=b\nContent-Type: message/rfc822\n\n" + head + "\n" + b + "--=b--\nepilogue\n")
	}
	for _, h := range []string{
		"Subject: no body", "no header at all\n", "\n\nno header, but a body\n", "Subject: folded\n\tonce\n and again\nEmpty:\nX:y\n\nbody\n", "Bad field without a colon\nSubject: x\n\nbody\n",
		"Subject : blank before the colon\n\nbody\n", "Subject: " + strings.Repeat("long ", 2000) + "\n\nbody\n", "Subject: =?utf-8?q?caf=C3=A9?= =?bad\n\nbody\n", "Subject: caf\xc3\xa9\n\nbody\n",
		strings.Repeat("X-Many: field\n", 500) + "\nbody\n", "Subject: one\nSubject: two\n\nbody\n", "Content-Type: multipart/mixed\n\n--\n--\n", "Content-Type: multipart/mixed; boundary=a\nContent-Type: text/plain; boundary=b\n\n--a\n\nx\n--b\n",
		"Authentication-Results: other.example; spf=pass\nX-Other: gatepost\n\nbody\n", "Content-Transfer-Encoding: base64\nContent-Transfer-Encoding: 7bit\n\nTVo=\n",
	} {
		add(strings.TrimSuffix(h, "\n") + "\n")
	}
	return all
}

// mutants are shapes with pieces changed, doubled, moved and taken out. They have
// the line ends of the wire and no NUL: what is done with others is for other tests.
func mutants(r *rand.Rand, n int) (all [][]byte) {
	seeds := shapes()
	pieces := []string{"--=b", "--=b--", "\r\n\r\n", "Content-Type: ", "boundary", "\"", "=", ";", "\r\n\t", "\r\n.", "--", "base64", "=?utf-8?b?", "(", "\x80", "\xff", "\r\n"}
	for len(all) < n {
		m := bytes.Clone(seeds[r.IntN(len(seeds))])
		m = m[:min(len(m), 20_000)]
		for range 1 + r.IntN(8) {
			at := r.IntN(len(m) + 1)
			to := min(len(m), at+r.IntN(40))
			switch r.IntN(5) {
			case 0:
				m = append(m[:at:at], m[to:]...)
			case 1:
				m = append(m[:at:at], append([]byte(pieces[r.IntN(len(pieces))]), m[at:]...)...)
			case 2:
				m = append(m[:to:to], append(bytes.Clone(m[at:to]), m[to:]...)...)
			case 3:
				other := seeds[r.IntN(len(seeds))]
				from := r.IntN(len(other) + 1)
				m = append(m[:at:at], append(bytes.Clone(other[from:min(len(other), from+200)]), m[at:]...)...)
			case 4:
				if at < len(m) {
					m[at] = byte(1 + r.IntN(255))
				}
			}
		}
		m = bytes.TrimLeft(m, " \t") // a field before the first would be cut: it could continue one of ours
		m = []byte(strings.NewReplacer("\r\n", "\r\n", "\r", "", "\n", "", "\x00", "").Replace(string(m)))
		all = append(all, append(bytes.TrimSuffix(m, []byte("\r\n")), '\r', '\n'))
	}
	return all
}

// corpus is a collection of crafted messages where there is one.
func corpus(t *testing.T) (all [][]byte) {
	t.Helper()
	root := os.Getenv("GATEPOST_CORPORA")
	if root == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(root, "noxxi", "hide-filename", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages in %s: %v", root, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n")); bareAt(string(b)) < 0 {
			all = append(all, bytes.TrimLeft(b, " \t"))
		}
	}
	return all
}

// What claims to be ours is taken out, from whomever it comes, and what only looks
// like it stays.
func TestForgedFieldsAreRemovedFromScannedMail(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("n", "subject = 'tag'", `then = 'subject:"[T] "'`) + flowOf(`{ use = "filters" }, { use = "score", mark = 5 }`)})
	forged := "X-Gatepost-Verdict: deliver\nx-gatepost-score: -99\n\tand more\nAuthentication-Results: gw.example.com; spf=pass\nSubject: %s\nAuthentication-Results: (x) GW.example.com\n 1; dkim=pass\n" +
		"X-GATEPOST-ID: 01hzy3v7q2r8m5n6k4j3h2g1f0\nAuthentication-Results: other.example; spf=fail\nX-Gatepostal: stays\n\nX-Gatepost-Body: stays\n"
	const clean = "%sAuthentication-Results: other.example; spf=fail\nX-Gatepostal: stays\n\nX-Gatepost-Body: stays\n"
	for i, source := range []string{"", gatepost.Trusted} {
		for subject, want := range map[string]string{"plain": "Subject: plain\n", "tag": "Subject: [T] tag\n"} {
			to := fmt.Sprintf("%s%d@in.example", subject, i)
			give(t, g.Hello(source), "ada@out.example", to, fmt.Sprintf(forged, subject))
			m := theMail(t, s, to)
			front := strings.Join(added(t, m, crlf(fmt.Sprintf(clean, want))), "")
			if strings.Count(front, "X-Gatepost-Verdict: deliver\r\n") != 1 || strings.Count(strings.ToLower(front), "x-gatepost-score") != 1 ||
				strings.Contains(front, "-99") || strings.Contains(front, "=pass") || strings.Contains(front, "01hzy3v7q2r8m5n6k4j3h2g1f0") {
				t.Errorf("in front stands %s", front)
			}
		}
	}
}

// A reload changes what filters and flows say in sessions from then on; one that is
// open, and the message under way in it, keep what held when it began.
func TestFiltersAndFlowsAreReloaded(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	settings := func(blocks, word string) gatepost.Settings {
		return gatepost.Settings{Next: s.Addr, Listener: scanning, More: filter("no", "subject = '"+word+"'", `then = "reject"`, `reply = "No `+word+`"`) + flowOf(blocks)}
	}
	g := behind(t, s, settings(`{ use = "filters" }`, "apples"))
	open, idle := g.Hello(""), g.Hello("")
	judge := func(c *wire.Conn, subject, want string) {
		t.Helper()
		if r, err := c.Deliver("ada@out.example", []string{"bob@in.example"}, []byte("Subject: "+subject+"\r\n\r\n")); err != nil || !strings.HasPrefix(r.String(), want) {
			t.Errorf("%s: %v, %v, want %s", subject, r, err, want)
		}
	}
	judge(idle, "apples", "554 5.7.1 No apples")
	if err := open.Open("ada@out.example", "bob@in.example"); err != nil {
		t.Fatal(err)
	}
	if err := open.Send("Subject: apples\r\n"); err != nil {
		t.Fatal(err)
	}
	g.Configure(settings(`{ use = "filters" }`, "pears"))
	if out, err := g.Run("reload"); err != nil {
		t.Fatal(out, err)
	}
	if err := open.Send("\r\nbody\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := open.Reply(); err != nil || !strings.HasPrefix(r.String(), "554 5.7.1 No apples") {
		t.Errorf("the message under way: %v, %v", r, err)
	}
	judge(idle, "apples", "554 5.7.1 No apples")
	judge(idle, "pears", "250")
	second := g.Hello("")
	judge(second, "apples", "250")
	judge(second, "pears", "554 5.7.1 No pears")
	g.Configure(settings(`{ use = "structure" }`, "pears"))
	if out, err := g.Run("reload"); err != nil {
		t.Fatal(out, err)
	}
	third := g.Hello("")
	judge(third, "pears", "250")
	judge(second, "pears", "554 5.7.1 No pears")

	// What is wrong leaves everything as it was, and says where.
	bad := settings(`{ use = "filters" }`, "(")
	g.Configure(bad)
	if out, err := g.Run("reload"); err == nil || !strings.Contains(err.Error(), "subject") {
		t.Errorf("a bad expression: %q, %v", out, err)
	}
	judge(third, "pears", "250")
	judge(g.Hello(""), "pears", "250")
	drained(t, g)
	if n := len(s.Mails()); n != 5 {
		t.Errorf("%d mails, want 5", n)
	}
}
