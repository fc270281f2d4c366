package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// The part pages asks the web administration of a gateway with a full history, a full
// quarantine and a long queue for its pages, as a browser does: after a login, with a
// cookie, by HTTP, until the last byte is there.

const (
	pageTries = 30
	// pageUser and pagePassword are an account of the benchmark's own gateway.
	pageUser     = "ada"
	pagePassword = "correct horse battery staple"
	pageDomain   = "customer3.example"
)

// pages fills a gateway and asks for its pages.
func (b *bench) pages(ctx context.Context) (err error) {
	sink, err := b.startSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	srv, err := b.newGatepost(&meters{}, sinkAddr, gatepostSettings{})
	if err != nil {
		return err
	}
	defer srv.meter.close()
	if err := b.fillStore(ctx, filepath.Join(srv.dir, "data")); err != nil {
		return err
	}
	if err := srv.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.stop()) }()
	dead := job{sessions: 20, bytes: 1000, reuse: true, messages: b.o.held, to: "user@dead.example"}
	if err := source(ctx, srv.addr, dead); err != nil {
		return err
	}
	if err := srv.awaitQueued(ctx, b.o.held); err != nil {
		return err
	}
	admin, err := b.account(srv, pageUser)
	if err != nil {
		return err
	}
	theirs, err := b.account(srv, "dora", "--role", "domain-administrator", "--domain", pageDomain)
	if err != nil {
		return err
	}
	fmt.Printf("\n## Pages with %d events, %d quarantined and %d queued messages\n\n", b.o.events, b.o.held, b.o.held)
	fmt.Printf("| page | median ms | p95 ms | kB |\n|---|---|---|---|\n")
	for _, p := range pagesToAsk() {
		who := admin
		if p.theirs {
			who = theirs
		}
		if err := p.measure(ctx, who); err != nil {
			return err
		}
	}
	return nil
}

