package jmap_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

// fill delivers n messages and returns their ids.
func fill(s *jmaptest.Server, n int) (ids []string) {
	for i := range n {
		ids = append(ids, s.Deliver(fmt.Appendf(nil, "Subject: %d\r\n\r\n", i)))
	}
	return ids
}

// wantIn checks which of ids are in a mailbox.
func wantIn(t *testing.T, s *jmaptest.Server, mailbox string, ids []string, want ...int) {
	t.Helper()
	var got []int
	for _, e := range s.Emails(mailbox) {
		got = append(got, slices.Index(ids, e.ID))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %v, want %v", mailbox, got, want)
	}
}

func update(t *testing.T, m upstream.Maildrop, ch upstream.Changes, want upstream.Receipt) error {
	t.Helper()
	r, err := m.Update(t.Context(), ch)
	if r != want {
		t.Errorf("Update(%v): %+v, want %+v (%v)", ch, r, want, err)
	}
	if err != nil {
		if _, ok := err.(*upstream.Error); !ok {
			t.Errorf("Update: the error is a %T: %v", err, err)
		}
	}
	return err
}

// TestExpungeDestroysOnlyWhatIsNowhereElse: destroy takes an Email out of every
// mailbox (RFC 8621 section 4.6).
func TestExpungeDestroysOnlyWhatIsNowhereElse(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	ids := fill(s, 4)
	s.Put(ids[1], jmaptest.Archive, true)
	s.Put(ids[2], jmaptest.Archive, true)
	_, m := open(t, newStore(t, s, nil))
	if err := update(t, m, upstream.Changes{Remove: []int{0, 1}}, upstream.Receipt{Removed: 2}); err != nil {
		t.Error(err)
	}
	wantIn(t, s, jmaptest.Inbox, ids, 2, 3)
	wantIn(t, s, jmaptest.Archive, ids, 1, 2)
	wantIn(t, s, "", ids, 1, 2, 3)
}

// TestAnEmailThatComesIntoAnotherMailboxMeanwhileIsNotDestroyed: between the look
// and the removal, at each request.
func TestAnEmailThatComesIntoAnotherMailboxMeanwhileIsNotDestroyed(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{MaxSet: 2})
	ids := fill(s, 6)
	done := 0
	s.OnCall(func(m string, _ map[string]any) *jmaptest.Reply {
		if m == "Email/set" && done < 3 {
			s.Put(ids[2*done], jmaptest.Archive, true)
			done++
		}
		return nil
	})
	_, m := open(t, newStore(t, s, nil))
	if err := update(t, m, upstream.Changes{Remove: []int{0, 1, 2, 3, 4}}, upstream.Receipt{Removed: 5}); err != nil {
		t.Error(err)
	}
	wantIn(t, s, jmaptest.Inbox, ids, 5)
	wantIn(t, s, jmaptest.Archive, ids, 0, 2, 4)
}

// TestAnEmailThatLeavesItsOtherMailboxMeanwhile cannot be patched out of its last
// one; another look sees that it can be destroyed.
func TestAnEmailThatLeavesItsOtherMailboxMeanwhile(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	ids := fill(s, 2)
	s.Put(ids[0], jmaptest.Archive, true)
	done := false
	s.OnCall(func(m string, _ map[string]any) *jmaptest.Reply {
		if m == "Email/set" && !done {
			done = true
			s.Put(ids[0], jmaptest.Archive, false)
		}
		return nil
	})
	_, m := open(t, newStore(t, s, nil))
	if err := update(t, m, upstream.Changes{Remove: []int{0}}, upstream.Receipt{Removed: 1}); err != nil {
		t.Error(err)
	}
	wantIn(t, s, "", ids, 1)
}

