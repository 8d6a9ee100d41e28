package listcache_test

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/popgate/popgate/upstream/imap/listcache"
)

// The form of an entry is a file format.
const golden = "01" + // version
	"a29ed48d0f" + // UIDVALIDITY 4055174946
	"8d80808001" + // UIDNEXT 268435469
	"03" + // three messages
	"01" + "00" + // UID 1, empty
	"06" + "ffffffffffffffff7f" + // UID 7, 2^63-1 octets
	"85808080" + "01" + "7b" // UID 268435468, 123 octets

func goldenList() *listcache.List {
	return &listcache.List{UIDValidity: 4055174946, UIDNext: 268435469, UIDs: []uint32{1, 7, 268435468}, Octets: []int64{0, 1<<63 - 1, 123}}
}

const goldenSum = "05bb5ec9"

func TestTheFormIsAFileFormat(t *testing.T) {
	b := listcache.Encode(key(1), goldenList())
	if got := hex.EncodeToString(b[:len(b)-32]); got != golden {
		t.Errorf("the entry is\n%s, want\n%s", got, golden)
	}
	if got := hex.EncodeToString(b[len(b)-32 : len(b)-28]); got != goldenSum {
		t.Errorf("the checksum begins with %s, want %s", got, goldenSum)
	}
	wantList(t, listcache.Decode(b, key(1)), goldenList())
}

func wantList(t *testing.T, got, want *listcache.List) {
	t.Helper()
	if (got == nil) != (want == nil) || got != nil && (got.UIDValidity != want.UIDValidity || got.UIDNext != want.UIDNext || !bytes.Equal(listcache.Encode(key(1), got), listcache.Encode(key(1), want))) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// No octet of an entry can be changed or lost, nor can it come under another key.
func TestADamagedEntryIsAbsent(t *testing.T) {
	b := listcache.Encode(key(1), goldenList())
	if l := listcache.Decode(b, key(2)); l != nil {
		t.Errorf("under another key: %v", l)
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if l := listcache.Decode(b, key(1)); l != nil {
				t.Errorf("bit %d of octet %d is changed: %v", bit, i, l)
			}
			b[i] ^= 1 << bit
		}
		if l := listcache.Decode(b[:i], key(1)); l != nil {
			t.Errorf("cut after %d octets: %v", i, l)
		}
		if l := listcache.Decode(b[i+1:], key(1)); l != nil {
			t.Errorf("without the first %d octets: %v", i+1, l)
		}
	}
}

