package mimetree

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gatepost/internal/mail"
)

// What a trick hides must not be hidden better where the message is a part of
// another one.
func TestTricksHideNothingInsideOfOtherMessages(t *testing.T) {
	wrap := map[string]func(string) string{
		"attached as a message": func(msg string) string {
			return "Content-Type: multipart/mixed; boundary=wrapper\r\n\r\n--wrapper\r\nContent-Type: text/plain\r\n\r\nsee below\r\n--wrapper\r\nContent-Type: message/rfc822\r\n\r\n" + msg + "\r\n--wrapper--\r\n"
		},
		"attached as a message in base64": func(msg string) string {
			return "Content-Type: multipart/mixed; boundary=wrapper\r\n\r\n--wrapper\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64([]byte(msg)) + "\r\n--wrapper--\r\n"
		},
		"the message itself": func(msg string) string { return "Content-Type: message/rfc822\r\n\r\n" + msg },
		"in a winmail.dat": func(msg string) string {
			return "Content-Type: application/ms-tnef\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(tnef("x.eml", []byte(msg)))
		},
		"with LF line ends": func(msg string) string { return strings.ReplaceAll(msg, "\r\n", "\n") },
	}
	for how, fn := range wrap {
		for _, tr := range tricks(t) {
			if !slices.Contains(tr.want, "found") || strings.Contains(tr.name, "mbox line") || strings.Contains(tr.name, "space in front of the first") {
				continue
			}
			t.Run(how+"/"+tr.name, func(t *testing.T) {
				if tree := read(t, fn(tr.msg)); !holds(t, tree, payload()) {
					t.Error("hidden")
					logTree(t, tree)
				}
			})
		}
	}
}

func TestSpansAndPathsDescribeTheMessage(t *testing.T) {
	msg := "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\nHello\r\n--b\r\n" +
		"Content-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\ninner\r\n--b--\r\n"
	tree := read(t, msg)
	type row struct{ path, header, body string }
	var got []row
	for _, p := range tree.Parts {
		got = append(got, row{p.Path, msg[p.Header.Start:p.Header.End], msg[p.Body.Start:p.Body.End]})
	}
	want := []row{
		{"1", msg[:strings.Index(msg, "preamble")], msg[strings.Index(msg, "preamble"):]},
		{"1.1", "Content-Type: text/plain; charset=UTF-8\r\n\r\n", "Hello"},
		{"1.2", "Content-Type: message/rfc822\r\n\r\n", "Subject: y\r\n\r\ninner"},
		{"1.2.1", "Subject: y\r\n\r\n", "inner"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if c := tree.Parts[1].Charset; c != "utf-8" {
		t.Errorf("charset %q", c)
	}
	raw, err := io.ReadAll(tree.Raw().Open())
	if err != nil || string(raw) != msg {
		t.Errorf("raw reading differs: %v", err)
	}
	if b, err := json.Marshal(tree); err != nil || !bytes.Contains(b, []byte(`"path":"1.2.1"`)) {
		t.Errorf("JSON: %v %s", err, b)
	}
}

func TestOpenAtReadsWhatOpenReads(t *testing.T) {
	big := bytes.Repeat(payload(), 3000)
	for _, msg := range []string{
		"Content-Transfer-Encoding: base64\r\n\r\n" + b64(big),
		"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + qp(big),
		"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n" + uu(big) + "`\r\nend\r\n",
		"Content-Transfer-Encoding: x-yencode\r\n\r\n=ybegin line=128 size=1 name=x\r\n" + yenc(big) + "\r\n=yend size=1\r\n",
		"\r\n" + binhex("x", big, nil),
		"\r\n" + string(big),
	} {
		tree := read(t, msg)
		for _, p := range tree.Parts {
			for _, c := range p.Contents {
				want, err := io.ReadAll(c.Open())
				if err != nil {
					t.Fatal(err)
				}
				body, err := c.OpenAt(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, body.Size())
				// In pieces, from the end to the start.
				for off := int64(len(got)); off > 0; {
					n := min(off, 100_003)
					off -= n
					if _, err := body.ReadAt(got[off:off+n], off); err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s %s: OpenAt gives %d bytes, Open %d", c.Encoding, c.Variant, len(got), len(want))
				}
				if n, err := body.ReadAt(make([]byte, 2), body.Size()-1); n != 1 || err != io.EOF {
					t.Errorf("read over the end: %d %v", n, err)
				}
			}
		}
		if !holds(t, tree, big) {
			t.Errorf("%.40q does not hold the file", msg)
		}
	}
}

func TestATreeMayBeReadByManyGoroutines(t *testing.T) {
	big := bytes.Repeat(payload(), 2000)
	mixed := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(big) + "\r\n--b--\r\n"
	tree := read(t, "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"+b64([]byte(mixed)))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if !holds(t, tree, big) {
				t.Error("the file is missing")
			}
		})
	}
	wg.Wait()
}

