package jmaptest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
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
		r.Blob, _, _ = strings.Cut(strings.TrimPrefix(path, "/jmap/download/"+Account+"/"), "/")
	}
	s.mu.Lock()
	s.requests++
	r.N = s.requests
	s.note("request", strings.Join(append([]string{r.Op}, r.Methods...), " "))
	s.mu.Unlock()
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
		s.send(w, answer{f.Status, f.Header, []byte(f.Body)}, f, false)
		return
	case f != nil && f.End != 0 && f.After < -1:
		s.send(w, answer{}, f, false)
		return
	}
	a := s.answer(r, text)
	if f != nil {
		for k, v := range f.Header {
			a.header[k] = v
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

func (s *Server) answer(r Request, text []byte) answer {
	plain := func(status int) answer {
		return answer{status, http.Header{"Content-Type": {"text/plain"}}, []byte(http.StatusText(status) + "\n")}
	}
	user, password, basic := r.HTTP.BasicAuth()
	if !(basic && user == User && password == Password) && r.HTTP.Header.Get("Authorization") != "Bearer "+Token {
		a := plain(http.StatusUnauthorized)
		a.header.Set("WWW-Authenticate", `Basic realm="jmaptest"`)
		return a
	}
	switch {
	case r.Op == "session" && r.HTTP.URL.Path == "/.well-known/jmap" && !s.o.NoJump:
		a := plain(http.StatusMovedPermanently)
		a.header.Set("Location", "/jmap")
		return a
	case r.Op == "session":
		return asJSON(s.session())
	case r.Op == "api" && r.HTTP.Method == http.MethodPost:
		return s.api(text)
	case r.Op == "download":
		return s.download(r)
	}
	return plain(http.StatusNotFound)
}

func asJSON(v any) answer {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return answer{http.StatusOK, http.Header{"Content-Type": {"application/json"}}, text}
}

func (s *Server) session() map[string]any {
	base := ""
	if s.o.Absolute {
		base = s.URL
	}
	or := func(n, v int) int {
		if n == 0 {
			return v
		}
		return n
	}
	v := map[string]any{
		"username": User,
		"capabilities": map[string]any{
			"urn:ietf:params:jmap:core": map[string]any{
				"maxSizeUpload": 1 << 20, "maxConcurrentUpload": 5, "maxSizeRequest": or(s.o.MaxRequest, 10<<20),
				"maxConcurrentRequests": or(s.o.MaxConcurrent, 5), "maxCallsInRequest": or(s.o.MaxCalls, 50),
				"maxObjectsInGet": or(s.o.MaxGet, 4096), "maxObjectsInSet": or(s.o.MaxSet, 4096), "collationAlgorithms": []string{},
			},
			"urn:ietf:params:jmap:mail": map[string]any{},
		},
		"accounts": map[string]any{Account: map[string]any{
			"name": User, "isPersonal": true, "isReadOnly": false, "accountCapabilities": map[string]any{"urn:ietf:params:jmap:mail": map[string]any{}},
		}},
		"primaryAccounts": map[string]any{"urn:ietf:params:jmap:mail": Account},
		"apiUrl":          base + "/jmap/",
		"downloadUrl":     base + "/jmap/download/{accountId}/{blobId}/{name}?accept={type}",
		"uploadUrl":       base + "/jmap/upload/{accountId}/",
		"eventSourceUrl":  base + "/jmap/events/",
		"state":           "0",
	}
	if s.o.Session != nil {
		s.o.Session(v)
	}
	return v
}

func (s *Server) download(r Request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.emails {
		if e.Blob != r.Blob {
			continue
		}
		a := answer{http.StatusOK, http.Header{"Content-Type": {"message/rfc822"}, "Accept-Ranges": {"none"}}, e.Body}
		if s.o.Ranges {
			a.header.Set("Accept-Ranges", "bytes")
		}
		if from, to, ok := byteRange(r.HTTP.Header.Get("Range"), len(e.Body)); ok && s.o.Ranges {
			a.status, a.body = http.StatusPartialContent, e.Body[from:to]
			a.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(e.Body)))
		}
		return a
	}
	return answer{http.StatusNotFound, http.Header{"Content-Type": {"text/plain"}}, []byte("no such blob\n")}
}

// byteRange reads "bytes=FROM-TO" of n octets.
func byteRange(text string, n int) (from, to int, ok bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	from, err1 := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	if !ok || err1 != nil || err2 != nil || from > to || from >= n {
		return 0, 0, false
	}
	return from, min(to+1, n), true
}
