package jmaptest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream/jmap/jmapmem"
)

// An Ending is how a connection stops to work.
type Ending uint8

// The endings.
const (
	FIN   Ending = iota + 1 // closed in order
	RST                     // reset; a plain close over net.Pipe
	Stall                   // open, and nothing moves any more
)

// A Request is one HTTP request, before it is acted upon.
type Request struct {
	N       int      // from 1
	Op      string   // "session", "api", "download" or "other"
	Methods []string // of "api"
	Blob    string   // of "download"
	HTTP    *http.Request
}

// Calls reports whether the request calls the method.
func (r Request) Calls(method string) bool {
	for _, m := range r.Methods {
		if m == method {
			return true
		}
	}
	return false
}

// A Fault is what happens to a request instead of, or beside, the usual.
type Fault struct {
	// Status answers instead, with Header and Body.
	Status int
	Header http.Header
	Body   string
	// End ends the connection, after After octets of the body of the answer, which
	// was acted upon; -1 ends it before the header, and -2 before the request is
	// acted upon.
	End   Ending
	After int64
	// Length is the Content-Length that is told, and no matter what comes.
	Length string
	// Change is applied to the body of the answer.
	Change func([]byte) []byte
	// Delay passes before the answer. It is for tests under testing/synctest.
	Delay time.Duration
}

// A Hook looks at a request and may return a fault for it. It may use every method
// of the server but Hook and OnCall.
type Hook func(Request) *Fault

// Hook adds h. The first hook that returns a fault decides.
func (s *Server) Hook(h Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, h)
}

// Once returns f at the first request for which match holds.
func Once(match func(Request) bool, f Fault) Hook { return Times(1, match, f) }

// Times returns f at the first n requests for which match holds.
func Times(n int, match func(Request) bool, f Fault) Hook {
	return func(r Request) *Fault {
		if n == 0 || !match(r) {
			return nil
		}
		n--
		return &f
	}
}

// Op matches requests of one kind.
func Op(op string) func(Request) bool { return func(r Request) bool { return r.Op == op } }

// Method matches requests that call the method.
func Method(name string) func(Request) bool { return func(r Request) bool { return r.Calls(name) } }

// A Reply answers a method call.
type Reply = jmapmem.Reply

// Problem is the reply of a method that failed.
func Problem(kind string) *Reply { return jmapmem.Problem(kind) }

// A CallHook is called before a method is executed and may answer in its place. It
// may use every method of the server but Hook and OnCall.
type CallHook func(method string, args map[string]any) *Reply

// OnCall adds h. The first hook that replies decides.
func (s *Server) OnCall(h CallHook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, h)
}

// Rewrite changes the replies of methods before they go out. change must not use
// the server.
func (s *Server) Rewrite(change func(method string, reply map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rewrites = append(s.rewrites, change)
}

func (s *Server) faultFor(r Request) *Fault {
	s.mu.Lock()
	hooks := s.hooks
	s.mu.Unlock()
	s.hooking.Lock() // requests come at the same time, and hooks count
	defer s.hooking.Unlock()
	for _, h := range hooks {
		if f := h(r); f != nil {
			return f
		}
	}
	return nil
}

// send writes a, as f says.
func (s *Server) send(w http.ResponseWriter, a jmapmem.Answer, f *Fault, chunked bool) {
	if f != nil && f.Change != nil {
		a.Body = f.Change(a.Body)
	}
	if f == nil || f.End == 0 && f.Length == "" {
		for k, v := range a.Header {
			w.Header()[k] = v
		}
		if !chunked {
			w.Header().Set("Content-Length", fmt.Sprint(len(a.Body)))
		}
		w.WriteHeader(a.Status)
		if chunked {
			w.(http.Flusher).Flush()
		}
		w.Write(a.Body)
		return
	}
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.Close()
	}()
	body, length := a.Body, fmt.Sprint(len(a.Body))
	if f.Length != "" {
		length = f.Length
	}
	if f.End != 0 {
		body = body[:max(0, min(int64(len(body)), f.After))]
	}
	if f.End == 0 || f.After >= 0 {
		var head strings.Builder
		fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", a.Status, http.StatusText(a.Status))
		a.Header.Write(&head)
		fmt.Fprintf(&head, "Content-Length: %s\r\n\r\n", length)
		c.Write([]byte(head.String()))
		c.Write(body)
	}
	s.end(c, f.End)
}

// end ends a connection that was taken from net/http.
func (s *Server) end(c net.Conn, how Ending) {
	switch how {
	case RST:
		if t, ok := c.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
	case Stall:
		gone := make(chan struct{})
		go func() { // ends when the client closes, or the server
			defer close(gone)
			io.Copy(io.Discard, c)
		}()
		select {
		case <-gone:
		case <-s.stopped:
			c.Close()
			<-gone
		}
	}
}
