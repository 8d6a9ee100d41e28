package imap_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

func TestProbeHearsTheOfferAndLogsNobodyIn(t *testing.T) {
	ca := imaptest.NewCA(t)
	tokens := imaptest.Full()
	tokens.Auth, tokens.LoginDisabled = []string{"XOAUTH2"}, true
	for _, tt := range []struct {
		name              string
		profile           imaptest.Profile
		option            imaptest.Option
		security          imap.Security
		logins            string
		passwords, tokens bool
		verbs             string
	}{
		{"starttls", imaptest.Full(), imaptest.StartTLS(ca), imap.StartTLS, "LOGIN PLAIN XOAUTH2", true, true, "STARTTLS CAPABILITY"},
		{"tls", imaptest.Full(), imaptest.ImplicitTLS(ca), imap.ImplicitTLS, "LOGIN PLAIN XOAUTH2", true, true, ""},
		{"login_alone", imaptest.Minimal(), imaptest.ImplicitTLS(ca), imap.ImplicitTLS, "LOGIN", true, false, "CAPABILITY"},
		{"tokens_alone_in_clear_text", tokens, imaptest.User("bob", "b"), imap.Auto,
			"XOAUTH2", false, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile, tt.option)
			store := newStore(t, srv, imap.Options{Security: tt.security, TLS: ca.ClientConfig()})
			var secured []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				TLSHandshakeStart: func() { secured = append(secured, "start") },
				TLSHandshakeDone: func(s tls.ConnectionState, err error) {
					if err == nil {
						secured = append(secured, s.PeerCertificates[0].Subject.CommonName)
					}
				},
			})
			offer, err := store.Probe(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(offer.Logins, " "); got != tt.logins || offer.Passwords != tt.passwords || offer.Tokens != tt.tokens {
				t.Errorf("%+v", offer)
			}
			if !slices.Contains(offer.Capabilities, "IMAP4REV1") || !slices.IsSorted(offer.Capabilities) {
				t.Errorf("the capabilities are %q", offer.Capabilities)
			}
			if want := []string{"start", imaptest.ServerName}; tt.security != imap.Auto && !slices.Equal(secured, want) {
				t.Errorf("told of TLS: %q", secured)
			}
			var verbs []string
			for _, c := range srv.Journal().Commands() {
				verbs = append(verbs, c.Verb)
			}
			if got := strings.Join(verbs, " "); got != tt.verbs {
				t.Errorf("%s was sent, want %s", got, tt.verbs)
			}
		})
	}
}

func TestProbeFailsAsLoginDoes(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.New(t, imaptest.Full())
	_, err := newStore(t, srv, imap.Options{Security: imap.StartTLS, TLS: ca.ClientConfig()}).Probe(t.Context())
	wantKind(t, err, upstream.Internal) // no STARTTLS
	srv = imaptest.New(t, imaptest.Full(), imaptest.ImplicitTLS(ca), imaptest.TCP())
	_, err = newStore(t, srv, imap.Options{Security: imap.ImplicitTLS}).Probe(t.Context())
	wantKind(t, err, upstream.Unavailable) // nobody trusts the authority
	_, err = newStore(t, srv, imap.Options{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }}).Probe(t.Context())
	wantKind(t, err, upstream.Unavailable)
}

// What Inspect says of a deletion is what Update does, and Inspect changes nothing.
func TestInspectSaysWhatADeletionComesTo(t *testing.T) {
	for _, tt := range []struct {
		name     string
		profile  imaptest.Profile
		options  imap.Options
		trash    bool // there is one
		deletion string
		obstacle bool
	}{
		{"expunge", imaptest.Full(), imap.Options{}, false, "expunged by its UID", false},
		{"expunge_without_uidplus", imaptest.WithoutUIDPLUS(), imap.Options{}, false, `flagged \Deleted and no more: the server has no UIDPLUS`, false},
		{"trash", imaptest.Full(), imap.Options{Delete: imap.Trash}, true, `moved to "Bin"`, false},
		{"trash_without_move", imaptest.WithoutMOVE(), imap.Options{Delete: imap.Trash}, true, `copied to "Bin", then expunged by its UID`, false},
		{"trash_that_is_not_there", imaptest.Full(), imap.Options{Delete: imap.Trash}, false, "moved to the trash mailbox", true},
		{"trash_that_is_the_mailbox", imaptest.Full(), imap.Options{Delete: imap.Trash, Trash: "INBOX"}, false, "moved to the trash mailbox", true},
		{"hide", imaptest.Full(), imap.Options{Delete: imap.Hide}, false, "kept, and marked with the keyword popgate-hidden", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			fill(srv, 2)
			if tt.trash {
				srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`)
			}
			a, err := newStore(t, srv, tt.options).Login(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if _, err := upstream.Inspect(t.Context(), a); err == nil {
				t.Error("a maildrop that is not open was inspected")
			}
			drop, err := a.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			before := len(srv.Journal().Mutations())
			i, err := upstream.Inspect(t.Context(), a)
			if err != nil || i.Mailbox != "INBOX" || i.Deletion != tt.deletion || (i.Obstacle != nil) != tt.obstacle {
				t.Errorf("%+v, %v", i, err)
			}
			for _, ability := range i.Abilities {
				if ability.Name != "EXAMINE" && ability.There != tt.profile.Has(ability.Name) || ability.Effect == "" {
					t.Errorf("%+v", ability)
				}
			}
			if n := len(srv.Journal().Mutations()); n != before {
				t.Errorf("Inspect changed the mailbox: %v", srv.Journal().Mutations()[before:])
			}
			r, err := drop.Update(t.Context(), upstream.Changes{Remove: []int{0}})
			if (err != nil) != tt.obstacle || !tt.obstacle && r.Removed != 1 {
				t.Errorf("Update: %+v, %v; Inspect said %v", r, err, i.Obstacle)
			}
		})
	}
}
