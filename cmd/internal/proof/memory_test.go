package proof_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// TestMemoryOfASession measures what idle sessions take of the gateway, a process
// of its own: clients and servers are in this one. Sockets are the system's and
// not counted.
func TestMemoryOfASession(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	n := proof.Pick(50, 500, 2000)
	ca := imaptest.NewCA(t)
	cert, key := pemFiles(t, ca)
	bin := buildGateway(t)
	plain := crowd(t, n, largeBody(1000))
	secure := crowd(t, n, largeBody(1000), imaptest.ImplicitTLS(ca))
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()

	// Each has a process of its own.
	measure := func(t *testing.T, front, back, login bool, rest time.Duration) (fresh, settled float64) {
		t.Helper()
		addr, config, upstream := freeAddr(t), (*tls.Config)(nil), "imap://"+plain.Addr()
		if back {
			upstream = "imaps://" + secure.Addr()
		}
		g := startGateway(t, bin, upstream, "--log-level", "error", "--listen", "pop3s://"+addr, "--tls-cert", cert, "--tls-key", key,
			"--upstream-ca", authority)
		if front {
			config = ca.ClientConfig()
		} else {
			addr = g.addr
		}
		if err := visit(ctx, g.addr, crowdUser(0), "pw"); err != nil {
			t.Fatal(err)
		}
		before := g.pss(t)
		each := func() float64 { return float64(g.pss(t)-before) / float64(n) / 1000 }
		for i := range n {
			p, err := dialWire(ctx, addr, config)
			if err == nil {
				defer p.Close()
			}
			if err == nil && login {
				err = p.login(crowdUser(i), "pw")
			}
			if err != nil {
				t.Fatalf("session %d: %v", i, err)
			}
		}
		fresh = each()
		time.Sleep(rest)
		return fresh, each()
	}
	type figure struct {
		name               string
		front, back, login bool
		most               float64 // kB; 0: no figure to reach
	}
	for _, f := range []figure{
		{"before login, plain", false, false, false, 0},
		{"before login, TLS", true, false, false, 0},
		{"after login, plain on both legs", false, false, true, 48},
		{"after login, TLS on both legs", true, true, true, 96},
	} {
		t.Run(f.name, func(t *testing.T) {
			rest := time.Duration(0)
			if f.most > 0 {
				// Without work the runtime collects garbage every 2 minutes, and
				// gives back to the system what that has freed.
				rest = proof.Pick(0, 0, 150*time.Second)
			}
			fresh, settled := measure(t, f.front, f.back, f.login, rest)
			ok := f.most == 0 || max(fresh, settled) <= f.most
			proof.Report(t, "M13", ok, "PSS of an idle session, %d at a time, %s: %.1f kB at once, %.1f kB %v later", n, f.name, fresh, settled, rest)
		})
	}
}
