package proof_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// TestCommandsCostAboutWhatTheyCostTheClient compares the gateway's processor
// time with that of its peers, for the commands that make most of least.
func TestCommandsCostAboutWhatTheyCostTheClient(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	messages := proof.Pick(1000, 20_000, 100_000)
	span := proof.Pick(200*time.Millisecond, time.Second, 10*time.Second)
	srv := imaptest.New(t, imaptest.Full(), imaptest.TCP())
	srv.INBOX().AppendBody(largeBody(50_000_000), largeBody(50_000_000).Size())
	for range messages {
		srv.INBOX().Append("Subject: x\r\n\r\nx\r\n")
	}
	g := startGateway(t, buildGateway(t), srv.Addr(), "--log-level", "error")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	worst, worstMix := 0.0, ""
	mixes := []struct {
		command string
		multi   bool // the reply ends in a dot
		batch   int  // commands in one write
	}{
		{"LIST", true, 1}, {"UIDL", true, 1}, {"CAPA", true, 50}, {"STAT", false, 50}, {"NOOP", false, 50}, {"LIST 7", false, 50},
		{"UIDL 7", false, 50}, {"RETR 99999999", false, 50}, {"RSET", false, 50},
		{"TOP 1 0", true, 1}, {"TOP 1 5", true, 1}, {"RETR 2", true, 1},
	}
	for _, mix := range mixes {
		c, err := dialWire(ctx, g.addr, nil)
		if err == nil {
			err = c.login(imaptest.DefaultUser, imaptest.DefaultPassword)
		}
		if err != nil {
			t.Fatal(err)
		}
		batch := strings.Repeat(mix.command+"\r\n", mix.batch)
		stop := time.Now().Add(span)
		c.SetDeadline(stop.Add(time.Minute))
		self, gate := ownCPU(t), g.cpu(t)
		for time.Now().Before(stop) && err == nil {
			_, err = io.WriteString(c, batch)
			for n := 0; n < mix.batch && err == nil; n++ {
				var line []byte
				for line, err = c.r.ReadSlice('\n'); mix.multi && err == nil && string(line) != ".\r\n"; line, err = c.r.ReadSlice('\n') {
				}
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", mix.command, err)
		}
		self, gate = ownCPU(t)-self, g.cpu(t)-gate
		c.Close()
		if ratio := gate.Seconds() / max(self.Seconds(), 0.01); ratio > worst {
			worst, worstMix = ratio, fmt.Sprintf("%s, %v against %v", mix.command, gate.Round(time.Millisecond), self.Round(time.Millisecond))
		}
	}
	proof.Report(t, "T39", worst <= 10, "%d commands, over and over, on a maildrop of %d messages: the gateway's processor time is at most %.1f times that of client and mail server together (%s)", len(mixes), messages+1, worst, worstMix)
}

// ownCPU is the processor time of this process.
func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
