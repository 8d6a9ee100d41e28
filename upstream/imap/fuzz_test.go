package imap_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/wrap"
)

// A puppet is an IMAP server that says what it is told to, whatever it hears:
// each "{tag}" waits for the next command and becomes its tag, and so do the
// lines before it, unless it is a hasty one. It says the same on every
// connection. It is to be used inside of a bubble of testing/synctest.
type puppet struct {
	says  string
	hasty bool

	mu    sync.Mutex
	heard strings.Builder // of all connections
	wg    sync.WaitGroup
}

func (p *puppet) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	tags := make(chan string, 1000)
	p.wg.Go(func() { // hears
		defer close(tags)
		r := bufio.NewReader(server)
		for {
			line, err := r.ReadString('\n')
			p.mu.Lock()
			p.heard.WriteString(line)
			p.mu.Unlock()
			if err != nil {
				return
			}
			tag, _, _ := strings.Cut(line, " ")
			select {
			case tags <- tag:
			default:
			}
		}
	})
	p.wg.Go(func() { // says
		defer server.Close()
		parts := strings.Split(p.says, "{tag}")
		held := "" // what goes out with the next tag
		for i, part := range parts {
			if i > 0 {
				tag, ok := <-tags
				if !ok {
					return
				}
				held += tag
			}
			line, rest := part, ""
			if end := strings.Index(part, "\r\n"); !p.hasty && i+1 < len(parts) && end >= 0 {
				line, rest = part[:end+2], part[end+2:]
			}
			if _, err := io.WriteString(server, held+line); err != nil {
				return
			}
			held = rest
		}
	})
	return client, nil
}

// close waits until every connection has ended, and returns what was heard.
func (p *puppet) close() string {
	p.wg.Wait()
	return p.heard.String()
}

const (
	puppetSecret = "s3cr3t \"of\" alice"
	puppetHello  = "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR UIDPLUS MOVE CONDSTORE] hi\r\n{tag} OK [CAPABILITY IMAP4rev1 UIDPLUS MOVE CONDSTORE] in\r\n"
	puppetBox    = "* 2 EXISTS\r\n* FLAGS (\\Deleted \\Seen)\r\n* OK [PERMANENTFLAGS (\\Deleted \\Seen \\*)] x\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 12] x\r\n{tag} OK [READ-WRITE] x\r\n"
	puppetList   = "* 1 FETCH (UID 10 RFC822.SIZE 20)\r\n* 2 FETCH (UID 11 RFC822.SIZE 40000)\r\n{tag} OK x\r\n"
)

var puppetAlice = upstream.Credentials{User: "alice", Secret: upstream.NewSecret(puppetSecret)}

