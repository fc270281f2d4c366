// Package store keeps records that are looked up and shared: the quarantine,
// trained statistics, reputation, settings. It has two engines with the same
// tables: an SQLite file in the data directory, or a PostgreSQL database that
// several nodes share.
//
//	s, err := store.Open(ctx, store.Options{URL: url, Dir: dir, Node: "gw1", Log: log})
//
// A kind of record is one Go file with methods on *Store, one migration with the
// same number in migrations/sqlite and migrations/postgres, and one contract in
// storetest, which runs on both engines. Its statements are written once where
// both dialects agree, with "?" as placeholder; times are Unix milliseconds in
// BIGINT, texts pass through clean first, since PostgreSQL refuses NUL and what
// is not UTF-8.
//
// Invariants:
//   - A method that changes something is durable when it returns nil.
//   - While the database is away every method returns ErrUnavailable within
//     Options.Timeout, mostly at once; nothing hangs. It is found again without
//     help, and migrated first.
//   - A change whose outcome is unknown (the connection was lost at the commit)
//     is reported as ErrUnavailable: methods can be repeated without harm.
//   - No error text holds the password of the URL.
package store
