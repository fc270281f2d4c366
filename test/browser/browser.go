// Package browser drives the pages of the administration with a real Chromium
// against the real binary.
//
//	g := gatepost.Start(t, gatepost.Options{})
//	b := browser.Open(t, g)
//	b.SetUp("ada", browser.Password) // the first administrator, logged in
//	b.Go("/users")
//	b.Fill("#name", "bob")
//	b.Press("form button.primary")
//	b.See("The account is made")
//	b.Shot("users")
//
// Invariants:
//   - A test fails that makes a page break its own policy, throw an error, or ask
//     another host for anything.
//   - Pictures are written into docs/images where GATEPOST_SCREENSHOTS is set, and
//     nowhere otherwise: they are the documentation's, made by the tests.
package browser

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"gatepost/test/gatepost"
)

// Password is what tests log in with.
const Password = "correct horse battery"

// patience bounds one step of a test.
const patience = 30 * time.Second

// ScreenshotsVar is the environment variable that has Shot write pictures.
const ScreenshotsVar = "GATEPOST_SCREENSHOTS"

// Browser is one browser with one page and cookies of its own.
type Browser struct {
	// Base is the address of the pages, without a slash at the end.
	Base string
	// Gateway is what is driven.
	Gateway *gatepost.Instance

	t   testing.TB
	ctx context.Context

	mu       sync.Mutex // guards the rest
	wrong    []string
	expected []string
}

// Open starts a browser for the pages of a gateway. It ends with the test.
func Open(t testing.TB, g *gatepost.Instance) *Browser {
	t.Helper()
	ctx, stop := chromedp.NewExecAllocator(t.Context(), chromedp.ExecPath(find(t)), chromedp.NoSandbox, chromedp.WindowSize(1280, 900),
		// Nothing of its own goes out either.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.*"), chromedp.Flag("lang", "en-GB"))
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &Browser{Base: "http://" + g.Admin, Gateway: g, t: t, ctx: ctx}
	b.must("start the browser", chromedp.Listen(ctx, b.listen))
	t.Cleanup(b.complain)
	go b.console()
	return b
}

// find is the Chromium of this machine.
func find(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium-headless-shell", "chromium"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no Chromium here; scripts/deps installs it")
	return ""
}

// listen notes requests that leave the gateway.
func (b *Browser) listen(ev any) {
	e, ok := ev.(*network.EventRequestWillBeSent)
	if !ok || e.Request == nil {
		return
	}
	if u, err := url.Parse(e.Request.URL); err == nil && (u.Scheme == "http" || u.Scheme == "https") && !strings.HasPrefix(e.Request.URL, b.Base+"/") {
		b.note("a page asked another host: " + e.Request.URL)
	}
}

// console notes what the browser complains about.
func (b *Browser) console() {
	for m, err := range chromedp.Console(b.ctx) {
		if err != nil {
			return
		}
		if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleException || m.Type == "warning" {
			b.note("the browser complained: " + m.Text)
		}
	}
}

func (b *Browser) note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, text)
}

// Expect says that complaints with this text in them are no failure: a test that
// asks for what is refused sees the browser note the status.
func (b *Browser) Expect(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, text)
}

func (b *Browser) complain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wrong {
		ok := false
		for _, e := range b.expected {
			ok = ok || strings.Contains(w, e)
		}
		if !ok {
			b.t.Error(w)
		}
	}
}

