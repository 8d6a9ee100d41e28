package ledger_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream/imap/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLedger(t testing.TB, o ledger.Options) *ledger.Ledger {
	t.Helper()
	if o.File == "" {
		o.File = filepath.Join(t.TempDir(), "ledger")
	}
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// these are the messages that come into the window.
func these(uids ...uint32) func(uint32) bool {
	return func(uid uint32) bool { return slices.Contains(uids, uid) }
}

func show(t testing.TB, l *ledger.Ledger, maildrop string, present []uint32, uidNext uint32, fresh ...uint32) ledger.Set {
	t.Helper()
	s, err := l.Show(maildrop, 7, present, uidNext, these(fresh...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// of are the UIDs of uids that the set has.
func of(s ledger.Set, uids ...uint32) (out []uint32) {
	for _, uid := range uids {
		if s.Has(uid) {
			out = append(out, uid)
		}
	}
	return out
}

func wantUIDs(t testing.TB, got []uint32, want ...uint32) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%v are shown, want %v", got, want)
	}
}

func TestWhatWasShownStaysUntilItIsGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger")
	l := newLedger(t, ledger.Options{File: file})
	wantUIDs(t, of(show(t, l, "a", []uint32{1, 5, 9, 12}, 13, 9), 1, 5, 9, 12), 9)
	wantUIDs(t, of(show(t, l, "a", []uint32{1, 5, 9, 12}, 13, 1), 1, 5, 9, 12), 1, 9)
	wantUIDs(t, of(show(t, l, "b", []uint32{1, 5, 9, 12}, 13), 1, 5, 9, 12)) // another maildrop
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = newLedger(t, ledger.Options{File: file})
	s, err := l.Shown("a", 7)
	if err != nil {
		t.Fatal(err)
	}
	wantUIDs(t, of(s, 1, 5, 9, 12), 1, 9)
	wantUIDs(t, of(show(t, l, "a", []uint32{1, 5, 12}, 13), 1, 5, 12), 1)
	wantUIDs(t, of(show(t, l, "a", []uint32{1, 5, 9, 12}, 13, 12), 1, 5, 9, 12), 1, 9, 12) // not forgotten as long as nothing is written
}

func TestAnotherUIDVALIDITYIsAnotherMailbox(t *testing.T) {
	l := newLedger(t, ledger.Options{})
	show(t, l, "a", []uint32{1, 2}, 3, 1, 2)
	if s, err := l.Shown("a", 8); len(s) != 0 || err != nil {
		t.Errorf("Shown() = %v, %v, want nothing", s, err)
	}
	s, err := l.Show("a", 8, []uint32{1, 2}, 3, these(2))
	if err != nil {
		t.Fatal(err)
	}
	wantUIDs(t, of(s, 1, 2), 2)
	if s, _ := l.Shown("a", 7); len(s) != 0 {
		t.Errorf("%v are kept under the old one", s)
	}
}

// What one session has seen arrive, one that listed before it does not forget.
func TestWhatIsNewerThanTheListStays(t *testing.T) {
	l := newLedger(t, ledger.Options{})
	show(t, l, "a", []uint32{1, 2, 3, 4, 5}, 6, 3, 4, 5)
	wantUIDs(t, of(show(t, l, "a", []uint32{1, 2, 3}, 4, 1), 1, 2, 3, 4, 5), 1, 3, 4, 5)
	wantUIDs(t, of(show(t, l, "a", nil, 0, 1), 1, 2, 3, 4, 5), 1, 3, 4, 5) // UIDNEXT was not told
	wantUIDs(t, of(show(t, l, "a", []uint32{6}, 7, 6), 1, 2, 3, 4, 5, 6), 6)
}

// Against a model: the set is exact for the messages that are there.
func TestASetIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		l := newLedger(t, ledger.Options{})
		var present []uint32
		next, shown := uint32(1), map[uint32]bool{}
		for range 8 {
			for range r.IntN(20) {
				next += r.Uint32N(3)
				present = append(present, next)
				next++
			}
			present = slices.DeleteFunc(present, func(uint32) bool { return r.IntN(4) == 0 })
			fresh := map[uint32]bool{}
			for _, uid := range present {
				if r.IntN(5) == 0 {
					fresh[uid], shown[uid] = true, true
				}
			}
			s, err := l.Show("a", 1, present, next, func(uid uint32) bool { return fresh[uid] })
			if err != nil {
				t.Fatal(err)
			}
			again, _ := l.Shown("a", 1)
			for _, uid := range present {
				if s.Has(uid) != shown[uid] || again.Has(uid) != shown[uid] {
					t.Fatalf("UID %d of %v: %t and %t, want %t", uid, present, s.Has(uid), again.Has(uid), shown[uid])
				}
			}
			for uid := next; uid < next+5; uid++ {
				if s.Has(uid) || again.Has(uid) {
					t.Fatalf("UID %d, which is not given yet, is shown", uid)
				}
			}
		}
		l.Close()
	}
}

