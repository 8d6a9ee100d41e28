package realtest

import (
	"bufio"
	crypto "crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// loadPause is between two sessions of one client.
const loadPause = 50 * time.Millisecond

// load lets one client for each mode hold sessions, one after the other, as long as
// the test runs. Sessions may fail: the mail server is not always there.
func (w *watched) load(t *testing.T) {
	t.Helper()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i, mode := range append(slices.Clip(allModes), plain, plain, plain) {
		user, pass, _ := w.account(t)
		w.judge(t, user, pass).deliver(t, messageSet(user)[:4]...)
		// The certificates of this test are signed by nobody.
		config := &crypto.Config{InsecureSkipVerify: true, MaxVersion: []uint16{crypto.VersionTLS12, crypto.VersionTLS13}[i%2]}
		clients.Go(func() {
			for {
				_ = w.session(mode, user, pass, config) // it may fail: see above
				select {
				case <-stop:
					return
				case <-time.After(loadPause):
				}
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		clients.Wait()
	})
}

// session reads some mail, and marks a message without removing it.
func (w *watched) session(mode, user, pass string, config *crypto.Config) error {
	addr := w.front.pop3
	if mode == tls {
		addr = w.front.pop3s
	}
	conn, err := net.DialTimeout("tcp", addr, popTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(popTimeout))
	if mode == tls {
		conn = crypto.Client(conn, config)
	}
	r := bufio.NewReader(conn)
	line := func() (string, error) { return r.ReadString('\n') }
	if _, err := line(); err != nil {
		return err
	}
	commands := []string{"USER " + user, "PASS " + pass, "STAT", "UIDL", "RETR 1", "RETR 2", "RETR 3", "TOP 4 0", "DELE 1", "RSET", "QUIT"}
	if mode == stls {
		commands = append([]string{"STLS"}, commands...)
	}
	for _, command := range commands {
		if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
			return err
		}
		reply, err := line()
		if err != nil || !strings.HasPrefix(reply, "+OK") {
			return fmt.Errorf("%s: %q, %w", strings.Fields(command)[0], reply, err)
		}
		switch strings.Fields(command)[0] {
		case "STLS":
			conn = crypto.Client(conn, config)
			r = bufio.NewReader(conn)
		case "UIDL", "RETR", "TOP":
			for reply != ".\r\n" {
				if reply, err = line(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
