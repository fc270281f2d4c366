package store

import (
	"strings"
	"testing"
)

func TestBadURLsSayWhatIsWrongAndNotThePassword(t *testing.T) {
	cases := []struct{ name, url, want string }{
		{"another database", "mysql://u:s3cret@h/db", `want "postgres://`},
		{"no scheme", "u:s3cret@h/db", `want "postgres://`},
		{"a slash in the password", "postgres://u:s3cret/x@h/db", "%2F"},
		{"a bad escape in the password", "postgres://u:s3cret%zz@h/db", "%25"},
		{"a question mark in the password", "postgres://u:s3cret?x@h/db", "cannot be read"},
		{"no database", "postgres://u:s3cret@h", "names no database"},
		{"no database but a slash", "postgres://u:s3cret@h/?sslmode=disable", "names no database"},
		{"a bad sslmode", "postgres://u:s3cret@h/db?sslmode=maybe", "sslmode"},
		{"a bad port", "postgres://u:s3cret@h:70000/db", "port"},
		{"the password as a parameter", "postgres://u@h/db?password=s3cret&sslmode=s3cret", "sslmode"},
		{"a certificate that is not there", "postgres://u:s3cret@h/db?sslmode=verify-full&sslrootcert=/none/s3cret.pem", "xxxxx"},
		{"an escaped password", "postgres://u:s3cret%2F@h/db?connect_timeout=s3cret%2F", "xxxxx"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseURL(c.url)
			if err == nil {
				t.Fatal("want an error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q does not say %q", err, c.want)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%q shows the password", err)
			}
		})
	}
}

func TestGoodURLs(t *testing.T) {
	for _, u := range []string{"postgres://gatepost@db.example.com/gatepost", "postgresql://u:p%2Fw@[::1]:5433/db?sslmode=require",
		"postgres://u@/db?host=/run/postgresql", "postgres://u@a:5432,b:5433/db?target_session_attrs=read-write"} {
		if _, err := parseURL(u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	c := &conn{dialect: dialectPostgres}
	if got := c.bind("a = ? AND b LIKE '?' ESCAPE '!' AND c IN (" + places(2) + ")"); got != "a = $1 AND b LIKE '?' ESCAPE '!' AND c IN ($2, $3)" {
		t.Error(got)
	}
	if got := tuples(2, 3); got != "(?, ?, ?), (?, ?, ?)" {
		t.Error(got)
	}
}
