package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// The account of the demonstration.
const (
	user     = "demo"
	password = "demo"
)

// serveIMAP serves mail on ln, until the function that it returns is called.
func serveIMAP(ln net.Listener, mail []sample) (end func() error, err error) {
	server, err := newIMAPServer(mail)
	if err != nil {
		return nil, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(patient{ln}) // ends with ln; a client notices what goes wrong before
	}()
	return func() error {
		// The server is closed when Serve is at its end: a Close beside the
		// beginning of Serve is a data race of the library's.
		err := ignoreClosed(ln.Close())
		<-served
		return errors.Join(err, ignoreClosed(server.Close()))
	}, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// received is when message i came.
func received(i int) time.Time { return time.Date(2026, time.March, 2, 10, i, 0, 0, time.UTC) }

// newIMAPServer returns a server in memory whose INBOX holds mail.
func newIMAPServer(mail []sample) (*imapserver.Server, error) {
	account := imapmemserver.NewUser(user, password)
	for _, mailbox := range []string{"INBOX", "Trash"} {
		if err := account.Create(mailbox, nil); err != nil {
			return nil, fmt.Errorf("create %s: %w", mailbox, err)
		}
	}
	for i, s := range mail {
		if _, err := account.Append("INBOX", literal{bytes.NewReader(s.raw)}, &imap.AppendOptions{Time: received(i)}); err != nil {
			return nil, fmt.Errorf("append the message with %s: %w", s.what, err)
		}
	}
	store := imapmemserver.New()
	store.AddUser(account)
	return imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return store.NewSession(), nil, nil
		},
		Caps: imap.CapSet{
			imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}, imap.CapMove: {}, imap.CapESearch: {}, imap.CapUnselect: {},
		},
		Logger:       log.New(io.Discard, "", 0), // clients that leave are its only news
		InsecureAuth: true,
	}), nil
}

type literal struct{ *bytes.Reader }

func (l literal) Size() int64 { return l.Reader.Size() }

// patient makes a listener's connections wait for progress instead of for the
// end: the library allows a whole response 30 seconds and a literal 5 minutes,
// and a slow reader of a large message would be cut.
type patient struct{ net.Listener }

func (p patient) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return patientConn{c}, nil
}

type patientConn struct{ net.Conn }

const (
	readTime   = 35 * time.Minute // an idle IMAP client; RFC 3501 section 5.4 wants 30 at least
	writeTime  = 10 * time.Minute // for each piece
	writePiece = 32 << 10
)

func (patientConn) SetDeadline(time.Time) error      { return nil }
func (patientConn) SetReadDeadline(time.Time) error  { return nil }
func (patientConn) SetWriteDeadline(time.Time) error { return nil }

func (c patientConn) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(readTime)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c patientConn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(p[done:min(len(p), done+writePiece)])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
