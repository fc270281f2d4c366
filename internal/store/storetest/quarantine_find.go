package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// fixture puts messages that differ in what can be asked for, oldest first.
func fixture(t *testing.T, s *store.Store) []*store.QuarantinedMessage {
	t.Helper()
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	rows := []struct {
		sender, subject, client, reason string
		threat                          mail.Threat
		to                              []string
	}{
		{"news@example.net", "50% off_today", "192.0.2.7", "score 9", mail.ThreatSpam, []string{"bob@example.com"}},
		{"News@Example.Net", "500 offers today", "192.0.2.70", "score 12", mail.ThreatSpam, []string{"bob@example.com", "carol@example.org"}},
		{"evil@other.example", "ÄRGER Straße", "2001:db8::1", "Eicar-Test-Signature", mail.ThreatVirus, []string{"carol@example.org"}},
		{"", "Undelivered mail", "198.51.100.1", "encrypted archive", mail.ThreatUnscanned, []string{"dave@sub.example.com"}},
		{"x'; DROP TABLE settings; --@example.net", "!quoted! %", "192.0.2.7", "filter exe", mail.ThreatFilter, []string{"bob@example.com"}},
	}
	var all []*store.QuarantinedMessage
	for i, row := range rows {
		m, body := Message(row.sender, row.subject, 10*i, row.to...)
		m.ID = mail.FirstID(begin.Add(time.Duration(i) * time.Minute))
		m.ID[15] = byte(i)
		m.Received, m.Client, m.Reason, m.Threat = m.ID.Time(), row.client, row.reason, row.threat
		m.MessageID = fmt.Sprintf("<m%d@example.net>", i)
		for j := range m.Entries {
			m.Entries[j].Threat, m.Entries[j].Reason = row.threat, row.reason
		}
		must(t, s.PutQuarantined(t.Context(), m, body))
		all = append(all, m)
	}
	return all
}

func quarantineFind(t *testing.T, db *Database) {
	s := db.Open(t)
	all := fixture(t, s)
	_, err := s.SetQuarantineState(t.Context(), all[1].ID, []string{"carol@example.org"}, store.QuarantineChange{State: store.QuarantineReleased, By: "carol"})
	must(t, err)
	cases := []struct {
		name  string
		query store.QuarantineQuery
		want  []int
	}{
		{"nothing asked gives all, newest first", store.QuarantineQuery{}, []int{4, 3, 2, 1, 0}},
		{"one ID", store.QuarantineQuery{ID: all[2].ID}, []int{2}},
		{"an ID that is not there", store.QuarantineQuery{ID: mail.NewID()}, nil},
		{"a whole sender in another case", store.QuarantineQuery{Sender: "NEWS@example.net"}, []int{1, 0}},
		{"a whole sender is not a part of one", store.QuarantineQuery{Sender: "ews@example.net"}, nil},
		{"the null sender", store.QuarantineQuery{Sender: "<>"}, []int{3}},
		{"a part of a sender", store.QuarantineQuery{Sender: "EWS"}, []int{1, 0}},
		{"a domain of senders", store.QuarantineQuery{Sender: "@other.example"}, []int{2}},
		{"a recipient", store.QuarantineQuery{Recipient: "Carol@example.org"}, []int{2, 1}},
		{"a domain of recipients is not that of its subdomains", store.QuarantineQuery{Recipient: "@example.com"}, []int{4, 1, 0}},
		{"one of several recipients", store.QuarantineQuery{Recipients: []string{"carol@example.org", "dave@sub.example.com"}}, []int{3, 2, 1}},
		{"one of several domains", store.QuarantineQuery{Domains: []string{"sub.example.com", "example.org"}}, []int{3, 2, 1}},
		{"percent and underscore are themselves", store.QuarantineQuery{Subject: "50% off_"}, []int{0}},
		{"an exclamation mark is itself", store.QuarantineQuery{Subject: "!QUOTED! %"}, []int{4}},
		{"letters beyond ASCII in another case", store.QuarantineQuery{Subject: "ärger straße"}, []int{2}},
		{"every word of a text, wherever it stands", store.QuarantineQuery{Text: "today BOB@example.com 192.0.2"}, []int{1, 0}},
		{"a word of a reason", store.QuarantineQuery{Text: "eicar"}, []int{2}},
		{"a message ID", store.QuarantineQuery{Text: "<m3@example.net>"}, []int{3}},
		{"a quote and a semicolon", store.QuarantineQuery{Text: "'; drop"}, []int{4}},
		{"a text of one letter", store.QuarantineQuery{Text: "!"}, []int{4}},
		{"a text of two letters", store.QuarantineQuery{Text: "ßE"}, []int{2}},
		{"a text that is nowhere", store.QuarantineQuery{Text: "today unicorns"}, nil},
		{"letters that stand there, but not as this word", store.QuarantineQuery{Text: "yadot"}, nil},
		{"a part of a subject with spaces around it", store.QuarantineQuery{Subject: " offers "}, []int{1}},
		{"a part of a recipient", store.QuarantineQuery{Recipient: "CARO"}, []int{2, 1}},
		{"a part of a recipient that is nowhere", store.QuarantineQuery{Recipient: "unicorn"}, nil},
		{"a part of a sender and a text of another message", store.QuarantineQuery{Sender: "evil", Text: "offers"}, nil},
		{"a text and a state", store.QuarantineQuery{Text: "offers", State: store.QuarantineReleased}, []int{1}},
		{"a text and a recipient", store.QuarantineQuery{Text: "today", Recipients: []string{"carol@example.org"}, State: store.QuarantineHeld}, nil},
		{"a text and a domain", store.QuarantineQuery{Text: "example", Domains: []string{"sub.example.com"}}, []int{3}},
		{"a text and a client", store.QuarantineQuery{Text: "today", Client: "192.0.2.70"}, []int{1}},
		{"a text and a whole sender", store.QuarantineQuery{Text: "today", Sender: "news@example.net"}, []int{1, 0}},
		{"a text and one ID", store.QuarantineQuery{Text: "today", ID: all[0].ID}, []int{0}},
		{"a client", store.QuarantineQuery{Client: "192.0.2.7"}, []int{4, 0}},
		{"the beginning of a client", store.QuarantineQuery{Client: "192.0.2."}, []int{4, 1, 0}},
		{"a client as an IPv6 address that is written differently", store.QuarantineQuery{Client: "2001:0DB8:0::1"}, []int{2}},
		{"a threat", store.QuarantineQuery{Threat: mail.ThreatVirus}, []int{2}},
		{"a state", store.QuarantineQuery{State: store.QuarantineReleased}, []int{1}},
		{"state and recipient of one and the same entry", store.QuarantineQuery{State: store.QuarantineReleased, Recipient: "bob@example.com"}, nil},
		{"state, domain and threat", store.QuarantineQuery{State: store.QuarantineHeld, Domains: []string{"example.com"}, Threat: mail.ThreatSpam}, []int{1, 0}},
		{"since", store.QuarantineQuery{Since: all[3].Received}, []int{4, 3}},
		{"until is out", store.QuarantineQuery{Until: all[1].Received}, []int{0}},
		{"stored since this hour", store.QuarantineQuery{StoredSince: time.Now().Add(-30 * time.Minute)}, []int{4, 3, 2, 1, 0}},
		{"stored until an hour ago", store.QuarantineQuery{StoredUntil: time.Now().Add(-30 * time.Minute)}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			found, more, err := s.FindQuarantined(t.Context(), c.query)
			must(t, err)
			if got := indexes(all, found); !slices.Equal(got, c.want) || more {
				t.Errorf("found %v, want %v (more: %v)", got, c.want, more)
			}
		})
	}
	t.Run("pages join without a gap", func(t *testing.T) { findPages(t, s, all) })
	t.Run("texts past what has their letters only", func(t *testing.T) { findAmong(t, db.Open(t)) })
}

