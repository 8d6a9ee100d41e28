package jmap_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

func TestProbeShowsNoCredentials(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	var shown []string
	s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
		shown = append(shown, r.HTTP.Header.Get("Authorization"))
		return nil
	})
	offer, err := newStore(t, s, nil).Probe(t.Context())
	if err != nil || !slices.Equal(offer.Logins, []string{"Basic"}) || !offer.Passwords || offer.Tokens {
		t.Errorf("%+v, %v", offer, err)
	}
	if len(shown) == 0 || strings.Join(shown, "") != "" {
		t.Errorf("authorization was shown: %q", shown)
	}
}

func TestProbeFailsWhereNoJMAPIs(t *testing.T) {
	for code, want := range map[int]upstream.Kind{
		http.StatusNotFound: upstream.Internal, http.StatusForbidden: upstream.Internal, http.StatusServiceUnavailable: upstream.Unavailable,
	} {
		s := jmaptest.New(t, jmaptest.Options{})
		s.Hook(func(jmaptest.Request) *jmaptest.Fault { return &jmaptest.Fault{Status: code} })
		_, err := newStore(t, s, nil).Probe(t.Context())
		wantKind(t, http.StatusText(code), err, want)
	}
	s := jmaptest.New(t, jmaptest.Options{})
	s.Down()
	_, err := newStore(t, s, nil).Probe(t.Context())
	wantKind(t, "down", err, upstream.Unavailable)
}

// What Inspect says of a deletion is what Update does, and Inspect changes nothing.
func TestInspectSaysWhatADeletionComesTo(t *testing.T) {
	for _, tt := range []struct {
		policy   jmap.Policy
		trash    string
		deletion string
		obstacle bool
	}{
		{jmap.Expunge, "", "destroyed, or taken out of this mailbox where it is in another one too", false},
		{jmap.Trash, "", `moved to "Trash"`, false},
		{jmap.Trash, "No Such", "moved to the trash mailbox", true},
		{jmap.Hide, "", "kept, and marked with the keyword popgate-hidden", false},
	} {
		t.Run(tt.deletion, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			s.Deliver([]byte("Subject: one\r\n\r\n"))
			a, drop := open(t, newStore(t, s, func(o *jmap.Options) { o.Delete, o.Trash = tt.policy, tt.trash }))
			i, err := upstream.Inspect(t.Context(), a)
			if err != nil || i.Mailbox != "Inbox" || i.Deletion != tt.deletion || (i.Obstacle != nil) != tt.obstacle {
				t.Errorf("%+v, %v", i, err)
			}
			if n := len(s.Emails(jmaptest.Inbox)); n != 1 {
				t.Errorf("the inbox has %d messages after Inspect", n)
			}
			r, err := drop.Update(t.Context(), upstream.Changes{Remove: []int{0}})
			if (err != nil) != tt.obstacle || !tt.obstacle && r.Removed != 1 {
				t.Errorf("Update: %+v, %v; Inspect said %v", r, err, i.Obstacle)
			}
		})
	}
}
