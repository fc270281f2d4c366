package authfile

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
)

// salted makes what an LDAP server would keep.
func salted(kind, password string) string {
	h := map[string]func() hash.Hash{"SSHA": sha1.New, "SSHA256": sha256.New, "SSHA512": sha512.New}[kind]()
	salt := "8 bytes!"
	h.Write([]byte(password + salt))
	return "{" + kind + "}" + base64.StdEncoding.EncodeToString(append(h.Sum(nil), salt...))
}
