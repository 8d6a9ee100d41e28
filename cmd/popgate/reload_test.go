//go:build linux

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
)

// A changed configuration holds for new sessions; those that are open keep theirs.
func TestSIGHUPReadsTheConfigurationAgain(t *testing.T) {
	upstream := imapServer(t, 3)
	text := func(more string) []byte {
		return fmt.Appendf(nil, "listen: [pop3://127.0.0.1:0]\nupstream: {url: imap://%s}\n%s", upstream, more)
	}
	file := writeConfig(t, string(text("delete: refuse\n")))
	s := startService(t, file, nil)
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(file, text(more), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.first.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	old := connect(t, s.address)
	old.login()
	old.do("DELE 1", "-ERR this maildrop is read-only")

	write("delete: expunge\nseen: retr\n")
	await(t, s.log, "a new configuration")
	old.do("DELE 1", "-ERR this maildrop is read-only")
	old.do("QUIT", "+OK")
	young := connect(t, s.address)
	young.login()
	young.do("DELE 1", "+OK")
	young.do("QUIT", "+OK")

	for more, why := range map[string]string{
		"delete: perhaps\n":                      "use expunge, trash, hide or refuse",
		"delete: refuse\ndrain: 1s\n":            "drain cannot change while popgate runs",
		"delete: refuse\nmetrics: 127.0.0.1:0\n": "metrics cannot change while popgate runs",
	} {
		write(more)
		if line := await(t, s.log, "the new configuration is of no use, the last one stays"); !strings.Contains(line, why) {
			t.Errorf("the log lacks %q: %s", why, line)
		}
	}
	last := connect(t, s.address)
	last.login()
	last.do("DELE 1", "+OK") // nothing of what was refused holds
	last.do("QUIT", "+OK")
	if err := s.first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(t, s.log, "popgate has ended")
}

// Each setting is either put into use or told to be fixed: none is passed over.
func TestNoSettingIsPassedOverByAReload(t *testing.T) {
	load := func(more string) config.Config {
		t.Helper()
		c, err := config.Load(writeConfig(t, "listen: [pop3://127.0.0.1:1110]\nupstream: {url: imap://127.0.0.1}\n"+more), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	base := load("")
	for more, fixed := range map[string]string{
		"":                                    "",
		"delete: hide\nseen: retr\n":          "",
		"limits: {login-tries: 9}\n":          "",
		"limits: {idle-time: 11m}\n":          "",
		"limits: {connections: 9}\n":          "limits",
		"limits: {sessions-per-account: 9}\n": "limits",
		"limits: {mailbox-messages: 9}\n":     "limits",
		"log: {level: debug}\n":               "",
		"log: {format: json}\n":               "log.format",
		"expire: 30\n":                        "",
		"clear-text-login: anywhere\n":        "",
		"transcript: {users: [a]}\n":          "",
		"throttle: {guesses: 9}\n":            "throttle",
		"lock: {wait: 1s}\n":                  "lock",
		"cache: {memory: none}\n":             "cache",
		"read-ahead: {session: none}\n":       "read-ahead",
		"drain: 1s\n":                         "drain",
		"metrics: 127.0.0.1:9\n":              "metrics",
	} {
		got := strings.Join(base.Fixed(load(more)), ", ")
		if got != fixed && (fixed == "" || !strings.HasPrefix(got, fixed)) {
			t.Errorf("%q: %q is fixed, want %q", more, got, fixed)
		}
	}
}

// A configuration that is written in two pieces is not read between them.
func TestAConfigurationIsReadWhenItStandsStill(t *testing.T) {
	file := writeConfig(t, "one")
	loads := 0
	r := newReloader([2]string{file}, lookAt([2]string{file}), func() (config.Config, error) { loads++; return config.Config{}, nil }, func(config.Config) error { return nil }, func(error) {}, slog.New(slog.DiscardHandler))
	for i, want := range []int{0, 0, 0, 1, 1} {
		if i == 1 || i == 2 {
			if err := os.WriteFile(file, []byte(strings.Repeat("x", 10*i)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, time.Time{}, time.Unix(int64(i), 0)); err != nil {
				t.Fatal(err)
			}
		}
		r.poll()
		if loads != want {
			t.Errorf("look %d: read %d times, want %d", i, loads, want)
		}
	}
}

// What changes while it is read is read again, and is not taken for what is in use.
func TestAConfigurationThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	file := writeConfig(t, "one")
	before := lookAt([2]string{file})
	var loads, good, bad int
	load := func() (config.Config, error) {
		loads++
		switch loads {
		case 1:
			return config.Config{}, os.WriteFile(file, []byte("the third"), 0o600)
		case 2:
			return config.Config{}, errors.New("the third is wrong")
		}
		return config.Config{}, nil
	}
	ended := func(err error) {
		if err != nil {
			bad++
			return
		}
		good++
	}
	if err := os.WriteFile(file, []byte("another"), 0o600); err != nil { // while "one" is read at the start
		t.Fatal(err)
	}
	r := newReloader([2]string{file}, before, load, func(config.Config) error { return nil }, ended, slog.New(slog.DiscardHandler))
	for i, want := range [][2]int{{0, 0}, {1, 0}, {1, 0}, {1, 1}, {2, 1}} {
		r.poll()
		if got := [2]int{good, bad}; got != want {
			t.Errorf("look %d: %d times put into use and %d times of no use, want %v", i, good, bad, want)
		}
	}
}
