package jmap

import (
	"context"

	"github.com/popgate/popgate/upstream"
)

// blobsAhead is for how many messages at a time it is asked which blob they are.
const blobsAhead = 64

// maildrop is the mailbox with its snapshot.
type maildrop struct {
	client  *client
	life    context.Context // ends with Close
	mailbox string          // id
	body    *body           // the body that is being read, if any

	// Which blobs the messages from first on are, as the server told last; ""
	// where it is not known. The listing keeps none: they take more than ids.
	first int
	blobs []string
	last  int // whose blob was asked for last

	noRanges bool // the server was seen to know none
	ahead    *ahead

	*snapshot
}

func (m *maildrop) Len() int { return m.octets.n }

func (m *maildrop) Size(i int) int64 { return m.octets.at(i) }

// AppendUIDL appends the id of the Email, folded past 70 octets. The format is
// kept for ever: clients know their mail by it.
func (m *maildrop) AppendUIDL(dst []byte, i int) []byte {
	var space [maxID]byte
	_ = m.octets.at(i) // panics out of range
	return upstream.AppendFoldedUIDL(dst, m.ids.append(space[:0], i))
}

func (m *maildrop) id(i int) string { return string(m.ids.append(nil, i)) }

func (m *maildrop) idsAt(at []int) []string {
	out := make([]string, len(at))
	for k, i := range at {
		out[k] = m.id(i)
	}
	return out
}

// span gives a context that ends with Close too.
func (m *maildrop) span(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.life, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

// idle checks that a call of the session may begin.
func (m *maildrop) idle(op string) error {
	switch {
	case m.life.Err() != nil:
		return fail(upstream.Internal, op, errClosed)
	case m.body != nil:
		return failf(upstream.Internal, op, "a body is open")
	}
	return nil
}

// get asks for Emails by id, as many as fit into one call.
func (m *maildrop) get(ctx context.Context, asked []string, properties ...string) (emails, error) {
	var got emails
	err := m.client.do(ctx, opLook, answerLimit(len(asked)), getCall(asked, &got, properties...))
	if err == nil {
		err = got.complete(asked)
	}
	return got, err
}

func getCall(asked []string, out *emails, properties ...string) call {
	return call{"Email/get", map[string]any{"ids": asked, "properties": properties}, out}
}

// known is which blob message i is, if the server told; "" else.
func (m *maildrop) known(i int) string {
	if k := i - m.first; k >= 0 && k < len(m.blobs) {
		return m.blobs[k]
	}
	return ""
}

// blob returns which blob message i is. Where that is not known it is asked for,
// for the messages beside it too, in the direction that the client goes.
func (m *maildrop) blob(ctx context.Context, i int) (string, error) {
	if b := m.known(i); b != "" {
		m.last = i
		return b, nil
	}
	n := m.client.limits.perCall(blobsAhead, m.client.limits.Get, maxID+8)
	from, to := i, min(i+n, m.Len())
	if i == m.last-1 {
		from, to = max(i-n+1, 0), i+1
	}
	at := make([]int, 0, to-from)
	for k := from; k < to; k++ {
		at = append(at, k)
	}
	asked := m.idsAt(at)
	m.last, m.blobs = i, nil
	got, err := m.get(ctx, asked, "id", "blobId", "mailboxIds")
	if err != nil {
		return "", err
	}
	told := make(map[string]string, len(got.List))
	for _, e := range got.List {
		if e.Mailboxes[m.mailbox] && validID(e.Blob) {
			told[e.ID] = e.Blob
		}
	}
	m.first, m.blobs = from, make([]string, len(asked))
	for k, id := range asked {
		m.blobs[k] = told[id]
	}
	if b := m.blobs[i-from]; b != "" {
		return b, nil
	}
	return "", failf(upstream.Gone, opFetch, "the message is not in the mailbox any more")
}
