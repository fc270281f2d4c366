package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"path"

	"github.com/pressly/goose/v3"
)

// migrations has one directory for each dialect, and one for the history, which has a
// file of its own with SQLite. A migration, once released, is
// never changed; the next one gets the next number in both directories. During an
// upgrade of several nodes old binaries meet new tables: migrations add, they do
// not take away what the release before still uses.
//
//go:embed migrations/sqlite/*.sql migrations/postgres/*.sql migrations/sqlite-history/*.sql
var migrations embed.FS

// migrationTable is where goose notes what was done.
const migrationTable = "gatepost_migrations"

// migrate brings the tables of a directory of migrations up to date. Applying them twice
// is harmless; whoever may meet others there brings a lock as an option.
func migrate(ctx context.Context, db *sql.DB, set string, log *slog.Logger, options ...goose.ProviderOption) error {
	dir, err := fs.Sub(migrations, path.Join("migrations", set))
	if err != nil {
		return fmt.Errorf("open migrations: %w", err)
	}
	name := goose.DialectSQLite3
	if set == string(dialectPostgres) {
		name = goose.DialectPostgres
	}
	options = append(options,
		goose.WithTableName(migrationTable),
		// Two releases may have added to the tables independently of each other.
		goose.WithAllowOutofOrder(true),
		goose.WithDisableGlobalRegistry(true))
	provider, err := goose.NewProvider(name, db, dir, options...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	done, err := provider.Up(ctx)
	for _, m := range done {
		log.Info("database migrated", "step", path.Base(m.Source.Path), "took", m.Duration)
	}
	if err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	return nil
}
