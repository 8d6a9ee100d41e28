package pop3_test

import (
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/memdrop"
)

const hidden = "hunter2-canary"

// transcriptOf plays a session and returns what the log has of it.
func transcriptOf(t *testing.T, watch func(user string, client netip.Addr) bool, in string) string {
	t.Helper()
	l := newLab("alice", hidden, memdrop.Message{ID: "a1", Body: []byte("Subject: private-canary\r\n\r\nprivate-canary\r\n")})
	s := l.server(t, func(o *pop3.Options) { o.Watch = watch })
	l.play(t, s, in, 512)
	var out strings.Builder
	for line := range strings.Lines(l.log.String()) {
		if _, rest, ok := strings.Cut(line, "msg=transcript "); ok {
			rest = rest[strings.Index(rest, "from="):]
			out.WriteString(rest)
		}
	}
	return out.String()
}

func everybody(string, netip.Addr) bool { return true }

func TestTranscriptShowsTheDialogue(t *testing.T) {
	got := transcriptOf(t, everybody, "CAPA\r\nUSER alice\r\nPASS "+hidden+"\r\nSTAT\r\nUIDL 1\r\nTOP 1 0\r\nRETR 1\r\nDELE 1\r\nNOSUCH thing\r\nRETR x\r\nQUIT\r\n")
	want := `from=popgate text="+OK POP3 ready"
from=client text=CAPA
from=popgate text="+OK capabilities follow"
from=client text="USER alice"
from=popgate text=+OK
from=client text="PASS (hidden)"
from=popgate text="+OK logged in"
from=client text=STAT
from=popgate text="+OK 1 43"
from=client text="UIDL 1"
from=popgate text="+OK 1 a1"
from=client text="TOP 1 0"
from=popgate text=+OK
from=popgate text="(27 octets of message 1, whole: false)"
from=client text="RETR 1"
from=popgate text="+OK 43 octets"
from=popgate text="(43 octets of message 1, whole: true)"
from=client text="DELE 1"
from=popgate text="+OK marked as deleted"
from=client text="(unknown command) (hidden)"
from=popgate text="-ERR unknown command"
from=client text="RETR (hidden)"
from=popgate text="-ERR wrong arguments"
from=client text=QUIT
from=popgate text="+OK bye, the marked messages are removed"
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Whatever a client does with its password, and whatever is in a message: it is
// not in the transcript.
func TestTranscriptHoldsNoSecret(t *testing.T) {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00alice\x00" + hidden))
	encoded := base64.StdEncoding.EncodeToString([]byte(hidden))
	for _, in := range []string{
		"AUTH PLAIN " + plain + "\r\nRETR 1\r\nTOP 1 9\r\nQUIT\r\n",
		"AUTH PLAIN\r\n" + plain + "\r\nRETR 1\r\nQUIT\r\n",
		"AUTH LOGIN\r\n" + base64.StdEncoding.EncodeToString([]byte("alice")) + "\r\n" + encoded + "\r\nQUIT\r\n",
		"AUTH " + hidden + "\r\nAUTH " + encoded + " x\r\nUSER alice\r\nPASS " + hidden + "\r\nQUIT\r\n",
		hidden + "\r\nPASS " + hidden + "\r\nPASS" + hidden + "\r\nUSER alice\r\nPASS " + hidden + "\r\nPASS " + hidden + "\r\nRETR " + hidden + "\r\nLIST " + hidden + "\r\nQUIT\r\n",
	} {
		got := transcriptOf(t, everybody, in)
		if !strings.Contains(got, "logged in") {
			t.Errorf("%q: no login in\n%s", in, got)
		}
		for _, secret := range []string{hidden, encoded, plain, plain[4:], "private-canary"} {
			if strings.Contains(strings.ToLower(got), strings.ToLower(secret)) {
				t.Errorf("%q: %q is in\n%s", in, secret, got)
			}
		}
	}
}

func TestTranscriptIsOfThoseWhoAreWatched(t *testing.T) {
	bob := func(user string, _ netip.Addr) bool { return user == "bob" }
	if got := transcriptOf(t, bob, "USER alice\r\nPASS "+hidden+"\r\nSTAT\r\nQUIT\r\n"); got != "" {
		t.Errorf("alice is not watched:\n%s", got)
	}
	got := transcriptOf(t, bob, "USER bob\r\nPASS x\r\nUSER alice\r\nPASS "+hidden+"\r\nSTAT\r\nQUIT\r\n")
	if !strings.Contains(got, "USER bob") || !strings.Contains(got, "-ERR [AUTH]") {
		t.Errorf("bob's try is missing:\n%s", got)
	}
	if strings.Contains(got, "STAT") {
		t.Errorf("alice is not watched:\n%s", got)
	}
}
