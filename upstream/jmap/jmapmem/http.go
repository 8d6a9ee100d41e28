package jmapmem

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Answer is an HTTP answer before it goes out.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// maxRequest bounds the body of a request, in octets.
const maxRequest = 64 << 20

// ServeHTTP answers a request.
func (a *Account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return // the request did not arrive
	}
	out := a.Answer(r, text)
	for k, v := range out.Header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(out.Body)))
	w.WriteHeader(out.Status)
	_, _ = w.Write(out.Body) // a client that leaves is no news
}

// Answer makes the answer to a request whose body is text.
func (a *Account) Answer(r *http.Request, text []byte) Answer {
	plain := func(status int) Answer {
		return Answer{status, http.Header{"Content-Type": {"text/plain"}}, []byte(http.StatusText(status) + "\n")}
	}
	a.mu.Lock()
	token := a.token
	a.mu.Unlock()
	user, password, basic := r.BasicAuth()
	bearer := token != "" && r.Header.Get("Authorization") == "Bearer "+token
	if !(basic && user == a.o.User && password == a.o.Password) && !bearer {
		out := plain(http.StatusUnauthorized)
		out.Header.Set("WWW-Authenticate", `Basic realm="jmap"`)
		return out
	}
	blob, isBlob := a.Blob(r.URL.Path)
	switch path := r.URL.Path; {
	case path == "/.well-known/jmap" && !a.o.NoJump:
		out := plain(http.StatusMovedPermanently)
		out.Header.Set("Location", "/jmap")
		return out
	case path == "/.well-known/jmap" || path == "/jmap":
		return asJSON(a.session())
	case path == "/jmap/" && r.Method == http.MethodPost:
		return a.api(text)
	case isBlob:
		return a.download(blob, r.Header.Get("Range"))
	}
	return plain(http.StatusNotFound)
}

// Blob reports which blob is downloaded at a path.
func (a *Account) Blob(path string) (blob string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/jmap/download/"+a.o.ID+"/")
	blob, _, _ = strings.Cut(rest, "/")
	return blob, ok
}

func asJSON(v any) Answer {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return Answer{http.StatusOK, http.Header{"Content-Type": {"application/json"}}, text}
}

func (a *Account) session() map[string]any {
	base := a.o.Absolute
	or := func(n, v int) int {
		if n == 0 {
			return v
		}
		return n
	}
	v := map[string]any{
		"username": a.o.User,
		"capabilities": map[string]any{
			"urn:ietf:params:jmap:core": map[string]any{
				"maxSizeUpload": 1 << 20, "maxConcurrentUpload": 5, "maxSizeRequest": or(a.o.MaxRequest, 10<<20),
				"maxConcurrentRequests": or(a.o.MaxConcurrent, 5), "maxCallsInRequest": or(a.o.MaxCalls, 50),
				"maxObjectsInGet": or(a.o.MaxGet, 4096), "maxObjectsInSet": or(a.o.MaxSet, 4096), "collationAlgorithms": []string{},
			},
			"urn:ietf:params:jmap:mail": map[string]any{},
		},
		"accounts": map[string]any{a.o.ID: map[string]any{
			"name": a.o.User, "isPersonal": true, "isReadOnly": false, "accountCapabilities": map[string]any{"urn:ietf:params:jmap:mail": map[string]any{}},
		}},
		"primaryAccounts": map[string]any{"urn:ietf:params:jmap:mail": a.o.ID},
		"apiUrl":          base + "/jmap/",
		"downloadUrl":     base + "/jmap/download/{accountId}/{blobId}/{name}?accept={type}",
		"uploadUrl":       base + "/jmap/upload/{accountId}/",
		"eventSourceUrl":  base + "/jmap/events/",
		"state":           "0",
	}
	if a.o.Session != nil {
		a.o.Session(v)
	}
	return v
}

func (a *Account) download(blob, ranges string) Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.emails {
		if e.Blob != blob {
			continue
		}
		out := Answer{http.StatusOK, http.Header{"Content-Type": {"message/rfc822"}, "Accept-Ranges": {"none"}}, e.Body}
		if a.o.Ranges {
			out.Header.Set("Accept-Ranges", "bytes")
		}
		if from, to, ok := byteRange(ranges, len(e.Body)); ok && a.o.Ranges {
			out.Status, out.Body = http.StatusPartialContent, e.Body[from:to]
			out.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(e.Body)))
		}
		return out
	}
	return Answer{http.StatusNotFound, http.Header{"Content-Type": {"text/plain"}}, []byte("no such blob\n")}
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
