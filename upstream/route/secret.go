package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/popgate/popgate/upstream"
)

// MaxSecret is the largest file with a secret in octets.
const MaxSecret = 16 << 10

// ReadSecret reads a secret from a file that holds nothing else; one line end
// behind it is not of it.
func ReadSecret(file string) (upstream.Secret, error) {
	info, err := os.Stat(file)
	if err != nil {
		return upstream.Secret{}, err
	}
	if !info.Mode().IsRegular() {
		return upstream.Secret{}, fmt.Errorf("%s is no regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return upstream.Secret{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSecret+1))
	if err != nil {
		return upstream.Secret{}, err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case len(data) > MaxSecret:
		return upstream.Secret{}, fmt.Errorf("%s has more than %d octets", file, MaxSecret)
	case text == "":
		return upstream.Secret{}, fmt.Errorf("%s is empty", file)
	case strings.ContainsAny(text, "\x00\r\n"):
		return upstream.Secret{}, fmt.Errorf("%s has more than one line", file)
	}
	return upstream.NewSecret(text), nil
}

// secretOf reads a secret at a login: whoever replaces the file need tell nobody.
func secretOf(file string) (upstream.Secret, error) {
	s, err := ReadSecret(file)
	if err != nil {
		return s, &upstream.Error{Kind: upstream.Internal, Op: "read a secret", Err: err}
	}
	return s, nil
}

// PasswordFile is a step that replaces the secret by the password in a file. The
// client must have been proved before.
func PasswordFile(file string) Step {
	return func(_ context.Context, c upstream.Credentials) (_ upstream.Credentials, err error) {
		c.Proof, c.Renewer = upstream.Password, nil
		c.Secret, err = secretOf(file)
		return c, err
	}
}

// Master is a step that logs in as the master user, whose password is in a file,
// to the maildrop of the user that there was. The client must have been proved
// before.
func Master(user, file string) Step {
	password := PasswordFile(file)
	return func(ctx context.Context, c upstream.Credentials) (upstream.Credentials, error) {
		c.Authorize = cmp.Or(c.Authorize, c.User)
		if c.User = user; c.Authorize == user {
			return c, &upstream.Error{Kind: upstream.Refused, Op: "master user", Err: errors.New("the master user has no maildrop here")}
		}
		return password(ctx, c)
	}
}