// counted counts the bytes that are read from a body.
type counted struct {
	text
	bytes atomic.Int64
	fail  int64 // where reading fails, 0 for nowhere
}

var errDisk = errors.New("disk on fire")

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.bytes.Add(int64(len(p)))
	if c.fail > 0 && off+int64(len(p)) > c.fail {
		return 0, errDisk
	}
	return c.text.ReadAt(p, off)
}

func TestAnOrdinaryMailIsReadFromItsBodyOnce(t *testing.T) {
	msg := ordinary(20_000)
	body := &counted{text: text(msg)}
	tree, err := Read(t.Context(), body, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tree.Parts {
		for _, c := range p.Contents {
			if _, err := io.Copy(io.Discard, c.Open()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := body.bytes.Load(); n > int64(len(msg)) {
		t.Errorf("%d bytes read of %d", n, len(msg))
	}
}

func TestErrorsOfTheBodyAreErrors(t *testing.T) {
	msg := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n"+strings.Repeat("x", 3000)+"\r\n", 300)
	for _, fail := range []int64{1, 300_000, 700_000} {
		if _, err := Read(t.Context(), &counted{text: text(msg), fail: fail}, Limits{}); !errors.Is(err, errDisk) {
			t.Errorf("failure at %d: %v", fail, err)
		}
	}
	if _, err := Read(t.Context(), &short{text: text(msg)}, Limits{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short body: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, text(msg), Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// short has fewer bytes than it says.
type short struct{ text }

func (s *short) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(string(s.text[:len(s.text)/2])).ReadAt(p, off)
}

func TestLimitsAreFindings(t *testing.T) {
	tests := []struct {
		name, msg string
		limits    Limits
		want      string
	}{
		{"depth of multiparts", nestedMultiparts(60), Limits{}, symLimitDepth},
		{"depth of messages", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 60) + "x", Limits{}, symLimitDepth},
		{"depth of encoded messages", encodedMessages(8), Limits{Depth: 5}, symLimitDepth},
		{"parts", manyParts(30), Limits{Parts: 20}, symLimitParts},
		{"files in a text", "\r\n" + strings.Repeat("begin 644 x\r\n!8`\r\n", 1500), Limits{}, symLimitParts},
		{"header section", "X: " + strings.Repeat("y", 300<<10) + "\r\n\r\nx", Limits{}, symLimitHeader},
		{"field", "Content-Type: text/plain; x=" + strings.Repeat("y", 20<<10) + "\r\n\r\nx", Limits{}, symLimitField},
		{"fields", strings.Repeat("Content-Type: text/plain\r\n", 100) + "\r\nx", Limits{}, symLimitField},
		{"lines", "\r\n" + strings.Repeat("-- \r\n", 200), Limits{Lines: 100}, symLimitLines},
		{"work", overlapping(500, 4<<10), Limits{Work: 1, Parts: 5000}, symLimitWork},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree, err := Read(t.Context(), text(tt.msg), tt.limits)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(tree.Findings, func(f mail.Finding) bool { return f.Symbol == tt.want })
			if i < 0 {
				t.Fatalf("no finding %s: %v", tt.want, tree.Findings)
			}
			if tree.Findings[i].Result != mail.Unknown {
				t.Errorf("result %s, want unknown", tree.Findings[i].Result)
			}
		})
	}
}

func nestedMultiparts(depth int) string {
	var b strings.Builder
	for i := range depth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	return b.String() + "\r\nx"
}

func encodedMessages(depth int) string {
	msg := "Subject: x\r\n\r\nx"
	for range depth {
		msg = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64([]byte(msg))
	}
	return msg
}

func manyParts(n int) string {
	return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n", n) + "--b--\r\n"
}

// overlapping has many undeclared boundaries, each of which alone would reach to
// the end of the message.
func overlapping(n, size int) string {
	var b strings.Builder
	b.WriteString("Content-Type: multipart/mixed; boundary=x\r\n\r\n")
	for i := range n {
		fmt.Fprintf(&b, "--b%d\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n", i, strings.Repeat("QUFB", size/4))
	}
	return b.String()
}

// bombs are messages that cost readers more than their size.
func bombs() map[string]string {
	var commas strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&commas, "; name*%d*=%%41", i)
	}
	return map[string]string{
		"20,000 nested multiparts without ends": nestedMultiparts(20_000),
		"20,000 messages in messages":           strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 20_000),
		"100,000 parts":                         manyParts(100_000),
		"100,000 empty delimiters":              "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n", 100_000),
		"2,000 boundaries that overlap":         overlapping(2000, 400),
		"one boundary for all levels":           strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", 20_000),
		"delimiters that end each other":        "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + delimiterLadder(300),
		"a header of a million lines":           strings.Repeat("a:\r\n", 500_000),
		"a header of one folded field":          "Content-Type: text/plain" + strings.Repeat("\r\n a", 300_000),
		"a million Content- fields":             strings.Repeat("Content-Type: x\r\n", 100_000),
		"a parameter in 20,000 pieces":          "Content-Type: text/plain" + commas.String() + "\r\n\r\nx",
		"nothing but quotes":                    "Content-Type: text/plain; name=" + strings.Repeat(`"\`, 200_000) + "\r\n\r\nx",
		"nothing but comments":                  "Content-Type: text/plain; name=" + strings.Repeat(`(`, 400_000) + "\r\n\r\nx",
		"nothing but encoded words":             "Content-Disposition: attachment; filename=\"" + strings.Repeat(`=?a?q?`, 100_000) + "\"\r\n\r\nx",
		"nothing but CR":                        strings.Repeat("\r", 1_000_000),
		"nothing but LF":                        strings.Repeat("\n", 1_000_000),
		"nothing but hyphens":                   "\r\n" + strings.Repeat("-", 1_000_000),
		"one line":                              strings.Repeat("x", 2_000_000),
		"10,000 uuencoded files":                "\r\n" + strings.Repeat("begin 644 x\r\n!8`\r\n", 50_000),
		"uuencoded files that do not end":       "\r\n" + strings.Repeat("begin 644 x\r\n!8`\r\nM"+strings.Repeat("8", 60)+"\r\n", 10_000),
		"BinHex of zeros":                       "\r\n" + binhexBomb(),
		"base64 of base64 of base64":            encodedMessages(30),
		"damaged base64 of a megabyte":          "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("QUFB=.QQ\r\n", 100_000),
		"damaged quoted-printable":              "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("=X=4=  =ab=\r\n", 100_000),
		"winmail.dat in winmail.dat":            "Content-Transfer-Encoding: base64\r\n\r\n" + b64(nestedTNEF(40)),
		"header sections without end":           endlessHeaders(2000),
		"delimiters behind CR":                  "From: x\r\n\r\n" + strings.Repeat("\r--b\rContent-Type: x/y\r", 40_000),
		"parts that nobody declared":            "\r\n" + strings.Repeat("--\r\nContent-Type: x/y\r\n\r\nQUFB\r\n", 40_000),
	}
}

func delimiterLadder(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("--b" + strings.Repeat("-", i) + "\r\nContent-Type: text/plain\r\n\r\n")
	}
	return b.String()
}

