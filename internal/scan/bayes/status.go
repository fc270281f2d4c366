package bayes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"gatepost/internal/store"
)

// Status is what was learned, for administrators.
type Status struct {
	// Ready says that messages get a score; Reason says why not.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Scopes are what was learned, for all mail ("") and for domains.
	Scopes []ScopeStatus `json:"scopes"`
	// Tokens and Messages are the rows of the database, Bytes about their size,
	// MemoryTokens and MemoryBytes what is held in memory.
	Tokens       int64 `json:"tokens"`
	TokenLimit   int64 `json:"token_limit"`
	Messages     int64 `json:"messages"`
	Bytes        int64 `json:"bytes"`
	MemoryTokens int64 `json:"memory_tokens"`
	MemoryBytes  int64 `json:"memory_bytes"`
	// Refreshed is when memory and database were last the same.
	Refreshed time.Time `json:"refreshed,omitzero"`
}

// ScopeStatus is what was learned in one scope.
type ScopeStatus struct {
	Scope string    `json:"scope"`
	Ready bool      `json:"ready"`
	Ham   int64     `json:"ham"`
	Spam  int64     `json:"spam"`
	Since time.Time `json:"since,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// Status tells what was learned. It brings the memory up to date first; where that
// fails it tells what is known, together with the error.
func (c *Classifier) Status(ctx context.Context) (Status, error) {
	err := c.Refresh(ctx)
	var size store.BayesSize
	if err == nil {
		size, err = c.config.Store.BayesSize(ctx)
	}
	s := c.status()
	s.Tokens, s.Messages, s.Bytes = size.Tokens, size.Messages, size.Bytes
	if err != nil {
		return s, fmt.Errorf("read what was learned: %w", err)
	}
	return s, nil
}

// status is what the memory says.
func (c *Classifier) status() Status {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := Status{
		TokenLimit: c.config.Tokens, MemoryTokens: int64(c.table.used), MemoryBytes: c.table.bytes(), Refreshed: c.loaded,
		Scopes: []ScopeStatus{},
	}
	for name, sc := range c.table.scopes {
		s.Scopes = append(s.Scopes, ScopeStatus{Scope: name, Ready: c.trained(sc), Ham: sc.Ham, Spam: sc.Spam, Since: sc.Since, Last: sc.Last})
		s.Ready = s.Ready || c.trained(sc) && (name == "" || c.config.PerDomain)
	}
	slices.SortFunc(s.Scopes, func(a, b ScopeStatus) int { return cmp.Compare(a.Scope, b.Scope) })
	switch {
	case s.Ready:
	case c.loaded.IsZero():
		s.Reason = errNotLoaded.Error()
	default:
		var ham, spam int64
		if global := c.table.scopes[""]; global != nil {
			ham, spam = global.Ham, global.Spam
		}
		s.Reason = fmt.Sprintf("%d ham and %d spam messages were learned, %d of each are needed", ham, spam, c.config.MinTrained)
	}
	return s
}
