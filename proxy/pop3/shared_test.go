package pop3_test

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
)

// The examples of RFC 1939 section 7, RFC 2195 section 2 and RFC 7677 section 3.
func TestExamplesOfTheRFCs(t *testing.T) {
	if got, want := string(pop3.APOPDigest("<1896.697170952@dbc.mtview.ca.us>", "tanstaaf")), "c4c9334bac560ecc979e58001b3e22fb"; got != want {
		t.Errorf("APOP: %s, want %s", got, want)
	}
	if got, want := string(pop3.CRAMDigest("<1896.697170952@postoffice.reston.mci.net>", "tanstaaftanstaaf")), "b913a602c7eda7a495b4e6e7334d3890"; got != want {
		t.Errorf("CRAM-MD5: %s, want %s", got, want)
	}
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	server := pop3.SCRAMExample("pencil", string(salt), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
	for _, step := range []struct{ client, server string }{
		{"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
		{"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
	} {
		if got, err := server.Step(step.client); err != nil || got != step.server {
			t.Errorf("SCRAM-SHA-256: %q is answered by %q, %v; want %q", step.client, got, err, step.server)
		}
	}
}

// proofs is a store that takes whoever has a secret, and keeps what it was told.
type proofs struct {
	upstream.Store
	mu  sync.Mutex
	got []upstream.Credentials
}

func (p *proofs) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	p.mu.Lock()
	p.got = append(p.got, upstream.Credentials{User: c.User, Secret: c.Secret, Proof: c.Proof, Authorize: c.Authorize})
	p.mu.Unlock()
	if c.Proof != upstream.External && c.Secret.Reveal() == "" {
		return nil, &upstream.Error{Kind: upstream.Refused, Op: "login"}
	}
	c.Secret, c.User = upstream.NewSecret("pw"), "alice"
	return p.Store.Login(ctx, c)
}

// lookups counts how often secrets are looked up.
type lookups struct {
	secrets
	n int
}

func (c *lookups) SharedSecret(user string) (upstream.Secret, bool) {
	c.n++
	return c.secrets.SharedSecret(user)
}

// exchange speaks a mechanism with a client's side of it, and returns the last
// reply and how many lines the server sent.
func exchange(p *peer, mechanism string, answer func(challenge string) string) (reply string, lines int) {
	p.t.Helper()
	reply = p.ask("AUTH " + mechanism)
	for lines = 1; strings.HasPrefix(reply, "+ "); lines++ {
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(reply[2:], "\r\n"))
		if err != nil {
			p.t.Fatalf("%q: %v", reply, err)
		}
		reply = p.ask(base64.StdEncoding.EncodeToString([]byte(answer(string(challenge)))))
	}
	return reply, lines
}

// byDigest logs in with each mechanism that proves a shared secret.
var byDigest = map[string]func(p *peer, greeting, user, secret string) (reply string, lines int){
	"APOP": func(p *peer, greeting, user, secret string) (string, int) {
		stamp := greeting[strings.IndexByte(greeting, '<') : strings.IndexByte(greeting, '>')+1]
		sum := md5.Sum([]byte(stamp + secret))
		return p.ask("APOP " + user + " " + hex.EncodeToString(sum[:])), 1
	},
	"CRAM-MD5": func(p *peer, _, user, secret string) (string, int) {
		return exchange(p, "CRAM-MD5", func(challenge string) string {
			return user + " " + string(pop3.CRAMDigest(challenge, secret))
		})
	},
	"SCRAM-SHA-256": func(p *peer, _, user, secret string) (string, int) {
		client, err := scram.SHA256.NewClient(user, secret, "")
		if err != nil {
			p.t.Fatal(err)
		}
		c := client.NewConversation()
		reply, lines := exchange(p, "SCRAM-SHA-256", func(challenge string) string {
			answer, err := c.Step(challenge)
			if err != nil {
				p.t.Errorf("the client does not take %q: %v", challenge, err)
			}
			return answer
		})
		if ok := strings.HasPrefix(reply, "+OK"); ok != c.Valid() {
			p.t.Errorf("the reply is %q, and the client has proof of the server: %v", reply, c.Valid())
		}
		return reply, lines
	},
}

// Whatever is wrong, the client is told the same in as many steps, the secret is
// looked up once, and the store is asked, which has the throttle around it.
func TestDigestsThatAreWrongAreAlike(t *testing.T) {
	for mechanism, logIn := range byDigest {
		t.Run(mechanism, func(t *testing.T) {
			for _, tt := range []struct {
				name, user, secret string
				ok                 bool
			}{
				{"right", "alice", "tanstaaf", true},
				{"wrong_secret", "alice", "other", false},
				{"no_shared_secret", "bob", "tanstaaf", false},
				{"no_such_user", "nobody", "tanstaaf", false},
				{"an_empty_one", "empty", "", false},
			} {
				t.Run(tt.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						l := newLab("alice", "pw", threeMessages()...)
						store := &proofs{Store: l.store}
						shared := &lookups{secrets: secrets{"alice": "tanstaaf", "empty": ""}}
						p := dial(t, l.server(t, func(o *pop3.Options) { o.Store, o.Shared = store, shared }), loopback4, loopback4, pop3.Via{})
						reply, lines := logIn(p, p.received(), tt.user, tt.secret)
						p.hangUp()
						l.check(t)

						wantReply, wantLines := "-ERR [AUTH] wrong user or password\r\n", map[string]int{"APOP": 1, "CRAM-MD5": 2, "SCRAM-SHA-256": 3}[mechanism]
						want := upstream.Credentials{User: tt.user, Proof: upstream.Shared}
						if tt.ok {
							wantReply, want.Secret = "+OK logged in\r\n", upstream.NewSecret(tt.secret)
							if mechanism == "SCRAM-SHA-256" {
								wantLines++ // the server's proof
							}
						}
						if reply != wantReply || lines != wantLines {
							t.Errorf("%q in %d lines, want %q in %d", reply, lines, wantReply, wantLines)
						}
						if !slices.Equal(store.got, []upstream.Credentials{want}) {
							t.Errorf("the store was asked with %+v, want %+v", store.got, want)
						}
						if shared.n != 1 {
							t.Errorf("the secret was looked up %d times, want once", shared.n)
						}
					})
				})
			}
		})
	}
}

