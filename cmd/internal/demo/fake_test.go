package demo_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/demo"
)

// fakePOP3 is a POP3 server that has the samples and knows just what the
// session asks for. What it sends goes through change, where there is one; a
// "!" in it closes the connection there.
func fakePOP3(t *testing.T, change *strings.Replacer) string {
	t.Helper()
	ln := listen(t)
	f := &fake{change: change}
	for i, s := range demo.Samples() {
		f.mail = append(f.mail, stored{fmt.Sprintf("id%d", i+1), s.Raw})
	}
	var sessions sync.WaitGroup
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { f.session(c) })
		}
	}()
	t.Cleanup(func() { ln.Close(); sessions.Wait() })
	return ln.Addr().String()
}

type stored struct {
	id  string
	raw []byte
}

type fake struct {
	change *strings.Replacer
	mail   []stored // sessions come one after the other
}

func (f *fake) session(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	marked := map[int]bool{}
	f.send(c, "+OK hello\r\n")
	for in := bufio.NewScanner(c); in.Scan(); {
		verb, rest, _ := strings.Cut(in.Text(), " ")
		var n, lines int
		fmt.Sscan(rest, &n, &lines)
		reply := "+OK\r\n"
		switch verb {
		case "CAPA":
			reply += "UIDL\r\nTOP\r\n.\r\n"
		case "STAT":
			sum := 0
			for _, m := range f.mail {
				sum += len(m.raw)
			}
			reply = fmt.Sprintf("+OK %d %d\r\n", len(f.mail), sum)
		case "LIST", "UIDL":
			for i, m := range f.mail {
				if verb == "LIST" {
					reply += fmt.Sprintf("%d %d\r\n", i+1, len(m.raw))
				} else {
					reply += fmt.Sprintf("%d %s\r\n", i+1, m.id)
				}
			}
			reply += ".\r\n"
		case "TOP":
			head, body, _ := bytes.Cut(f.mail[n-1].raw, []byte("\r\n\r\n"))
			all := strings.SplitAfter(string(body), "\r\n")
			reply += stuffed(string(head) + "\r\n\r\n" + strings.Join(all[:lines], ""))
		case "RETR":
			reply += stuffed(string(f.mail[n-1].raw))
		case "DELE":
			marked[n-1] = true
		case "RSET":
			clear(marked)
		case "QUIT":
			var left []stored
			for i, m := range f.mail {
				if !marked[i] {
					left = append(left, m)
				}
			}
			f.mail = slices.Clip(left)
			f.send(c, "+OK bye\r\n")
			return
		}
		if !f.send(c, reply) {
			return
		}
	}
}

func stuffed(s string) string { return strings.ReplaceAll(s, "\r\n.", "\r\n..") + ".\r\n" }

func (f *fake) send(w io.Writer, s string) bool {
	if f.change != nil && len(s) < 1<<20 { // the large message is slow to search
		s = f.change.Replace(s)
	}
	s, _, cut := strings.Cut(s, "!")
	_, err := io.WriteString(w, s)
	return err == nil && !cut
}
