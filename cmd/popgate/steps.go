package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/popgate/popgate/cmd/internal/screen"
	"github.com/popgate/popgate/upstream"
)

// A step is one thing that was tried on the way to a mailbox. This is what `popgate
// check --connect --json` prints.
type step struct {
	Step    string  `json:"step"` // lookup, connect, tls, answer, route, login, list or inspect
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"`
	Text    string  `json:"text"`           // what was found, or what is wrong
	Hint    string  `json:"hint,omitempty"` // what to do about it
}

// A walk takes down the steps of one way, and shows them as they come. It is safe
// for concurrent use.
type walk struct {
	page     io.Writer // nil: they are shown later
	paint    func(screen.Color, string) string
	progress *screen.Screen
	name     string
	hint     func(error) string

	certificates bool // those that end soon are warned of

	mu       sync.Mutex
	lookup   bool // a name is looked up: connections are to name servers
	line     *screen.Line
	last     time.Time // when the last step ended
	steps    []step
	warnings []string
}

// begin starts the clock.
func (w *walk) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
	w.line = w.progress.Progress("%s ...", w.name)
}

// end takes the line of progress away.
func (w *walk) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.line.Stop()
}

func (w *walk) doing(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.line.Set("%s: %s", w.name, fmt.Sprintf(format, args...))
}

// done is the end of a step: with text if err is nil.
func (w *walk) done(name, text string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := step{Step: name, OK: err == nil, Seconds: time.Since(w.last).Seconds(), Text: screen.Plain(text)}
	if err != nil {
		s.Text, s.Hint = screen.Plain(cause(err)), w.hint(err)
	}
	w.last = time.Now()
	w.steps = append(w.steps, s)
	w.show(func(out io.Writer) { s.print(out, w.paint) })
}

// failed is the end of the whole way. Where the step that failed told of it, or the
// user has ended it, there is no more to tell.
func (w *walk) failed(ctx context.Context, name string, err error) {
	w.mu.Lock()
	told := len(w.steps) > 0 && !w.steps[len(w.steps)-1].OK
	w.mu.Unlock()
	if !told && ctx.Err() == nil {
		w.done(name, "", err)
	}
}

// asking says whether a name is being looked up.
func (w *walk) asking(is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookup = is
}

func (w *walk) isAsking() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lookup
}

func (w *walk) warn(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := screen.Plain(fmt.Sprintf(format, args...))
	w.warnings = append(w.warnings, text)
	w.show(func(out io.Writer) { fmt.Fprintf(out, "  %s %s\n", w.paint(screen.Doubt, "warning:"), text) })
}

// show prints without a line of progress in the way.
func (w *walk) show(print func(io.Writer)) {
	if w.page == nil {
		return
	}
	w.line.Stop()
	print(w.page)
	w.line = w.progress.Progress("%s: waiting for an answer", w.name)
}

func (s step) print(out io.Writer, paint func(screen.Color, string) string) {
	word := paint(screen.Good, "ok  ")
	if !s.OK {
		word = paint(screen.Bad, "FAIL")
	}
	fmt.Fprintf(out, "  %-7s  %s  %7s  %s\n", s.Step, word, brief3(s.Seconds), s.Text)
	if s.Hint != "" {
		fmt.Fprintf(out, "  %-7s  what to do: %s\n", "", s.Hint)
	}
}

// brief3 is a time as a person reads it.
func brief3(seconds float64) string {
	if seconds < 1 {
		return fmt.Sprintf("%.0f ms", seconds*1000)
	}
	return fmt.Sprintf("%.1f s", seconds)
}

// cause is the text of an error on one line, without the words that classed it.
func cause(err error) string {
	if e, ok := err.(*upstream.Error); ok && e.Err != nil {
		err = e.Err
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// hooks lets w see how connections are made under the context.
func (w *walk) hooks(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) {
			w.asking(true)
			w.doing("looking up the name")
		},
		DNSDone: func(i httptrace.DNSDoneInfo) {
			var all []string
			for _, a := range i.Addrs {
				all = append(all, a.String())
			}
			w.asking(false)
			w.done("lookup", strings.Join(all, ", "), i.Err)
		},
		ConnectStart: func(_, address string) { w.doing("connecting to %s", address) },
		ConnectDone: func(_, address string, err error) {
			if w.isAsking() {
				return
			}
			if e, ok := errors.AsType[*net.OpError](err); ok {
				err = fmt.Errorf("%s: %w", address, e.Err)
			}
			w.done("connect", address, err)
		},
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			w.done("tls", handshakeText(s), err)
			if err == nil {
				w.certificate(s)
			}
		},
	})
}

// handshakeText says with whom TLS was agreed on.
func handshakeText(s tls.ConnectionState) string {
	text := tls.VersionName(s.Version)
	if len(s.PeerCertificates) > 0 {
		leaf := s.PeerCertificates[0]
		names := slices.Concat(leaf.DNSNames, []string{leaf.Subject.CommonName})
		text += fmt.Sprintf(", certificate of %s by %s, until %s", names[0], leaf.Issuer.CommonName, leaf.NotAfter.Format(time.DateOnly))
	}
	return text
}

// soon is how long before its end a certificate is worth a warning.
const soon = 14 * 24 * time.Hour

func (w *walk) certificate(s tls.ConnectionState) {
	if w.certificates && len(s.PeerCertificates) > 0 && time.Until(s.PeerCertificates[0].NotAfter) < soon {
		w.warn("the mail server's certificate ends on %s; after that nobody can log in", s.PeerCertificates[0].NotAfter.Format(time.DateOnly))
	}
}