// A timestamp or a challenge that came before would let an old digest in.
func TestNoChallengeComesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab("alice", "pw")
		s := l.server(t, func(o *pop3.Options) { o.Shared = secrets{} })
		seen := map[string]bool{}
		for range 20 {
			p := dial(t, s, loopback4, loopback4, pop3.Via{})
			for _, text := range []string{p.received(), p.ask("AUTH CRAM-MD5"), p.ask("*"), p.ask("AUTH CRAM-MD5")} {
				if text != "-ERR cancelled\r\n" && seen[text] {
					t.Errorf("%q came twice", text)
				}
				seen[text] = true
			}
			p.hangUp()
		}
	})
}

// An exchange costs the server more than the client: cancelling it is no way to have
// any number of them.
func TestCancelledExchangesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab("alice", "pw")
		p := dial(t, l.server(t, func(o *pop3.Options) { o.Shared, o.BadCommands = secrets{}, 3 }), loopback4, loopback4, pop3.Via{})
		first := base64.StdEncoding.EncodeToString([]byte("n,,n=alice,r=x"))
		for range 3 {
			p.ask("AUTH SCRAM-SHA-256 " + first)
			p.ask("*")
		}
		if !p.isClosed() {
			t.Error("after three exchanges that were cancelled the session goes on")
		}
		p.hangUp()
	})
}

// An authorization identity reaches the store where it may, from every mechanism that
// has one.
func TestAuthorizationIdentities(t *testing.T) {
	plain := func(p *peer) string {
		return p.ask("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("bob\x00alice\x00pw")))
	}
	digest := func(p *peer) string {
		client, err := scram.SHA256.NewClient("alice", "pw", "bob")
		if err != nil {
			p.t.Fatal(err)
		}
		c := client.NewConversation()
		reply, _ := exchange(p, "SCRAM-SHA-256", func(challenge string) string {
			answer, _ := c.Step(challenge)
			return answer
		})
		return reply
	}
	for name, logIn := range map[string]func(*peer) string{"PLAIN": plain, "SCRAM-SHA-256": digest} {
		for _, allowed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", allowed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newLab("alice", "pw")
					store := &proofs{Store: l.store}
					p := dial(t, l.server(t, func(o *pop3.Options) {
						o.Store, o.Shared, o.AuthorizationIdentity = store, secrets{"alice": "pw"}, allowed
					}), loopback4, loopback4, pop3.Via{})
					p.received()
					reply := logIn(p)
					p.hangUp()
					if ok := strings.HasPrefix(reply, "+OK"); ok != allowed || len(store.got) > 0 != allowed {
						t.Errorf("%q, and the store was asked with %+v; allowed: %v", reply, store.got, allowed)
					}
					if allowed && (store.got[0].Authorize != "bob" || store.got[0].User != "alice") {
						t.Errorf("the store was asked with %+v, want alice for bob", store.got[0])
					}
				})
			})
		}
	}
}

