package pop3

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// Bounds of what is written down of one session.
const (
	earlyNotes = 50   // until it is known who the client is
	maxNotes   = 5000 // in all
	maxNote    = 300  // octets of one
)

// A transcript is the dialogue of one session, with the client and with the mail
// service, for an operator who asked to see it. It goes to the log, a line for each
// note.
//
// No octet of either side gets into it as it came: a note is made of what a command
// was taken apart into, or of the engine's own words, and only shapes that are known
// to hold no secret show their arguments. A nil transcript writes nothing down.
type transcript struct {
	log *slog.Logger

	mu    sync.Mutex // a keep-alive of the store speaks beside the session
	early []note
	on    bool // the session is one that was asked for
	notes int
}

type note struct{ from, text string }

// Note writes down what one side said, or what became of it. It implements
// upstream.Transcript for what is said to the mail service.
func (t *transcript) Note(from, text string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.write(from, text)
}

func (t *transcript) write(from, text string) {
	switch {
	case !t.on:
		if len(t.early) < earlyNotes {
			t.early = append(t.early, note{from, text})
		}
	case t.notes < maxNotes:
		if t.notes++; t.notes == maxNotes {
			from, text = "popgate", "more is not written down"
		}
		t.log.Info("transcript", "from", from, "text", text[:min(len(text), maxNote)])
	}
}

// begin writes down what was said so far, and all that follows.
func (t *transcript) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.on {
		return
	}
	t.on = true
	for _, n := range t.early {
		t.write(n.from, n.text)
	}
	t.early = nil
}

// pause ends it until begin is called again.
func (t *transcript) pause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.on = false
	t.early = nil
}

// heard notes a command.
func (t *transcript) heard(known command, ok bool, c pop3wire.Command, a arguments) {
	if t == nil {
		return
	}
	verb := known.verb
	if verb == "" {
		verb = "(unknown command)"
	}
	text := verb
	switch {
	case !ok || verb != known.verb:
		if len(c.Rest) > 0 {
			text = verb + " (hidden)"
		}
	case known.shape == noArguments:
	case known.shape == optionalNumber || known.shape == number:
		if a.n > 0 {
			text = fmt.Sprintf("%s %d", verb, a.n)
		}
	case known.shape == numberAndLines:
		text = fmt.Sprintf("%s %d %d", verb, a.n, a.lines)
	case known.verb == "USER":
		text = verb + " " + clip(string(a.text))
	case known.verb == "AUTH" && a.mechanism != nil && mechanismIsKnown(a.mechanism):
		if text = verb + " " + strings.ToUpper(string(a.mechanism)); a.initial != nil {
			text = text + " (hidden)"
		}
	case len(c.Rest) > 0:
		text = verb + " (hidden)"
	}
	t.Note("client", text)
}

// mechanismIsKnown keeps a password that was typed in the place of a mechanism
// out.
func mechanismIsKnown(name []byte) bool {
	for _, m := range Mechanisms() {
		if strings.EqualFold(m, string(name)) {
			return true
		}
	}
	return false
}
