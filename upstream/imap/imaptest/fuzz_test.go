package imaptest_test

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// FuzzSession throws octets at a server before login, after it, and in a
// mailbox. It must neither panic nor hang, and answer in whole lines.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"A CAPABILITY\r\n", "A LOGIN {5+}\r\nalice {10}\r\nwonderland\r\n", "A AUTHENTICATE PLAIN =\r\n*\r\n",
		"A UID FETCH 1:* (UID BODY.PEEK[HEADER]<0.9>)\r\n", "A UID SEARCH RETURN (ALL) NOT (SEEN UID 1,2:*)\r\n",
		"A UID STORE 1 +FLAGS.SILENT (\\Deleted)\r\nB EXPUNGE\r\n", "A LIST (SPECIAL-USE) \"\" (\"*\" %)\r\n",
		"A STATUS \"INBOX\" (MESSAGES)\r\n", "A UID MOVE 1 INBOX\r\n", "{9999999999}\r\n", "A (((((((((((((((((((((\r\n", "\r\n", "A \x00\r\n",
	} {
		f.Add([]byte(seed))
	}
	prefixes := []string{"", "P LOGIN alice wonderland\r\n", "P LOGIN alice wonderland\r\nQ SELECT INBOX\r\n"}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, prefix := range prefixes {
			synctest.Test(t, func(t *testing.T) { converse(t, prefix, in) })
		}
	})
}

// converse sends octets and reads until the server ends or falls silent. It
// runs under synctest, where silence costs no time.
func converse(t *testing.T, prefix string, in []byte) {
	s := imaptest.New(t, imaptest.Full())
	s.INBOX().Append(hello)
	c, err := s.Dial(t.Context(), "tcp", "x:143")
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		io.WriteString(c, prefix+string(in)+"\r\n")
	}()
	out, _ := io.ReadAll(c)
	c.Close()
	<-wrote
	if len(out) == 0 || !bytes.HasSuffix(out, []byte("\r\n")) {
		t.Errorf("%q is answered %q", in, out)
	}
}