// The message that a library writes is the one that is read, and a token of the
// length that mail services give is no line too long (RFC 5034 section 4).
func TestOAUTHBEAREROfALibrary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab("alice", "pw")
		store := &proofs{Store: l.store}
		token := strings.Repeat("eyJhbGciOi.", 1000)
		p := dial(t, l.server(t, func(o *pop3.Options) { o.Store, o.Bearer = store, true }), loopback4, loopback4, pop3.Via{})
		p.received()
		_, message, err := sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: "alice", Token: token, Host: "pop.example", Port: 995}).Start()
		if err != nil {
			t.Fatal(err)
		}
		p.want(p.ask("AUTH OAUTHBEARER "+base64.StdEncoding.EncodeToString(message)), "+OK logged in")
		p.hangUp()
		if want := (upstream.Credentials{User: "alice", Secret: upstream.NewSecret(token), Proof: upstream.Bearer}); !slices.Equal(store.got, []upstream.Credentials{want}) {
			t.Errorf("the store was asked with %+v", store.got)
		}
	})
}

// What a client says in an exchange may be a secret in the wrong place: no log
// repeats it, whether it was a message of the mechanism or not.
func TestNoMessageOfAnExchangeIsLogged(t *testing.T) {
	const canary = "canary-5f1c"
	synctest.Test(t, func(t *testing.T) {
		l := newLab("alice", "pw")
		s := l.server(t, func(o *pop3.Options) {
			o.Shared, o.Bearer, o.LoginTries, o.BadCommands = secrets{"alice": canary}, true, 99, 99
		})
		p := dial(t, s, loopback4, loopback4, pop3.Via{})
		p.received()
		for _, message := range []string{canary, canary + " x", "user=alice\x01auth=Bearer " + canary + "\x01\x01", "user=alice\x01auth=" + canary,
			"n,a=alice,\x01auth=Bearer " + canary + "\x01\x01", "n,a=alice," + canary, "n,,n=alice,r=" + canary, "n,,n=alice," + canary, "a\x00b\x00" + canary + "\x00", "a\x00" + canary} {
			for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER"} {
				reply := p.ask("AUTH " + mechanism)
				for steps := 0; strings.HasPrefix(reply, "+ ") && steps < 5; steps++ {
					reply = p.ask(base64.StdEncoding.EncodeToString([]byte(message)))
				}
				if !strings.HasPrefix(reply, "-ERR") || strings.Contains(reply, canary) {
					t.Errorf("%s with %q: %q", mechanism, message, reply)
				}
			}
		}
		p.ask("APOP alice " + canary)
		p.hangUp()
		for line := range strings.Lines(l.log.String()) {
			if strings.Contains(line, canary) && !strings.Contains(line, "mechanism=CRAM-MD5") { // whose first word is a user
				t.Errorf("the log says %s", line)
			}
		}
	})
}

// A user without a secret is reckoned with one that the server has drawn. Who guessed
// it would be nobody all the same.
func TestTheSecretThatStandsInProvesNobody(t *testing.T) {
	for mechanism, logIn := range byDigest {
		t.Run(mechanism, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cryptotest.SetGlobalRandom(t, 1)
				drawn := rand.Text()
				cryptotest.SetGlobalRandom(t, 1) // the server draws the same
				l := newLab("alice", "pw")
				store := &proofs{Store: l.store}
				p := dial(t, l.server(t, func(o *pop3.Options) { o.Store, o.Shared = store, secrets{} }), loopback4, loopback4, pop3.Via{})
				reply, _ := logIn(p, p.received(), "alice", drawn)
				p.want(reply, "-ERR [AUTH] wrong user or password")
				p.hangUp()
				if want := []upstream.Credentials{{User: "alice", Proof: upstream.Shared}}; !slices.Equal(store.got, want) {
					t.Errorf("the store was asked with %+v, want no secret", store.got)
				}
			})
		})
	}
}
