package accounts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/popgate/popgate/upstream"
)

// A Change is what [Edit] does to one account. What is nil stays as it is; an
// empty text takes an attribute away.
type Change struct {
	Delete bool // the account goes, and nothing else is looked at

	Password         *upstream.Secret
	SharedSecret     *upstream.Secret
	External         *bool
	UpstreamUser     *string
	UpstreamPassword *upstream.Secret
	Mailbox          *string
}

// ErrNoAccount is what Edit returns where the account to delete is not there.
var ErrNoAccount = errors.New("there is no such account")

// Edit changes one account of a file, or adds it at the end; the file is made where
// it is not there. All other lines stay as they are. A file with problems is not
// touched. The new file is in place as a whole or not at all, with mode 0600 and the
// owner of the old one as far as that is allowed. Two Edits at once exclude each
// other: one of them returns an error.
func Edit(file, user string, ch Change) error {
	f, err := lock(file)
	if err != nil {
		return err
	}
	defer f.Close() // lets the lock go
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if _, problems := parse(data); len(problems) > 0 || len(data) > maxFile {
		_, err := load(file)
		return fmt.Errorf("the file has problems and is not changed: %w", err)
	}
	if data, err = change(data, user, ch); err != nil {
		return err
	}
	return replace(f, file, data)
}

// lock opens the file, which is made if need be, so that no other Edit has it.
func lock(file string) (*os.File, error) {
	for range 10 { // another Edit may replace the file between the two steps
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := lockFile(f); err != nil {
			return nil, errors.Join(fmt.Errorf("%s is edited by another process; try again: %w", file, err), f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if now, err := os.Stat(file); err == nil && os.SameFile(mine, now) {
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("%s is replaced all the time; try again", file)
}

// change returns data with the change made.
func change(data []byte, user string, ch Change) ([]byte, error) {
	var out bytes.Buffer
	found := false
	for line := range bytes.Lines(data) {
		a, err := parseLine(bytes.TrimRight(line, "\r\n"))
		if err != nil || a == nil || fold(a.name) != fold(user) {
			out.Write(line)
			if !bytes.HasSuffix(line, []byte("\n")) {
				out.WriteByte('\n')
			}
			continue
		}
		found = true
		if ch.Delete {
			continue
		}
		text, err := a.changed(ch)
		if err != nil {
			return nil, err
		}
		out.WriteString(text + "\n")
	}
	switch {
	case found:
		return out.Bytes(), nil
	case ch.Delete:
		return nil, ErrNoAccount
	}
	text, err := (&account{name: user}).changed(ch)
	if err != nil {
		return nil, err
	}
	out.WriteString(text + "\n")
	return out.Bytes(), nil
}

// changed returns the line of the account with the change made, if it is a right
// one.
func (a *account) changed(ch Change) (string, error) {
	if ch.Password != nil {
		a.hashText = HashPassword(*ch.Password)
	}
	if ch.External != nil {
		a.external = *ch.External
	}
	for _, s := range []struct {
		to   *string
		from *upstream.Secret
	}{{&a.shared, ch.SharedSecret}, {&a.upstreamPassword, ch.UpstreamPassword}} {
		if s.from != nil {
			*s.to = s.from.Reveal()
		}
	}
	for _, s := range []struct{ to, from *string }{{&a.upstreamUser, ch.UpstreamUser}, {&a.mailbox, ch.Mailbox}} {
		if s.from != nil {
			*s.to = *s.from
		}
	}
	line := a.line()
	_, err := parseLine([]byte(line))
	return line, err
}

// replace puts data in the place of the file.
func replace(old *os.File, file string, data []byte) (err error) {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target // the link stays
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".accounts-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := keepOwner(old, f); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return nil // it is in place, and was synced
	}
	return nil
}