// Show has written before it returns; what it did not write it does not show.
func TestNothingIsShownThatIsNotWritten(t *testing.T) {
	l := newLedger(t, ledger.Options{Octets: 250})
	show(t, l, "a", []uint32{1}, 2, 1)
	show(t, l, "b", []uint32{1}, 2, 1)
	show(t, l, "c", []uint32{1}, 2, 1)
	s, err := l.Show("d", 7, []uint32{1}, 2, these(1))
	if !errors.Is(err, ledger.ErrFull) || s != nil {
		t.Errorf("Show() = %v, %v, want %v", s, err, ledger.ErrFull)
	}
	if s, err := l.Shown("d", 7); len(s) > 0 || err != nil {
		t.Errorf("Shown() = %v, %v, want nothing", s, err)
	}
	wantUIDs(t, of(show(t, l, "a", []uint32{2}, 3, 2), 1, 2), 2) // what takes no more room goes on
	wantUIDs(t, of(show(t, l, "d", []uint32{1}, 2), 1))          // and what has nothing to be written
	l.Close()
	if s, err := l.Show("a", 7, []uint32{3}, 4, these(3)); err == nil || s != nil {
		t.Errorf("after Close: Show() = %v, %v", s, err)
	}
}

func TestConcurrentSessionsLoseNothing(t *testing.T) {
	l := newLedger(t, ledger.Options{})
	present := make([]uint32, 400)
	for i := range present {
		present[i] = uint32(i + 1)
	}
	var wg sync.WaitGroup
	for g := range uint32(8) {
		wg.Go(func() {
			for i := range uint32(20) {
				uid := g*20 + i + 1
				for _, maildrop := range []string{"one", fmt.Sprint("own", g)} {
					if s, err := l.Show(maildrop, 7, present, 401, these(uid)); err != nil || !s.Has(uid) {
						t.Errorf("Show(%d) = %v, %v", uid, s, err)
					}
				}
			}
		})
	}
	wg.Wait()
	s, err := l.Shown("one", 7)
	if got := of(s, present...); err != nil || len(got) != 160 || got[159] != 160 {
		t.Errorf("%d are shown (%v), want 160", len(got), err)
	}
}

// The form of an entry is a file format.
const golden = "01" + // version
	"f5edb0af0e" + // UIDVALIDITY 3857463029
	"03" + // three ranges
	"01" + "00" + // 1
	"02" + "04" + // 3 to 7
	"f8ffffff0f" + "00" // 4294967295

func TestTheFormIsAFileFormat(t *testing.T) {
	set := ledger.Set{{1, 1}, {3, 7}, {math.MaxUint32, math.MaxUint32}}
	b := ledger.Encode("a", 3857463029, set)
	if got := hex.EncodeToString(b[:len(b)-32]); got != golden {
		t.Errorf("the entry is\n%s, want\n%s", got, golden)
	}
	validity, got, ok := ledger.Decode(b, "a")
	if !ok || validity != 3857463029 || !reflect.DeepEqual(got, set) {
		t.Errorf("Decode() = %d, %v, %t", validity, got, ok)
	}
	if _, _, ok := ledger.Decode(b, "b"); ok {
		t.Error("it is read as another maildrop's")
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, _, ok := ledger.Decode(b, "a"); ok {
				t.Errorf("bit %d of octet %d is changed, and it is read", bit, i)
			}
			b[i] ^= 1 << bit
		}
		if _, _, ok := ledger.Decode(b[:i], "a"); ok {
			t.Errorf("cut after %d octets, and read", i)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, _ := hex.DecodeString(golden)
	f.Add(b)
	f.Add([]byte("\x01\x07\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed := ledger.Seal("a", b)
		validity, set, ok := ledger.Decode(sealed, "a")
		if !ok {
			return
		}
		if len(set) > len(b) {
			t.Errorf("%d ranges of %d octets", len(set), len(b))
		}
		v, again, ok := ledger.Decode(ledger.Encode("a", validity, set), "a")
		if !ok || v != validity || !slices.Equal(again, set) {
			t.Errorf("%v became %v", set, again)
		}
	})
}

func TestANewLedgerIsToldOfAndAKnownOneIsNot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger")
	for i, want := range []bool{true, false} {
		var log bytes.Buffer
		l := newLedger(t, ledger.Options{File: file, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if got := strings.Contains(log.String(), "a new ledger is begun"); got != want {
			t.Errorf("start %d: told %t, want %t", i, got, want)
		}
		l.Close()
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
}

// A ledger that cannot be read is an error at the start, and left as it is.
func TestADamagedLedgerIsNotBegunAnew(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "ledger")
	l := newLedger(t, ledger.Options{File: whole})
	for i := range 50 {
		show(t, l, fmt.Sprint(i), []uint32{1, 2, 3, 4}, 5, 1, 3)
	}
	l.Close()
	octets, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	entry := bytes.Index(octets, ledger.Encode("7", 7, ledger.Set{{1, 1}, {3, 3}}))
	if entry < 0 {
		t.Fatal("no entry in the file")
	}
	flipped := bytes.Clone(octets)
	flipped[entry+2] ^= 1
	for name, damaged := range map[string][]byte{
		"empty":           {},
		"garbage":         []byte("this is no ledger, but a note of some length that somebody left\n"),
		"zeros":           make([]byte, len(octets)),
		"a_flipped_bit":   flipped,
		"cut":             octets[:len(octets)/2],
		"another_program": foreign(t),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ledger")
			if err := os.WriteFile(file, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := ledger.Open(t.Context(), ledger.Options{File: file})
			if err == nil {
				l.Close()
				t.Fatal("it is taken")
			}
			if !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("the error is %q", err)
			}
			if now, _ := os.ReadFile(file); len(now) != len(damaged) {
				t.Errorf("the file had %d octets and has %d", len(damaged), len(now))
			}
		})
	}
}

