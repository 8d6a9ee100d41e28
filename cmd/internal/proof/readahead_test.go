package proof_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// TestOtherCommandsDoNotBreakASequence: what a client asks between two RETRs costs
// no round trip, and the messages come ahead all the same. Nothing is marked as
// read by that, and only what the client marked is removed.
func TestOtherCommandsDoNotBreakASequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 60
		h := newHarness(t, harnessOptions{Profile: imaptest.Full(), Policy: imap.Expunge})
		for i := range messages {
			h.imap.INBOX().Append(modelBody(i))
		}
		c := h.connect(nil, nil)
		c.login(imaptest.DefaultUser, imaptest.DefaultPassword)
		for n := 1; n <= messages; n++ {
			for _, line := range []string{"LIST %d", "UIDL %d", "RETR %d", "NOOP", "STAT"} {
				if strings.Contains(line, "%") {
					line = fmt.Sprintf(line, n)
				}
				if r := c.do(line); !r.ok {
					t.Fatalf("%s: %v", line, r)
				}
			}
			if n%3 == 0 {
				c.do(fmt.Sprint("DELE ", n))
			}
		}
		fetches := 0
		for _, cmd := range h.imap.Journal().Commands("UID FETCH") {
			if strings.Contains(cmd.Line, "BODY.PEEK") {
				fetches++
			}
		}
		if fetches > 4 {
			t.Errorf("%d commands for %d messages in a row", fetches, messages)
		}
		if m := h.imap.Journal().Mutations(); len(m) > 0 {
			t.Errorf("something changed before QUIT: %v", m)
		}
		c.do("QUIT")
		c.close()
		h.wait()
		if v := h.violations(imaptest.DefaultUser, c); len(v) > 0 {
			t.Error(v)
		}
		if left := len(h.imap.INBOX().Messages()); left != messages-messages/3 {
			t.Errorf("%d messages are left of %d", left, messages)
		}
	})
}
