package realtest

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A tap stands between a client and the front end and writes down the dialogue
// for as long as it is clear text. It alters nothing.
type tap struct {
	addr string
	ln   net.Listener

	mu    sync.Mutex
	text  strings.Builder
	conns []net.Conn
	wg    sync.WaitGroup
}

func newTap(t *testing.T, target string) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: ln.Addr().String(), ln: ln}
	p.wg.Go(func() {
		for n := 1; ; n++ {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.DialTimeout("tcp", target, 5*time.Second)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			secret := new(bool)
			p.wg.Go(func() { p.copy(server, client, n, "C", secret) })
			p.wg.Go(func() { p.copy(client, server, n, "S", secret) })
		}
	})
	t.Cleanup(p.close)
	return p
}

func (p *tap) close() {
	p.ln.Close()
	p.cut()
	p.wg.Wait()
}

// cut ends the connections that there are.
func (p *tap) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// copy passes octets on and notes lines. secret is set once the client's TLS
// begins and is guarded by the tap's lock.
func (p *tap) copy(dst, src net.Conn, n int, side string, secret *bool) {
	defer func() {
		if tcp, ok := dst.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		p.note(n, side, "-- closed")
	}()
	buf := make([]byte, 32<<10)
	for {
		k, err := src.Read(buf)
		if k > 0 {
			p.noteData(n, side, buf[:k], secret)
			if _, err := dst.Write(buf[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *tap) noteData(n int, side string, data []byte, secret *bool) {
	const tlsHandshake = 0x16
	p.mu.Lock()
	if side == "C" && data[0] == tlsHandshake && !*secret {
		*secret = true
		fmt.Fprintf(&p.text, "%d -- TLS\n", n)
	}
	hidden := *secret
	p.mu.Unlock()
	if hidden {
		return
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(data, []byte("\r\n")), []byte("\r\n"))
	if side == "S" && len(lines) > 30 {
		lines = append(lines[:10:10], fmt.Appendf(nil, "... %d octets", len(data)))
	}
	for _, l := range lines {
		text := strings.TrimRight(string(l), "\r\n")
		if len(text) > 200 {
			text = text[:200] + "..."
		}
		p.note(n, side, text)
	}
}

func (p *tap) note(n int, side, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text.Len() < 1<<20 {
		fmt.Fprintf(&p.text, "%d %s: %s\n", n, side, text)
	}
}

// transcript returns the dialogue since the last call.
func (p *tap) transcript() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.text.String()
	p.text.Reset()
	return s
}

// bodiesAsked are the commands of a transcript that ask for message bodies.
func bodiesAsked(transcript string) []string {
	var out []string
	for line := range strings.Lines(transcript) {
		_, command, ok := strings.Cut(strings.TrimSpace(line), " C: ")
		if !ok {
			continue
		}
		f := strings.Fields(strings.ToUpper(command))
		if len(f) > 0 && (f[0] == "RETR" || f[0] == "TOP" && len(f) == 3 && f[2] != "0") {
			out = append(out, command)
		}
	}
	return out
}
