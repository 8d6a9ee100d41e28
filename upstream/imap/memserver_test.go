package imap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"

	imap2 "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

// go-imap's server locks up a connection that is cut while a literal is
// written: that goroutine is its own.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/emersion/go-imap/v2/imapserver.(*Conn).serve"))
}

// literal is a body to append.
type literal struct {
	*bytes.Reader
}

func (l literal) Size() int64 { return l.Reader.Size() }

// startMemServer starts go-imap's in-memory server, whose one user is alice
// with the password "pw".
func startMemServer(t *testing.T, caps imap2.CapSet) (*imapmemserver.User, *net.TCPAddr) {
	t.Helper()
	user := imapmemserver.NewUser("alice", "pw")
	for _, name := range []string{"INBOX", "Deleted Items"} {
		if err := user.Create(name, nil); err != nil {
			t.Fatal(err)
		}
	}
	mem := imapmemserver.New()
	mem.AddUser(user)
	srv := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		Caps: caps, InsecureAuth: true,
		Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	// In this order: Close beside the beginning of Serve is a race of the library's.
	t.Cleanup(func() { ln.Close(); <-done; srv.Close() })
	return user, ln.Addr().(*net.TCPAddr)
}

func memHarness(policy imap.Policy) func(t *testing.T) upstreamtest.Harness {
	return func(t *testing.T) upstreamtest.Harness {
		user, addr := startMemServer(t, imap2.CapSet{
			imap2.CapIMAP4rev1: {}, imap2.CapUIDPlus: {}, imap2.CapMove: {}, imap2.CapSpecialUse: {}, imap2.CapListExtended: {}, imap2.CapESearch: {},
		})
		other, err := imapclient.DialInsecure(addr.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { other.Close() })
		if err := other.Login("alice", "pw").Wait(); err != nil {
			t.Fatal(err)
		}
		store, err := imap.New(imap.Options{Host: "127.0.0.1", Port: uint16(addr.Port), Delete: policy, Trash: "Deleted Items"})
		if err != nil {
			t.Fatal(err)
		}
		view := func() ([]*imapclient.FetchMessageBuffer, error) {
			if _, err := other.Select("INBOX", nil).Wait(); err != nil {
				return nil, err
			}
			list, err := other.Fetch(imap2.SeqSet{imap2.SeqRange{Start: 1}}, &imap2.FetchOptions{
				UID: true, Flags: true, BodySection: []*imap2.FetchItemBodySection{{Peek: true}},
			}).Collect()
			return slices.DeleteFunc(list, func(m *imapclient.FetchMessageBuffer) bool {
				return slices.Contains(m.Flags, imap.HiddenKeyword)
			}), err
		}
		return upstreamtest.Harness{
			Store:       store,
			Credentials: upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")},
			Deliver: func(_ context.Context, body []byte) error {
				if !bytes.Contains(body, []byte("\r\n\r\n")) {
					return fmt.Errorf("%w: the in-memory server ends every header with an empty line", errors.ErrUnsupported)
				}
				_, err := user.Append("INBOX", literal{bytes.NewReader(body)}, &imap2.AppendOptions{})
				return err
			},
			Expunge: func(_ context.Context, i int) error {
				list, err := view()
				if err != nil {
					return err
				}
				uid := imap2.UIDSetNum(list[i].UID)
				if err := other.Store(uid, &imap2.StoreFlags{Op: imap2.StoreFlagsAdd, Flags: []imap2.Flag{imap2.FlagDeleted}}, nil).Close(); err != nil {
					return err
				}
				return other.UIDExpunge(uid).Close()
			},
			Contents: func(context.Context) (out [][]byte, err error) {
				list, err := view()
				for _, m := range list {
					if len(m.BodySection) != 1 {
						return nil, errors.New("no body")
					}
					out = append(out, m.BodySection[0].Bytes)
				}
				return out, err
			},
			Seen: func(context.Context) (out []bool, err error) {
				list, err := view()
				for _, m := range list {
					out = append(out, slices.Contains(m.Flags, imap2.FlagSeen))
				}
				return out, err
			},
		}
	}
}

func TestStoreOverGoIMAPsInMemoryServer(t *testing.T) {
	for name, policy := range map[string]imap.Policy{"expunge": imap.Expunge, "trash": imap.Trash, "hide": imap.Hide} {
		t.Run(name, func(t *testing.T) { upstreamtest.Run(t, memHarness(policy)) })
	}
}

func ExampleStore() {
	store, err := imap.New(imap.Options{Host: "imap.example.net", Security: imap.ImplicitTLS})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	account, err := store.Login(ctx, upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")})
	if err != nil {
		return // upstream.KindOf(err) tells what to answer
	}
	defer account.Close()
	drop, err := account.Open(ctx)
	if err != nil || drop.Len() == 0 {
		return
	}
	body, err := drop.Retrieve(ctx, 0, upstream.Extent{})
	if err != nil {
		return
	}
	defer body.Close()
	io.Copy(io.Discard, body)
}
