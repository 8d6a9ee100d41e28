package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
	"github.com/popgate/popgate/upstream"
)

// unread holds the message numbers whose RETR or TOP was answered with -ERR, for
// as long as the client cannot have seen that: a pipelined RETR 1, DELE 1, QUIT
// must not remove what could not be read.
type unread struct {
	numbers []int
	until   int64 // place in the client's stream: what begins here may know
}

func (u *unread) add(n int, in *pop3wire.Reader) {
	u.numbers = append(u.numbers, n)
	u.until = in.Received()
}

// forget is called between two commands.
func (u *unread) forget(in *pop3wire.Reader) {
	if len(u.numbers) > 0 && in.Received()-int64(in.Buffered()) >= u.until {
		u.numbers = u.numbers[:0]
	}
}

func (u *unread) has(n int) bool { return slices.Contains(u.numbers, n) }

func (s *session) retr(a arguments) Result {
	return s.send(a.n, upstream.Extent{}, nil)
}

func (s *session) top(a arguments) Result {
	cut := pop3wire.NewTopCut(a.lines)
	return s.send(a.n, upstream.Extent{Top: true, Lines: a.lines}, &cut)
}

var (
	errShort = errors.New("the message has another length than was announced")
	errStall = errors.New("the mail service stopped sending")
)

// send sends message number n, up to the cut if there is one.
//
// Until the first octet is there, a failure is an -ERR and the session lives.
// From then on the only ends are the terminator, after the store has confirmed
// that all came, and the end of the connection.
func (s *session) send(n int, want upstream.Extent, cut *pop3wire.TopCut) Result {
	if !s.has(n) {
		return s.noSuchMessage()
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(s.opts.UpstreamTime, func() { cancel(errStall) })
	defer watchdog.Stop()

	body, err := s.drop.Retrieve(ctx, index(n), want)
	if err != nil {
		return s.notRead(n, err)
	}
	defer body.Close()
	piece := s.server.buffers.Get()
	defer s.server.buffers.Put(piece)
	p, err := readSome(body, piece[:])
	if err != nil && err != io.EOF {
		return s.notRead(n, err)
	}

	announced, size := body.Octets(), s.drop.Size(index(n))
	s.out.Mark()
	if cut == nil {
		s.okOctets(announced, size)
	} else {
		s.ok("")
	}
	out := pop3wire.NewDotWriter(s.out)
	var taken int64 // octets of the body that belong to the reply
	whole := false
	flushed := time.Now()
	for {
		watchdog.Stop() // the client may take longer than the mail service
		k, enough := len(p), false
		if cut != nil {
			k, enough = cut.Take(p)
		}
		taken += int64(k)
		if _, werr := out.Write(p[:k]); werr != nil {
			return s.broken(out, EndWriteFailed, werr)
		}
		if enough {
			whole = taken == size
			break
		}
		if err == io.EOF {
			if announced >= 0 && taken != announced {
				return s.broken(out, EndUpstreamLost, errShort)
			}
			whole = true // a TOP of more lines than there are is the whole message too
			break
		}
		if s.ctx.Err() != nil {
			return s.broken(out, EndDrained, nil)
		}
		if err != nil {
			return s.broken(out, EndUpstreamLost, err)
		}
		if now := time.Now(); now.Sub(flushed) >= gatherTime {
			s.out.Flush() // the next Write tells an error
			flushed = now
		}
		watchdog.Reset(s.opts.UpstreamTime)
		p, err = readSome(body, piece[:])
	}
	out.Finish()
	// Sent now, though more commands may be buffered: what a client could not
	// take, a DELE behind it must not remove.
	if werr := s.out.Flush(); werr != nil {
		return s.broken(out, EndWriteFailed, werr)
	}
	s.sent(n, out.Octets(), whole, cut == nil)
	if s.transcript != nil {
		s.transcript.Note("popgate", fmt.Sprintf("(%d octets of message %d, whole: %v)", out.Octets(), n, whole))
	}
	return OK
}

// okOctets replies to RETR with the size of what follows, where the store knows
// it better than the list.
func (s *session) okOctets(announced, size int64) {
	if announced < 0 {
		announced = size
	}
	line := strconv.AppendInt(append(s.out.Available(), "+OK "...), announced, 10)
	s.status(append(line, " octets\r\n"...))
}

// readSome reads until there is something, be it an error.
func readSome(r io.Reader, p []byte) ([]byte, error) {
	const maxEmptyReads = 100
	for range maxEmptyReads {
		if n, err := r.Read(p); n > 0 || err != nil {
			return p[:n], err
		}
	}
	return nil, io.ErrNoProgress
}

// notRead replies -ERR for a message of which no octet was sent.
func (s *session) notRead(n int, err error) Result {
	kind := upstream.KindOf(err)
	if kind != upstream.Gone {
		s.log.Warn("message not read", "user", clip(s.user), "cause", kind.String(), "error", err)
	}
	s.unread.add(n, s.in)
	return s.failed(kind)
}

// broken ends the session in the middle of a message.
func (s *session) broken(out *pop3wire.DotWriter, end End, cause error) Result {
	s.out.Rollback() // what comes before it is true all the same
	s.out.Flush()
	s.tally.octets += out.Octets()
	call2(s.opts.Trace.Retrieved, out.Octets(), false)
	s.transcript.Note("popgate", "(the message breaks off: "+string(end)+")")
	return s.cutOff(end, cause)
}

// sent counts a message, or the top of one, that the client has.
func (s *session) sent(n int, octets int64, whole, retr bool) {
	s.tally.octets += octets
	call2(s.opts.Trace.Retrieved, octets, whole)
	if whole {
		s.tally.retrieved++
		s.marks.seen.add(index(n))
	}
	if size := s.drop.Size(index(n)); retr && octets != size {
		call3(s.opts.Trace.SizeMismatch, s.terms.Upstream, size, octets)
	}
}
