//go:build !unix

package main

import (
	"context"
	"errors"
	"syscall"
)

const handOverSignal = syscall.Signal(-1) // which nobody sends

type started struct{}

func startedAs() started { return started{} }

func (*gateway) handOver(context.Context, started) (int, error) {
	return 0, errors.New("this system has no way to hand sockets over")
}

func takingOver() (serves func()) { return func() {} }
