package imap_test

import (
	"context"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

func TestOnlyASessionThatEndedWellLeavesItsConnection(t *testing.T) {
	for _, tt := range []struct {
		name  string
		waits bool
		use   func(b *reuseBench, s *session)
	}{
		{"nothing_done", true, func(*reuseBench, *session) {}},
		{"read", true, func(b *reuseBench, s *session) { s.retrieve(0, upstream.Extent{}) }},
		{"top", true, func(b *reuseBench, s *session) { s.retrieve(0, upstream.Extent{Top: true}) }},
		{"read_in_part", true, func(b *reuseBench, s *session) {
			body, _ := s.Retrieve(b.Context(), 0, upstream.Extent{})
			body.Read(make([]byte, 5))
			body.Close()
		}},
		{"gone", true, func(b *reuseBench, s *session) {
			b.srv.INBOX().Expunge(2)
			_, err := s.retrieve(1, upstream.Extent{})
			wantKind(b, err, upstream.Gone)
		}},
		{"updated", true, func(b *reuseBench, s *session) { s.update(0, 1) }},
		{"could_not_mark_as_seen", true, func(b *reuseBench, s *session) {
			b.srv.Before("UID STORE", 0, imaptest.NO("not today"))
			s.Update(b.Context(), upstream.Changes{Seen: []int{0}})
		}},
		{"lost_and_made_anew", true, func(b *reuseBench, s *session) {
			b.srv.Disconnect(imaptest.FIN)
			synctest.Wait()
			if _, err := s.retrieve(0, upstream.Extent{}); err != nil {
				b.Error(err)
			}
		}},
		{"idle_with_noop", true, func(b *reuseBench, s *session) { time.Sleep(50 * time.Second) }},

		{"a_body_is_open", false, func(b *reuseBench, s *session) { s.Retrieve(b.Context(), 0, upstream.Extent{}) }},
		{"a_body_is_read_and_open", false, func(b *reuseBench, s *session) {
			body, _ := s.Retrieve(b.Context(), 0, upstream.Extent{})
			io.Copy(io.Discard, body)
		}},
		{"a_body_is_cut_for_good", false, func(b *reuseBench, s *session) {
			b.srv.Before("UID FETCH", 0, imaptest.CutLiteral(10, imaptest.FIN))
			if _, err := s.retrieve(0, upstream.Extent{}); err == nil {
				b.Error("a cut body was whole")
			}
		}},
		{"a_command_is_under_way", false, func(b *reuseBench, s *session) {
			b.srv.Before("UID FETCH", 2, imaptest.End(imaptest.Stall))
			done := make(chan struct{})
			b.Cleanup(func() { <-done })
			go func() { defer close(done); s.Retrieve(b.Context(), 0, upstream.Extent{}) }()
			synctest.Wait()
		}},
		{"a_noop_is_under_way", false, func(b *reuseBench, s *session) {
			b.srv.Before("NOOP", 0, imaptest.End(imaptest.Stall))
			time.Sleep(50 * time.Second)
		}},
		{"cancelled", false, func(b *reuseBench, s *session) {
			ctx, cancel := context.WithCancel(b.Context())
			body, _ := s.Retrieve(ctx, 0, upstream.Extent{})
			cancel()
			io.Copy(io.Discard, body)
			body.Close()
		}},
		{"update_refused", false, func(b *reuseBench, s *session) {
			b.srv.Before("UID STORE", 0, imaptest.NO("not today"))
			_, err := s.update(0)
			wantKind(b, err, upstream.Unavailable)
		}},
		{"update_not_done", false, func(b *reuseBench, s *session) {
			b.srv.Before("UID EXPUNGE", 0, imaptest.OK("a lie"))
			_, err := s.update(0)
			wantKind(b, err, upstream.Unavailable)
		}},
		{"update_of_another_mailbox", false, func(b *reuseBench, s *session) {
			b.srv.INBOX().Recreate()
			_, err := s.update(0)
			wantKind(b, err, upstream.Changed)
		}},
		{"update_of_flags_refused", false, func(b *reuseBench, s *session) {
			b.srv.Before("SELECT", 0, imaptest.NO("not today"))
			s.Update(b.Context(), upstream.Changes{Seen: []int{0}})
		}},
		{"bye", false, func(b *reuseBench, s *session) {
			b.srv.After("UID FETCH", 0, imaptest.Raw("{tag} OK done\r\n* BYE going down\r\n"))
			s.retrieve(0, upstream.Extent{})
			synctest.Wait()
		}},
		{"cut", false, func(b *reuseBench, s *session) { b.srv.Disconnect(imaptest.FIN); synctest.Wait() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reuse(t, imap.Options{KeepAlive: 40 * time.Second}, func(b *reuseBench) {
				s := open(b, b.store)
				tt.use(b, s)
				s.Close()
				synctest.Wait()
				if got := b.live.Load() == 1; got != tt.waits {
					b.Errorf("the connection waits: %v, want %v", got, tt.waits)
				}
				b.srv.Forget()
				b.mustVisit()
				if got := b.reused.Load() == 1; got != tt.waits {
					b.Errorf("the next session has it: %v, want %v", got, tt.waits)
				}
			})
		})
	}
}

func TestAnAccountThatWasNotOpenedWellLeavesNoConnection(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.srv.Before("EXAMINE", 1, imaptest.NO("[INUSE] locked"))
		wantKind(b, b.visit(alice), upstream.Busy)
		b.want("after a failed Open", 0, 1, 1, 0)
		if err := login(b.T, b.store, alice); err != nil {
			b.Error(err)
		}
		b.want("without Open", 0, 2, 2, 0)
	})
}

