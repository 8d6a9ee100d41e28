package main

import (
	"context"
	"net"
	"sync"
	"time"
)

// A delayLine relays TCP connections over a line of a given round-trip time. It
// limits no throughput.
type delayLine struct {
	ln     net.Listener
	target string
	rtt    time.Duration
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// chunk is how much is read at a time; inFlight chunks may be on the line in one
// direction.
const (
	chunk    = 64 << 10
	inFlight = 1024
)

func newDelayLine(ctx context.Context, target string, rtt time.Duration) (*delayLine, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delayLine{ln: ln, target: target, rtt: rtt}
	ctx, d.cancel = context.WithCancel(ctx)
	d.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { d.relay(ctx, c) })
		}
	})
	return d, nil
}

func (d *delayLine) addr() string { return d.ln.Addr().String() }

func (d *delayLine) close() {
	d.cancel()
	d.ln.Close()
	d.wg.Wait()
}

// relay serves one connection. The client believes to be connected a round trip
// too early, so that its octets have that to wait in addition.
func (d *delayLine) relay(ctx context.Context, client net.Conn) {
	defer client.Close()
	accepted := time.Now()
	reached := accepted.Add(d.rtt * 3 / 2) // when the server has the client's ACK
	sleep(ctx, reached)
	server, err := net.Dial("tcp", d.target)
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { d.carry(ctx, server, client, reached) })
	d.carry(ctx, client, server, reached)
	wg.Wait()
}

// carry moves octets from src to dst, each half a round trip later and none
// before earliest.
func (d *delayLine) carry(ctx context.Context, dst, src net.Conn, earliest time.Time) {
	type parcel struct {
		octets []byte
		due    time.Time
	}
	line := make(chan parcel, inFlight)
	go func() {
		defer close(line)
		for {
			b := make([]byte, chunk)
			n, err := src.Read(b)
			due := time.Now().Add(d.rtt / 2)
			if due.Before(earliest) {
				due = earliest
			}
			select {
			case line <- parcel{b[:n], due}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range line {
		sleep(ctx, p.due)
		if _, err := dst.Write(p.octets); err != nil {
			src.Close()
			for range line { // until the reader has noticed
			}
			return
		}
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func sleep(ctx context.Context, until time.Time) {
	d := time.Until(until)
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
