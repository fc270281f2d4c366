package authfile

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// secret is a password as the file has it.
type secret interface {
	matches(password string) bool
	// kind names the algorithm with its cost: secrets of one kind cost the same.
	kind() string
	// dummy is a secret of the same kind that nobody knows.
	dummy() secret
}

// Limits of what one check may cost: about a second and 256 MiB.
const (
	maxBcrypt       = 14
	maxArgonMemory  = 256 << 10 // KiB
	maxArgonTime    = 16
	maxArgonThreads = 16
)

var (
	errEmpty  = errors.New("the password is empty")
	errKind   = errors.New("this kind of hash is not known: want $argon2id$, $2y$, {SSHA}, {SSHA256}, {SSHA512} or {PLAIN}")
	errFormat = errors.New("the hash is damaged")
	errCost   = errors.New("the hash costs too much")
	errSpace  = errors.New("a name has no spaces in it, and no # in front")
)

// parseSecret reads a password. Its prefix says what it is, as other servers write
// it.
func parseSecret(s string) (secret, error) {
	if strings.HasPrefix(s, "{") {
		scheme, rest, ok := strings.Cut(s[1:], "}")
		if !ok {
			return nil, errKind
		}
		switch strings.ToUpper(scheme) {
		case "PLAIN", "CLEARTEXT":
			return parsePlain(rest)
		case "SSHA":
			return parseSalted(rest, "SSHA", sha1.New)
		case "SSHA256":
			return parseSalted(rest, "SSHA256", sha256.New)
		case "SSHA512":
			return parseSalted(rest, "SSHA512", sha512.New)
		case "ARGON2ID", "BLF-CRYPT", "CRYPT":
			if s = rest; !strings.HasPrefix(s, "$") {
				return nil, errKind
			}
		default:
			return nil, errKind
		}
	}
	switch {
	case strings.HasPrefix(s, "$argon2id$"):
		return parseArgon(s)
	case strings.HasPrefix(s, "$2a$"), strings.HasPrefix(s, "$2b$"), strings.HasPrefix(s, "$2y$"):
		return parseBcrypt(s)
	case strings.HasPrefix(s, "$"):
		return nil, errKind
	}
	return parsePlain(s)
}

// plain is the hash of a plain password, so that comparing takes the same time
// whatever its length.
type plainSecret [sha256.Size]byte

func plain(password string) secret { return plainSecret(sha256.Sum256([]byte(password))) }

func parsePlain(s string) (secret, error) {
	if s == "" {
		return nil, errEmpty
	}
	return plain(s), nil
}

func (p plainSecret) matches(password string) bool {
	sum := sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(p[:], sum[:]) == 1
}

func (p plainSecret) kind() string { return "" }

func (p plainSecret) dummy() secret { return plain(rand.Text()) }

// saltedSecret is a hash of password and salt, as LDAP servers keep it.
type saltedSecret struct {
	name      string
	hash      func() hash.Hash
	sum, salt []byte
}

func parseSalted(s, name string, h func() hash.Hash) (secret, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if size := h().Size(); err == nil && len(raw) > size && len(raw) <= size+64 {
		return &saltedSecret{name: name, hash: h, sum: raw[:size], salt: raw[size:]}, nil
	}
	return nil, errFormat
}

func (s *saltedSecret) matches(password string) bool {
	h := s.hash()
	h.Write([]byte(password))
	h.Write(s.salt)
	return subtle.ConstantTimeCompare(h.Sum(nil), s.sum) == 1
}

func (s *saltedSecret) kind() string { return s.name }

func (s *saltedSecret) dummy() secret {
	d := *s
	d.sum, d.salt = make([]byte, len(s.sum)), []byte(rand.Text())[:min(len(s.salt), 26)]
	rand.Read(d.sum)
	return &d
}

// bcryptSecret is bcrypt, which looks at the first 72 bytes of a password.
type bcryptSecret struct {
	hash []byte
	cost int
}

