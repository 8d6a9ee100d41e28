package realtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/listcache"
	"github.com/popgate/popgate/upstream/jmap"
)

// A mailbox that another client changes between sessions and during them: a
// store that knows its list shows the same as one that lists it in full.
func TestCache(t *testing.T) {
	for _, server := range servers {
		t.Run(server, func(t *testing.T) {
			b := newBench(t, "what is known of a mailbox, over "+server)
			if b.front != "" {
				t.Skip("this is about the gateway's store, which is not the front end here")
			}
			report.guard(t, server, "", "")
			t.Parallel()
			s := b.start(t, server)
			report.leaf(t, server, "cache", "", "between_sessions", func(t *testing.T) { newRival(t, s).between(120) })
			report.leaf(t, server, "cache", "", "during_sessions", func(t *testing.T) { newRival(t, s).during(60) })
			report.progress(server, "cache")
		})
	}
}

// rival is another IMAP client that works in the mailbox at random, and two
// stores that look at it.
type rival struct {
	t          *testing.T
	r          *rand.Rand
	s          *station
	user, pass string
	number     int
	conn       *imapConn
	n          int // messages delivered so far
	plain      upstream.Store
	known      upstream.Store
	tells      bool // SELECT tells UIDNEXT

	mu    sync.Mutex
	tally map[string]int
}

func newRival(t *testing.T, s *station) *rival {
	v := &rival{t: t, r: rand.New(rand.NewPCG(1, 2)), s: s, tally: map[string]int{}}
	v.user, v.pass, v.number = s.account(t)
	v.conn = s.judge(t, v.user, v.pass)
	for range 20 {
		v.n++
		v.conn.deliver(t, newMessage(v.user, "rival", v.n, "", "text\r\n"))
	}
	for _, r := range v.conn.must(t, "SELECT INBOX") {
		v.tells = v.tells || strings.Contains(r.line, "[UIDNEXT ")
	}
	v.conn.must(t, "CLOSE")
	t.Logf("SELECT tells UIDNEXT: %v", v.tells)

	tell := func(how string) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.tally[how]++
	}
	if s.Name == overJMAP {
		v.overJMAP(tell)
	} else {
		v.overIMAP(tell)
	}
	return v
}

func (v *rival) overJMAP(tell func(how string)) {
	o := jmap.Options{URL: "http://" + v.s.HTTP}
	known := o
	known.Cache, known.Trace.Listed = jmap.NewCache(1<<20), tell
	plain, err := jmap.New(o)
	if err != nil {
		v.t.Fatal(err)
	}
	with, err := jmap.New(known)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { plain.Close(); with.Close() })
	v.plain, v.known = plain, with
}

