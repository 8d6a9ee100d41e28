package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// MaxFile is the largest configuration file in octets.
const MaxFile = 1 << 20

// Load reads file, lets the flags override it, and checks the whole. The file
// may be "": then the flags say everything. An error is of type [Problems] and
// holds all that was found; the Config beside it is not to be used.
func Load(file string, over Flags) (Config, error) {
	c := Default()
	l := &loader{file: file, keys: schema(&c), set: map[string]place{}}
	if file != "" {
		data, err := read(file)
		if err != nil {
			return Config{}, Problems{{Where: file, Text: err.Error()}}
		}
		if !l.readFile(data) {
			return Config{}, l.problems
		}
	}
	l.readFlags(over)
	l.rules(&c)
	l.files(&c)
	if err := l.problems.orNil(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// read returns the octets of a file, at most MaxFile, with an error that does
// not repeat the name.
func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("larger than %d octets, which no file of this kind needs", MaxFile)
	}
	return data, nil
}

// cause strips the operation and the name from an error of the os package, and
// says what to do about it.
func cause(err error) error {
	what := err
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		what = p.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot be read: %w; is the name right?", what)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot be read: %w; the user that runs popgate must be allowed to", what)
	}
	return fmt.Errorf("cannot be read: %w", what)
}