func parseBcrypt(s string) (secret, error) {
	cost, err := bcrypt.Cost([]byte(s))
	switch {
	case err != nil || len(s) != 60:
		return nil, errFormat
	case cost > maxBcrypt:
		return nil, errCost
	}
	return &bcryptSecret{hash: []byte(s), cost: cost}, nil
}

func (b *bcryptSecret) matches(password string) bool {
	return bcrypt.CompareHashAndPassword(b.hash, []byte(password)) == nil
}

func (b *bcryptSecret) kind() string { return fmt.Sprintf("bcrypt %02d", b.cost) }

func (b *bcryptSecret) dummy() secret {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	// "$2y$10$", then salt and hash, here at random: there is no password that it is
	// the hash of which anybody could know.
	d := append([]byte(nil), b.hash...)
	random := make([]byte, len(d)-7)
	rand.Read(random)
	for i, r := range random {
		d[7+i] = alphabet[r&63]
	}
	// The last character of the salt stands for 2 bits, that of the hash for 4.
	d[28], d[59] = '.', '.'
	return &bcryptSecret{hash: d, cost: b.cost}
}

// argonSecret is Argon2id (RFC 9106) in the form that the reference
// implementation prints.
type argonSecret struct {
	memory, time uint32
	threads      uint8
	salt, sum    []byte
}

func parseArgon(s string) (secret, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, errFormat
	}
	var a argonSecret
	params := strings.Split(parts[3], ",")
	if len(params) != 3 {
		return nil, errFormat
	}
	for i, want := range []struct {
		name string
		max  uint64
	}{{"m", maxArgonMemory}, {"t", maxArgonTime}, {"p", maxArgonThreads}} {
		name, value, _ := strings.Cut(params[i], "=")
		n, err := strconv.ParseUint(value, 10, 32)
		switch {
		case name != want.name || err != nil || n == 0:
			return nil, errFormat
		case n > want.max:
			return nil, errCost
		}
		switch name {
		case "m":
			a.memory = uint32(n)
		case "t":
			a.time = uint32(n)
		case "p":
			a.threads = uint8(n)
		}
	}
	var err, err2 error
	a.salt, err = base64.RawStdEncoding.DecodeString(parts[4])
	a.sum, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || err2 != nil || len(a.salt) < 8 || len(a.salt) > 64 || len(a.sum) < 12 || len(a.sum) > 64 {
		return nil, errFormat
	}
	return &a, nil
}

func (a *argonSecret) matches(password string) bool {
	sum := argon2.IDKey([]byte(password), a.salt, a.time, a.memory, a.threads, uint32(len(a.sum)))
	return subtle.ConstantTimeCompare(sum, a.sum) == 1
}

func (a *argonSecret) kind() string {
	return fmt.Sprintf("argon2id %07d,%02d,%02d", a.memory, a.time, a.threads)
}

func (a *argonSecret) dummy() secret {
	d := *a
	d.salt, d.sum = make([]byte, len(a.salt)), make([]byte, len(a.sum))
	rand.Read(d.salt)
	rand.Read(d.sum)
	return &d
}

// Hash makes a line's password of a plain one: Argon2id with 19 MiB and two passes,
// which takes some 20 ms.
func Hash(password string) (string, error) {
	if password == "" {
		return "", errEmpty
	}
	const memory, passes, threads = 19 << 10, 2, 1
	salt := make([]byte, 16)
	rand.Read(salt)
	sum := argon2.IDKey([]byte(password), salt, passes, memory, threads, 32)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum)), nil
}

// HashBcrypt is Hash for files that other programs read, too: bcrypt with a cost of
// 10, which takes some 60 ms and sees no more than 72 bytes of a password. A longer one
// is an error.
func HashBcrypt(password string) (string, error) {
	if password == "" {
		return "", errEmpty
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(hash), nil
}

// Line is the line of a file for a user with that password, which Hash made.
func Line(name, hash string) (string, error) {
	line := name + " " + hash
	u, err := parseLine(line)
	switch {
	case err == nil && u.name == name:
		return line, nil
	case err == nil || len(strings.Fields(name)) != 1:
		return "", errSpace
	}
	return "", err
}