// A caller that goes on after Close reaches nobody's connection.
func TestAClosedSessionIsCutOffFromItsConnection(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.srv.INBOX().Append(strings.Repeat("x", 100_000) + "\r\n")
		s := open(b, b.store)
		body, err := s.Retrieve(b.Context(), 3, upstream.Extent{Top: true, Lines: 1})
		if err != nil {
			b.Fatal(err)
		}
		io.ReadFull(body, make([]byte, 16<<10)) // the end of the first piece
		body.Close()
		s.Close()
		n := b.srv.Journal().Len()
		if _, err := io.Copy(io.Discard, body); err == nil {
			b.Error("a closed body is whole")
		}
		s.Retrieve(b.Context(), 0, upstream.Extent{})
		s.update(0)
		s.Close()
		synctest.Wait()
		if got := verbs(b.srv, n); got != "" {
			b.Errorf("sent %s", got)
		}
		b.mustVisit()
		b.want("after the next session", 1, 1, 1, 1)
	})
}

// Nothing that can be reached from the store holds the password, or the beginning
// of it, while a connection waits.
func TestNoPasswordIsKeptWhileAConnectionWaits(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		beginning := imaptest.DefaultPassword[:6]
		s := open(b, b.store)
		synctest.Wait()
		if !reaches(reflect.ValueOf(s.Account), beginning, map[any]bool{}) {
			b.Error("the password of a session that is open was not found: the search is no good")
		}
		s.Close()
		b.want("after the session", 1, 1, 1, 0)
		if reaches(reflect.ValueOf(b.store), beginning, map[any]bool{}) {
			b.Error("the password is kept")
		}
	})
}

// reaches reports whether text is in a string or in octets that v leads to. It does
// not look into functions and channels.
func reaches(v reflect.Value, text string, seen map[any]bool) bool {
	switch v.Kind() {
	case reflect.String:
		return strings.Contains(v.String(), text)
	case reflect.Pointer, reflect.Map, reflect.Slice:
		at := [3]any{v.Type(), v.Pointer(), 0}
		if v.Kind() == reflect.Slice {
			at[2] = v.Len()
		}
		if v.IsNil() || seen[at] {
			return false
		}
		seen[at] = true
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && reaches(v.Elem(), text, seen)
	case reflect.Struct:
		for i := range v.NumField() {
			if reaches(v.Field(i), text, seen) {
				return true
			}
		}
	case reflect.Map:
		for i := v.MapRange(); i.Next(); {
			if reaches(i.Key(), text, seen) || reaches(i.Value(), text, seen) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			octets := make([]byte, v.Len())
			for i := range octets {
				octets[i] = byte(v.Index(i).Uint())
			}
			return strings.Contains(string(octets), text)
		}
		for i := range v.Len() {
			if reaches(v.Index(i), text, seen) {
				return true
			}
		}
	}
	return false
}
