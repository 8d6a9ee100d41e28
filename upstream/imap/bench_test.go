package imap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/readahead"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

var alice = upstream.Credentials{User: imaptest.DefaultUser, Secret: upstream.NewSecret(imaptest.DefaultPassword)}

// newStore is a store in front of srv, on a loopback address.
func newStore(t testing.TB, srv *imaptest.Server, o imap.Options) *imap.Store {
	t.Helper()
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Dial == nil {
		o.Dial = srv.Dial
	}
	if o.ReadAhead == nil {
		const total = 64 << 20
		o.ReadAhead = readahead.NewPool(4<<20, total)
		t.Cleanup(func() { // behind the end of every session
			if n := total - o.ReadAhead.Left(); n != 0 {
				t.Errorf("%d octets of read-ahead are reserved still", n)
			}
		})
	}
	s, err := imap.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// session is one POP3 session's use of a store.
type session struct {
	t testing.TB
	upstream.Account
	upstream.Maildrop
}

func open(t testing.TB, s *imap.Store) *session {
	t.Helper()
	a, err := s.Login(t.Context(), alice)
	if err != nil {
		t.Fatalf("Login: %v", err)
	}
	t.Cleanup(func() { a.Close() })
	d, err := a.Open(t.Context())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return &session{t, a, d}
}

// retrieve reads a whole body, or what there is of it before an error.
func (s *session) retrieve(i int, want upstream.Extent) (string, error) {
	b, err := s.Retrieve(s.t.Context(), i, want)
	if err != nil {
		return "", err
	}
	defer b.Close()
	var out bytes.Buffer
	_, err = io.Copy(&out, b)
	if err == nil && b.Octets() >= 0 && b.Octets() != int64(out.Len()) {
		s.t.Errorf("the body announced %d octets and gave %d", b.Octets(), out.Len())
	}
	return out.String(), err
}

// ids are the unique-ids of the snapshot.
func (s *session) ids() string {
	var out []byte
	for i := range s.Len() {
		out = append(s.AppendUIDL(out, i), ' ')
	}
	return strings.TrimSuffix(string(out), " ")
}

func wantKind(t testing.TB, err error, kind upstream.Kind) {
	t.Helper()
	e, ok := errors.AsType[*upstream.Error](err)
	switch {
	case !ok:
		t.Errorf("the error is %v (%T), want an *upstream.Error of kind %v", err, err, kind)
	case e.Kind != kind:
		t.Errorf("the error is %v, want kind %v", err, kind)
	}
}

func message(n int) string {
	return fmt.Sprintf("From: a@example.org\r\nSubject: %d\r\n\r\nbody of %d\r\n", n, n)
}

// fill delivers n messages with the UIDs from 1 on.
func fill(srv *imaptest.Server, n int) {
	for i := range n {
		srv.INBOX().Append(message(i + 1))
	}
}

// uids shows UIDs in a row; hidden ones are left out.
func uids(box *imaptest.Mailbox) string {
	var out []string
	for _, m := range box.Messages() {
		out = append(out, fmt.Sprint(m.UID))
	}
	return strings.Join(out, " ")
}

func benchHarness(p imaptest.Profile, o imap.Options) func(t *testing.T) upstreamtest.Harness {
	return func(t *testing.T) upstreamtest.Harness {
		srv := imaptest.New(t, p, imaptest.Master("master", "key"))
		srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`)
		o := o
		if !p.Has("SPECIAL-USE") {
			o.Trash = "Bin"
		}
		if o.Window != (imap.Window{}) {
			o.Ledger = newLedger(t, filepath.Join(t.TempDir(), "ledger"))
		}
		box := srv.INBOX()
		view := func() (out []imaptest.Message) {
			for _, m := range box.Messages() {
				if m.Has(imap.HiddenKeyword) || !p.Has("UIDPLUS") && m.Has(`\Deleted`) {
					continue
				}
				out = append(out, m)
			}
			return out
		}
		return upstreamtest.Harness{
			Store:       newStore(t, srv, o),
			Credentials: alice,
			Deliver:     func(_ context.Context, body []byte) error { box.Append(string(body)); return nil },
			Expunge:     func(_ context.Context, i int) error { box.Expunge(view()[i].UID); return nil },
			Contents: func(context.Context) (out [][]byte, err error) {
				for _, m := range view() {
					b := make([]byte, m.Body.Size())
					if n, err := m.Body.ReadAt(b, 0); n < len(b) {
						return nil, err
					}
					out = append(out, b)
				}
				return out, nil
			},
			Seen: func(context.Context) (out []bool, err error) {
				for _, m := range view() {
					out = append(out, m.Has(`\Seen`))
				}
				return out, nil
			},
			Cut:  func(after int64) { srv.Before("UID FETCH", 0, cutBodies(after)) },
			Down: func() { srv.Refuse(1 << 30); srv.Disconnect(imaptest.FIN) },
		}
	}
}

// cutBodies ends the connection inside bodies and spares listings.
func cutBodies(after int64) imaptest.Action { return imaptest.CutLiteral(after, imaptest.FIN) }

func TestStoreOverTheFaultBench(t *testing.T) {
	policies := map[string]imap.Policy{"expunge": imap.Expunge, "trash": imap.Trash, "hide": imap.Hide}
	for _, p := range imaptest.Profiles() {
		for name, policy := range policies {
			t.Run(p.Name+"/"+name, func(t *testing.T) {
				t.Parallel()
				upstreamtest.Run(t, benchHarness(p, imap.Options{Delete: policy}))
			})
		}
	}
}
