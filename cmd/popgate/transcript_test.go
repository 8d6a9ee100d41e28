package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Both sides of a watched session are in the log; serve looks that no password is.
func TestASessionIsWrittenDownForWhoAsks(t *testing.T) {
	for _, watched := range []string{"ALICE", "bob"} {
		t.Run(watched, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "popgate.yaml")
			text := fmt.Sprintf("listen: [pop3://127.0.0.1:0]\nupstream: {url: imap://%s}\ntranscript: {users: [%s], from: 127.0.0.0/8}\n", imapServer(t, 2), watched)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s := serve(t, "--config", file)
			c := connect(t, s.pop3[0])
			c.do("USER alice", "+OK")
			c.do("PASS wrong", "-ERR")
			c.login()
			c.list("RETR 1")
			c.do("DELE 1", "+OK")
			c.do("QUIT", "+OK")
			c.ended()
			s.stop()
			s.code(t)
			log := s.log.String()
			for _, want := range []string{`"text":"PASS (hidden)"`, `AUTHENTICATE PLAIN (hidden)`, "SELECT INBOX", "UID FETCH", "UID EXPUNGE", `"text":"DELE 1"`, `octets of message 1, whole: true`} {
				if got := strings.Contains(log, want); got != (watched == "ALICE") {
					t.Errorf("the log holds %q: %v", want, got)
				}
			}
			if strings.Contains(log, "Subject:") {
				t.Error("the log holds a line of a message")
			}
		})
	}
}
