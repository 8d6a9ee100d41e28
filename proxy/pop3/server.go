package pop3

import (
	"context"
	"net"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// A Server serves POP3 sessions. Make one with [NewServer]. It is safe for
// concurrent use.
type Server struct {
	opts     Options
	commands map[string]command
	buffers  pop3wire.Buffers
	digests  *digests // nil: no shared secrets
}

// Via tells how a connection came in.
type Via struct {
	Listener string // name of the listener, for the log and metrics
	TLS      bool   // the connection is encrypted already
}

// NewServer checks o.
func NewServer(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, commands: map[string]command{}}
	for _, c := range commandTable() {
		s.commands[c.verb] = c
	}
	if o.Shared == nil {
		delete(s.commands, mechAPOP)
	} else {
		s.digests = newDigests(o.Shared)
	}
	return s, nil
}

// Serve serves one connection to its end and closes it. It returns when
// everything that the session held is released.
//
// The end of ctx is the end of all patience: a message that is being sent is cut
// off, and else the session ends at the next command with -ERR and without
// UPDATE. An UPDATE that has begun goes on to its end.
func (s *Server) Serve(ctx context.Context, conn net.Conn, via Via) {
	x := newSession(ctx, s, conn, via)
	defer x.conn.stream().Close() // whatever else fails
	call(s.opts.Trace.SessionStarted, via)
	stop := context.AfterFunc(ctx, x.conn.wake)
	defer stop()
	x.guard(x.run)
	x.guard(x.letGo)
	x.guard(x.hangUp)
	x.guard(x.report)
}