func (b *Browser) must(what string, err error) {
	b.t.Helper()
	if err == nil {
		return
	}
	path, _ := chromedp.Run(b.ctx, chromedp.Location())
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText.slice(0, 2000) : ""`))
	b.t.Fatalf("%s: %v\nat %s\n%s", what, err, path, text)
}

// do runs steps within the time of one.
func (b *Browser) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	b.must(what, chromedp.Do(ctx, steps...))
}

// Go loads a page and returns its status.
func (b *Browser) Go(path string) int64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if !strings.HasPrefix(path, "http") {
		path = b.Base + path
	}
	resp, err := chromedp.Run(ctx, chromedp.NavigateResponse(path))
	b.must("load "+path, err)
	return resp.Status
}

// Fill puts a text into the field of a CSS selector.
func (b *Browser) Fill(css, value string) {
	b.t.Helper()
	b.do("fill "+css, chromedp.WaitVisible(chromedp.CSS(css)), chromedp.SetValue(chromedp.CSS(css), value))
}

// Press clicks on what loads another page, and waits for it. Its status is returned.
func (b *Browser) Press(css string) int64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	resp, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(css), chromedp.NodeVisible))
	b.must("press "+css, err)
	return resp.Status
}

// Click clicks on what stays on the page.
func (b *Browser) Click(css string) {
	b.t.Helper()
	b.do("click "+css, chromedp.Click(chromedp.CSS(css), chromedp.NodeVisible))
}

// Type sends keys to the page.
func (b *Browser) Type(keys string) {
	b.t.Helper()
	b.do("type "+keys, chromedp.KeyEvent(keys))
}

// Tabs presses the key Tab some times.
func (b *Browser) Tabs(n int) {
	b.t.Helper()
	steps := make([]chromedp.Action[chromedp.Void], n)
	for i := range steps {
		steps[i] = chromedp.KeyEvent("\t")
	}
	b.do("press Tab", steps...)
}

// Wait waits until the selector is there and visible.
func (b *Browser) Wait(css string) {
	b.t.Helper()
	b.do("wait for "+css, chromedp.WaitVisible(chromedp.CSS(css)))
}

// Text is the visible text of what a selector finds first.
func (b *Browser) Text(css string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(css)))
	b.must("read "+css, err)
	return text
}

// Has reports whether a selector finds anything now.
func (b *Browser) Has(css string) bool {
	b.t.Helper()
	return Eval[bool](b, "document.querySelector("+quote(css)+") !== null")
}

// See fails the test unless the page shows the text, now or soon.
func (b *Browser) See(text string) {
	b.t.Helper()
	shown := gatepost.Holds(patience, func() bool {
		// Between two pages there is none.
		return strings.Contains(Eval[string](b, `document.body ? document.body.innerText : ""`), text)
	})
	if !shown {
		b.must("see "+text, errors.New("the page does not show it"))
	}
}

// Path is where the browser is, with the query.
func (b *Browser) Path() string {
	b.t.Helper()
	return Eval[string](b, "location.pathname + location.search")
}

// Eval runs an expression in the page.
func Eval[T any](b *Browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	b.must("evaluate "+expression, err)
	return v
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Dark switches between the colours that the system asks for.
func (b *Browser) Dark(on bool) {
	b.t.Helper()
	value := "light"
	if on {
		value = "dark"
	}
	b.do("switch colours", func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
		})
		return chromedp.Void{}, err
	})
}

// Phone makes the window that of a phone, or of a desk again.
func (b *Browser) Phone(on bool) {
	b.t.Helper()
	if on {
		b.do("be a phone", chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch))
		return
	}
	b.do("be a desk", chromedp.EmulateViewport(1280, 900))
}

// Shot writes a picture of the whole page as docs/images/NAME.png, where pictures are
// asked for.
func (b *Browser) Shot(name string) {
	b.t.Helper()
	if os.Getenv(ScreenshotsVar) == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	b.must("take a picture", err)
	dir, err := images()
	b.must("find docs/images", err)
	b.must("write the picture", os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644))
}

// images is docs/images of this tree, or the directory that ScreenshotsVar names.
func images() (string, error) {
	if dir := os.Getenv(ScreenshotsVar); filepath.IsAbs(dir) {
		return dir, nil
	}
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			dir = filepath.Join(dir, "docs", "images")
			return dir, os.MkdirAll(dir, 0o755)
		}
		dir = filepath.Dir(dir)
	}
	return "", errors.Join(err, errors.New("there is no go.mod above"))
}

// SetupLink is the link for the first administrator that the server printed.
func (b *Browser) SetupLink() string {
	b.t.Helper()
	link := ""
	gatepost.Eventually(b.t, "the server prints the link for the first administrator", patience, func() bool {
		i := strings.Index(b.Gateway.Output(), b.Base+"/setup/")
		if i >= 0 {
			link, _, _ = strings.Cut(b.Gateway.Output()[i:], "\n")
		}
		return i >= 0
	})
	return link
}

// SetUp makes the first administrator and leaves the browser logged in.
func (b *Browser) SetUp(name, password string) {
	b.t.Helper()
	b.Go(b.SetupLink())
	b.Fill("#name", name)
	b.Fill("#password", password)
	b.Fill("#again", password)
	b.Press("form button.primary")
	b.See("Your account is made")
}

// LogIn logs in with a password alone.
func (b *Browser) LogIn(name, password string) {
	b.t.Helper()
	b.Go("/login")
	b.Fill("#name", name)
	b.Fill("#password", password)
	b.Press("form button.primary")
}