func TestTrashAndHide(t *testing.T) {
	t.Run("trash", func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{})
		ids := fill(s, 3)
		s.Put(ids[1], jmaptest.Archive, true)
		_, m := open(t, newStore(t, s, func(o *jmap.Options) { o.Delete = jmap.Trash }))
		if err := update(t, m, upstream.Changes{Remove: []int{0, 1}, Seen: []int{0}}, upstream.Receipt{Removed: 2}); err != nil {
			t.Error(err)
		}
		wantIn(t, s, jmaptest.Inbox, ids, 2)
		wantIn(t, s, jmaptest.Trash, ids, 0, 1)
		wantIn(t, s, jmaptest.Archive, ids, 1)
		if !s.Emails(jmaptest.Trash)[0].Keywords["$seen"] {
			t.Error("what was read is not marked as read in the trash")
		}
	})
	t.Run("trash_by_name", func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{})
		ids := fill(s, 1)
		_, m := open(t, newStore(t, s, func(o *jmap.Options) { o.Delete, o.Trash = jmap.Trash, "Archive" }))
		if err := update(t, m, upstream.Changes{Remove: []int{0}}, upstream.Receipt{Removed: 1}); err != nil {
			t.Error(err)
		}
		wantIn(t, s, jmaptest.Archive, ids, 0)
	})
	t.Run("hide", func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{})
		ids := fill(s, 3)
		store := newStore(t, s, func(o *jmap.Options) { o.Delete = jmap.Hide })
		_, m := open(t, store)
		if err := update(t, m, upstream.Changes{Remove: []int{1}}, upstream.Receipt{Removed: 1}); err != nil {
			t.Error(err)
		}
		wantIn(t, s, jmaptest.Inbox, ids, 0, 1, 2)
		_, again := open(t, store)
		if got := uidls(again); !slices.Equal(got, []string{ids[0], ids[2]}) {
			t.Errorf("the next session shows %q", got)
		}
		_, other := open(t, newStore(t, s, nil)) // of another policy
		if got := uidls(other); !slices.Equal(got, []string{ids[0], ids[2]}) {
			t.Errorf("the next session under another policy shows %q", got)
		}
	})
}

// TestAPolicyThatCannotBeKeptChangesNothing.
func TestAPolicyThatCannotBeKeptChangesNothing(t *testing.T) {
	rights := func(id string, deny ...string) func(*jmaptest.Server) {
		return func(s *jmaptest.Server) {
			s.Rewrite(func(m string, r map[string]any) {
				if m != "Mailbox/get" {
					return
				}
				for _, v := range r["list"].([]any) {
					if box := v.(map[string]any); box["id"] == id {
						for _, d := range deny {
							box["myRights"].(map[string]any)[d] = false
						}
					}
				}
			})
		}
	}
	for _, tt := range []struct {
		name    string
		o       jmaptest.Options
		options jmap.Options
		prepare func(*jmaptest.Server)
	}{
		{"no_trash", jmaptest.Options{}, jmap.Options{Delete: jmap.Trash}, func(s *jmaptest.Server) {
			s.SetMailboxes(jmaptest.Mailbox{ID: jmaptest.Inbox, Name: "Inbox", Role: "inbox"})
		}},
		{"no_trash_of_that_name", jmaptest.Options{}, jmap.Options{Delete: jmap.Trash, Trash: "Bin"}, nil},
		{"the_trash_is_the_mailbox", jmaptest.Options{}, jmap.Options{Delete: jmap.Trash, Trash: "Inbox"}, nil},
		{"nothing_may_go_into_the_trash", jmaptest.Options{}, jmap.Options{Delete: jmap.Trash}, rights(jmaptest.Trash, "mayAddItems")},
		{"nothing_may_be_removed", jmaptest.Options{}, jmap.Options{}, rights(jmaptest.Inbox, "mayRemoveItems")},
		{"no_keywords", jmaptest.Options{}, jmap.Options{Delete: jmap.Hide}, rights(jmaptest.Inbox, "maySetKeywords")},
		{"read_only_account", jmaptest.Options{Session: func(v map[string]any) {
			v["accounts"].(map[string]any)[jmaptest.Account].(map[string]any)["isReadOnly"] = true
		}}, jmap.Options{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, tt.o)
			ids := fill(s, 2)
			if tt.prepare != nil {
				tt.prepare(s)
			}
			_, m := open(t, newStore(t, s, func(o *jmap.Options) { o.Delete, o.Trash = tt.options.Delete, tt.options.Trash }))
			wantKind(t, "Update", update(t, m, upstream.Changes{Remove: []int{0, 1}}, upstream.Receipt{Kept: 2}), upstream.Internal)
			wantIn(t, s, jmaptest.Inbox, ids, 0, 1)
			for _, r := range s.Requests() {
				if strings.Contains(r, "Email/set") {
					t.Errorf("sent %s", r)
				}
			}
		})
	}
}