func endlessHeaders(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "--b%d\r\nContent-Type: text/plain\r\n%s", i, strings.Repeat("x: y\r\n", 80))
	}
	return "Content-Type: multipart/mixed; boundary=b0\r\n\r\n" + b.String()
}

// binhexBomb holds a file that is much longer than it seems.
func binhexBomb() string {
	s := binhex("x", bytes.Repeat([]byte{0}, 4<<20), nil)
	return s
}

func nestedTNEF(n int) []byte {
	b := []byte("core")
	for range n {
		b = tnefPlain(b)
	}
	return b
}

// tnefPlain is a winmail.dat that holds its file once.
func tnefPlain(data []byte) []byte {
	whole := tnef("x", nil)
	at := bytes.Index(whole, []byte("SHORT~1.TXT"))
	out := append([]byte{}, whole[:at+len("SHORT~1.TXT\x00")+2]...)
	out = append(out, 2, 0x0f, 0x80, 0x06, 0x00)
	out = append(out, byte(len(data)), byte(len(data)>>8), byte(len(data)>>16), byte(len(data)>>24))
	return append(append(out, data...), 0, 0)
}

// The work that a message causes is bounded by its size: this counts the bytes
// that contents cover, which everything else is proportional to.
func TestBombsCostNoMoreThanTheirSize(t *testing.T) {
	for name, msg := range bombs() {
		t.Run(name, func(t *testing.T) {
			tree := read(t, msg)
			checkTree(t, tree, int64(len(msg)))
		})
	}
}

