package admin

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

// Selector chooses queue items, as it stands in a request: queue.Selector with
// ages as people write them.
type Selector struct {
	IDs       []string `json:"ids,omitempty"` // ID or ID:n
	Sender    string   `json:"sender,omitempty"`
	Recipient string   `json:"recipient,omitempty"`
	Domain    string   `json:"domain,omitempty"`
	Transport string   `json:"transport,omitempty"`
	State     string   `json:"state,omitempty"`
	OlderThan string   `json:"older_than,omitempty"` // "90s", "2d"
	NewerThan string   `json:"newer_than,omitempty"`
	Error     string   `json:"error,omitempty"` // a regular expression
	All       bool     `json:"all,omitempty"`
}

// field is one text field of a selector with its name in requests.
type field struct {
	name  string
	value *string
}

func (s *Selector) fields() []field {
	return []field{
		{"sender", &s.Sender}, {"recipient", &s.Recipient}, {"domain", &s.Domain}, {"transport", &s.Transport},
		{"state", &s.State}, {"older_than", &s.OlderThan}, {"newer_than", &s.NewerThan}, {"error", &s.Error},
	}
}

// selectorQuery are the parameters of a selector.
func selectorQuery() []string {
	return []string{
		"id: ID or ID:n, may come again", "sender: address or @domain", "recipient: address or @domain", "domain: of the recipient",
		"transport: its name", "state: of the item", "older_than: an age, 2d", "newer_than: an age, 2d", "error: a regular expression", "all: true for every item",
	}
}

// Values is the selector as a query string has it.
func (s Selector) Values() url.Values {
	v := url.Values{}
	for _, id := range s.IDs {
		v.Add("id", id)
	}
	for _, f := range s.fields() {
		if *f.value != "" {
			v.Set(f.name, *f.value)
		}
	}
	if s.All {
		v.Set("all", "true")
	}
	return v
}

// selectorFrom reads what Values writes. Keys that are neither the selector's
// nor in also are refused: a misspelt one would choose too much.
func selectorFrom(v url.Values, also ...string) (Selector, error) {
	s := Selector{IDs: v["id"]}
	known := append([]string{"id", "all"}, also...)
	for _, f := range s.fields() {
		*f.value = v.Get(f.name)
		known = append(known, f.name)
	}
	for key, values := range v {
		if !slices.Contains(known, key) {
			return s, fmt.Errorf("unknown parameter %q", key)
		}
		if key != "id" && len(values) > 1 {
			return s, fmt.Errorf("parameter %q is given twice", key)
		}
	}
	if all := v.Get("all"); all != "" {
		var err error
		if s.All, err = strconv.ParseBool(all); err != nil {
			return s, fmt.Errorf("parameter all: %q is neither true nor false", all)
		}
	}
	return s, nil
}

// forQueue is the selector in the queue's terms. The queue checks the rest.
func (s Selector) forQueue() (queue.Selector, error) {
	older, err := age("older_than", s.OlderThan)
	if err != nil {
		return queue.Selector{}, err
	}
	newer, err := age("newer_than", s.NewerThan)
	if err != nil {
		return queue.Selector{}, err
	}
	return queue.Selector{
		IDs: s.IDs, Sender: s.Sender, Recipient: s.Recipient, Domain: s.Domain, Transport: s.Transport,
		State: mail.QueueState(s.State), OlderThan: older, NewerThan: newer, Error: s.Error, All: s.All,
	}, nil
}

func age(name, s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := config.ParseDuration(s)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%q is not a time above 0", s)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", queue.ErrSelector, name, err)
	}
	return d, nil
}