// TestAnotherMailboxIsChanged: the role went to another mailbox, or the mailbox is
// gone. Nothing is removed, though the ids would still do.
func TestAnotherMailboxIsChanged(t *testing.T) {
	for name, boxes := range map[string][]jmaptest.Mailbox{
		"another": {{ID: jmaptest.Archive, Name: "Inbox", Role: "inbox"}, {ID: jmaptest.Inbox, Name: "Old"}},
		"none":    {{ID: jmaptest.Archive, Name: "Archive"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			ids := fill(s, 2)
			_, m := open(t, newStore(t, s, nil))
			s.SetMailboxes(boxes...)
			wantKind(t, "Update", update(t, m, upstream.Changes{Remove: []int{0}}, upstream.Receipt{Kept: 1}), upstream.Changed)
			wantIn(t, s, jmaptest.Inbox, ids, 0, 1)
		})
	}
	t.Run("an_id_of_another_size", func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{ID: func(n int) string { return "M" }})
		s.Deliver([]byte(small))
		_, m := open(t, newStore(t, s, nil))
		s.Deliver([]byte(large(1000))) // takes the id
		wantKind(t, "Update", update(t, m, upstream.Changes{Remove: []int{0}}, upstream.Receipt{Kept: 1}), upstream.Changed)
		if len(s.Emails("")) != 1 {
			t.Error("the other message is gone")
		}
	})
}

// TestPerObjectResultsAreObeyed: status 200 and a response to Email/set say nothing
// of one Email.
func TestPerObjectResultsAreObeyed(t *testing.T) {
	refuse := func(kind string) func(*jmaptest.Server, string) {
		return func(s *jmaptest.Server, id string) {
			s.OnCall(func(m string, args map[string]any) *jmaptest.Reply {
				if m != "Email/set" {
					return nil
				}
				// All but this one is done.
				list, _ := args["destroy"].([]any)
				args["destroy"] = slices.DeleteFunc(list, func(v any) bool { return v == id })
				s.Rewrite(func(m string, r map[string]any) {
					if m == "Email/set" {
						r["notDestroyed"] = map[string]any{id: map[string]any{"type": kind}}
					}
				})
				return nil
			})
		}
	}
	for _, tt := range []struct {
		name   string
		break_ func(s *jmaptest.Server, id string)
		want   upstream.Kind
	}{
		{"forbidden", refuse("forbidden"), upstream.Internal},
		{"rateLimit", refuse("rateLimit"), upstream.Unavailable},
		{"notFound_and_it_is_there", refuse("notFound"), upstream.Unavailable},
		{"invalidProperties", refuse("invalidProperties"), upstream.Internal},
		{"says_nothing_of_it", func(s *jmaptest.Server, id string) {
			s.OnCall(func(m string, args map[string]any) *jmaptest.Reply {
				if list, ok := args["destroy"].([]any); ok {
					args["destroy"] = slices.DeleteFunc(list, func(v any) bool { return v == id })
				}
				return nil
			})
		}, upstream.Unavailable},
		{"says_it_is_done_and_it_is_not", func(s *jmaptest.Server, id string) {
			s.OnCall(func(m string, args map[string]any) *jmaptest.Reply {
				if list, ok := args["destroy"].([]any); ok {
					args["destroy"] = slices.DeleteFunc(list, func(v any) bool { return v == id })
				}
				return nil
			})
			s.Rewrite(func(m string, r map[string]any) {
				if m == "Email/set" {
					r["destroyed"] = append(r["destroyed"].([]string), id)
				}
			})
		}, upstream.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			ids := fill(s, 4)
			_, m := open(t, newStore(t, s, nil))
			tt.break_(s, ids[1])
			err := update(t, m, upstream.Changes{Remove: []int{0, 1, 2}}, upstream.Receipt{Removed: 2, Kept: 1})
			wantKind(t, "Update", err, tt.want)
			if e, ok := err.(*upstream.Error); ok && !e.Sent {
				t.Error("the error does not say that a request was sent")
			}
			wantIn(t, s, jmaptest.Inbox, ids, 1, 3)
		})
	}
}