// fillStore makes history and quarantine. Where a history was given it is taken.
func (b *bench) fillStore(ctx context.Context, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if b.o.history != "" {
		if err := copyFile(filepath.Join(b.o.history, "history.db"), filepath.Join(dir, "history.db")); err != nil {
			return err
		}
	}
	s, err := store.Open(ctx, store.Options{Dir: dir, Node: "gw1", Timeout: time.Minute})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if b.o.history == "" {
		if err := fillHistory(ctx, s, b.o.events); err != nil {
			return err
		}
	}
	return fillQuarantine(ctx, s, b.o.held)
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy history: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy history: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

func fillHistory(ctx context.Context, s *store.Store, events int) (err error) {
	hs, err := s.OpenHistory(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hs.Close()) }()
	h, err := history.Open(history.Config{Store: hs, MaxSize: 1 << 40})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	for w := newPast(events); w.left > 0 && ctx.Err() == nil; {
		if err := h.Import(ctx, w.next(historyBatch)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// fillQuarantine puts messages of four weeks there, from many goroutines, so that they
// share commits.
func fillQuarantine(ctx context.Context, s *store.Store, messages int) error {
	w := newPast(messages)
	const span = 28 * 24 * time.Hour
	w.at, w.step = time.Now().Add(-span), span/time.Duration(max(messages, 1))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(64)
	for range messages {
		w.at = w.at.Add(w.step)
		m := quarantined(w)
		work.Go(func() error {
			text := fmt.Sprintf("From: <%s>\r\nSubject: %s\r\n\r\nBuy it now.\r\n", m.Sender, m.Subject)
			return s.PutQuarantined(ctx, m, strings.NewReader(text))
		})
	}
	return work.Wait()
}

// quarantined is a message that was kept back.
func quarantined(w *past) *store.QuarantinedMessage {
	e := w.message()
	cause := store.QuarantineCause{Threat: mail.ThreatSpam, Reason: "score 12.0 is at least 10.0", Block: "score", Rule: "quarantine", Flow: "inbound", Score: 12}
	if w.rng.IntN(100) == 0 {
		cause.Threat, cause.Reason, cause.Block, cause.Rule = mail.ThreatVirus, "Win.Test.Sample-7", "clamav", "Win.Test.Sample-7"
	}
	to := parseBenchAddress(e.Recipients[0].Address)
	return &store.QuarantinedMessage{
		ID: e.Message, Received: e.Time, Node: "gw1", Sender: e.Sender, Client: e.Client.String(), Helo: e.Helo, Listener: "inbound", Direction: "inbound",
		Subject: e.Subject, MessageID: e.MessageID, QuarantineCause: cause,
		Entries:  []store.QuarantineEntry{{Recipient: to, Domain: to.Domain, State: store.QuarantineHeld, QuarantineCause: cause}},
		Envelope: &mail.Envelope{ID: e.Message, Sender: parseBenchAddress(e.Sender), Subject: e.Subject, Recipients: []mail.Recipient{{Address: to}}},
	}
}

func parseBenchAddress(text string) mail.Address {
	local, domain, _ := strings.Cut(text, "@")
	return mail.Address{Local: local, Domain: domain, Raw: text}
}

// visitor is a browser with a session.
type visitor struct {
	http http.Client
	rng  *rand.Rand
}

var csrfValue = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// account makes an account by the command line and logs in with it.
func (b *bench) account(s *server, name string, more ...string) (*visitor, error) {
	cmd := exec.Command(b.o.gatepost, append([]string{"user", "add", name, "-c", filepath.Join(s.dir, "gatepost.toml")}, more...)...)
	cmd.Stdin = strings.NewReader(pagePassword + "\n" + pagePassword + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make account: %w: %s", err, out)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	v := &visitor{http: http.Client{Jar: jar, Timeout: time.Minute}, rng: rand.New(rand.NewPCG(1, 1))}
	form, err := v.get("/login")
	if err != nil {
		return nil, err
	}
	token := csrfValue.FindSubmatch(form)
	if token == nil {
		return nil, errors.New("log in: the form has no token")
	}
	resp, err := v.http.PostForm("http://"+adminAddr+"/login", url.Values{"csrf": {string(token[1])}, "name": {name}, "password": {pagePassword}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path == "/login" {
		return nil, fmt.Errorf("log in: %s at %s", resp.Status, resp.Request.URL)
	}
	return v, nil
}

// get asks for a page, all of it.
func (v *visitor) get(path string) ([]byte, error) {
	resp, err := v.http.Get("http://" + adminAddr + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return body, err
}

// pageToAsk is one kind of page.
type pageToAsk struct {
	name   string
	theirs bool // as the administrator of one domain
	// path is the address of the n-th page of its kind; it may ask for others before.
	path func(v *visitor, n int) (string, error)
}

func (p pageToAsk) measure(ctx context.Context, v *visitor) error {
	var took []time.Duration
	size := 0
	for n := range pageTries {
		path, err := p.path(v, n)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		begun := time.Now()
		body, err := v.get(path)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		took = append(took, time.Since(begun))
		size = len(body)
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	fmt.Printf("| %s | %.0f | %.0f | %d |\n", p.name, ms(took[pageTries/2]), ms(took[pageTries*95/100]), size/1000)
	return nil
}

// found is an address that stands on a page, one of those that the expression finds.
func (v *visitor) found(path string, link *regexp.Regexp) (string, error) {
	body, err := v.get(path)
	if err != nil {
		return "", err
	}
	all := link.FindAllSubmatch(body, -1)
	if len(all) == 0 {
		return "", fmt.Errorf("%s has nothing to ask for", path)
	}
	return strings.ReplaceAll(string(all[v.rng.IntN(len(all))][1]), "&amp;", "&"), nil
}

// The links that are followed.
var (
	messageLink = regexp.MustCompile(`"(/messages/[0-9a-z]{26})"`)
	heldLink    = regexp.MustCompile(`"(/quarantine/[0-9a-z]{26})`)
	nextHeld    = regexp.MustCompile(`"(/quarantine\?[^"]*cursor=[^"]+)"`)
	nextQueued  = regexp.MustCompile(`"(/queue\?[^"]*after=[^"]+)"`)
)

// past is a moment of the last four weeks.
func (v *visitor) past() string {
	return time.Now().Add(-time.Duration(v.rng.Int64N(int64(28 * 24 * time.Hour)))).UTC().Format(time.RFC3339)
}

func pagesToAsk() []pageToAsk {
	fixed := func(path string) func(*visitor, int) (string, error) {
		return func(*visitor, int) (string, error) { return path, nil }
	}
	search := func(make func(v *visitor) string) func(*visitor, int) (string, error) {
		return func(v *visitor, _ int) (string, error) {
			return "/history?" + url.Values{"q": {make(v)}}.Encode(), nil
		}
	}
	held := func(field string, make func(v *visitor) string) func(*visitor, int) (string, error) {
		return func(v *visitor, _ int) (string, error) {
			return "/quarantine?" + url.Values{field: {make(v)}}.Encode(), nil
		}
	}
	follow := func(path string, link *regexp.Regexp) func(*visitor, int) (string, error) {
		last := path
		return func(v *visitor, _ int) (string, error) {
			next, err := v.found(last, link)
			last = next
			return next, err
		}
	}
	someone := func(v *visitor) string { return fmt.Sprintf("user%d@%s", v.rng.IntN(historyPeople), pageDomain) }
	return []pageToAsk{
		{"overview", false, fixed("/overview")},
		{"overview, a month", false, fixed("/overview?over=30d")},
		{"overview of one domain's administrator", true, fixed("/overview")},
		{"history, the latest", false, fixed("/history")},
		{"history, a recipient", false, search(func(v *visitor) string { return "recipient:" + someone(v) })},
		{"history, a sender's domain", false, search(func(v *visitor) string { return fmt.Sprintf("sender:@sender%d.example", v.rng.IntN(5000)) })},
		{"history, a network", false, search(func(v *visitor) string { return fmt.Sprintf("client:%d.%d.0.0/16", 11+v.rng.IntN(200), v.rng.IntN(40)) })},
		{"history, a word of the subject", false, search(func(v *visitor) string { return "subject:" + fmt.Sprint(v.rng.IntN(1_000_000)) })},
		{"history, a verdict that is rare", false, search(func(v *visitor) string { return "verdict:quarantine until:" + v.past() })},
		{"history, nothing there", false, search(func(v *visitor) string { return fmt.Sprintf("sender:nobody%d@nowhere.example", v.rng.IntN(1000)) })},
		{"history of one domain's administrator", true, search(func(v *visitor) string { return "verdict:mark until:" + v.past() })},
		{"message", false, func(v *visitor, _ int) (string, error) {
			return v.found("/history?"+url.Values{"q": {"kind:message until:" + v.past()}}.Encode(), messageLink)
		}},
		{"quarantine", false, fixed("/quarantine")},
		{"quarantine, page after page", false, follow("/quarantine", nextHeld)},
		{"quarantine, a text that is somewhere", false, held("text", func(v *visitor) string { return fmt.Sprintf("%d", v.rng.IntN(1000)) })},
		{"quarantine, a text that is nowhere", false, held("text", func(v *visitor) string { return fmt.Sprintf("unicorn%d", v.rng.IntN(1000)) })},
		{"quarantine, a recipient", false, held("recipient", someone)},
		{"quarantine, a part of a sender", false, held("sender", func(v *visitor) string { return fmt.Sprintf("n%d@", v.rng.IntN(historyPeople)) })},
		{"quarantine, viruses", false, held("threat", func(*visitor) string { return string(mail.ThreatVirus) })},
		{"quarantine of one domain's administrator", true, fixed("/quarantine")},
		{"quarantined message", false, func(v *visitor, _ int) (string, error) { return v.found("/quarantine", heldLink) }},
		{"queue", false, fixed("/queue")},
		{"queue, page after page", false, follow("/queue", nextQueued)},
		{"queue, a domain", false, fixed("/queue?domain=dead.example")},
		{"queue, a sender that is not there", false, fixed("/queue?sender=nobody%40nowhere.example")},
		{"queue, an error", false, fixed("/queue?error=refused")},
	}
}
