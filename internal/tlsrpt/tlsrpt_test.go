package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// records are TXT records; an error stands for an outage.
type records map[string]any

// TXT implements Resolver.
func (r records) TXT(_ context.Context, name string) ([]string, error) {
	switch v := r[name].(type) {
	case string:
		return []string{v}, nil
	case error:
		return nil, v
	}
	return nil, &dns.Error{Name: name, Type: "TXT", NXDomain: true}
}

// post office remembers what is sent.
type postOffice struct {
	mu   sync.Mutex
	sent map[string]string
	at   time.Time
	err  error
}

func (p *postOffice) submit(_ context.Context, to mail.Address, text io.Reader) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	b, err := io.ReadAll(text)
	if p.sent == nil {
		p.sent = map[string]string{}
	}
	p.sent[to.String()], p.at = string(b), time.Now()
	return err
}

func (p *postOffice) to(a string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent[a]
}

func open(t *testing.T, dir string, r Resolver, p *postOffice) *Collector {
	t.Helper()
	c, err := Open(Config{Dir: dir, Hostname: "gw.in.example", From: mail.Address{Local: "tls", Domain: "in.example", Raw: "tls@in.example"},
		Resolver: r, Submit: p.submit, Domains: 100})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var sts = Policy{Type: STS, Strings: []string{"version: STSv1", "mode: enforce", "mx: *.out.example"}, MXHosts: []string{"*.out.example"}}

// attachment is the report in a mail.
func attachment(t *testing.T, text string) Report {
	t.Helper()
	_, rest, ok := strings.Cut(text, "Content-Type: application/tlsrpt+gzip\r\n")
	_, rest, _ = strings.Cut(rest, "\r\n\r\n")
	body, _, _ := strings.Cut(rest, "\r\n--")
	packed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\r\n", ""))
	if err != nil || !ok {
		t.Fatalf("%v in %s", err, text)
	}
	return unpack(t, packed)
}

func unpack(t *testing.T, packed []byte) (r Report) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		err = json.NewDecoder(z).Decode(&r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// RFC 8460 §4.4, §5.3: a day is told when it is over, to those who ask.
func TestADayIsReportedWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dir := &postOffice{}, t.TempDir()
		c := open(t, dir, records{"_smtp._tls.out.example": "v=TLSRPTv1; rua=mailto:tls@out.example"}, p)
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		go c.Run(ctx)
		for range 3 {
			c.Note(Session{Domain: "Out.example", Policy: sts})
		}
		expired := Failure{Type: "certificate-expired", MXHost: "mx.out.example", IP: "192.0.2.1", Reason: "x509: certificate has expired"}
		for range 2 {
			c.Note(Session{Domain: "out.example", Policy: sts, Failure: expired})
		}
		c.Note(Session{Domain: "out.example", Policy: Policy{Type: TLSA, Strings: []string{"3 1 1 00"}, MXHosts: []string{"mx.out.example"}}})
		c.Note(Session{Domain: "silent.example", Policy: NoPolicy()})
		time.Sleep(time.Hour)
		if got := p.to("tls@out.example"); got != "" {
			t.Fatalf("sent before the day was over: %s", got)
		}
		time.Sleep(28 * time.Hour)
		text := p.to("tls@out.example")
		for _, want := range []string{
			"\r\nTLS-Report-Domain: out.example\r\nTLS-Report-Submitter: in.example\r\n", "report-type=\"tlsrpt\"",
			"Subject: Report Domain: out.example\r\n Submitter: in.example\r\n Report-ID: <", "filename=\"in.example!out.example!946684800!946771199.json.gz\"",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		r := attachment(t, text)
		if r.Organization != "in.example" || r.Contact != "tls@in.example" || r.ID == "" || !r.Range.End.Equal(r.Range.Start.Add(86399*time.Second)) || len(r.Policies) != 2 {
			t.Fatalf("%+v", r)
		}
		first, second := r.Policies[0], r.Policies[1]
		if first.Policy.Domain != "out.example" || first.Summary != (Summary{3, 2}) || len(first.Details) != 1 || first.Details[0] != (Detail{expired, 2}) || !slices.Equal(first.Policy.Strings, sts.Strings) {
			t.Errorf("%+v", first)
		}
		if second.Policy.Domain != "mx.out.example" || second.Policy.MXHosts != nil || second.Summary != (Summary{1, 0}) {
			t.Errorf("%+v", second)
		}
		if len(p.sent) != 1 {
			t.Errorf("sent to %d", len(p.sent))
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
			t.Errorf("left: %v, %v", list, err)
		}
	})
}

func TestWhatWasNotedSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dir := &postOffice{}, t.TempDir()
		r := records{"_smtp._tls.out.example": "v=TLSRPTv1;rua=mailto:tls@out.example"}
		for range 2 {
			c := open(t, dir, r, p)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { c.Run(ctx); close(done) }()
			c.Note(Session{Domain: "out.example", Policy: NoPolicy()})
			stop()
			<-done
		}
		time.Sleep(30 * time.Hour)
		c := open(t, dir, r, p)
		c.sendDue(t.Context())
		if got := attachment(t, p.to("tls@out.example")); got.Policies[0].Summary.Successful != 2 || got.Policies[0].Policy.Type != "no-policy-found" {
			t.Errorf("%+v", got)
		}
	})
}

