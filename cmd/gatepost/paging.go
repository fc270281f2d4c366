package main

import (
	"fmt"
	"net/url"
	"strconv"

	"gatepost/internal/admin"
)

// listing is a list of the API that is read page by page.
type listing struct {
	path string
	// query is changed while pages are read; cursor is the parameter that says where
	// the next one begins.
	query  url.Values
	cursor string
	// limit is how many rows are wanted; 0: all.
	limit int
}

// check says whether the limit of a command line can be meant.
func (l *listing) check() error {
	if l.limit < 0 {
		return usageError{fmt.Errorf("--limit %d: must not be negative", l.limit)}
	}
	return nil
}

// page is one answer of the API.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

// printPages reads the list and prints each page as it comes.
func printPages[T any](g *client, l listing, out rowPrinter[T]) error {
	for left := l.limit; ; {
		size := admin.MaxPage
		if l.limit > 0 {
			size = min(size, left)
		}
		l.query.Set("limit", strconv.Itoa(size))
		var p page[T]
		if err := g.get(l.path, l.query, &p); err != nil {
			return err
		}
		if err := out.rows(p.Items); err != nil {
			return err
		}
		left -= len(p.Items)
		if p.Next == "" || l.limit > 0 && left <= 0 {
			return out.end()
		}
		l.query.Set(l.cursor, p.Next)
	}
}
