package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// errValue says no more than that the value is not accepted; the key tells
// what is.
var errValue = errors.New("not accepted")

const maxText = 255 // octets of a name; longer than any mailbox or host name in use

// text accepts any name without control characters.
func text(to *string) func(string) error {
	return func(s string) error {
		if s == "" || len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errValue
		}
		*to = s
		return nil
	}
}

// name is the key of a name that other parts of the file, logs and metrics use.
func name(to *string) key {
	const most = 64
	return key{name: "name", accepts: "1 to 64 letters, digits, dots, dashes and underscores", set: func(s string) error {
		if s == "" || len(s) > most || strings.ContainsFunc(s, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
		}) {
			return errValue
		}
		*to = s
		return nil
	}}
}

// texts is a key that accepts a list of texts.
func texts(name, accepts string, to *[]string, legal func(string) bool) key {
	return key{name: name, accepts: accepts, list: func() { *to = nil }, set: func(s string) error {
		var one string
		if err := text(&one)(s); err != nil || legal != nil && !legal(s) {
			return errValue
		}
		*to = append(*to, one)
		return nil
	}}
}

// An alternative is one accepted word and what it means.
type alternative[T any] struct {
	word  string
	value T
}

func option[T any](word string, value T) alternative[T] { return alternative[T]{word, value} }

// choice is a key that accepts a few words.
func choice[T any](name, flag string, to *T, among ...alternative[T]) key {
	words := make([]string, len(among))
	for i, a := range among {
		words[i] = a.word
	}
	return key{name: name, flag: flag, accepts: enumerate(words, "or"), set: func(s string) error {
		for _, a := range among {
			if a.word == s {
				*to = a.value
				return nil
			}
		}
		return errValue
	}}
}

// boolean is a key that accepts a yes or a no.
func boolean(name string, to *bool) key {
	return key{name: name, accepts: "true or false", set: func(s string) error {
		switch strings.ToLower(s) {
		case "true", "yes", "on":
			*to = true
		case "false", "no", "off":
			*to = false
		default:
			return errValue
		}
		return nil
	}}
}

// number gives keys that accept a whole number in decimal.
func number(low, high int) func(name string, to *int) key {
	return func(name string, to *int) key {
		return key{name: name, accepts: fmt.Sprintf("a number from %d to %d", low, high), set: func(s string) error {
			n, ok := decimal(s)
			if !ok || n < int64(low) || n > int64(high) {
				return errValue
			}
			*to = int(n)
			return nil
		}}
	}
}

// duration is a key that accepts a time as Go writes it, such as 1m30s.
func duration(name, flag string, to *time.Duration, low, high time.Duration) key {
	accepts := fmt.Sprintf("a time from %s to %s, such as 30s or 1m30s", short(low), short(high))
	if low >= time.Minute {
		accepts = fmt.Sprintf("a time from %s to %s, such as 15m", short(low), short(high))
	}
	return key{name: name, flag: flag, accepts: accepts, set: func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < low || d > high {
			return errValue
		}
		*to = d
		return nil
	}}
}

// short is d without the zero units at its end.
func short(d time.Duration) string {
	s := d.String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}

// octets is a key that accepts a size.
func octets(name string, to *int64) key {
	return key{name: name, accepts: "a number of octets, such as 52428800, 50MB or 50MiB", set: func(s string) error {
		n, ok := size(s)
		if !ok {
			return errValue
		}
		*to = n
		return nil
	}}
}

// optional lets a limit be "none" as well, which the configuration holds as 0.
func optional[T int | int64](limit func(string, *T) key, name string, to *T) key {
	k := limit(name, to)
	set := k.set
	k.accepts += ", or none"
	k.set = func(s string) error {
		if s == "none" {
			*to = 0
			return nil
		}
		return set(s)
	}
	return k
}

// decimal reads ASCII digits and nothing else.
func decimal(s string) (int64, bool) {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// size reads a number of octets with or without a unit; 1 or more.
func size(s string) (int64, bool) {
	digits := strings.TrimRight(s, "BKMGTikmgtb ")
	unit := int64(0)
	switch strings.ToLower(strings.TrimSpace(s[len(digits):])) {
	case "", "b":
		unit = 1
	case "kb":
		unit = 1e3
	case "mb":
		unit = 1e6
	case "gb":
		unit = 1e9
	case "tb":
		unit = 1e12
	case "kib":
		unit = 1 << 10
	case "mib":
		unit = 1 << 20
	case "gib":
		unit = 1 << 30
	case "tib":
		unit = 1 << 40
	}
	n, ok := decimal(digits)
	if !ok || unit == 0 || n < 1 || n > math.MaxInt64/unit {
		return 0, false
	}
	return n * unit, true
}

// setExpire reads what CAPA shall say (RFC 2449 section 6.7).
func setExpire(to *Expire, s string) error {
	switch s {
	case "never":
		*to = "NEVER"
		return nil
	case "omit":
		*to = ""
		return nil
	}
	days, ok := decimal(s)
	if !ok || days > 36500 {
		return errValue
	}
	*to = Expire(strconv.FormatInt(days, 10))
	return nil
}

// enumerate joins words as a sentence does: "a, b or c".
func enumerate(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " " + last + " " + words[n]
}