func indexes(all []*store.QuarantinedMessage, found []store.QuarantinedMessage) []int {
	var got []int
	for _, m := range found {
		got = append(got, slices.IndexFunc(all, func(a *store.QuarantinedMessage) bool { return a.ID == m.ID }))
	}
	return got
}

// findAmong looks for a few messages behind many that have all the letters of the word.
func findAmong(t *testing.T, s *store.Store) {
	subject := func(i int) string {
		if i%640 == 0 {
			return "zebcbaz"
		}
		return "zebc ebcb bcba cbaz"
	}
	const all = 1300
	begin := time.Now().Add(-30 * time.Minute)
	for i := range all {
		m, body := Message("letters@example.net", subject(i), 1, "bob@example.com")
		m.ID = mail.FirstID(begin.Add(time.Duration(i) * time.Second))
		must(t, s.PutQuarantined(t.Context(), m, body))
	}
	for _, q := range []store.QuarantineQuery{{Text: "zebcbaz"}, {Text: "zebcbaz", State: store.QuarantineHeld}, {Text: "zebcbaz", Limit: 2}} {
		found, more, err := s.FindQuarantined(t.Context(), q)
		must(t, err)
		want := 3
		if q.Limit > 0 {
			want = q.Limit
		}
		if len(found) != want || more != (want < 3) {
			t.Errorf("%+v: found %d, want %d (more: %v)", q, len(found), want, more)
		}
	}
}

func findPages(t *testing.T, s *store.Store, all []*store.QuarantinedMessage) {
	for _, q := range []store.QuarantineQuery{{}, {Domains: []string{"example.com", "example.org", "sub.example.com"}}} {
		var got []int
		q.Limit = 2
		for more := true; more; {
			var page []store.QuarantinedMessage
			var err error
			page, more, err = s.FindQuarantined(t.Context(), q)
			must(t, err)
			if len(page) == 0 || more && len(page) != 2 {
				t.Fatalf("a page of %d", len(page))
			}
			got = append(got, indexes(all, page)...)
			q.Before = page[len(page)-1].ID
		}
		if !slices.Equal(got, []int{4, 3, 2, 1, 0}) {
			t.Errorf("pages give %v", got)
		}
	}
}
