package demo

import (
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/popgate/popgate/upstream/jmap/jmapmem"
)

// serveJMAP serves mail on ln, until the function that it returns is called.
func serveJMAP(ln net.Listener, mail []sample) (end func() error, err error) {
	account := jmapmem.New(jmapmem.Options{User: user, Password: password, Ranges: true})
	for i, s := range mail {
		account.DeliverAt(s.raw, received(i), jmapmem.Inbox)
	}
	server := &http.Server{
		Handler:     account,
		ReadTimeout: time.Minute, WriteTimeout: writeTime, IdleTimeout: 5 * time.Minute,
		ErrorLog: log.New(io.Discard, "", 0), // clients that leave are its only news
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln) // ends with the server; a client notices what goes wrong before
	}()
	return func() error {
		err := ignoreClosed(server.Close())
		<-served
		return err
	}, nil
}