// TestWhatAnUpdateRefusesIsTheError: the cause is the server's, and not that a
// message is still there.
func TestWhatAnUpdateRefusesIsTheError(t *testing.T) {
	for kind, want := range map[string]upstream.Kind{"forbidden": upstream.Internal, "overQuota": upstream.Internal, "rateLimit": upstream.Unavailable} {
		s := jmaptest.New(t, jmaptest.Options{})
		ids := fill(s, 3)
		_, m := open(t, newStore(t, s, func(o *jmap.Options) { o.Delete = jmap.Trash }))
		s.OnCall(func(m string, args map[string]any) *jmaptest.Reply {
			if changes, ok := args["update"].(map[string]any); ok {
				delete(changes, ids[1])
			}
			return nil
		})
		s.Rewrite(func(m string, r map[string]any) {
			if m == "Email/set" {
				r["notUpdated"] = map[string]any{ids[1]: map[string]any{"type": kind, "description": "x\r\n+OK"}}
			}
		})
		err := update(t, m, upstream.Changes{Remove: []int{0, 1}}, upstream.Receipt{Removed: 1, Kept: 1})
		wantKind(t, kind, err, want)
		if err != nil && (!strings.Contains(err.Error(), kind) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v", kind, err)
		}
		wantIn(t, s, jmaptest.Trash, ids, 0)
	}
}

func TestMethodErrorsOfASet(t *testing.T) {
	for kind, want := range map[string]upstream.Kind{
		"stateMismatch": upstream.Unavailable, "serverFail": upstream.Unavailable, "accountReadOnly": upstream.Internal, "forbidden": upstream.Internal,
	} {
		s := jmaptest.New(t, jmaptest.Options{})
		ids := fill(s, 2)
		_, m := open(t, newStore(t, s, nil))
		s.OnCall(func(m string, _ map[string]any) *jmaptest.Reply {
			if m != "Email/set" {
				return nil
			}
			return jmaptest.Problem(kind)
		})
		wantKind(t, kind, update(t, m, upstream.Changes{Remove: []int{0}}, upstream.Receipt{Kept: 1}), want)
		wantIn(t, s, jmaptest.Inbox, ids, 0, 1)
	}
}

// TestAPartThatFailedOnTheServerIsLookedAt: serverPartialFail leaves it open what
// was done.
func TestAPartThatFailedOnTheServerIsLookedAt(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	ids := fill(s, 3)
	_, m := open(t, newStore(t, s, nil))
	s.OnCall(func(m string, _ map[string]any) *jmaptest.Reply {
		if m != "Email/set" {
			return nil
		}
		s.Destroy(ids[0])
		return jmaptest.Problem("serverPartialFail")
	})
	wantKind(t, "Update", update(t, m, upstream.Changes{Remove: []int{0, 1}}, upstream.Receipt{Removed: 1, Kept: 1}), upstream.Unavailable)
}

