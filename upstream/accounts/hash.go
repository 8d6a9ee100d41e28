package accounts

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/popgate/popgate/upstream"
)

// Bounds on what a hash costs: whoever can write the file must not be able to make
// a login take the memory or the processors of the machine.
const (
	maxMemory  = 64 << 10 // KiB; what RFC 9106 section 4 recommends where memory is short
	maxTime    = 16
	maxThreads = 16
	maxCost    = 14 // of bcrypt: about a second
)

// A hash is what a password is compared with.
type hash interface {
	matches(password string) bool
}

type argon2id struct {
	memory  uint32 // KiB
	time    uint32
	threads uint8
	salt    []byte
	key     []byte
}

func (h *argon2id) matches(password string) bool {
	key := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// String is the PHC form.
func (h *argon2id) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads, b64(h.salt), b64(h.key))
}

type bcrypted string

// matches compares the first 72 octets, as bcrypt does everywhere.
func (h bcrypted) matches(password string) bool {
	return bcrypt.CompareHashAndPassword([]byte(h), []byte(password)) == nil
}

// newArgon2id makes a hash that matches no password yet: about 20 ms, and 19 MiB.
func newArgon2id() *argon2id {
	h := &argon2id{memory: 19 << 10, time: 2, threads: 1, salt: make([]byte, 16), key: make([]byte, 32)}
	rand.Read(h.salt) // never fails
	return h
}

// HashPassword makes the hash of a password in the form of the file.
func HashPassword(password upstream.Secret) string {
	h := newArgon2id()
	h.key = argon2.IDKey([]byte(password.Reveal()), h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
	return h.String()
}

var errHash = errors.New("the hash is not one: use `popgate passwd`, or argon2id ($argon2id$v=19$...) or bcrypt ($2b$...)")

// parseHash reads a hash; nil where there is none. Its errors do not repeat the
// text, which may be a password that somebody wrote in its place.
func parseHash(text string) (hash, error) {
	switch {
	case text == "":
		return nil, nil
	case strings.HasPrefix(text, "$argon2id$"):
		return parseArgon2id(text)
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		return parseBcrypt(text)
	case strings.HasPrefix(text, "{") && strings.Contains(text, "}$"):
		return nil, errors.New("take the scheme in braces off: the hash begins with $")
	}
	return nil, errHash
}

func parseArgon2id(text string) (hash, error) {
	var version int
	var memory, time, threads uint32
	fields := strings.Split(text, "$") // "", argon2id, version, parameters, salt, key
	if len(fields) != 6 {
		return nil, errHash
	}
	head := strings.Join(fields[2:4], "$")
	const form = "v=%d$m=%d,t=%d,p=%d"
	if _, err := fmt.Sscanf(head, form, &version, &memory, &time, &threads); err != nil || head != fmt.Sprintf(form, version, memory, time, threads) {
		return nil, errHash
	}
	if version != argon2.Version {
		return nil, fmt.Errorf("the hash is of another version of argon2: %d is accepted", argon2.Version)
	}
	switch {
	case time < 1 || time > maxTime || threads < 1 || threads > maxThreads || memory < 8*threads || memory > maxMemory:
		return nil, fmt.Errorf("the hash is out of bounds: m is %d at most and 8 times p at least, t is 1 to %d, p is 1 to %d", maxMemory, maxTime, maxThreads)
	}
	h := &argon2id{memory: memory, time: time, threads: uint8(threads)}
	var errs [2]error
	h.salt, errs[0] = base64.RawStdEncoding.Strict().DecodeString(fields[4])
	h.key, errs[1] = base64.RawStdEncoding.Strict().DecodeString(fields[5])
	if errors.Join(errs[:]...) != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.key) < 16 || len(h.key) > 64 {
		return nil, errHash
	}
	return h, nil
}

func parseBcrypt(text string) (hash, error) {
	const length, alphabet = 60, "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	cost, err := bcrypt.Cost([]byte(text))
	if err != nil || len(text) != length || text[6] != '$' || strings.Trim(text[7:], alphabet) != "" {
		return nil, errHash
	}
	if cost > maxCost {
		return nil, fmt.Errorf("the hash costs too much: a bcrypt cost of %d is accepted at most", maxCost)
	}
	return bcrypted(text), nil
}