func foreign(t *testing.T) []byte {
	file := filepath.Join(t.TempDir(), "other")
	db, err := bbolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("lists")); return err })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	octets, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

func TestAFileThatCannotBeUsedSaysWhy(t *testing.T) {
	dir := t.TempDir()
	for file, want := range map[string]string{dir: "ledger", filepath.Join(dir, "no", "where"): "cannot be opened", "": "needs a file"} {
		l, err := ledger.Open(t.Context(), ledger.Options{File: file})
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", file, err, want)
		}
	}
}

// A file that is cut under the process ends the ledger, not the process.
func TestAFileThatIsCutMeanwhileIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger")
	l := newLedger(t, ledger.Options{File: file})
	for i := range 300 {
		show(t, l, fmt.Sprint(i), []uint32{1, 2, 3, 4}, 5, 1, 3)
	}
	if err := os.Truncate(file, 8192); err != nil {
		t.Fatal(err)
	}
	bad := 0
	for i := range 300 {
		if _, err := l.Shown(fmt.Sprint(i), 7); err != nil {
			bad++
			if !errors.Is(err, ledger.ErrDamaged) {
				t.Errorf("the error is %v", err)
			}
		}
	}
	if bad == 0 {
		t.Error("nothing is noticed")
	}
	if _, err := l.Show("new", 7, []uint32{1}, 2, these(1)); !errors.Is(err, ledger.ErrDamaged) {
		t.Errorf("Show: %v", err)
	}
}

func BenchmarkShow(b *testing.B) {
	for _, sessions := range []int{1, 64} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			l := newLedger(b, ledger.Options{})
			present := []uint32{1}
			var wg sync.WaitGroup
			for g := range sessions {
				wg.Go(func() {
					for i := g; i < b.N; i += sessions {
						if _, err := l.Show(fmt.Sprint(i), 7, present, 2, these(1)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// logged is a log that tells each message.
type logged chan string

func (l logged) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// A ledger that another process has is there when that lets it go, and what it was
// told is in it.
func TestALedgerInUseIsTakenWhenItIsFree(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger")
	old := newLedger(t, ledger.Options{File: file})
	log := make(logged, 10)
	young := newLedger(t, ledger.Options{File: file, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if said := <-log; !strings.Contains(said, "in use by another process") {
		t.Errorf("the log says %q", said)
	}
	show(t, old, "alice", []uint32{1, 2, 3}, 4, 2)
	if _, err := young.Shown("alice", 7); !errors.Is(err, ledger.ErrBusy) {
		t.Errorf("Shown: %v, want that it is busy", err)
	}
	for range 2 {
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := old.Shown("alice", 7); !errors.Is(err, ledger.ErrBusy) {
		t.Errorf("Shown behind Close: %v, want that it is busy", err)
	}
	if said := <-log; !strings.Contains(said, "free and in use") {
		t.Errorf("the log says %q", said)
	}
	if got := show(t, young, "alice", []uint32{1, 2, 3}, 4); !got.Has(2) {
		t.Errorf("what was shown before is not known: %v", got)
	}
}

func TestTheContextEndsTheWaitForTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ledger")
		old := newLedger(t, ledger.Options{File: file})
		ctx, cancel := context.WithCancel(t.Context())
		young, err := ledger.Open(ctx, ledger.Options{File: file})
		if err != nil {
			t.Fatal(err)
		}
		defer young.Close()
		cancel()
		synctest.Wait()
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // of the bubble
		if _, err := young.Shown("alice", 7); !errors.Is(err, ledger.ErrBusy) {
			t.Errorf("Shown: %v, want that it is busy", err)
		}
	})
}

func TestCloseEndsTheWaitForTheLedger(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger")
	newLedger(t, ledger.Options{File: file})
	if err := newLedger(t, ledger.Options{File: file}).Close(); err != nil {
		t.Error(err)
	}
	if err := (*ledger.Ledger)(nil).Close(); err != nil {
		t.Error(err)
	}
}
