package imap_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/listcache"
)

const manyMessages = 200_000

// manyServer plays a server whose INBOX has very many messages, from memory: it
// allocates next to nothing, so that what is measured is the client's.
func manyServer(b *testing.B) func(context.Context, string, string) (net.Conn, error) {
	var list bytes.Buffer
	for i := range manyMessages {
		fmt.Fprintf(&list, "* %d FETCH (UID %d RFC822.SIZE %d)\r\n", i+1, 2*i+1, 400+i%5000)
	}
	head := fmt.Appendf(nil, "* FLAGS (\\Deleted)\r\n* %d EXISTS\r\n* OK [UIDVALIDITY 4242] x\r\n* OK [UIDNEXT %d] x\r\n", manyMessages, 2*manyMessages+1)
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			const caps = "CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS MOVE ESEARCH"
			fmt.Fprintf(far, "* OK [%s] x\r\n", caps)
			for in := bufio.NewScanner(far); in.Scan(); {
				tag, command, _ := strings.Cut(in.Text(), " ")
				switch {
				case strings.HasPrefix(command, "EXAMINE"):
					far.Write(head)
				case strings.HasPrefix(command, "UID FETCH 1:*"):
					far.Write(list.Bytes())
				case strings.HasPrefix(command, "LOGOUT"):
					return
				}
				fmt.Fprintf(far, "%s OK [%s] x\r\n", tag, caps)
			}
		}()
		return near, nil
	}
}

// BenchmarkOpen200k is login, list and close of a mailbox of 200,000 messages.
func BenchmarkOpen200k(b *testing.B) {
	for _, name := range []string{"full", "unchanged"} {
		b.Run(name, func(b *testing.B) {
			o := imap.Options{Host: "127.0.0.1", Dial: manyServer(b)}
			if name == "unchanged" {
				o.Cache = newCache(b, listcache.Options{})
			}
			store, err := imap.New(o)
			if err != nil {
				b.Fatal(err)
			}
			open(b, store).Close()
			b.ReportAllocs()
			for b.Loop() {
				s := open(b, store)
				if s.Len() != manyMessages {
					b.Fatal(s.Len())
				}
				s.Close()
			}
		})
	}
}

// BenchmarkMemoryOfManySessions says what a message takes: the first session's,
// and those of ten more of the same mailbox, which share them.
func BenchmarkMemoryOfManySessions(b *testing.B) {
	dial := manyServer(b)
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for b.Loop() {
		store, err := imap.New(imap.Options{Host: "127.0.0.1", Dial: dial, Cache: newCache(b, listcache.Options{})})
		if err != nil {
			b.Fatal(err)
		}
		before := heap()
		s := []*session{open(b, store)}
		first := heap()
		for range 10 {
			s = append(s, open(b, store))
		}
		b.ReportMetric((first-before)/manyMessages, "octets/message")
		b.ReportMetric((heap()-first)/10, "octets/further-session")
		for _, s := range s {
			s.Close()
		}
		if s[0].Len() != manyMessages {
			b.Fatal(s[0].Len())
		}
	}
}
