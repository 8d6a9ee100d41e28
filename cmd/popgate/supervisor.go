package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// supervisor is systemd, where it has started the process and wants to be told
// (sd_notify(3)); elsewhere it hears nothing.
type supervisor struct{ log *slog.Logger }

func (s supervisor) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd could not be told", "state", state, "error", err)
	}
}

func (s supervisor) ready(status string) { s.tell(daemon.SdNotifyReady + "\nSTATUS=" + status) }

func (s supervisor) draining() {
	s.tell(daemon.SdNotifyStopping + "\nSTATUS=draining: no new sessions")
}

// successor says that another process is the service from now on.
func (s supervisor) successor(pid int) { s.tell(fmt.Sprintf("MAINPID=%d\nSTATUS=handed over", pid)) }

// watch tells the watchdog that the process lives, twice as often as it wants to
// hear it, until ctx ends. alive returns when what must not hang does not hang.
func (s supervisor) watch(ctx context.Context, alive func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		alive()
		s.tell(daemon.SdNotifyWatchdog)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
