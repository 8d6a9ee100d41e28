package realtest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/deploy/lab"
)

// servers are what the gateway stands before. The last is Cyrus over JMAP.
var (
	imapServers = []string{"dovecot", "cyrus", "courier"}
	servers     = append(slices.Clone(imapServers), overJMAP)
)

const overJMAP = "cyrus-jmap"

// Every client, over every server, in every mode: fetches all and leaves it
// there, byte for byte; fetches nothing on its second visit; deletes what it
// was told to and nothing else.
func TestClients(t *testing.T) {
	for _, server := range servers {
		t.Run(server, func(t *testing.T) {
			var names []string
			for _, c := range clients() {
				names = append(names, c.name)
			}
			b := newBench(t, strings.Join(names, ", ")+" over "+server)
			report.guard(t, server, "", "")
			t.Parallel()
			s := b.start(t, server)
			f := s.serve(t)
			for _, c := range clients() {
				version, err := lab.PackageVersion(t.Context(), c.pkg)
				if err != nil {
					t.Fatal(err)
				}
				report.version(c.name, version)
				t.Run(c.name, func(t *testing.T) {
					for _, mode := range allModes {
						t.Run(mode, func(t *testing.T) { threeVisits(t, s, f, c, mode) })
					}
				})
				report.progress(server, c.name)
			}
		})
	}
}

// threeVisits is one client in one mode.
func threeVisits(t *testing.T, s *station, f *front, c client, mode string) {
	report.guard(t, s.Name, c.name, mode)
	user, pass, _ := s.account(t)
	set := messageSet(user)
	judge := s.judge(t, user, pass)
	judge.deliver(t, set...)
	before := judge.look(t, "INBOX")
	if len(before) != len(set) {
		t.Fatalf("%s has %d of %d messages", s.Name, len(before), len(set))
	}
	for i, m := range set {
		if !bytes.Equal(wireForm(before[i].body), wireForm(m.octets)) {
			t.Fatalf("%s changed message %s on its way in", s.Name, m.name)
		}
	}
	target := f.pop3
	if mode == tls {
		target = f.pop3s
	}
	tap := newTap(t, target)
	v := newVisit(t, s, c.name+"-"+mode, mode, tap.addr, user, pass)

	leaf := func(name string, fn func(t *testing.T)) {
		report.leaf(t, s.Name, c.name, mode, name, func(t *testing.T) {
			tap.transcript()
			defer func() {
				if t.Failed() {
					t.Logf("dialogue:\n%s\ngateway:\n%s", tap.transcript(), f.tail())
				}
			}()
			fn(t)
		})
	}
	leaf("leave", func(t *testing.T) {
		sameMessages(t, set, c.form, c.visit(t, v))
		unchanged(t, before, judge.look(t, "INBOX"))
	})
	leaf("again", func(t *testing.T) {
		if got := c.visit(t, v); len(got) != 0 {
			t.Errorf("fetched %d messages again", len(got))
		}
		if asked := bodiesAsked(tap.transcript()); len(asked) != 0 {
			t.Errorf("asked for bodies again: %q", asked)
		}
		unchanged(t, before, judge.look(t, "INBOX"))
	})
	leaf("delete", func(t *testing.T) {
		// A message that came since the last visit is nobody's to delete. It is
		// large, so that a client with a size limit does not even fetch it.
		newcomer := newMessage(user, "newcomer", len(set)+1, "", string(set[bigAt].octets))
		judge.deliver(t, newcomer)
		before := judge.look(t, "INBOX")
		v.remove = true
		c.visit(t, v)
		var survivors []stored
		for i, m := range before {
			if !slices.Contains(c.removes, i+1) {
				survivors = append(survivors, m)
			}
		}
		unchanged(t, survivors, judge.look(t, "INBOX"))
	})
}

// unchanged says that a mailbox holds exactly these messages, flags included.
func unchanged(t *testing.T, want, got []stored) {
	t.Helper()
	if list(want) != list(got) {
		t.Errorf("over IMAP the mailbox holds\n%s, want\n%s", list(got), list(want))
		return
	}
	for i := range want {
		if !bytes.Equal(want[i].body, got[i].body) {
			t.Errorf("UID %d has other octets than before", want[i].uid)
		}
	}
}

func list(all []stored) string {
	var b bytes.Buffer
	for _, m := range all {
		fmt.Fprintf(&b, "uid %d (%s) ", m.uid, m.flags)
	}
	return b.String()
}
