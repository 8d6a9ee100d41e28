package imaptest_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

func readAll(w *wire) (string, error) {
	b, err := io.ReadAll(w.br)
	return string(b), err
}

const greeting = "* OK ready\r\n"

// cut starts a minimal server and dials it through a CutConn.
func cut(t *testing.T, tcp bool, c *imaptest.Cut, faults ...imaptest.Fault) (*imaptest.Server, *imaptest.CutConn) {
	t.Helper()
	s := imaptest.New(t, imaptest.Minimal(), options(tcp)...)
	dial := s.DialWith(func(_ int, inner net.Conn) net.Conn { return imaptest.NewCutConn(inner, c, faults...) })
	conn, err := dial(t.Context(), "tcp", "x:143")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return s, conn.(*imaptest.CutConn)
}

func TestReadIsCutAtEveryOctet(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		for _, how := range []imaptest.Ending{imaptest.FIN, imaptest.RST} {
			for k := range len(greeting) + 1 {
				_, c := cut(t, tcp, &imaptest.Cut{After: int64(k), How: how})
				got, err := io.ReadAll(c)
				if string(got) != greeting[:k] || !c.Reached() || c.Octets(imaptest.FromServer) != int64(k) {
					t.Fatalf("cut at %d: %q, %v", k, got, err)
				}
				if how == imaptest.FIN && err != nil || how == imaptest.RST && !errors.Is(err, syscall.ECONNRESET) {
					t.Fatalf("cut at %d: %v", k, err)
				}
				if _, err := c.Write([]byte("x")); err == nil {
					t.Fatalf("cut at %d: a write still works", k)
				}
			}
		}
	}
}

func TestWriteIsCutAtEveryOctet(t *testing.T) {
	const command = "A NOOP\r\n"
	for _, tcp := range []bool{false, true} {
		for _, how := range []imaptest.Ending{imaptest.FIN, imaptest.RST} {
			for k := range len(command) + 1 {
				s, c := cut(t, tcp, &imaptest.Cut{Dir: imaptest.ToServer, After: int64(k), How: how})
				if k > 0 {
					io.ReadFull(c, make([]byte, len(greeting)))
				}
				n, err := c.Write([]byte(command))
				if k > 0 && (n != len(command) || err != nil) || k == 0 && err == nil {
					t.Fatalf("cut at %d: Write = %d, %v", k, n, err)
				}
				if _, err := c.Write([]byte("x")); err == nil {
					t.Fatalf("cut at %d: the next write works", k)
				}
				c.Close()
				// the server saw the command if all of it passed, and RST may
				// overtake it
				got := len(received(t, s))
				if got > 0 && k < len(command) || got == 0 && k == len(command) && how == imaptest.FIN {
					t.Fatalf("tcp %v, cut at %d of %d: %d commands", tcp, k, len(command), got)
				}
			}
		}
	}
}

// received waits for the end of the first connection and returns the commands.
func received(t *testing.T, s *imaptest.Server) []imaptest.Command {
	t.Helper()
	ended := func(e imaptest.Entry) bool { return e.Kind == imaptest.Ended }
	if _, err := s.Journal().Await(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	return s.Journal().Commands()
}

func TestStallAndDripUnderSynctest(t *testing.T) {
	t.Run("stalled_read_obeys_its_deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, c := cut(t, false, &imaptest.Cut{After: 4, How: imaptest.Stall})
			io.ReadFull(c, make([]byte, 4))
			start := time.Now()
			c.SetReadDeadline(start.Add(time.Minute))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			c.SetReadDeadline(time.Time{})
			time.AfterFunc(time.Hour, func() { c.SetReadDeadline(time.Now()) }) // moves it under the reader
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute+time.Hour {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("stalled_read_ends_at_close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, c := cut(t, false, &imaptest.Cut{How: imaptest.Stall})
			time.AfterFunc(time.Hour, func() { c.Close() })
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	})
	t.Run("stalled_write_swallows_then_blocks", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c := cut(t, false, &imaptest.Cut{Dir: imaptest.ToServer, After: 3, How: imaptest.Stall})
			io.ReadFull(c, make([]byte, len(greeting)))
			if n, err := c.Write([]byte("A NOOP\r\n")); n != 8 || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
			c.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := c.Write([]byte("B NOOP\r\n")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			if got := s.Journal().Commands(); len(got) > 0 {
				t.Errorf("commands %v", got)
			}
		})
	})
	t.Run("reply_to_the_last_octet_is_swallowed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c := cut(t, false, &imaptest.Cut{Dir: imaptest.ToServer, After: 8, How: imaptest.Stall})
			io.ReadFull(c, make([]byte, len(greeting)))
			c.SetReadDeadline(time.Now().Add(time.Minute))
			read := make(chan error, 1)
			go func() { _, err := c.Read(make([]byte, 100)); read <- err }()
			synctest.Wait() // the reader waits below, not at the cut
			c.Write([]byte("A NOOP\r\n"))
			if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read: %v", err)
			}
			if got := s.Journal().Commands(); len(got) != 1 {
				t.Errorf("commands %v", got)
			}
		})
	})
	t.Run("drip", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, c := cut(t, false, &imaptest.Cut{After: 2, How: imaptest.Drip, Every: time.Second})
			start := time.Now()
			got := make([]byte, len(greeting))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != greeting {
				t.Errorf("%q, %v", got, err)
			}
			if d := time.Since(start); d != time.Duration(len(greeting)-2)*time.Second {
				t.Errorf("took %v", d)
			}
			if _, err := c.Write([]byte("A NOOP\r\n")); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestFaultsHitTheCallTheyName(t *testing.T) {
	oops := errors.New("oops")
	_, c := cut(t, false, nil,
		imaptest.Fault{Op: imaptest.OpRead, Nth: 2, Err: oops},
		imaptest.Fault{Op: imaptest.OpRead, Nth: 3, Err: oops, Short: true},
		imaptest.Fault{Op: imaptest.OpWrite, Nth: 1, Err: oops, Short: true},
		imaptest.Fault{Op: imaptest.OpSetDeadline, Nth: 1, Err: oops},
		imaptest.Fault{Op: imaptest.OpClose, Nth: 1, Err: oops})
	b := make([]byte, 4)
	for i, want := range []struct {
		n   int
		err error
	}{{4, nil}, {0, oops}, {2, oops}, {4, nil}, {2, nil}} {
		if n, err := c.Read(b); n != want.n || err != want.err {
			t.Errorf("Read %d = %d, %v", i+1, n, err)
		}
	}
	if n, err := c.Write([]byte("A NOOP\r\n")); n != 4 || err != oops {
		t.Errorf("Write = %d, %v", n, err)
	}
	if err := c.SetDeadline(time.Time{}); err != oops {
		t.Error(err)
	}
	if err := c.Close(); err != oops {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if got := fmt.Sprint(c.Calls(imaptest.OpRead), c.Calls(imaptest.OpWrite), c.Calls(imaptest.OpClose)); got != "5 1 2" {
		t.Errorf("calls: %s", got)
	}
}

func TestResetReachesTheServer(t *testing.T) {
	s, c := cut(t, true, &imaptest.Cut{After: int64(len(greeting)), How: imaptest.RST})
	io.ReadAll(c)
	ended := func(e imaptest.Entry) bool { return e.Kind == imaptest.Ended }
	e, err := s.Journal().Await(t.Context(), ended)
	if err != nil || !strings.Contains(e.Line, "reset") {
		t.Errorf("ended: %q, %v", e.Line, err)
	}
}
