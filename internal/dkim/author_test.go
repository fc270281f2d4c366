package dkim

import (
	"testing"

	"gatepost/internal/message"
)

func TestOnlyAuthorSignsForItsOwnDomain(t *testing.T) {
	tests := []struct {
		header string
		want   bool
	}{
		{"From: a@example.com\r\n\r\n", true},
		{"From: Ada <a@EXAMPLE.com>\r\n\r\n", true},
		{"From: \"a@other.example\" <a@mail.example.com>\r\n\r\n", true},
		{"From: a@example.com (Ada)\r\n\r\n", true},
		{"From: a@example.com\r\nFrom: b@other.example\r\n\r\n", false},
		{"From: a@other.example\r\n\r\n", false},
		{"From: a@notexample.com\r\n\r\n", false},
		{"From: \"a@example.com\" <a@other.example>\r\n\r\n", false},
		{"From: nobody\r\n\r\n", false},
		{"Subject: x\r\n\r\n", false},
	}
	for _, tt := range tests {
		if got := hasAuthorIn(message.ParseHeader([]byte(tt.header)), "example.com"); got != tt.want {
			t.Errorf("%q: got %v, want %v", tt.header, got, tt.want)
		}
	}
}
