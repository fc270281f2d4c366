package pop3

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// Account tells whose mailbox a client asks for in an AUTH of which it has said these
// lines, "" where the mechanism does not show it. What else stands in them is not kept.
func Account(mechanism string, said []string) string {
	if len(said) == 0 {
		return ""
	}
	first, err := base64.StdEncoding.DecodeString(said[0])
	if err != nil || len(first) > 4096 {
		return ""
	}
	switch strings.ToUpper(mechanism) {
	case "PLAIN": // RFC 4616 §2: authzid NUL authcid NUL passwd
		parts := bytes.SplitN(first, []byte{0}, 3)
		if len(parts) != 3 {
			return ""
		}
		if len(parts[0]) > 0 {
			return string(parts[0])
		}
		return string(parts[1])
	case "LOGIN":
		return string(first)
	case "CRAM-MD5": // RFC 2195 §2: user SP digest
		if i := bytes.LastIndexByte(first, ' '); i > 0 {
			return string(first[:i])
		}
	case "XOAUTH2":
		return between(string(first), "user=", "\x01")
	case "OAUTHBEARER": // RFC 7628 §3.1: n,a=user,
		return between(string(first), "a=", ",")
	case "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512": // RFC 5802 §7: n,,n=user,r=nonce
		_, bare, _ := strings.Cut(string(first), ",")
		return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(between(bare, "n=", ","))
	}
	return ""
}

// between is what stands in s behind the first from, up to the next to.
func between(s, from, to string) string {
	_, rest, ok := strings.Cut(s, from)
	if !ok {
		return ""
	}
	name, _, ok := strings.Cut(rest, to)
	if !ok {
		return ""
	}
	return name
}
