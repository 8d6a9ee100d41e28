//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// mailboxMadeAnew has another UIDVALIDITY.
func mailboxMadeAnew(c *trouble) {
	srv := c.server(imaptest.Full())
	srv.INBOX().Append(message(1))
	s := c.serve("imap://"+srv.Addr(), "")
	uidl := func() string {
		c.Helper()
		client := c.login(s)
		defer client.do("QUIT", "+OK")
		return client.list("UIDL")
	}
	first := uidl()
	if again := uidl(); again != first {
		c.Errorf("unique-ids %q and then %q", first, again)
	}
	c.counts(s, 0, "popgate_unique_ids_changed_total")
	srv.INBOX().Recreate()
	srv.INBOX().Append(message(1))
	if again := uidl(); again == first {
		c.Errorf("the unique-ids stay %q", again)
	}
	c.counts(s, 1, "popgate_unique_ids_changed_total", `upstream="upstream"`)
}

// deletionNotConfirmed is refused, does not fit into the trash, or is cut off.
func deletionNotConfirmed(c *trouble) {
	for _, tt := range []struct {
		name, config, verb string
		action             imaptest.Action
	}{
		{"rights", "", "UID EXPUNGE", imaptest.NO("[NOPERM] no")},
		{"quota", "delete: trash\n", "UID MOVE", imaptest.NO("[OVERQUOTA] the trash is full")},
		{"lost", "", "UID STORE", imaptest.End(imaptest.FIN)},
	} {
		srv := c.server(imaptest.Full())
		srv.Mailbox("alice", "Trash", `\Trash`)
		srv.INBOX().Append(message(1))
		srv.INBOX().Append(message(2))
		srv.Before(tt.verb, 0, tt.action)
		s := c.serve("imap://"+srv.Addr(), tt.config)
		client := c.login(s)
		client.do("DELE 1", "+OK")
		if got := client.do("QUIT", "-ERR "); !strings.HasSuffix(got, "some deleted messages not removed") {
			c.Errorf("%s: QUIT: %s", tt.name, got)
		}
		client.ended()
		c.counts(s, 1, "popgate_deletions_total", `outcome="kept"`)
		c.logged(s, `"update failed"`, `"kept":1`)

		srv.Forget()
		client = c.login(s) // nothing is lost
		client.do("STAT", "+OK 2 ")
		client.do("DELE 1", "+OK")
		client.do("QUIT", "+OK")
		if n := len(srv.INBOX().Messages()); n != 1 {
			c.Errorf("%s: %d messages are left, want 1", tt.name, n)
		}
	}
}

// archived is what a service keeps whatever IMAP expunges, but for what is moved to
// the trash.
func archived(c *trouble) {
	for delete, left := range map[string]int{"expunge": 1, "trash": 0} {
		srv := c.server(imaptest.Full())
		srv.Mailbox("alice", "Trash", `\Trash`)
		archive := srv.Mailbox("alice", "All Mail")
		srv.INBOX().Append(message(1))
		uid := archive.Append(message(1))
		srv.After("UID MOVE", 0, imaptest.Do(func(imaptest.Command) { archive.Expunge(uid) }))
		s := c.serve("imap://"+srv.Addr(), "delete: "+delete+"\n")
		client := c.login(s)
		client.do("DELE 1", "+OK")
		client.do("QUIT", "+OK")
		if n := len(srv.INBOX().Messages()); n != 0 {
			c.Errorf("delete: %s: %d messages in INBOX", delete, n)
		}
		if n := len(archive.Messages()); n != left {
			c.Errorf("delete: %s: %d messages in the archive, want %d", delete, n, left)
		}
	}
}

// wrongSizes are those of a server that lists what it would send in another form.
func wrongSizes(c *trouble) {
	text := message(1)
	for _, exact := range []bool{false, true} {
		size, mistakes := int64(len(text)+7), 1.0
		if exact {
			c.found = append(c.found, "EnableExactRFC822Size")
			size, mistakes = int64(len(text)), 0
		}
		srv := c.server(imaptest.Full())
		srv.INBOX().AppendBody(strings.NewReader(text), size)
		s := c.serve("imap://"+srv.Addr(), "")
		client := c.login(s)
		client.do("LIST 1", fmt.Sprintf("+OK 1 %d", size))
		if got := client.list("RETR 1"); got != text {
			c.Errorf("RETR: %q, want %q", got, text)
		}
		client.do("QUIT", "+OK")
		c.counts(s, mistakes, "popgate_size_mismatch_total", `upstream="upstream"`)
	}
}

