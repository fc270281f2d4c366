package store_test

import (
	"os"
	"testing"

	"gatepost/internal/store/storetest"
)

// server is the PostgreSQL of the tests here; the first that needs it starts it.
var server = storetest.Postgres{}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
	}
	code := m.Run()
	server.Close()
	os.Exit(code)
}

func TestContract(t *testing.T) { storetest.Run(t, &server) }