// TestASetWhoseAnswerIsLostIsLookedAt: it may have been done, or not; only what is
// proved is said.
func TestASetWhoseAnswerIsLostIsLookedAt(t *testing.T) {
	for _, after := range []int64{-2, -1, 0, 10} {
		for _, how := range []jmaptest.Ending{jmaptest.FIN, jmaptest.RST, jmaptest.Stall} {
			synctest.Test(t, func(t *testing.T) {
				s := jmaptest.New(t, jmaptest.Options{})
				ids := fill(s, 3)
				_, m := open(t, newStore(t, s, nil))
				s.Hook(jmaptest.Once(jmaptest.Method("Email/set"), jmaptest.Fault{End: how, After: after}))
				if err := update(t, m, upstream.Changes{Remove: []int{0, 2}}, upstream.Receipt{Removed: 2}); err != nil {
					t.Errorf("ended by %d after %d: %v", how, after, err)
				}
				wantIn(t, s, jmaptest.Inbox, ids, 1)
			})
		}
	}
}

// TestUpdateUnderFaults breaks each request of UPDATE, by every fault, for ever or
// once, under every policy. Whatever happens, nothing that was not marked goes, the
// receipt balances, and no error means that all is gone.
func TestUpdateUnderFaults(t *testing.T) {
	faults := map[string]jmaptest.Fault{
		"cut_before":  {End: jmaptest.FIN, After: -2},
		"cut_after":   {End: jmaptest.FIN, After: -1},
		"cut_within":  {End: jmaptest.FIN, After: 100},
		"stall":       {End: jmaptest.Stall, After: 50},
		"401":         {Status: 401},
		"403":         {Status: 403},
		"404":         {Status: 404},
		"429":         {Status: 429},
		"429_wait":    {Status: 429, Header: http.Header{"Retry-After": {"1"}}},
		"503":         {Status: 503},
		"empty":       {Status: 200, Body: "{}"},
		"not_json":    {Status: 200, Body: "<html>"},
		"no_response": {Status: 200, Body: `{"methodResponses":[],"sessionState":"0"}`},
		"null":        {Status: 200, Body: `{"methodResponses":[["Email/get",null,"0"],["Email/set",null,"0"],["Mailbox/get",null,"1"]]}`},
		"empty_args":  {Status: 200, Body: `{"methodResponses":[["Email/get",{},"0"],["Email/set",{},"0"],["Mailbox/get",{},"1"]]}`},
	}
	const requests = 6 // more than an UPDATE without faults has
	for name, f := range faults {
		for _, policy := range []jmap.Policy{jmap.Expunge, jmap.Trash, jmap.Hide} {
			for at := range requests {
				for _, times := range []int64{1, 1 << 30} {
					synctest.Test(t, func(t *testing.T) {
						s := jmaptest.New(t, jmaptest.Options{MaxSet: 2})
						ids := fill(s, 6)
						s.Put(ids[1], jmaptest.Archive, true)
						a, m := open(t, newStore(t, s, func(o *jmap.Options) { o.Delete = policy }))
						defer a.Close()
						var n atomic.Int64
						s.Hook(func(jmaptest.Request) *jmaptest.Fault {
							if k := n.Add(1) - 1; k >= int64(at) && k < int64(at)+times {
								return &f
							}
							return nil
						})
						start := time.Now()
						marked := []int{0, 1, 2, 4}
						r, err := m.Update(t.Context(), upstream.Changes{Remove: marked, Seen: []int{3}})
						where := fmt.Sprintf("%s, policy %d, request %d, %d times: %+v, %v", name, policy, at, times, r, err)
						if r.Removed+r.Missing+r.Kept != len(marked) || r.Removed < 0 || r.Kept < 0 || r.Missing < 0 {
							t.Errorf("%s: the receipt does not balance", where)
						}
						left := map[string]bool{}
						for _, e := range s.Emails(jmaptest.Inbox) {
							left[e.ID] = !e.Keywords[jmap.HiddenKeyword]
						}
						for i, id := range ids {
							isMarked := slices.Contains(marked, i)
							if !isMarked && !left[id] {
								t.Errorf("%s: message %d is gone and was not marked", where, i)
							}
							if isMarked && err == nil && left[id] {
								t.Errorf("%s: no error, and message %d is there", where, i)
							}
						}
						if err == nil && r != (upstream.Receipt{Removed: len(marked)}) {
							t.Errorf("%s: no error, and not all is said to be removed", where)
						}
						wantIn(t, s, "", ids, inAll(policy, s, ids)...)
						if d := time.Since(start); d > 10*time.Minute {
							t.Errorf("%s: it took %v", where, d)
						}
					})
				}
			}
		}
	}
}