// checkTree checks what holds for every tree.
func checkTree(t *testing.T, tree *Tree, size int64) {
	t.Helper()
	limits := Limits{}.orDefaults()
	if len(tree.Parts) > limits.Parts {
		t.Errorf("%d parts", len(tree.Parts))
	}
	var covered int64
	for i, p := range tree.Parts {
		if i == 0 != (p.Parent == nil) || p.Parent != nil && !slices.Contains(p.Parent.Children, p) {
			t.Errorf("part %s is not where it should be", p.Path)
		}
		if len(p.Types) == 0 {
			t.Errorf("part %s has no type", p.Path)
		}
		spans := []mail.Span{p.Raw}
		if !p.Nested {
			spans = append(spans, p.Header, p.Body)
		}
		mains := 0
		for _, c := range p.Contents {
			spans = append(spans, c.Raw)
			covered += c.encodedSize()
			if c.Main {
				mains++
			}
		}
		if mains > 1 {
			t.Errorf("part %s has %d main contents", p.Path, mains)
		}
		for _, s := range spans {
			if s.Start < 0 || s.Start > s.End || s.End > size {
				t.Errorf("part %s has the span %v in a message of %d bytes", p.Path, s, size)
			}
		}
	}
	if most := int64(limits.Work)*size + freeWork; covered > most {
		t.Errorf("contents cover %d bytes of a message of %d, want at most %d", covered, size, most)
	}
	seen := map[string]bool{}
	for _, f := range tree.Findings {
		if seen[f.Symbol] || f.Module != "mime" || f.Result == "" || f.Reason == "" || len(f.Reason) > maxReason {
			t.Errorf("bad finding %+v", f)
		}
		seen[f.Symbol] = true
	}
}

func TestEverySymbolCanBeFound(t *testing.T) {
	missing := map[string]bool{}
	for _, s := range Symbols() {
		if s.Name == "" || s.Meaning == "" || s.Result == "" || s.Ambiguous != (s.Result == mail.Match) {
			t.Errorf("symbol %+v is not complete", s)
		}
		missing[s.Name] = true
	}
	note := func(tree *Tree) {
		for _, f := range tree.Findings {
			delete(missing, f.Symbol)
		}
	}
	for _, tr := range tricks(t) {
		note(read(t, tr.msg))
	}
	for _, msg := range bombs() {
		note(read(t, msg))
	}
	note(read(t, "Content-Type: application/x; name=a.png\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nx"))
	note(read(t, "Content-Transfer-Encoding: base64\r\n\r\n"+b64(tnef("x", []byte("abc"))[:100])))
	small, err := Read(t.Context(), text("\r\n"+strings.Repeat("-- \r\n", 200)), Limits{Lines: 100})
	if err != nil {
		t.Fatal(err)
	}
	note(small)
	for s := range missing {
		t.Errorf("nothing gives %s", s)
	}
}