// FuzzPreauth lets a server say anything up to the login. Where TLS is required
// and there is none, not an octet of the password or token leaves; elsewhere it
// leaves once, and only as the argument that it is. A token is no password.
func FuzzPreauth(f *testing.F) {
	for _, s := range []string{
		puppetHello, "* PREAUTH hi\r\n", "* BYE go\r\n", "* OK hi\r\n{tag} OK\r\n", "+ \r\n", "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi\r\n{tag} OK begin\r\n\x16\x03\x03",
		"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n{tag} NO no\r\n{tag} OK\r\n", "* OK hi\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n{tag} OK\r\n+ \r\n{tag} OK\r\n",
		"* OK [CAPABILITY IMAP4rev1] hi\r\n{tag} OK too early\r\n", "* OK [CAPABILITY IMAP4rev1] hi\r\n+ go\r\n+ go\r\n+ go\r\n{tag} OK\r\n{tag} OK\r\n",
		"* OK [CAPABILITY IMAP4rev1] hi\r\n{tag} NO [REFERRAL imap://other/] x\r\n", "* OK hi\r\n* CAPABILITY STARTTLS\r\n{tag} OK\r\n{tag} OK\r\n* CAPABILITY AUTH=PLAIN\r\n{tag} OK\r\n",
		"* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR] hi\r\n+ eyJzdGF0dXMiOiI0MDEifQ==\r\n{tag} NO x\r\n", "* OK [CAPABILITY IMAP4rev1 AUTH=OAUTHBEARER] hi\r\n+ \r\n+ e30=\r\n+ e30=\r\n{tag} OK x\r\n",
		"* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2] hi\r\n{tag} OK [CAPABILITY IMAP4rev1] too early\r\n", "* OK [CAPABILITY IMAP4rev1 AUTH=OAUTHBEARER SASL-IR] hi\r\n{tag} OK [CAPABILITY IMAP4rev1] in\r\n",
	} {
		for i := range 8 {
			f.Add(s, i&1 == 0, i&2 == 0, i&4 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, says string, far, hasty, bears bool) {
		synctest.Test(t, func(t *testing.T) {
			p := &puppet{says: says, hasty: hasty}
			o := imap.Options{Host: "127.0.0.1", Dial: p.dial}
			if far {
				o.Host = "imap.example.test"
				o.Lookup = func(context.Context, string) ([]netip.Addr, error) {
					return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
				}
			}
			s, err := imap.New(o)
			if err != nil {
				t.Fatal(err)
			}
			c, secret, blobs := puppetAlice, puppetSecret, []string{"\x00alice\x00" + puppetSecret}
			if bears {
				secret = "s3cr3t-token-of-alice"
				c = aliceBears(secret)
				bearer := "auth=Bearer " + secret + "\x01\x01"
				blobs = []string{"user=alice\x01" + bearer, "n,a=alice,\x01host=" + o.Host + "\x01port=143\x01" + bearer}
			}
			a, err := s.Login(t.Context(), c)
			if err == nil {
				a.Close()
			} else if _, ok := errors.AsType[*upstream.Error](err); !ok {
				t.Errorf("an error of type %T", err)
			}
			heard := p.close()
			open := strings.Count(heard, secret)
			n := open
			for _, b := range blobs {
				n += strings.Count(heard, base64.StdEncoding.EncodeToString([]byte(b)))
			}
			switch {
			case bears && open > 0:
				t.Errorf("%q got the token as a password: %q", says, heard)
			case far && (n > 0 || err == nil):
				t.Errorf("%q got the login %q", says, heard)
			case n > 1:
				t.Errorf("%q got the password %d times: %q", says, n, heard)
			case n == 0 && err == nil:
				t.Errorf("%q is a login without a password: %q", says, heard)
			case open > 0 && !strings.Contains(says, "+"):
				t.Errorf("%q got a literal that it did not ask for: %q", says, heard)
			}
		})
	})
}

// FuzzStore lets a server say anything at each step of a session: the list, a
// body, the top of one, UPDATE. The store keeps the promises of the hinge.
func FuzzStore(f *testing.F) {
	body := "* 1 FETCH (UID 10 BODY[] {20}\r\n01234567890123456789)\r\n{tag} OK x\r\n"
	for state, seeds := range [][]string{
		{puppetBox + puppetList, "* 1 EXISTS\r\n{tag} OK\r\n", puppetBox + "* 1 FETCH (UID 0 RFC822.SIZE 1)\r\n{tag} OK\r\n", "* 4294967295 EXISTS\r\n{tag} OK\r\n", "{tag} NO [INUSE] x\r\n",
			puppetBox + "* 1 FETCH (UID 10 RFC822.SIZE 99999999999999999999)\r\n{tag} OK\r\n", puppetBox + "* 2 FETCH (RFC822.SIZE 1 UID 10)\r\n* 1 FETCH (UID 9 RFC822.SIZE 5 FLAGS ())\r\n{tag} OK\r\n"},
		{body, "* 1 FETCH (UID 10 BODY[] NIL)\r\n{tag} OK\r\n", "{tag} OK\r\n", "* 1 FETCH (BODY[] \"x\\\"y\" UID 10)\r\n{tag} OK\r\n", "* 1 FETCH (UID 11 BODY[] {3}\r\nabc)\r\n{tag} OK\r\n",
			"* 1 FETCH (UID 10 BODY[] {9999999999}\r\nabc", "* 1 FETCH (UID 10 BODY[] {3}\r\nabc BODY[] {3}\r\nabc)\r\n{tag} OK\r\n", "* BYE x\r\n", "* 1 FETCH (UID 10 BODY[] {3}\r\nabc)\r\n{tag} NO x\r\n"},
		{"* 2 FETCH (UID 11 BODY[]<0> {3}\r\nabc)\r\n{tag} OK\r\n", "* 2 FETCH (UID 11 BODY[]<0> {16384}\r\n" + strings.Repeat("x", 16384) + ")\r\n{tag} OK\r\n{tag} NO x\r\n"},
		{puppetBox + "* SEARCH 10 11\r\n{tag} OK\r\n{tag} OK\r\n{tag} OK\r\n* SEARCH\r\n{tag} OK\r\n", puppetBox + "* SEARCH 10\r\n{tag} OK\r\n{tag} NO x\r\n* SEARCH 10\r\n{tag} OK\r\n",
			puppetBox + "* SEARCH 4294967296\r\n", "* OK [UIDVALIDITY 8] x\r\n{tag} OK\r\n", puppetBox + "* SEARCH 10 11 12 13 10\r\n{tag} OK\r\n{tag} OK\r\n{tag} OK\r\n* SEARCH 11\r\n{tag} OK\r\n"},
	} {
		for _, s := range seeds {
			f.Add(s, byte(state), false)
			f.Add(s, byte(state), true)
		}
	}
	f.Fuzz(func(t *testing.T, says string, state byte, hasty bool) {
		synctest.Test(t, func(t *testing.T) {
			before := puppetHello + puppetBox + puppetList
			if state%4 == 0 {
				before = puppetHello
			}
			p := &puppet{says: before + says, hasty: hasty}
			inner, err := imap.New(imap.Options{Host: "127.0.0.1", Dial: p.dial})
			if err != nil {
				t.Fatal(err)
			}
			if err := puppetSession(t.Context(), wrap.Contract(inner), state%4); err != nil {
				t.Errorf("%q in state %d: %v", says, state%4, err)
			}
			if heard := p.close(); strings.Contains(heard, "CLOSE") || strings.Contains(heard, "BODY[") && !strings.Contains(heard, "BODY.PEEK[") {
				t.Errorf("%q in state %d: said %q", says, state%4, heard)
			}
		})
	})
}

// puppetSession goes to a state and does there what there is to do. Its error is
// a promise that was broken.
func puppetSession(ctx context.Context, s upstream.Store, state byte) error {
	a, err := s.Login(ctx, puppetAlice)
	if err != nil {
		return nil
	}
	defer a.Close()
	m, err := a.Open(ctx)
	if err != nil {
		return broken(err)
	}
	if state > 0 && m.Len() != 2 {
		return nil // a hasty server told it before it was asked
	}
	switch state {
	case 0:
		for i := range m.Len() {
			if m.Size(i) < 0 || !upstream.ValidUIDL(m.AppendUIDL(nil, i)) {
				return fmt.Errorf("message %d has %d octets and the id %q", i, m.Size(i), m.AppendUIDL(nil, i))
			}
		}
	case 1, 2:
		i, want := 0, upstream.Extent{}
		if state == 2 {
			i, want = 1, upstream.Extent{Top: true, Lines: 5}
		}
		b, err := m.Retrieve(ctx, i, want)
		if err != nil {
			return broken(err)
		}
		defer b.Close()
		n, err := io.Copy(io.Discard, io.LimitReader(b, math.MaxInt32))
		if err == nil && b.Octets() >= 0 && n != b.Octets() {
			return fmt.Errorf("a whole body of %d octets, announced %d", n, b.Octets())
		}
		return broken(err)
	case 3:
		r, err := m.Update(ctx, upstream.Changes{Remove: []int{0, 1}, Seen: []int{1}})
		if r.Removed+r.Missing+r.Kept != 2 || err == nil && r.Kept > 0 {
			return fmt.Errorf("%+v, %v", r, err)
		}
		return broken(err)
	}
	return nil
}

// broken returns an error that tells of a broken promise, and no other.
func broken(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*upstream.Error](err); !ok || strings.Contains(err.Error(), "contract:") {
		return err
	}
	return nil
}
