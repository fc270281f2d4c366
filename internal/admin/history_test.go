package admin

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/history"
	"gatepost/internal/logsearch"
	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// remembered is a server over a real history.
func remembered(t *testing.T, cfg Config) (*Server, *history.History) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Node: "gw1"})
	must(t, err)
	hs, err := s.OpenHistory(t.Context())
	must(t, err)
	h, err := history.Open(history.Config{Store: hs, Interval: time.Hour})
	must(t, err)
	t.Cleanup(func() {
		must(t, h.Close())
		must(t, hs.Close())
		must(t, s.Close())
	})
	cfg.History = h
	return newServer(t, cfg), h
}

// received notes a message to somebody of a domain, and returns its ID.
func received(h *history.History, subject string, to ...string) mail.ID {
	e := &mail.Event{Kind: mail.EventMessage, Result: mail.EventAccepted, Message: mail.NewID(), Sender: "alice@out.example", Subject: subject, Action: mail.ActionDeliver}
	for _, address := range to {
		_, domain, _ := strings.Cut(address, "@")
		e.Recipients = append(e.Recipients, mail.Addressee{Address: address, Domain: domain, Item: 1})
	}
	h.Note(e)
	return e.Message
}

// as asks a handler as an actor.
func as(a *Actor, do Handler, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	if _, id, ok := strings.Cut(r.URL.Path, "/messages/"); ok {
		r.SetPathValue("id", id)
	}
	w := httptest.NewRecorder()
	do(w, r, a)
	return w
}

func TestTheHistoryIsSearchedPageByPage(t *testing.T) {
	s, h := remembered(t, Config{})
	var want []string
	for i := range 7 {
		want = append(want, received(h, fmt.Sprint("number ", i), "bob@in.example").String())
		received(h, "other", "bob@in.example")
	}
	slices.Reverse(want)
	var got []string
	query := url.Values{"q": {"subject:number since:1h"}, "limit": {"3"}}
	for {
		r := ask(s.API(), "GET", "/api/v1/history?"+query.Encode(), "")
		var page HistoryPage
		if err := json.Unmarshal(r.Body.Bytes(), &page); err != nil || r.Code != http.StatusOK {
			t.Fatal(r.Code, r.Body)
		}
		for _, e := range page.Items {
			got = append(got, e.Message.String())
		}
		if page.Next == "" {
			break
		}
		query.Set("cursor", page.Next)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for query, text := range map[string]string{
		"q=colour:red": "q: at character 1: there is no field", "limit=0": "limit:", "limit=5000": "limit:", "cursor=x": "cursor:", "what=x": "unknown parameter",
		"q=a&q=b": "given twice",
	} {
		if r := ask(s.API(), "GET", "/api/v1/history?"+query, ""); r.Code != http.StatusBadRequest || !strings.Contains(r.Body.String(), text) {
			t.Errorf("%s: %d %s", query, r.Code, r.Body)
		}
	}
}

func TestADomainAdministratorSeesTheirPartOfHistoryOnly(t *testing.T) {
	s, h := remembered(t, Config{})
	ours, both, theirs := received(h, "ours", "a@in.example"), received(h, "both", "a@in.example", "b@other.example"), received(h, "theirs", "b@other.example")
	dora := &Actor{Name: "dora", Role: accounts.DomainAdministrator, Domains: []string{"in.example"}}
	r := as(dora, s.searchHistory, "/api/v1/history")
	if body := r.Body.String(); r.Code != http.StatusOK || !strings.Contains(body, ours.String()) || !strings.Contains(body, both.String()) ||
		strings.Contains(body, theirs.String()) || strings.Contains(body, "b@other.example") {
		t.Errorf("%d %s", r.Code, body)
	}
	if r := as(dora, s.searchHistory, "/api/v1/history?q=b@other.example"); !strings.Contains(r.Body.String(), `"items":[]`) {
		t.Errorf("finds others: %s", r.Body)
	}
	for _, path := range []string{"?format=csv", "?format=json"} {
		if r := as(dora, s.exportHistory, "/api/v1/history/export"+path); strings.Contains(r.Body.String(), "other.example") || !strings.Contains(r.Body.String(), ours.String()) {
			t.Errorf("export: %s", r.Body)
		}
	}
	if r := as(dora, s.showMessage, "/api/v1/messages/"+theirs.String()); r.Code != http.StatusNotFound {
		t.Errorf("message of others: %d %s", r.Code, r.Body)
	}
	if r := as(dora, s.showMessage, "/api/v1/messages/"+both.String()); r.Code != http.StatusOK || strings.Contains(r.Body.String(), "other.example") {
		t.Errorf("message to both: %d %s", r.Code, r.Body)
	}
	h.Flush(t.Context())
	r = as(dora, s.statistics, "/api/v1/statistics?since=2h")
	var counts history.Statistics
	if err := json.Unmarshal(r.Body.Bytes(), &counts); err != nil || counts.Totals["message/deliver"]+counts.Totals["message/accept"] != 2 || len(counts.Top[history.TopRecipients]) != 1 ||
		strings.Contains(r.Body.String(), "other.example") {
		t.Errorf("statistics: %v %s", err, r.Body)
	}
	nobody := &Actor{Name: "nora", Role: accounts.DomainAdministrator}
	if r := as(nobody, s.searchHistory, "/api/v1/history"); !strings.Contains(r.Body.String(), `"items":[]`) {
		t.Errorf("an administrator of no domain sees %s", r.Body)
	}
	if route := routeOf(t, s, "/api/v1/log"); route != nil {
		t.Error("there is no log here")
	}
}

func routeOf(t *testing.T, s *Server, path string) *Route {
	t.Helper()
	r := newRouter()
	s.routeAPI(r)
	for _, route := range r.routes {
		if route.Path == path {
			return route
		}
	}
	return nil
}

func TestTheLogIsForThoseWhoSeeEverything(t *testing.T) {
	s, _ := remembered(t, Config{LogFiles: linesOf{}})
	route := routeOf(t, s, "/api/v1/log")
	if route == nil || route.allows(&Actor{Name: "dora", Role: accounts.DomainAdministrator, Domains: []string{"in.example"}}) || !route.allows(&Actor{Name: "vic", Role: accounts.Viewer}) {
		t.Error("wrong people get to the log")
	}
}

func TestAnExportIsWholeAndHasNoFormulas(t *testing.T) {
	s, h := remembered(t, Config{})
	for i := range 25 {
		received(h, fmt.Sprintf("=HYPERLINK(%d)", i), "bob@in.example")
	}
	r := ask(s.API(), "GET", "/api/v1/history/export?format=csv", "")
	rows, err := csv.NewReader(r.Body).ReadAll()
	if err != nil || len(rows) != 26 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if d := r.Header().Get("Content-Disposition"); d != `attachment; filename="history.csv"` {
		t.Errorf("disposition %q", d)
	}
	if cell := rows[1][slices.Index(rows[0], "subject")]; cell != "'=HYPERLINK(24)" {
		t.Errorf("subject %q", cell)
	}
	r = ask(s.API(), "GET", "/api/v1/history/export?format=json&limit=10", "")
	var events []mail.Event
	if err := json.Unmarshal(r.Body.Bytes(), &events); err != nil || len(events) != 10 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	s, _ := remembered(t, Config{})
	for path, status := range map[string]int{
		"messages/" + mail.NewID().String(): 404, "messages/123": 400, "messages/..%2f..%2fetc": 400, "statistics?since=tomorrow": 400, "statistics?step=1m": 400,
		"statistics?since=1h&until=2h": 400, "trace?client=x": 400, "history/export?format=xml": 400,
	} {
		if r := ask(s.API(), "GET", "/api/v1/"+path, ""); r.Code != status {
			t.Errorf("%s: %d %s, want %d", path, r.Code, r.Body, status)
		}
	}
}

func TestATraceShowsWhatHappens(t *testing.T) {
	s, h := remembered(t, Config{})
	server := httptest.NewServer(s.API())
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, accept := range map[string]string{"lines": "*/*", "events": "text/event-stream"} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/api/v1/trace?recipient=@in.example", nil)
			must(t, err)
			req.Header.Set("Accept", accept)
			resp, err := http.DefaultClient.Do(req)
			must(t, err)
			defer resp.Body.Close()
			received(h, "not this one", "bob@other.example")
			id := received(h, "this one", "bob@in.example")
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() {
				text := strings.TrimPrefix(lines.Text(), "data: ")
				if text == "" || text == ":" {
					continue
				}
				if !strings.Contains(text, id.String()) {
					t.Errorf("sees %s", text)
				}
				return
			}
			t.Error("nothing is seen", lines.Err())
		})
	}
}