// A right checksum does not make a list right.
func TestAListThatNoMailboxHasIsAbsent(t *testing.T) {
	for name, change := range map[string]func(*listcache.List){
		"no_uidvalidity":     func(l *listcache.List) { l.UIDValidity = 0 },
		"no_uidnext":         func(l *listcache.List) { l.UIDNext = 0 },
		"a_uid_of_uidnext":   func(l *listcache.List) { l.UIDNext = l.UIDs[2] },
		"a_uid_twice":        func(l *listcache.List) { l.UIDs[1] = l.UIDs[0] },
		"uid_0":              func(l *listcache.List) { l.UIDs[0] = 0 },
		"descending":         func(l *listcache.List) { l.UIDs[0] = 9 },
		"a_negative_size":    func(l *listcache.List) { l.Octets[1] = -1 },
		"nothing_of_it_bad_": func(*listcache.List) {},
	} {
		l := goldenList()
		change(l)
		got := listcache.Decode(listcache.Encode(key(1), l), key(1))
		if (got != nil) != (name == "nothing_of_it_bad_") {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(listcache.Encode(key(1), goldenList()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l := listcache.Decode(listcache.Seal(key(1), b), key(1)); l != nil {
			if again := listcache.Decode(listcache.Encode(key(1), l), key(1)); again == nil {
				t.Errorf("%v cannot be written and read", l)
			}
		}
	})
}

func reopen(t *testing.T, c *listcache.Cache, o listcache.Options) *listcache.Cache {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return newCache(t, o)
}

func TestTheFileSurvivesARestart(t *testing.T) {
	o := listcache.Options{File: filepath.Join(t.TempDir(), "lists")}
	c := newCache(t, o)
	for i := range 50 {
		c.Put(key(i), list(i*100, uint64(i)))
	}
	c.Put(key(3), list(7, 99))
	c.Drop(key(4))
	c = reopen(t, c, o)
	for i := range 50 {
		switch i {
		case 3:
			wantList(t, c.Get(key(i)), list(7, 99))
		case 4:
			wantList(t, c.Get(key(i)), nil)
		default:
			wantList(t, c.Get(key(i)), list(i*100, uint64(i)))
		}
	}
	if c.Get(key(5)) != c.Get(key(5)) {
		t.Error("what was read is not kept in memory")
	}
	info, err := os.Stat(o.File)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v; want 0600", info.Mode(), err)
	}
	c.Close()
	c.Put(key(1), list(1, 1)) // goes on in memory
	wantList(t, c.Get(key(1)), list(1, 1))
}

func TestTheFileHoldsNoNames(t *testing.T) {
	o := listcache.Options{File: filepath.Join(t.TempDir(), "lists")}
	c := newCache(t, o)
	c.Put(listcache.NewKey("imap.example.test", "alice-of-wonderland"), list(10, 1))
	c.Close()
	b, err := os.ReadFile(o.File)
	if err != nil || bytes.Contains(b, []byte("alice")) || bytes.Contains(b, []byte("example")) {
		t.Errorf("a name is in the file, %v", err)
	}
}

func TestTheFileIsBounded(t *testing.T) {
	const octets = 2 << 20
	o := listcache.Options{File: filepath.Join(t.TempDir(), "lists"), FileOctets: octets, Memory: 1}
	c := newCache(t, o)
	r := rand.New(rand.NewPCG(1, 2))
	last := 0
	for range 6 {
		for range 10 {
			last++
			c.Put(key(last), list(r.IntN(60_000), uint64(last)))
		}
		c = reopen(t, c, o)
		info, err := os.Stat(o.File)
		if err != nil || info.Size() > 4*octets+1<<20 {
			t.Fatalf("the file has %d octets, %v", info.Size(), err)
		}
	}
	kept := 0
	for i := range last + 1 {
		if c.Get(key(i)) != nil {
			kept++
		}
	}
	if c.Get(key(1)) != nil || kept == 0 || kept > 100 {
		t.Errorf("%d lists are kept", kept)
	}
	c.Put(key(0), list(200_000, 1)) // larger than a quarter
	c = reopen(t, c, o)
	wantList(t, c.Get(key(0)), nil)
}

// Many changes at once are written in parts.
func TestAFloodOfListsGoesThroughTheFile(t *testing.T) {
	var logged log
	o := listcache.Options{File: filepath.Join(t.TempDir(), "lists"), FileOctets: 256 << 10, Memory: 1, Logger: logged.logger()}
	c := newCache(t, o)
	for i := range 500 {
		c.Put(key(i), list(10_000, uint64(i)))
	}
	c.Put(key(500), list(10, 500))
	c = reopen(t, c, o)
	kept := 0
	for i := range 501 {
		if l := c.Get(key(i)); l != nil {
			kept++
		}
	}
	info, err := os.Stat(o.File)
	if err != nil || kept < 2 || info.Size() > 4*256<<10+1<<20 {
		t.Errorf("%d lists are kept in %d octets, %v", kept, info.Size(), err)
	}
	if strings.Contains(logged.String(), "could not be written") {
		t.Error(logged.String())
	}
}

// Where changes come faster than they are written, some are left out.
func TestWhatWaitsForTheFileIsBounded(t *testing.T) {
	var logged log
	if n, octets := listcache.Waiting(logged.logger(), 30_000, list(10, 1)); n > 10_000 || octets > 32<<20 {
		t.Errorf("%d changes of %d octets wait", n, octets)
	}
	if n, octets := listcache.Waiting(logged.logger(), 100, list(200_000, 1)); n < 2 || octets > 32<<20 {
		t.Errorf("%d changes of %d octets wait", n, octets)
	}
	if n, _ := listcache.Waiting(logged.logger(), 1, list(4_000_000, 1)); n != 1 {
		t.Error("a single list of any size may wait")
	}
	if n := strings.Count(logged.String(), "left out"); n != 2 {
		t.Errorf("logged %d times, want once each: %s", n, logged.String())
	}
}

func TestADamagedEntryInTheFileIsDropped(t *testing.T) {
	o := listcache.Options{File: filepath.Join(t.TempDir(), "lists")}
	c := newCache(t, o)
	c.Put(key(1), list(10, 1))
	c.Put(key(2), list(20, 2))
	c.Close()
	db, err := bbolt.Open(o.File, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("lists"))
		k1, k2 := key(1), key(2)
		v := bytes.Clone(b.Get(k1[:]))
		v[20] ^= 1
		if err := b.Put(k1[:], v); err != nil {
			return err
		}
		k3 := key(3)
		if err := b.Put(k3[:], []byte("x")); err != nil {
			return err
		}
		return b.Put(k2[:], b.Get(k2[:]))
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var logged log
	o.Logger = logged.logger()
	c = newCache(t, o)
	wantList(t, c.Get(key(1)), nil)
	wantList(t, c.Get(key(3)), nil)
	wantList(t, c.Get(key(2)), list(20, 2))
	if n := strings.Count(logged.String(), "damaged"); n != 2 {
		t.Errorf("logged %d times: %s", n, logged.String())
	}
	c = reopen(t, c, o)
	wantList(t, c.Get(key(1)), nil)
	if n := strings.Count(logged.String(), "damaged"); n != 2 {
		t.Errorf("the damaged entry was not deleted: %s", logged.String())
	}
}

// Wherever a file is damaged or cut, nothing wrong comes out of it and nothing
// ends the process.
func TestADamagedFileGivesNothingWrong(t *testing.T) {
	o := listcache.Options{File: filepath.Join(t.TempDir(), "lists")}
	c := newCache(t, o)
	for i := range 40 {
		c.Put(key(i), list(i*30, uint64(i)))
	}
	c.Close()
	whole, err := os.ReadFile(o.File)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, b []byte) (opened bool) {
		o := listcache.Options{File: filepath.Join(t.TempDir(), "lists")}
		if err := os.WriteFile(o.File, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := listcache.New(t.Context(), o)
		if err != nil {
			if !strings.Contains(err.Error(), o.File) {
				t.Errorf("%s: the error does not name the file: %v", what, err)
			}
			return false
		}
		for i := range 40 {
			if l := c.Get(key(i)); l != nil {
				wantList(t, l, list(i*30, uint64(i)))
			}
		}
		c.Put(key(1), list(5, 5))
		wantList(t, c.Get(key(1)), list(5, 5))
		c.Close()
		return true
	}
	if !try("the whole file", whole) {
		t.Fatal("the whole file does not open")
	}
	opened := 0
	for cut := 0; cut < len(whole); cut += 2048 {
		if try("a file that was cut", whole[:cut]) {
			opened++
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		b := bytes.Clone(whole)
		at := r.IntN(len(b) - 512)
		for i := range 512 {
			b[at+i] = byte(r.Uint32())
		}
		if try("a file with garbage in it", b) {
			opened++
		}
	}
	t.Logf("%d damaged files were opened", opened)
}

func TestAFileThatCannotBeUsedIsAnErrorThatSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	foreign := filepath.Join(dir, "foreign")
	db, err := bbolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("others")); return err })
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, file, want string }{
		{"no_database", file("text", bytes.Repeat([]byte("text\n"), 9000)), "delete it"},
		{"short", file("short", []byte("text\n")), "delete it"},
		{"of_something_else", foreign, "holds something else"},
		{"no_folder", filepath.Join(dir, "none", "lists"), "no such file"},
		{"a_folder", dir, "is a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := os.ReadFile(tt.file)
			c, err := listcache.New(t.Context(), listcache.Options{File: tt.file})
			if err == nil {
				c.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.file) {
				t.Errorf("the error is %v, want %q and the file's name", err, tt.want)
			}
			if after, _ := os.ReadFile(tt.file); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

// logged is a log that tells each message.
type logged chan string

func (l logged) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// While another process has the file the lists are in memory, and then in the
// file.
func TestAFileInUseIsTakenWhenItIsFree(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lists")
	old := newCache(t, listcache.Options{File: name})
	old.Put(key(1), list(3, 1))
	log := make(logged, 10)
	young := newCache(t, listcache.Options{File: name, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if said := <-log; !strings.Contains(said, "in use by another process") || !strings.Contains(said, name) {
		t.Errorf("the log says %q", said)
	}
	young.Put(key(2), list(2, 2))
	if young.Get(key(1)) != nil || young.Get(key(2)) == nil {
		t.Error("it does not work in memory")
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if said := <-log; !strings.Contains(said, "free and in use") {
		t.Errorf("the log says %q", said)
	}
	if young.Get(key(1)) == nil {
		t.Error("what the other process wrote is not known")
	}
}

func TestCloseEndsTheWaitForTheFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lists")
	newCache(t, listcache.Options{File: name})
	young := newCache(t, listcache.Options{File: name})
	for range 2 {
		if err := young.Close(); err != nil {
			t.Error(err)
		}
	}
}