// ordinary makes a mail as people send it: text, HTML and an attachment.
func ordinary(size int) string {
	var b strings.Builder
	for i := range 12 {
		fmt.Fprintf(&b, "Received: from host%d.example by mx.example with ESMTPS id %d;\r\n\tMon, 1 Jan 2001 00:00:00 +0000\r\n", i, i)
	}
	b.WriteString("From: A <a@b.example>\r\nTo: c@d.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nDate: Mon, 1 Jan 2001 00:00:00 +0000\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=\"----=_Part_1\"\r\n\r\n------=_Part_1\r\nContent-Type: multipart/alternative; boundary=\"----=_Part_2\"\r\n\r\n------=_Part_2\r\n")
	plain := strings.Repeat("Liebe Leute, hier ist ein Text mit Umlauten: =C3=A4=C3=B6=C3=BC und so weiter.\r\n", size/4/80)
	html := "<html><body>" + strings.Repeat("<p style=3D\"margin:0\">Liebe Leute, hier ist ein <b>Text</b>.</p>\r\n", size/4/70) + "</body></html>\r\n"
	b.WriteString("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + plain + "------=_Part_2\r\n" +
		"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + html + "------=_Part_2--\r\n\r\n------=_Part_1\r\n" +
		"Content-Type: application/pdf; name=\"report.pdf\"\r\nContent-Disposition: attachment; filename=\"report.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	b.WriteString(wrap(base64.StdEncoding.EncodeToString(append([]byte("%PDF-1.4\n"), bytes.Repeat([]byte("0123456789abcde"), size/2/20)...)), 76))
	b.WriteString("\r\n------=_Part_1--\r\n")
	return b.String()
}

func TestAnOrdinaryMailGivesNoFinding(t *testing.T) {
	tree := read(t, ordinary(20_000))
	if len(tree.Findings) > 0 {
		t.Errorf("findings %v", tree.Findings)
	}
	if len(tree.Parts) != 5 {
		t.Errorf("%d parts, want 5", len(tree.Parts))
		logTree(t, tree)
	}
	for _, p := range tree.Parts {
		if len(p.Contents) > 1 {
			t.Errorf("part %s has %d contents", p.Path, len(p.Contents))
		}
	}
}

// A program that does not see the field shows the text as it stands.
func TestWhatIsDescribedByAHiddenFieldIsReadWithoutItToo(t *testing.T) {
	const text = "see https://evil.example/ now\r\n"
	for _, field := range []string{"\r\nContent-Transfer-Encoding: base64\r\nContent-Type: image/png", "Content-Transfer-Encoding  base64\r\nContent-Type  image/png"} {
		tree := read(t, field+"\r\n\r\n"+text)
		root, found := tree.Parts[0], false
		for _, c := range root.Contents {
			data, err := io.ReadAll(c.Open())
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.HasSuffix(string(data), text)
		}
		if !found || !slices.Contains(root.Types, "text/plain") {
			t.Errorf("%q: types %v, the text is read: %v", field, root.Types, found)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, tr := range tricks(f) {
		f.Add([]byte(tr.msg))
	}
	for _, msg := range bombs() {
		if len(msg) < 100_000 {
			f.Add([]byte(msg))
		}
	}
	f.Add([]byte("Content-Type: a\xd6\xd6\xd6\xd6\xd6; x; name=evil.exe\r\n\r\nx")) // longer in lower case
	f.Add([]byte("\r\nbegin \r\nx"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		tree := read(t, string(msg))
		checkTree(t, tree, int64(len(msg)))
		for _, p := range tree.Parts {
			for _, c := range p.Contents {
				n, err := io.Copy(io.Discard, c.Open())
				if err != nil {
					t.Fatal(err)
				}
				body, err := c.OpenAt(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if body.Size() != n {
					t.Errorf("OpenAt has %d bytes, Open %d", body.Size(), n)
				}
			}
		}
	})
}

func BenchmarkReadOrdinary(b *testing.B) {
	for _, size := range []int{2_000, 20_000, 10_000_000} {
		msg := ordinary(size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				read(b, msg)
			}
		})
	}
}

func BenchmarkReadBombs(b *testing.B) {
	for name, msg := range bombs() {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				read(b, msg)
			}
		})
	}
}
