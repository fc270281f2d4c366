package dns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestAnswersLiveAsLongAsTheirTTL(t *testing.T) {
	negative := func(soaTTL, minimum uint32) *reply {
		rep := records(t)
		rep.msg.Rcode = dns.RcodeNameError
		rep.msg.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: soaTTL}, Minttl: minimum}}
		return rep
	}
	bare := records(t)
	bare.msg.Rcode = dns.RcodeNameError
	tests := []struct {
		name  string
		reply *reply
		fail  *Error
		ttl   time.Duration
	}{
		{"one record", records(t, "x.example. 300 IN TXT a"), nil, 300 * time.Second},
		{"the least of several", records(t, "x.example. 300 IN TXT a", "x.example. 20 IN TXT b"), nil, 20 * time.Second},
		{"the alias counts", records(t, "x.example. 7 IN CNAME y.example.", "y.example. 300 IN TXT a"), nil, 7 * time.Second},
		{"no more than MaxTTL", records(t, "x.example. 604800 IN TXT a"), nil, 24 * time.Hour},
		{"zero is not kept", records(t, "x.example. 0 IN TXT a"), nil, 0},
		{"there is none, SOA's minimum", negative(600, 60), nil, 60 * time.Second},
		{"there is none, SOA's TTL", negative(30, 60), nil, 30 * time.Second},
		{"there is none, no more than MaxNegativeTTL", negative(86400, 86400), nil, time.Hour},
		{"there is none, no SOA", bare, nil, 0},
		{"a failure", nil, &Error{Temporary: true, Rcode: "SERVFAIL"}, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, w := onWire(func(question) (*reply, *Error) { return tt.reply, tt.fail })
				ask := func(want int) {
					t.Helper()
					_, err := r.TXT(t.Context(), "x.example")
					if (err != nil) != (tt.fail != nil || len(tt.reply.msg.Answer) == 0) {
						t.Fatal(err)
					}
					if w.count() != want {
						t.Fatalf("%d queries, want %d", w.count(), want)
					}
				}
				ask(1)
				if tt.ttl == 0 {
					ask(2)
					return
				}
				time.Sleep(tt.ttl - time.Nanosecond)
				ask(1)
				time.Sleep(time.Nanosecond)
				ask(2)
			})
		})
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	small, big := &answer{ttl: time.Hour, cost: 100}, &answer{ttl: time.Hour, cost: 2900}
	c := newCache(3)
	put := func(names ...string) {
		for _, n := range names {
			c.put(question{name: n}, small)
		}
	}
	has := func() string {
		var b strings.Builder
		for _, n := range []string{"a", "b", "c", "d", "e"} {
			if _, ok := c.entries[question{name: n}]; ok {
				b.WriteString(n)
			}
		}
		return b.String()
	}
	put("a", "b", "c")
	c.get(question{name: "a"})
	put("d")
	if got := has(); got != "acd" {
		t.Errorf("has %s, want acd: what was not used for longest goes", got)
	}
	put("d", "d")
	if c.order.Len() != 3 || c.bytes != 300 {
		t.Errorf("%d entries of %d bytes after putting one again", c.order.Len(), c.bytes)
	}
	// Big answers push out more than one.
	c.put(question{name: "e"}, big)
	if got := has(); got != "de" || c.bytes > c.maxBytes {
		t.Errorf("has %s, %d bytes of %d", got, c.bytes, c.maxBytes)
	}
}

func TestEqualLookupsAtOnceAreOneQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		rep := records(t, "x.example. 0 IN TXT a")
		r, w := onWire(func(question) (*reply, *Error) {
			<-release
			return rep, nil
		})
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				if got, err := r.TXT(t.Context(), "X.example"); err != nil || len(got) != 1 {
					t.Errorf("got %v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		callers.Wait()
		if w.count() != 1 {
			t.Errorf("%d queries", w.count())
		}
	})
}

func TestALookupEndsWithItsLastCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlight()
		var ended atomic.Bool
		lookup := func(ctx context.Context) *answer {
			<-ctx.Done()
			ended.Store(true)
			return &answer{}
		}
		first, cancelFirst := context.WithCancel(t.Context())
		second, cancelSecond := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for _, ctx := range []context.Context{first, second} {
			callers.Go(func() {
				if _, err := f.do(ctx, question{name: "x"}, lookup); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		cancelFirst()
		synctest.Wait()
		if ended.Load() {
			t.Error("the first caller that left took the lookup with it")
		}
		cancelSecond()
		callers.Wait()
		synctest.Wait()
		if !ended.Load() || len(f.calls) > 0 {
			t.Error("the lookup outlives its callers")
		}
	})
}

func TestACallerAfterAnAbandonedLookupStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlight()
		ctx, cancel := context.WithCancel(t.Context())
		slow := make(chan struct{})
		go f.do(ctx, question{name: "x"}, func(context.Context) *answer { <-slow; return nil })
		synctest.Wait()
		cancel()
		synctest.Wait()
		want := &answer{}
		got, err := f.do(t.Context(), question{name: "x"}, func(context.Context) *answer { return want })
		if got != want || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
		close(slow)
	})
}