func (v *rival) overIMAP(tell func(how string)) {
	t := v.t
	host, port, err := net.SplitHostPort(v.s.IMAP)
	if err != nil {
		t.Fatal(err)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	o := imap.Options{Host: host, Port: uint16(p)}
	if v.plain, err = imap.New(o); err != nil {
		t.Fatal(err)
	}
	if o.Cache, err = listcache.New(t.Context(), listcache.Options{File: filepath.Join(t.TempDir(), "lists")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Cache.Close(); err != nil {
			t.Error(err)
		}
	})
	o.Trace.Listed = tell
	if v.known, err = imap.New(o); err != nil {
		t.Fatal(err)
	}
}

// change delivers or expunges something. It does not use the test's t, and
// tells what went wrong.
func (v *rival) change() error {
	if v.r.IntN(2) == 0 {
		v.n++
		m := newMessage(v.user, "rival", v.n, "", strings.Repeat("text\r\n", v.r.IntN(30)))
		if v.s.Name == "courier" && v.r.IntN(2) == 0 {
			// Straight to the Maildir, under names that are in no order.
			return v.s.drop(v.number, fmt.Sprintf("17000%05d.M1P%d.host", v.r.IntN(100_000), v.n), m)
		}
		return v.conn.add(m)
	}
	if err := v.command("SELECT INBOX"); err != nil {
		return err
	}
	found, status, err := v.conn.do("UID SEARCH ALL")
	if err != nil || !strings.HasPrefix(status, "OK") {
		return fmt.Errorf("UID SEARCH: %q, %w", status, err)
	}
	var uids []string
	for _, r := range found {
		if rest, ok := strings.CutPrefix(r.line, "* SEARCH"); ok {
			uids = append(uids, strings.Fields(rest)...)
		}
	}
	if len(uids) > 0 {
		set := uids[v.r.IntN(len(uids))]
		switch v.r.IntN(8) {
		case 0, 1:
			set = uids[len(uids)-1]
		case 2:
			set += "," + uids[v.r.IntN(len(uids))]
		case 3:
			if v.r.IntN(4) == 0 {
				set = "1:*"
			}
		}
		if err := v.command("UID STORE %s +FLAGS.SILENT (\\Deleted)", set); err != nil {
			return err
		}
		if err := v.command("UID EXPUNGE %s", set); err != nil {
			return err
		}
	}
	return v.command("CLOSE")
}

func (v *rival) command(format string, args ...any) error {
	if _, status, err := v.conn.do(format, args...); err != nil || !strings.HasPrefix(status, "OK") {
		return fmt.Errorf("%s: %q, %v", strings.Fields(format)[0], status, err)
	}
	return nil
}

// open opens a session of a store and returns what it shows.
func (v *rival) open(store upstream.Store) (upstream.Account, upstream.Maildrop, []string) {
	v.t.Helper()
	a, err := store.Login(v.t.Context(), upstream.Credentials{User: v.user, Secret: upstream.NewSecret(v.pass)})
	if err != nil {
		v.t.Fatal(err)
	}
	d, err := a.Open(v.t.Context())
	if err != nil {
		a.Close()
		v.t.Fatal(err)
	}
	var shown []string
	for i := range d.Len() {
		shown = append(shown, fmt.Sprintf("%s %d", d.AppendUIDL(nil, i), d.Size(i)))
	}
	return a, d, shown
}

// same compares what the two stores show.
func (v *rival) same() {
	v.t.Helper()
	a, _, known := v.open(v.known)
	a.Close()
	a, _, plain := v.open(v.plain)
	a.Close()
	if !slices.Equal(known, plain) {
		v.t.Fatalf("the known list shows\n%q, the full list\n%q\n%v", known, plain, v.tally)
	}
}

// between lets the rival work between sessions, some of which delete.
func (v *rival) between(sessions int) {
	for range sessions {
		for range v.r.IntN(3) {
			if err := v.change(); err != nil {
				v.t.Fatal(err)
			}
		}
		v.same()
		if v.r.IntN(3) > 0 {
			continue
		}
		a, d, _ := v.open(v.known)
		if d.Len() > 0 {
			gone := v.r.IntN(d.Len())
			if r, err := d.Update(v.t.Context(), upstream.Changes{Remove: []int{gone}}); err != nil || r.Removed != 1 {
				v.t.Fatal(r, err)
			}
		}
		a.Close()
		v.same()
	}
	v.t.Logf("listed: %v", v.tally)
	for _, how := range imap.Listings() {
		if v.tells && v.tally[how] == 0 {
			v.t.Errorf("no session was listed as %s: %v", how, v.tally)
		}
	}
}

// during lets the rival work all the time, and looks when it pauses.
func (v *rival) during(rounds int) {
	for range rounds {
		var wg sync.WaitGroup
		var failed error
		wg.Go(func() {
			for range 3 {
				if failed == nil {
					failed = v.change()
				}
			}
		})
		for range 3 {
			a, err := v.known.Login(v.t.Context(), upstream.Credentials{User: v.user, Secret: upstream.NewSecret(v.pass)})
			if err != nil {
				v.t.Error(err)
				break
			}
			if _, err := a.Open(v.t.Context()); err != nil && upstream.KindOf(err) != upstream.Unavailable {
				v.t.Error(err)
			}
			a.Close()
		}
		wg.Wait()
		if failed != nil {
			v.t.Fatal(failed)
		}
		v.same()
	}
	v.t.Logf("listed: %v", v.tally)
}
