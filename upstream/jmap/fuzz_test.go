package jmap_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

// FuzzAnswers lets a server answer one of the requests of a session with whatever
// it likes. The session ends or goes on; nothing that was not marked goes, and no
// error at QUIT means that what was marked is gone.
func FuzzAnswers(f *testing.F) {
	for n := range byte(8) {
		for _, text := range []string{
			"", "{}", "null", "[]", `{"methodResponses":[]}`, `{"methodResponses":[["error",{"type":"serverFail"},"0"]]}`,
			`{"methodResponses":[["Email/get",{"list":null,"state":"s"},"0"],["Mailbox/get",{"list":[{"id":"inbox-1","role":"inbox"}]},"1"]]}`,
			`{"methodResponses":[["Email/query",{"ids":["a"],"position":0,"total":1},"0"],["Email/get",{"list":[{"id":"a","size":9007199254740993,"receivedAt":"0001-01-01T00:00:00Z"}]},"1"]]}`,
			`{"methodResponses":[["Email/set",{"updated":{"a":null},"destroyed":["a"],"newState":""},"0"]]}`,
			`{"apiUrl":"/jmap/","downloadUrl":"/d/{blobId}","capabilities":{"urn:ietf:params:jmap:core":{"maxObjectsInGet":-1,"maxSizeRequest":1},"urn:ietf:params:jmap:mail":{}},"accounts":{"a":{}},"primaryAccounts":{"urn:ietf:params:jmap:mail":"a"}}`,
		} {
			f.Add(n, uint16(200), text)
			f.Add(n, uint16(429), text)
		}
	}
	f.Fuzz(func(t *testing.T, at byte, status uint16, text string) {
		if status < 200 || status > 599 {
			t.Skip()
		}
		s := jmaptest.New(t, jmaptest.Options{NoJump: true, MaxSet: 1})
		ids := fill(s, 3)
		n := byte(0)
		s.Hook(func(jmaptest.Request) *jmaptest.Fault {
			if n++; n != at%10 {
				return nil
			}
			return &jmaptest.Fault{Status: int(status), Header: http.Header{"Retry-After": {"1"}}, Body: text}
		})
		store := newStore(t, s, func(o *jmap.Options) { o.RetryWait = time.Nanosecond })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		a, err := store.Login(ctx, alice)
		if err != nil {
			return
		}
		defer a.Close()
		m, err := a.Open(ctx)
		if err != nil || m.Len() != 3 {
			return
		}
		for i := range m.Len() {
			m.Size(i)
			if !upstream.ValidUIDL(m.AppendUIDL(nil, i)) {
				t.Errorf("unique-id %q", m.AppendUIDL(nil, i))
			}
		}
		retrieve(t, m, 0, upstream.Extent{})
		r, err := m.Update(ctx, upstream.Changes{Remove: []int{0, 1}, Seen: []int{2}})
		if r.Removed+r.Missing+r.Kept != 2 {
			t.Errorf("%+v does not balance", r)
		}
		left := map[string]bool{}
		for _, e := range s.Emails(jmaptest.Inbox) {
			left[e.ID] = true
		}
		if !left[ids[2]] {
			t.Error("a message is gone that was not marked")
		}
		if err == nil && r.Missing == 0 && (left[ids[0]] || left[ids[1]]) {
			t.Errorf("%+v and no error, and %v are there", r, left)
		}
	})
}