func TestHostileAnswers(t *testing.T) {
	many := make([]string, 5000)
	for i := range many {
		many[i] = fmt.Sprintf("x.example. 60 IN MX %d mx%d.example.", 5000-i, i)
	}
	tests := []struct {
		name  string
		lines []string
		want  int // records, 0 for an error
	}{
		{"too many records", many, 100},
		{"records of other owners", []string{"y.example. 60 IN MX 10 mx.example."}, 0},
		{"records of other types", []string{"x.example. 60 IN A 192.0.2.1", "x.example. 60 IN TXT x"}, 0},
		{"records of another class", []string{"x.example. 60 CH MX 10 mx.example."}, 0},
		{"an owner in another spelling", []string{"X.EXAMPLE. 60 IN MX 10 mx.example."}, 1},
		{"an alias to itself", []string{"x.example. 60 IN CNAME x.example."}, 0},
		{"an alias to a name that is none", []string{`x.example. 60 IN CNAME a\032b.example.`}, 0},
		{"two aliases of one name", []string{"x.example. 60 IN CNAME y.example.", "x.example. 60 IN CNAME z.example.", "y.example. 60 IN MX 10 mx.example."}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, w := onWire(func(question) (*reply, *Error) { return records(t, tt.lines...), nil })
			got, err := r.MX(t.Context(), "x.example")
			// What is left out is as if it were not there: the domain is its own exchanger.
			got = dropImplicit(got)
			if len(got) != tt.want {
				t.Errorf("%d records, want %d, error %v", len(got), tt.want, err)
			}
			if w.count() > maxAliases+1 {
				t.Errorf("%d queries", w.count())
			}
		})
	}
}

func dropImplicit(list []MX) []MX {
	if len(list) == 1 && list[0].Implicit {
		return nil
	}
	return list
}

func TestAliasesAreFollowedOverSeveralAnswers(t *testing.T) {
	answers := map[string]*reply{
		"a.example.": records(t, "a.example. 60 IN CNAME b.example."),
		"b.example.": records(t, "b.example. 60 IN CNAME c.example."),
		"c.example.": records(t, "c.example. 60 IN TXT found"),
	}
	r, w := onWire(func(q question) (*reply, *Error) { return answers[q.name], nil })
	got, err := r.TXT(t.Context(), "a.example")
	if diff := cmp.Diff([]string{"found"}, got); diff != "" || err != nil || w.count() != 3 {
		t.Errorf("%v after %d queries\n%s", err, w.count(), diff)
	}
	endless, w := onWire(func(q question) (*reply, *Error) {
		return records(t, fmt.Sprintf("%s 60 IN CNAME x%s", q.name, q.name)), nil
	})
	_, err = endless.TXT(t.Context(), "a.example")
	if e := asError(t, err); e.Temporary || e.NotFound() || w.count() > maxAliases+1 {
		t.Errorf("an endless chain: %v after %d queries", err, w.count())
	}
}

// FuzzAnswer feeds whatever can be unpacked to every kind of lookup.
func FuzzAnswer(f *testing.F) {
	for _, lines := range [][]string{
		{"x.example. 60 IN MX 10 mx.example."}, {"x.example. 60 IN CNAME y.example.", "y.example. 60 IN TXT a\\\"b"},
		{"x.example. 60 IN TLSA 3 1 1 00ff"}, {"x.example. 0 IN A 192.0.2.1", "x.example. 0 IN AAAA ::"},
	} {
		b, err := records(f, lines...).msg.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		r, _ := onWire(func(question) (*reply, *Error) { return &reply{msg: m, trusted: true}, nil })
		list, err := r.MX(t.Context(), "x.example")
		if (err == nil) != (len(list) > 0) {
			t.Errorf("%d exchangers, %v", len(list), err)
		}
		for _, mx := range list {
			if !isDomainName(mx.Host) && !mx.Null() {
				t.Errorf("exchanger %q", mx.Host)
			}
		}
		if list, err := r.Addrs(t.Context(), "x.example"); (err == nil) != (len(list) > 0) {
			t.Errorf("%d addresses, %v", len(list), err)
		}
		if _, err := r.TXT(t.Context(), "x.example"); err != nil {
			asError(t, err)
		}
		if _, _, err := r.TLSA(t.Context(), "x.example"); err != nil {
			asError(t, err)
		}
	})
}

func TestErrorsReadAsOneLine(t *testing.T) {
	for _, tt := range []struct {
		err  *Error
		want string
	}{
		{&Error{Name: "x.example", Type: "MX", Rcode: "NXDOMAIN", NXDomain: true}, "look up MX of x.example: name does not exist"},
		{&Error{Name: "x.example", Type: "A", NoData: true}, "look up A of x.example: no such record"},
		{&Error{Name: "x.example", Type: "A", Rcode: "SERVFAIL", Temporary: true}, "look up A of x.example: server answered SERVFAIL"},
		{&Error{Name: "x.example", Type: "A", Temporary: true}, "look up A of x.example: no answer"},
		{&Error{Name: "x.example", Type: "A", Temporary: true, Err: errLame}, "look up A of x.example: server does not look names up for us"},
		{&Error{Name: "a b", Type: "A", NXDomain: true, Err: errBadName}, "look up A of a b: name does not exist: not a domain name"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
