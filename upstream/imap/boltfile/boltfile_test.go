package boltfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream/imap/boltfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var things = []byte("things")

// options are those of a file with one bucket; told counts how often it was damaged.
func options(path string, told *int) boltfile.Options {
	return boltfile.Options{
		Path: path, Octets: 1 << 20, Buckets: [][]byte{things},
		Prepare: func(*bbolt.Tx) error { return nil },
		Damaged: func(error) { *told++ },
	}
}

func open(t *testing.T, o boltfile.Options) *boltfile.File {
	t.Helper()
	f, err := boltfile.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// fill writes n entries of 1,000 octets.
func fill(f *boltfile.File, n int) error {
	return f.Update(func(tx *bbolt.Tx) error {
		for i := range n {
			if err := tx.Bucket(things).Put([]byte{byte(i >> 16), byte(i >> 8), byte(i)}, make([]byte, 1000)); err != nil {
				return err
			}
		}
		return nil
	})
}

func count(f *boltfile.File) (n int, err error) {
	err = f.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(things).ForEach(func(_, _ []byte) error { n++; return nil })
	})
	return n, err
}

func TestWhatWasWrittenIsThereAfterwards(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "file"), new(int))
	f := open(t, o)
	if err := fill(f, 100); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(o.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want a file for its owner alone", info.Mode(), err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := count(open(t, o)); n != 100 || err != nil {
		t.Errorf("%d entries, %v, want 100", n, err)
	}
}

func TestAFileWithOtherBucketsIsNotTouched(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "file"), new(int))
	f := open(t, o)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	o.Buckets = [][]byte{[]byte("others")}
	if _, err := boltfile.Open(o); !errors.Is(err, boltfile.ErrForeign) {
		t.Errorf("%v, want ErrForeign", err)
	}
}

func TestARefusalOfPrepareLetsTheFileGo(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "file"), new(int))
	refusal, prepare := errors.New("no"), o.Prepare
	o.Prepare = func(*bbolt.Tx) error { return refusal }
	if _, err := boltfile.Open(o); !errors.Is(err, refusal) {
		t.Errorf("%v, want that of Prepare", err)
	}
	o.Prepare = prepare
	open(t, o)
}

func TestAFileThatIsCutIsAnErrorEachTimeAndToldOnce(t *testing.T) {
	told := 0
	o := options(filepath.Join(t.TempDir(), "file"), &told)
	f := open(t, o)
	if err := fill(f, 500); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(o.Path, 0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n, err := count(f); !errors.Is(err, boltfile.ErrDamaged) {
			t.Errorf("%d entries, %v, want ErrDamaged", n, err)
		}
	}
	if told != 1 || !f.Broken() {
		t.Errorf("told %d times, Broken() = %v, want once and true", told, f.Broken())
	}
}

func TestAFileTakesNoMoreThanItsBound(t *testing.T) {
	f := open(t, options(filepath.Join(t.TempDir(), "file"), new(int)))
	if err := fill(f, 6000); !errors.Is(err, boltfile.ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	if n, err := count(f); n != 0 || err != nil {
		t.Errorf("%d entries, %v, want none of a change that failed", n, err)
	}
}

func TestAFileThatIsOpenOrClosedIsInUse(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "file"), new(int))
	f := open(t, o)
	if _, err := boltfile.Open(o); !errors.Is(err, boltfile.ErrInUse) {
		t.Errorf("opened twice: %v, want ErrInUse", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := count(f); !errors.Is(err, boltfile.ErrInUse) {
		t.Errorf("after Close: %v, want ErrInUse", err)
	}
}

func TestAwaitTriesOnceASecondWhileTheFileIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, tries := time.Now(), 0
		other := errors.New("other")
		err := boltfile.Await(t.Context(), func() error {
			if tries++; tries < 5 {
				return boltfile.ErrInUse
			}
			return other
		})
		if !errors.Is(err, other) || tries != 5 || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %d tries in %v", err, tries, time.Since(began))
		}
	})
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if err := boltfile.Await(ctx, func() error { return boltfile.ErrInUse }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the end of the context", err)
		}
	})
}
