package jmaptest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream/jmap/jmapmem"
)

func (s *Server) handle(w http.ResponseWriter, h *http.Request) {
	r := Request{Op: "other", HTTP: h}
	var text []byte
	path := h.URL.Path
	switch {
	case path == "/.well-known/jmap" || path == "/jmap":
		r.Op = "session"
	case path == "/jmap/":
		r.Op = "api"
		var err error
		if text, err = io.ReadAll(h.Body); err != nil {
			return // the request did not arrive
		}
		r.Methods = methods(text)
	case strings.HasPrefix(path, "/jmap/download/"):
		r.Op = "download"
		r.Blob, _ = s.Blob(path)
	}
	s.mu.Lock()
	s.requests++
	r.N = s.requests
	s.mu.Unlock()
	s.note("request", strings.Join(append([]string{r.Op}, r.Methods...), " "))
	f := s.faultFor(r)
	if f != nil && f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-s.stopped:
		case <-h.Context().Done():
		}
	}
	switch {
	case f != nil && f.Status != 0:
		s.send(w, jmapmem.Answer{Status: f.Status, Header: f.Header, Body: []byte(f.Body)}, f, false)
		return
	case f != nil && f.End != 0 && f.After < -1:
		s.send(w, jmapmem.Answer{}, f, false)
		return
	}
	a := s.Answer(h, text)
	if f != nil {
		for k, v := range f.Header {
			a.Header[k] = v
		}
	}
	s.send(w, a, f, s.o.Chunked)
}

func methods(text []byte) (out []string) {
	var request struct {
		Calls [][]json.RawMessage `json:"methodCalls"`
	}
	if json.Unmarshal(text, &request) == nil {
		for _, c := range request.Calls {
			var name string
			if len(c) == 3 && json.Unmarshal(c[0], &name) == nil {
				out = append(out, name)
			}
		}
	}
	return out
}
