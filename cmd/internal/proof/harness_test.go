package proof_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/imap/listcache"
	"github.com/popgate/popgate/upstream/readahead"
	"github.com/popgate/popgate/upstream/wrap"
)

// harnessOptions says how a harness is made. The zero value is the Minimal
// server, the expunge policy, and no TLS anywhere.
type harnessOptions struct {
	Profile imaptest.Profile
	Policy  imap.Policy
	// CA gives the engine a certificate for STLS. With it UpstreamTLS is
	// possible: STARTTLS on the way to the IMAP server.
	CA          *imaptest.CA
	UpstreamTLS bool
	// Reuse lets connections to the IMAP server wait between sessions.
	Reuse bool
	// Upstream wraps the store's end of the n-th connection to the IMAP server,
	// n from 1.
	Upstream func(n int, c net.Conn) net.Conn

	Engine pop3.Options // Store, TLS, Logger and Trace are the harness's
	Store  imap.Options // Host, Security, TLS, Delete, Dial, Lookup and Logger are the harness's
	Server []imaptest.Option
	// Outermost wraps the store once more, outside of the lock.
	Outermost func(upstream.Store) upstream.Store
}

// A harness is the POP3 engine over the IMAP store, put together as cmd/popgate
// does, over the fault bench.
type harness struct {
	t       testing.TB
	imap    *imaptest.Server
	store   *imap.Store
	profile imaptest.Profile
	policy  imap.Policy
	ca      *imaptest.CA

	engine *pop3.Server
	served sync.WaitGroup

	mu     sync.Mutex
	faults []string // what no session may log
	ends   []pop3.End
}

// proofReadAhead is the room for read-ahead that the gateway has by default.
func proofReadAhead() *readahead.Pool { return readahead.NewPool(4<<20, 64<<20) }

// newHarness starts everything. It ends with the test.
func newHarness(t testing.TB, o harnessOptions) *harness {
	t.Helper()
	h := &harness{t: t, profile: o.Profile, policy: o.Policy, ca: o.CA}
	log := slog.New(&harnessLog{h: h})

	server := o.Server
	store := o.Store
	store.ReadAhead = proofReadAhead()
	store.Host, store.Delete, store.Logger = "127.0.0.1", o.Policy, log
	if o.UpstreamTLS {
		server = append(slices.Clone(server), imaptest.StartTLS(o.CA))
		store.Host, store.Security, store.TLS = imaptest.ServerName, imap.StartTLS, o.CA.ClientConfig()
		store.TLS.CurvePreferences = harnessCurves
		store.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
		}
	}
	h.imap = imaptest.New(t, o.Profile, server...)
	if o.Policy == imap.Trash {
		h.imap.Mailbox(imaptest.DefaultUser, harnessTrash, `\Trash`)
		if !o.Profile.Has("SPECIAL-USE") {
			store.Trash = harnessTrash
		}
	}
	store.Dial = h.imap.Dial
	if o.Upstream != nil {
		store.Dial = h.imap.DialWith(o.Upstream)
	}
	lists, err := listcache.New(t.Context(), listcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store.Cache = lists
	if o.Reuse {
		store.Reuse = harnessReuse
	}
	if h.store, err = imap.New(store); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.store.Close() })
	chain := wrap.Lock(wrap.Contract(h.store), wrap.LockOptions{})
	if o.Outermost != nil {
		chain = o.Outermost(chain)
	}
	engine := o.Engine
	engine.Store, engine.Logger = chain, log
	engine.Trace = pop3.Trace{
		Deletions: func(d pop3.Deletions) {
			if d.Marked != d.Reset+d.Abandoned+d.Removed+d.Missing+d.Kept {
				h.fault(fmt.Sprintf("the count of deletions does not balance: %+v", d))
			}
		},
		SessionEnded: func(_ pop3.Via, end pop3.End, _ time.Duration) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.ends = append(h.ends, end)
		},
		Panicked: func() { h.fault("a panic") },
	}
	if o.CA != nil {
		engine.TLS = o.CA.ServerConfig()
	}
	if h.engine, err = pop3.NewServer(engine); err != nil {
		t.Fatal(err)
	}
	return h
}

// harnessReuse is how long connections wait, where they do: for most of the
// sessions of a test, and not for all.
const harnessReuse = 5 * time.Minute

// harnessCurves keeps handshakes cheap.
var harnessCurves = []tls.CurveID{tls.CurveP256}

// harnessTrash is the trash mailbox of the Trash policy.
const harnessTrash = "Bin"

// connect opens a client's connection and reads the greeting. front wraps the
// engine's end and back the client's; both may be nil.
func (h *harness) connect(front, back func(net.Conn) net.Conn) *popClient {
	client, server := harnessPipe()
	if front != nil {
		server = front(server)
	}
	if back != nil {
		client = back(client)
	}
	h.served.Go(func() { h.engine.Serve(context.Background(), server, pop3.Via{Listener: "proof"}) })
	return newPopClient(h, client)
}

// wait returns when no session is being served any more.
func (h *harness) wait() { h.served.Wait() }

func (h *harness) fault(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, text)
}

// hidden reports that no POP3 session shows a message with these flags.
func (h *harness) hidden(flags []string) bool {
	return slices.ContainsFunc(flags, func(f string) bool {
		return strings.EqualFold(f, imap.HiddenKeyword) || !h.profile.Has("UIDPLUS") && strings.EqualFold(f, `\Deleted`)
	})
}

// violations judges the sessions of one user, and tells what the log holds that
// must not be there. No session may be open.
func (h *harness) violations(user string, clients ...*popClient) []string {
	var seen [][]imaptest.Event
	for _, c := range clients {
		seen = append(seen, c.seen())
	}
	found := imaptest.Judge{Journal: h.imap.Journal(), User: user, Hidden: h.hidden}.Violations(seen...)
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(found, h.faults...)
}

// shown are the messages that a new POP3 session of the default user has to
// show, by unique-id.
func (h *harness) shown() []string {
	box := h.imap.INBOX()
	validity := box.UIDValidity()
	ids := []string{}
	for _, m := range box.Messages() {
		if !h.hidden(m.Flags) {
			ids = append(ids, fmt.Sprintf("%d.%d", validity, m.UID))
		}
	}
	return ids
}

// harnessLog keeps what no session may log and drops the rest.
type harnessLog struct{ h *harness }

func (l *harnessLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}
func (l *harnessLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *harnessLog) WithGroup(string) slog.Handler      { return l }

func (l *harnessLog) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	if r.Level >= slog.LevelError || strings.Contains(text, "contract:") {
		l.h.fault("logged: " + text)
	}
	return nil
}