// What can't be sent is tried again, and given up after a day; who has it already does
// not get it twice.
func TestReportsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &postOffice{}
		r := records{"_smtp._tls.out.example": "v=TLSRPTv1; rua=mailto:tls@out.example,https://127.0.0.1:1/", "_smtp._tls.down.example": errors.New("no answer")}
		c := open(t, t.TempDir(), r, p)
		c.Note(Session{Domain: "out.example", Policy: NoPolicy()})
		c.Note(Session{Domain: "down.example", Policy: NoPolicy()})
		time.Sleep(30 * time.Hour)
		sent := 0
		for range 20 {
			c.sendDue(t.Context())
			if p.to("tls@out.example") != "" {
				sent++
				p.sent = nil
			}
			time.Sleep(pause)
		}
		if sent != 1 || len(c.days) != 0 {
			t.Errorf("sent %d times, %d days left", sent, len(c.days))
		}
	})
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	c := open(t, t.TempDir(), records{}, &postOffice{})
	for i := range 500 {
		c.Note(Session{Domain: fmt.Sprintf("d%d.example", i), Policy: NoPolicy()})
		c.Note(Session{Domain: "d0.example", Policy: Policy{Type: STS, Strings: []string{fmt.Sprint(i)}}, Failure: Failure{Type: "validation-failure", Reason: fmt.Sprint(i, strings.Repeat("x", 1000))}})
	}
	d := c.days[time.Now().UTC().Format(time.DateOnly)]
	if len(d.Domains) != 100 || len(d.Domains["d0.example"].Policies) != maxPolicies {
		t.Errorf("%d domains, %d policies", len(d.Domains), len(d.Domains["d0.example"].Policies))
	}
	last := d.Domains["d0.example"].Policies[maxPolicies-1]
	if len(last.Failures) != maxFailures || last.Failed != 492 || len(last.Failures[0].Reason) > maxReason+3 {
		t.Errorf("%d kinds of failures, %d failures", len(last.Failures), last.Failed)
	}
}

func TestReportsArePosted(t *testing.T) {
	var got Report
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/tlsrpt+gzip" {
			t.Errorf("%s, %v, %v", r.Method, r.Header, err)
		}
		got = unpack(t, body)
		w.WriteHeader(http.StatusCreated)
	}))
	defer server.Close()
	c := open(t, t.TempDir(), records{"_smtp._tls.out.example": "v=TLSRPTv1; rua=" + server.URL}, &postOffice{})
	c.cfg.Client = server.Client()
	c.Note(Session{Domain: "out.example", Policy: NoPolicy()})
	d := c.days[time.Now().UTC().Format(time.DateOnly)]
	if left := c.sendDay(t.Context(), d); left != 0 || len(got.Policies) != 1 {
		t.Errorf("%d left, %+v", left, got)
	}
	// Who names an address of ours in the DNS gets nothing posted there.
	c.cfg.Client = newClient()
	if err := c.post(t.Context(), server.URL, nil); !errors.Is(err, errNotPublic) {
		t.Errorf("posted to a local address: %v", err)
	}
}

func TestPlacesThatADomainNames(t *testing.T) {
	tests := map[string]string{
		"v=TLSRPTv1; rua=mailto:a@b.example":                        "mailto:a@b.example",
		"v=TLSRPTv1;rua=mailto:a@b.example,https://b.example/r?x=1": "mailto:a@b.example https://b.example/r?x=1",
		"v=TLSRPTv1; rua=http://b.example/":                         "",
		"v=TLSRPTv1; rua=mailto:":                                   "",
		"v=TLSRPTv2; rua=mailto:a@b.example":                        "",
		"rua=mailto:a@b.example; v=TLSRPTv1":                        "",
		"v=TLSRPTv1":                                                "",
	}
	for text, want := range tests {
		if got := strings.Join(parseRecord([]string{"v=spf1", text}), " "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got := parseRecord([]string{"v=TLSRPTv1; rua=mailto:a@b.example", "v=TLSRPTv1; rua=mailto:a@b.example"}); got != nil {
		t.Errorf("two records: %v", got)
	}
}

func TestDamagedCountsAreNoReasonNotToStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "2026-01-01.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := open(t, dir, records{}, &postOffice{}); len(c.days) != 0 {
		t.Errorf("%+v", c.days)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=mailto:a@b.example,https://b.example/")
	f.Fuzz(func(t *testing.T, text string) {
		for _, place := range parseRecord([]string{text}) {
			if !strings.HasPrefix(place, "mailto:") && !strings.HasPrefix(place, "https://") {
				t.Errorf("%q", place)
			}
		}
	})
}
