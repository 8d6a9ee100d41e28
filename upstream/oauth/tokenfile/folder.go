package tokenfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/popgate/popgate/upstream"
)

// MaxAccounts is the most accounts in one folder.
const MaxAccounts = 200_000

const (
	maxFile  = 64 << 10 // octets
	maxName  = 255      // octets
	ending   = ".token"
	locking  = ".lock"
	building = ".new"
)

// A Folder holds the records of many accounts. It is safe for concurrent use, and
// for use by several processes.
type Folder struct {
	path string
	info fs.FileInfo
	seal sealer
	at   func(step string) // nil; tests stop the world here
}

// Open opens a folder, and makes it where there is none. The key seals every
// record; it has [MinKey] octets or more, space around it left out.
func Open(path string, key upstream.Secret) (*Folder, error) {
	s, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	if err := makeFolder(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("the token folder cannot be made: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the token folder cannot be used: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("the token folder %s is no folder", path)
	}
	if err := private(info, "chmod 700"); err != nil {
		return nil, fmt.Errorf("the token folder %s %w", path, err)
	}
	return &Folder{path: path, info: info, seal: s}, nil
}

// makeFolder makes a folder for the owner of the one that it lies in.
func makeFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	in, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(give(dir, in), dir.Close())
}

// create opens a file of the folder, or makes it.
func (f *Folder) create(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|nofollow|flags, 0o600)
	if err == nil {
		err = give(file, f.info)
	}
	if err != nil {
		_ = file.Close() // nil has none
		return nil, fmt.Errorf("the token folder cannot be written: %w", err)
	}
	return file, nil
}

// private refuses what others can read or write.
func private(info fs.FileInfo, cure string) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 && permissions {
		return fmt.Errorf("can be read or written by others (%04o); %s, and think about who may have read it", mode, cure)
	}
	return nil
}

// file is the path of what is kept for n, without its ending.
func (f *Folder) file(n Name) string {
	sum := sha256.Sum256(binding(n))
	return filepath.Join(f.path, hex.EncodeToString(sum[:16]))
}

// A Stamp changes whenever a record is written.
type Stamp struct{ info fs.FileInfo }

// Equal reports whether nothing was written between the two.
func (s Stamp) Equal(o Stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return os.SameFile(s.info, o.info) && s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size()
}

// Stamp looks whether there is a record, without reading it. Where there is none
// the error is [fs.ErrNotExist].
func (f *Folder) Stamp(n Name) (Stamp, error) {
	info, err := os.Stat(f.file(n) + ending)
	return Stamp{info}, err
}

// Read returns the record of n. Where there is none the error is
// [fs.ErrNotExist].
func (f *Folder) Read(n Name) (Record, error) {
	path := f.file(n) + ending
	data, err := read(path)
	if err != nil {
		return Record{}, err
	}
	e, err := unwrap(data)
	var r Record
	if err == nil {
		r, err = f.seal.open(n, e)
	}
	if err != nil {
		return Record{}, fmt.Errorf("the token file %s cannot be used: %w", path, err)
	}
	return r, nil
}

// read returns the octets of a file that is ours alone.
func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the token file %s is no regular file", path)
	}
	if err := private(info, "chmod 600"); err != nil {
		return nil, fmt.Errorf("the token file %s %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("the token file %s has more than %d octets: %w", path, maxFile, ErrDamaged)
	}
	return data, nil
}

// An Entry is what there is of one account.
type Entry struct {
	Account string
	Record  Record
	Err     error // why there is no Record
}

// List returns all accounts of a grant, in no order, and why some files in the
// folder are of no account at all.
func (f *Folder) List(grant string) (entries []Entry, bad []error) {
	dir, err := os.Open(f.path)
	if err != nil {
		return nil, []error{err}
	}
	defer dir.Close()
	for {
		files, err := dir.ReadDir(1024)
		for _, file := range files {
			if !strings.HasSuffix(file.Name(), ending) {
				continue
			}
			if len(entries)+len(bad) == MaxAccounts {
				return entries, append(bad, fmt.Errorf("the token folder %s has more than %d accounts", f.path, MaxAccounts))
			}
			n, r, err := f.entry(filepath.Join(f.path, file.Name()))
			switch {
			case errors.Is(err, fs.ErrNotExist): // removed since the folder was read
			case n == Name{}:
				bad = append(bad, err)
			case n.Grant == grant:
				entries = append(entries, Entry{n.Account, r, err})
			}
		}
		if errors.Is(err, io.EOF) {
			return entries, bad
		}
		if err != nil {
			return entries, append(bad, err)
		}
	}
}

// entry reads whose record a file is, and the record.
func (f *Folder) entry(path string) (Name, Record, error) {
	wrong := func(err error) error { return fmt.Errorf("the token file %s cannot be used: %w", path, err) }
	data, err := read(path)
	if err != nil {
		return Name{}, Record{}, err
	}
	e, err := unwrap(data)
	n := Name{e.Grant, e.Account}
	if err == nil && f.file(n)+ending != path {
		err = fmt.Errorf("%w: it is of another account than its name says", ErrDamaged)
	}
	if err != nil {
		return Name{}, Record{}, wrong(err)
	}
	r, err := f.seal.open(n, e)
	if err != nil {
		return n, Record{}, wrong(err)
	}
	return n, r, nil
}