// slowServer takes its time for each message.
func slowServer(c *trouble) {
	const time1, lessThan = 100 * time.Millisecond, 0.09
	srv := c.server(imaptest.Full())
	srv.INBOX().Append(message(1))
	s := c.serve("imap://"+srv.Addr(), "read-ahead: {session: none}\n")
	client := c.login(s)
	srv.Before("UID FETCH", 0, imaptest.Wait(time1))
	client.list("RETR 1")
	client.do("QUIT", "+OK")
	c.counts(s, 1, "popgate_command_duration_seconds_count", `command="RETR"`)
	server := c.sum(s, "popgate_upstream_request_duration_seconds_sum", `op="fetch"`, `upstream="upstream"`)
	if all := c.sum(s, "popgate_command_duration_seconds_sum", `command="RETR"`); server < lessThan || all < server {
		c.Errorf("RETR took %v s, %v of them at the server, which waited for %v", all, server, time1)
	}
}

// wrongConfiguration is that of a file that was changed while the gateway served.
func wrongConfiguration(c *trouble) {
	srv := c.server(imaptest.Full())
	srv.INBOX().Append(message(1))
	file := c.config("imap://"+srv.Addr(), "delete: refuse\n")
	s := serve(c.T, "--config", file)
	text, err := os.ReadFile(file)
	if err != nil {
		c.Fatal(err)
	}
	change := func(old, new string) {
		c.Helper()
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
			c.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), reloadSignal); err != nil {
			c.Fatal(err)
		}
	}
	delete := func(want string) {
		c.Helper()
		client := c.login(s)
		client.do("DELE 1", want)
		client.do("RSET", "+OK")
		client.do("QUIT", "+OK")
	}
	for new, why := range map[string]string{
		"delete: perhaps\n":            "use expunge, trash, hide or refuse",
		"delete: expunge\ndrain: 1s\n": "drain cannot change while popgate runs",
	} {
		change("delete: refuse\n", new)
		c.logged(s, "the new configuration is of no use, the last one stays", why)
		c.counts(s, 0, "popgate_config_last_reload_successful")
		c.found = append(c.found, "popgate_config_last_reload_successful 0")
		c.page(s, "The configuration was wrong when it was last read")
		delete("-ERR this maildrop is read-only")
	}
	change("delete: refuse\n", "delete: expunge\n")
	c.counts(s, 1, "popgate_config_last_reload_successful")
	delete("+OK")
}

// fewDescriptors is a process that may have no more of them.
func fewDescriptors(c *trouble) {
	const few = 300
	args := []string{"serve", "--config", c.config("imap://"+c.server(imaptest.Full()).Addr(), "")}
	p := exec.CommandContext(c.Context(), "/bin/sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, few), os.Args[0]}, args...)...)
	p.Env = append(os.Environ(), asProgram+"=1")
	exit := make(chan int, 1)
	s := &service{log: &logBuffer{line: make(chan string, 1000)}, exit: exit}
	p.Stderr = s.log
	if err := p.Start(); err != nil {
		c.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); p.Wait(); exit <- p.ProcessState.ExitCode() }()
	c.Cleanup(func() { p.Process.Kill(); <-ended })
	s.listens(c.T)
	c.logged(s, "the limit on open files allows fewer connections", "LimitNOFILE", `"connections":100`)
	c.counts(s, few, "process_max_fds")
	c.counts(s, 100, "popgate_connections_limit")

	limit := func(n uint64) {
		c.Helper()
		if err := unix.Prlimit(p.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: few}, nil); err != nil {
			c.Skip("prlimit: ", err)
		}
	}
	limit(1)
	conn := dialRaw(c.T, s.pop3[0])
	c.logged(s, "accepting fails, will go on", "too many open files")
	limit(few)
	client := greeted(c.T, conn)
	client.login()
	c.counts(s, 1, "popgate_connections")
	client.do("QUIT", "+OK")
}
