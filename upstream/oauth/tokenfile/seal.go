package tokenfile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
)

// MinKey is the least length of a key, in octets. It should be random: 32 random
// octets in base64 have 44.
const MinKey = 32

const (
	version = 1
	kind    = "popgate refresh token"
	keyInfo = "popgate tokenfile 1 seal"
	idInfo  = "popgate tokenfile 1 id"
)

var (
	// ErrKey says that a record was sealed with another key.
	ErrKey = errors.New("it was sealed with another key")
	// ErrDamaged says that a file holds no record of ours, or not one of that name.
	ErrDamaged = errors.New("it is damaged")
)

// A Name is what a record is kept under. Both parts count octet by octet.
type Name struct {
	Grant   string // the section of the configuration that the account belongs to
	Account string
}

// A Record is what is known of one account's refresh token.
type Record struct {
	Refresh upstream.Secret
	// Previous was used before Refresh. It is kept until Refresh has worked.
	Previous upstream.Secret

	Authorized time.Time // when a person gave the grant
	Expires    time.Time // when the issuer says that Refresh ends; zero if it does not say
	Succeeded  time.Time // the last time that an access token was issued
	Failed     time.Time // when the issuer first refused after that; zero if it did not
	Failure    string    // what it said, in one line without secrets
}

// sealed is the form of a record under the seal.
type sealed struct {
	Refresh    string    `json:"refresh"`
	Previous   string    `json:"previous,omitempty"`
	Authorized time.Time `json:"authorized,omitzero"`
	Expires    time.Time `json:"expires,omitzero"`
	Succeeded  time.Time `json:"succeeded,omitzero"`
	Failed     time.Time `json:"failed,omitzero"`
	Failure    string    `json:"failure,omitempty"`
}

// envelope is the form of a file.
type envelope struct {
	Kind    string `json:"kind"`
	Version int    `json:"version"`
	Grant   string `json:"grant"`
	Account string `json:"account"`
	Key     string `json:"key"` // names the key, tells nothing of it
	Sealed  []byte `json:"sealed"`
}

// A sealer seals and opens records with one key.
type sealer struct {
	aead cipher.AEAD
	id   string
}

func newSealer(key upstream.Secret) (sealer, error) {
	text := strings.TrimSpace(key.Reveal())
	if len(text) < MinKey {
		return sealer{}, fmt.Errorf("the key of the token folder has %d octets and needs %d or more, at random", len(text), MinKey)
	}
	secret, err := hkdf.Key(sha256.New, []byte(text), nil, keyInfo, 32)
	if err != nil {
		return sealer{}, err
	}
	id, err := hkdf.Key(sha256.New, []byte(text), nil, idInfo, 8)
	if err != nil {
		return sealer{}, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return sealer{aead, hex.EncodeToString(id)}, err
}

// binding is what the seal covers beside the record.
func binding(n Name) []byte {
	return fmt.Appendf(nil, "%s %d\n%d %s\n%d %s\n", kind, version, len(n.Grant), n.Grant, len(n.Account), n.Account)
}

func (s sealer) seal(n Name, r Record) ([]byte, error) {
	plain, err := json.Marshal(sealed{
		Refresh: r.Refresh.Reveal(), Previous: r.Previous.Reveal(),
		Authorized: utc(r.Authorized), Expires: utc(r.Expires), Succeeded: utc(r.Succeeded), Failed: utc(r.Failed), Failure: r.Failure,
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{
		Kind: kind, Version: version, Grant: n.Grant, Account: n.Account,
		Key: s.id, Sealed: s.aead.Seal(nil, nil, plain, binding(n)),
	})
}

func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// unwrap reads a file without opening the seal.
func unwrap(data []byte) (envelope, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if e.Kind != kind {
		return e, fmt.Errorf("%w: it is no token of popgate", ErrDamaged)
	}
	if e.Version != version {
		return e, fmt.Errorf("it is of version %d, and this popgate knows %d", e.Version, version)
	}
	return e, nil
}

func (s sealer) open(n Name, data []byte) (Record, error) {
	e, err := unwrap(data)
	if err != nil {
		return Record{}, err
	}
	if e.Key != s.id {
		return Record{}, ErrKey
	}
	plain, err := s.aead.Open(nil, nil, e.Sealed, binding(n))
	if err != nil {
		return Record{}, fmt.Errorf("%w: its seal does not hold for this account", ErrDamaged)
	}
	var r sealed
	if err := json.Unmarshal(plain, &r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return Record{
		Refresh: upstream.NewSecret(r.Refresh), Previous: upstream.NewSecret(r.Previous),
		Authorized: r.Authorized, Expires: r.Expires, Succeeded: r.Succeeded, Failed: r.Failed, Failure: r.Failure,
	}, nil
}
