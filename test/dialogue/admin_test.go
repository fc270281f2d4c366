package dialogue

import (
	"io"
	"net/http"
	"testing"
	"time"

	"gatepost/test/gatepost"
)

// get is the body of a page of the admin listener.
func get(t *testing.T, g *gatepost.Instance, path string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + g.Admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