// inAll is what has to be left in the account: all, but what was destroyed because
// it was nowhere else.
func inAll(policy jmap.Policy, s *jmaptest.Server, ids []string) (want []int) {
	destroyed := map[string]bool{}
	for _, e := range s.Journal() {
		if e.What == "destroy" {
			destroyed[e.Detail] = true
		}
	}
	for i, id := range ids {
		if !destroyed[id] || policy != jmap.Expunge || i == 1 || i == 3 || i == 5 {
			want = append(want, i)
		}
	}
	return want
}

// TestRequestsKeepToTheLimitsOfTheServer, of objects and of octets.
func TestRequestsKeepToTheLimitsOfTheServer(t *testing.T) {
	for name, o := range map[string]jmaptest.Options{
		"objects": {MaxGet: 5, MaxSet: 3, MaxCalls: 2},
		"octets":  {MaxRequest: 8 << 10},
		"one":     {MaxGet: 1, MaxSet: 1, MaxCalls: 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := jmaptest.New(t, o)
			fill(s, 60)
			_, m := open(t, newStore(t, s, nil))
			for i := range 60 {
				if got, err := retrieve(t, m, i, upstream.Extent{}); err != nil || got != fmt.Sprintf("Subject: %d\r\n\r\n", i) {
					t.Fatalf("message %d: %q, %v", i, got, err)
				}
			}
			var all []int
			for i := range 50 {
				all = append(all, i)
			}
			if err := update(t, m, upstream.Changes{Remove: all, Seen: []int{51, 52, 53, 54}}, upstream.Receipt{Removed: 50}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSeenFailuresAreCountedAndChangeNothing else.
func TestSeenFailuresAreCountedAndChangeNothing(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	ids := fill(s, 4)
	failed := 0
	_, m := open(t, newStore(t, s, func(o *jmap.Options) { o.Trace.SeenFailed = func(n int) { failed += n } }))
	s.Destroy(ids[2]) // what is gone does not count
	s.OnCall(func(m string, args map[string]any) *jmaptest.Reply {
		if update, ok := args["update"].(map[string]any); ok {
			delete(update, ids[1])
		}
		return nil
	})
	if err := update(t, m, upstream.Changes{Remove: []int{0}, Seen: []int{0, 1, 2, 3}}, upstream.Receipt{Removed: 1}); err != nil {
		t.Error(err)
	}
	if failed != 1 {
		t.Errorf("%d failures counted, want 1", failed)
	}
	for _, e := range s.Emails(jmaptest.Inbox) {
		if e.Keywords["$seen"] != (e.ID == ids[3]) {
			t.Errorf("message %d is marked %v", slices.Index(ids, e.ID), e.Keywords)
		}
	}
}

// TestUpdateTakesThreeRequests where nothing goes wrong: a look, the removal, and
// the look that proves it.
func TestUpdateTakesThreeRequests(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{GoneIsDestroyed: true})
	fill(s, 10)
	_, m := open(t, newStore(t, s, nil))
	before := len(s.Requests())
	update(t, m, upstream.Changes{Remove: []int{1, 3}}, upstream.Receipt{Removed: 2})
	want := []string{"api Email/get Mailbox/get", "api Email/set", "api Email/get Mailbox/get"}
	if got := s.Requests()[before:]; !slices.Equal(got, want) {
		t.Errorf("requests %q, want %q", got, want)
	}
}