// linesOf is a log of some lines.
type linesOf []string

// SearchLog implements LogFiles.
func (l linesOf) SearchLog(_ context.Context, r logsearch.Request) (logsearch.Result, error) {
	if l == nil {
		return logsearch.Result{}, logsearch.ErrNoFiles
	}
	r.Progress(logsearch.Progress{Read: 1, Of: 2, File: "mail.log"})
	for _, line := range l {
		if err := r.Line([]byte(line)); err != nil {
			return logsearch.Result{}, err
		}
	}
	return logsearch.Result{Lines: len(l), Files: 1}, nil
}

func TestTheLogIsSearched(t *testing.T) {
	s := newServer(t, Config{LogFiles: linesOf{"one", "<two>\x1b"}})
	r := ask(s.API(), "GET", "/api/v1/log?q=x", "")
	var got []LogLine
	for line := range strings.SplitSeq(strings.TrimSpace(r.Body.String()), "\n") {
		var l LogLine
		must(t, json.Unmarshal([]byte(line), &l))
		got = append(got, l)
	}
	if len(got) != 4 || got[0].Progress == nil || got[1].Line != "one" || got[2].Line != "<two>\x1b" || got[3].End == nil || got[3].End.Lines != 2 {
		t.Errorf("got %+v", got)
	}
	if r := ask(s.API(), "GET", "/api/v1/log?q=/(/", ""); r.Code != http.StatusBadRequest {
		t.Errorf("a wrong search: %d %s", r.Code, r.Body)
	}
	s = newServer(t, Config{LogFiles: linesOf(nil)})
	if r := ask(s.API(), "GET", "/api/v1/log?q=x", ""); r.Code != http.StatusConflict || !strings.Contains(r.Body.String(), "log_dir is not set") {
		t.Errorf("without files: %d %s", r.Code, r.Body)
	}
}
