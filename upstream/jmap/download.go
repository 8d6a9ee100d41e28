package jmap

import (
	"fmt"
	"net/http"
	"time"

	"github.com/popgate/popgate/upstream"
)

// ask asks for the octets [from, to) of the blob, or for all of it, and reads up
// to the header of the answer: status 206 with exactly these octets, or 200 with
// all of them. A request that ended without an answer is sent again once.
func (b *body) ask(from, to int64, ranged bool) (*http.Response, error) {
	start := time.Now()
	resp, err := b.askOnce(from, to, ranged)
	if b.drop.client.store.mayRepeat(b.ctx, err) {
		resp, err = b.askOnce(from, to, ranged)
	}
	b.drop.client.store.traceEnd(opFetch, start, err)
	return resp, err
}

func (b *body) askOnce(from, to int64, ranged bool) (*http.Response, error) {
	header := http.Header{"Accept": {"*/*"}}
	if ranged {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	}
	stop := b.watch(b.drop.client.store.o.CallTime, "no answer within %v")
	resp, err := b.drop.client.send(b.ctx, opFetch, http.MethodGet, b.url, nil, header)
	stop()
	if err != nil {
		return nil, err
	}
	want := to - from
	switch {
	case resp.StatusCode == http.StatusOK:
		want = b.size
		if from > 0 {
			resp.Body.Close()
			return nil, failf(upstream.Unavailable, opFetch, "the server knew ranges, and does not any more")
		}
	case resp.StatusCode == http.StatusPartialContent && ranged:
		told := resp.Header.Get("Content-Range")
		if told != fmt.Sprintf("bytes %d-%d/%d", from, to-1, b.size) {
			resp.Body.Close()
			return nil, failf(upstream.Unavailable, opFetch, "asked for %d octets from %d on of %d, got %s", want, from, b.size, shown(told))
		}
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		discard(resp)
		return nil, fail(upstream.Unavailable, opFetch, errNotFound)
	default:
		return nil, statusOf(opFetch, resp)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		resp.Body.Close()
		return nil, failf(upstream.Unavailable, opFetch, "%d octets were listed and %d come", want, resp.ContentLength)
	}
	return resp, nil
}

// watch ends the body if the function that it returns is not called in time.
func (b *body) watch(d time.Duration, text string) (stop func()) {
	timer := time.AfterFunc(d, func() { b.cancel(fmt.Errorf(text, d)) })
	return func() { timer.Stop() }
}
