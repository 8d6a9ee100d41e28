package accounts

import "fmt"

// OnHash calls f with a name for each hash that is reckoned: equal for equal costs.
func (a *Accounts) OnHash(f func(cost string)) {
	a.hashed = func(h hash) {
		switch h := h.(type) {
		case *argon2id:
			f(fmt.Sprintf("argon2id m=%d t=%d p=%d", h.memory, h.time, h.threads))
		case bcrypted:
			f("bcrypt " + string(h[4:6]))
		}
	}
}

// Accepts reports whether text is a hash, and whether it is one of password.
func Accepts(text, password string) (bool, error) {
	h, err := parseHash(text)
	if err != nil || h == nil {
		return false, err
	}
	return h.matches(password), nil
}

// Refuses says why text is no hash. It reckons nothing: what is out of bounds is not
// tried out.
func Refuses(text string) error {
	_, err := parseHash(text)
	return err
}

// Rewritten parses a line and writes it anew.
func Rewritten(line string) (string, error) {
	a, err := parseLine([]byte(line))
	if a == nil || err != nil {
		return "", err
	}
	return a.line(), nil
}
