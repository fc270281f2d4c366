package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATE codes of PostgreSQL that are told apart (its manual, appendix A).
const (
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
	codeNoTable       = "42P01"
	codeReadOnly      = "25006" // a standby
)

// awayClasses are the classes of errors that are the server's trouble, not that
// of the statement: connection, resources, operator intervention, system error.
var awayClasses = []string{"08", "53", "57", "58"}

// mayRetry reports whether the same call may succeed at once and certainly did
// nothing yet.
func mayRetry(err error) bool {
	if err == nil {
		return false
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code == codeSerialization || pe.Code == codeDeadlock
	}
	var ce *pgconn.ConnectError
	return errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err) && !errors.As(err, &ce)
}

// lacksTables reports whether a table does not exist.
func lacksTables(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && pe.Code == codeNoTable
}

// isAway reports whether an error says that the database cannot be used now.
func isAway(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		if pe.Code == codeReadOnly || pe.Code == codeSerialization || pe.Code == codeDeadlock {
			return true
		}
		for _, class := range awayClasses {
			if strings.HasPrefix(pe.Code, class) {
				return true
			}
		}
		return false
	}
	var ce *pgconn.ConnectError
	var ne net.Error
	return errors.As(err, &ce) || errors.As(err, &ne) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}
