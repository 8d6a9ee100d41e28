package proxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// wire is a connection on which data comes, as a peer has cut it.
type wire struct {
	net.Conn
	data  []byte
	piece int
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), w.piece)], w.data)
	w.data = w.data[n:]
	return n, nil
}

func (w *wire) SetReadDeadline(time.Time) error { return nil }

func (w *wire) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 4711} }

// FuzzHeader: whatever comes and however it is cut, nothing panics, a header has
// its greatest length, the client has an address, and what is behind the header
// is read octet for octet.
func FuzzHeader(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 198.51.100.7 192.0.2.1 4660 110\r\n",
		"PROXY TCP6 2001:db8::7 ::1 4660 110\r\nUSER x\r\n",
		"PROXY UNKNOWN\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x12\x34\x00\x6eCAPA\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
		"CAPA\r\n",
	} {
		f.Add([]byte(seed), 1)
		f.Add([]byte(seed), 1000)
	}
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		w := &wire{data: data, piece: min(max(piece, 1), 1000)}
		c, err := readHeader(t.Context(), w)
		if taken := len(data) - len(w.data); taken > 16+4096+headerBuffer {
			t.Fatalf("%d octets were read for a header", taken)
		}
		if err != nil {
			return
		}
		if addr, ok := c.RemoteAddr().(*net.TCPAddr); !ok || !addr.AddrPort().Addr().IsValid() {
			t.Errorf("RemoteAddr() = %v", c.RemoteAddr())
		}
		rest, err := io.ReadAll(c)
		if err != nil || !bytes.HasSuffix(data, rest) || len(rest) > len(data)-15 {
			t.Errorf("read %q, %v behind the header of %q", rest, err, data)
		}
	})
}
