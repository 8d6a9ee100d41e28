package pop3

import (
	"context"
	"errors"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
	"github.com/popgate/popgate/upstream"
)

// quit answers QUIT. Before login it just ends (RFC 1939 section 4); after it
// the session enters UPDATE.
func (s *session) quit(arguments) Result {
	if s.state == authorization {
		s.finish(EndQuit)
		return s.ok("bye")
	}
	s.enterUpdate()
	receipt, err := s.commit()
	// A client may come back the moment it reads the reply, and must find the
	// maildrop free then.
	s.closeAccount()
	s.finish(EndQuit)
	switch {
	case s.marks.marked() == 0: // a failed \Seen never changes the answer
		return s.ok("bye")
	case err == nil && receipt.Kept == 0:
		return s.ok("bye, the marked messages are removed")
	}
	code := pop3wire.SysTemp
	if kind := upstream.KindOf(err); err != nil && (kind == upstream.Internal || kind == upstream.TooBig) {
		code = pop3wire.SysPerm
	}
	return s.err(code, "some deleted messages not removed")
}

// commit is the UPDATE state (RFC 1939 section 6): the only place that changes
// anything in a maildrop.
func (s *session) commit() (upstream.Receipt, error) {
	ch := upstream.Changes{Remove: s.marks.deleted.list()}
	if s.terms.MarkSeen {
		ch.Seen = s.marks.seen.list()
	}
	if len(ch.Remove) == 0 && len(ch.Seen) == 0 {
		return upstream.Receipt{}, nil
	}
	done := &s.tally.deletions
	done.Kept = len(ch.Remove) // what is not confirmed, should Update never return

	// The QUIT line is here: the client's wish is complete, and whether it or
	// the whole server goes away meanwhile changes nothing. Half of a removal
	// would be the worst of all answers, so the context is not the session's;
	// its own deadline ends it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.opts.UpdateTime)
	defer cancel()
	r, err := s.drop.Update(ctx, ch)

	if r.Removed < 0 || r.Missing < 0 || r.Kept < 0 || r.Removed+r.Missing+r.Kept != len(ch.Remove) {
		s.log.Error("receipt does not balance", "user", clip(s.user), "removed", r.Removed, "missing", r.Missing,
			"kept", r.Kept, "marked", len(ch.Remove))
		r = upstream.Receipt{Kept: len(ch.Remove)}
		err = errors.Join(err, &upstream.Error{Kind: upstream.Internal, Op: "update"})
	}
	done.Removed, done.Missing, done.Kept = r.Removed, r.Missing, r.Kept
	if err != nil {
		s.log.Warn("update failed", "user", clip(s.user), "cause", upstream.KindOf(err).String(), "removed", r.Removed,
			"missing", r.Missing, "kept", r.Kept, "error", err)
	}
	return r, err
}
