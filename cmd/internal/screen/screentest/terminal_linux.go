// Package screentest gives tests a terminal. It runs on Linux.
package screentest

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what has to come.
const patience = time.Minute

// A Terminal is both ends of a pseudo terminal: the program's, and the one that a
// person has before him.
type Terminal struct {
	Program *os.File // input and output of the program

	t      testing.TB
	person *os.File
	mu     sync.Mutex
	text   strings.Builder
	more   chan struct{} // holds one when text has grown
	over   chan struct{}
}

// New opens a terminal of so many columns, until the end of the test.
func New(t testing.TB, columns int) *Terminal {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Fatal("a pseudo terminal: ", err)
		}
	}
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	fail(err)
	fd := int(person.Fd())
	fail(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	fail(err)
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	fail(err)
	fail(unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}))
	term := &Terminal{Program: program, t: t, person: person, more: make(chan struct{}, 1), over: make(chan struct{})}
	go term.read()
	t.Cleanup(func() {
		term.Close()
		person.Close()
	})
	return term
}

// Close closes the program's end, and waits until all that it wrote is read.
func (term *Terminal) Close() {
	term.Program.Close()
	<-term.over
}

func (term *Terminal) read() {
	defer close(term.over)
	buf := make([]byte, 4096)
	for {
		n, err := term.person.Read(buf)
		term.mu.Lock()
		term.text.Write(buf[:n])
		term.mu.Unlock()
		select {
		case term.more <- struct{}{}:
		default:
		}
		if err != nil { // the program's end is closed
			return
		}
	}
}

// Text is all that was shown so far.
func (term *Terminal) Text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.text.String()
}

// Await waits until what is shown holds text.
func (term *Terminal) Await(text string) {
	term.t.Helper()
	timeout := time.After(patience)
	for !strings.Contains(term.Text(), text) {
		select {
		case <-term.more:
		case <-timeout:
			term.t.Fatalf("the terminal does not show %q:\n%q", text, term.Text())
		}
	}
}

// AwaitEcho waits until the terminal shows what is typed, or shows it no more.
func (term *Terminal) AwaitEcho(want bool) {
	term.t.Helper()
	timeout, tick := time.After(patience), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		settings, err := unix.IoctlGetTermios(int(term.person.Fd()), unix.TCGETS)
		if err != nil {
			term.t.Fatal(err)
		}
		if want == (settings.Lflag&unix.ECHO != 0) {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			term.t.Fatalf("the terminal echoes: %v, want %v", !want, want)
		}
	}
}

// Type has the person type.
func (term *Terminal) Type(keys string) {
	term.t.Helper()
	if _, err := io.WriteString(term.person, keys); err != nil {
		term.t.Fatal(err)
	}
}
