package store

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

// parseURL reads a PostgreSQL URL. Its errors say what is wrong without showing
// the URL, which may hold a password: what the libraries say quotes it.
func parseURL(text string) (*pgx.ConnConfig, error) {
	scheme, _, found := strings.Cut(text, "://")
	if !found || scheme != "postgres" && scheme != "postgresql" {
		return nil, errors.New(`store URL: want "postgres://user@host:5432/database", or nothing for SQLite`)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("store URL: it cannot be read; special characters in user and password are written as %2F for /, %40 for @, %3A for :, %23 for #, %3F for ?, %25 for %")
	}
	if strings.Trim(u.Path, "/") == "" && u.Query().Get("dbname") == "" {
		return nil, errors.New(`store URL: it names no database: want "postgres://user@host:5432/database"`)
	}
	config, err := pgx.ParseConfig(text)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		return nil, fmt.Errorf("store URL: %s", hideSecrets(err.Error(), u))
	}
	return config, nil
}

// hideSecrets takes the passwords of a URL out of a text.
func hideSecrets(text string, u *url.URL) string {
	secrets := []string{u.Query().Get("password"), u.Query().Get("sslpassword")}
	if u.User != nil {
		password, _ := u.User.Password()
		secrets = append(secrets, password, strings.TrimPrefix(strings.TrimPrefix(u.User.String(), u.User.Username()), ":"))
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "xxxxx")
		}
	}
	return text
}
