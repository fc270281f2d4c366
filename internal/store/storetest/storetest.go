// Package storetest is the contract of package store: tests that every engine
// passes. It also runs the PostgreSQL that they need.
//
//	var server = storetest.Postgres{}
//
//	func TestMain(m *testing.M) { code := m.Run(); server.Close(); os.Exit(code) }
//	func TestContract(t *testing.T) { storetest.Run(t, &server) }
//
// A kind of record has a file here and a row in contracts. Each contract gets a
// database of its own, which it may open several times: as one node, or as nodes
// that share it.
package storetest

import (
	"log/slog"
	"testing"
	"time"

	"gatepost/internal/store"
)

// contract is what one kind of record promises.
type contract struct {
	name string
	run  func(t *testing.T, db *Database)
}

// contracts are all that there are, in the order in which they are read best.
var contracts = []contract{
	{"settings", settings},
	{"quarantine put and get", quarantinePut},
	{"quarantine bodies", quarantineBodies},
	{"quarantine search", quarantineFind},
	{"quarantine states", quarantineStates},
	{"quarantine expiry", quarantineExpiry},
	{"quarantine digests and statistics", quarantineSummaries},
	{"mailboxes", mailboxes},
	{"reputation", reputation},
	{"greylist triplets", greylistTriplets},
	{"greylist clocks", greylistClocks},
	{"greylist nodes", greylistNodes},
	{"greylist lists", greylistLists},
	{"senders that are allowed or blocked", senderLists},
	{"bayes learn and forget", bayesLearn},
	{"bayes nodes", bayesNodes},
	{"bayes expire", bayesExpire},
	{"history segments", historySegments},
	{"history merging", historyMerging},
	{"history hours", historyHours},
	{"history nodes", historyNodes},
	{"accounts and their keys", accountRecords},
	{"audit log", auditLog},
}

// Run runs every contract on every engine.
func Run(t *testing.T, server *Postgres) {
	for _, c := range contracts {
		t.Run(c.name, func(t *testing.T) {
			Each(t, server, func(t *testing.T, db *Database) { c.run(t, db) })
		})
	}
}

// Each runs a test on a fresh database of every engine.
func Each(t *testing.T, server *Postgres, run func(t *testing.T, db *Database)) {
	t.Run("sqlite", func(t *testing.T) { run(t, &Database{Dir: t.TempDir()}) })
	t.Run("postgres", func(t *testing.T) { run(t, &Database{URL: server.NewDatabase(t)}) })
}

// Database is a database of one engine.
type Database struct {
	URL string // "" for SQLite
	Dir string
}

// Shared says that several nodes may use the database.
func (db *Database) Shared() bool { return db.URL != "" }

// Open opens a store on the database until the end of the test.
func (db *Database) Open(t *testing.T, change ...func(*store.Options)) *store.Store {
	t.Helper()
	o := store.Options{URL: db.URL, Dir: db.Dir, Node: "gw1", Log: slog.New(slog.DiscardHandler), MaxConns: 4,
		Timeout: time.Minute, ConnectTimeout: time.Minute, RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond}
	for _, c := range change {
		c(&o)
	}
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// must fails the test for an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
