package proof_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// scrape reads the series that a gateway tells at its metrics address.
func scrape(t testing.TB, addr string) map[string]float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(strings.TrimSpace(line), ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		series[line[:at]] = value
	}
	return series
}

// TestNothingThatClientsSayMakesASeries sends users, addresses, server names,
// mechanisms, verbs and errors of the mail service, all different, through the
// gateway as it is deployed, and counts the series before and after.
func TestNothingThatClientsSayMakesASeries(t *testing.T) {
	count := proof.Pick(100, 2000, 100_000)
	srv := imaptest.New(t, imaptest.Full(), imaptest.TCP())
	for i := range min(count, 1000) {
		srv.Before("AUTHENTICATE", i+1, imaptest.NO(fmt.Sprintf("[CODE-%d] text %d", i, i)))
	}
	secure, monitor := freeAddr(t), freeAddr(t)
	certs, err := filepath.Abs("../config/testdata/tls")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "popgate.yaml")
	if err := os.WriteFile(config, []byte("throttle: {delay: 0s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, buildGateway(t), srv.Addr(), "--config", config, "--log-level", "error", "--metrics", monitor, "--listen", "pop3s://"+secure,
		"--tls-cert", filepath.Join(certs, "cert.pem"), "--tls-key", filepath.Join(certs, "key.pem"))
	before := scrape(t, monitor)
	memory := g.memory(t, "VmRSS")

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var wg sync.WaitGroup
	work := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range work {
				if err := cardinalityClient(ctx, g.addr, secure, i); err != nil {
					cancel(fmt.Errorf("session %d: %w", i, err))
					return
				}
			}
		})
	}
	for i := 0; i < count && ctx.Err() == nil; i++ {
		select {
		case work <- i:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		t.Fatal(err)
	}
	after := scrape(t, monitor)
	for s := range after {
		if _, known := before[s]; !known {
			t.Errorf("a new series: %s", s)
		}
	}
	if after["popgate_logins_total{mechanism=\"USER\",result=\"refused\"}"] == before["popgate_logins_total{mechanism=\"USER\",result=\"refused\"}"] {
		t.Error("no login was counted: nothing was measured")
	}
	const limit = 500
	proof.Report(t, "M20", len(after) <= limit, "%d users, addresses, server names, verbs and mechanisms, all different: %d series before, %d after, to be at most %d; RSS grew by %.1f MiB",
		count, len(before), len(after), limit, float64(g.memory(t, "VmRSS")-memory)/(1<<20))
}

// cardinalityClient is a session in which everything has a name of its own.
func cardinalityClient(ctx context.Context, plain, secure string, i int) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(1+i>>16), byte(i>>8), byte(i))}, Timeout: 30 * time.Second}
	addr := plain
	if i%2 == 0 {
		addr = secure
	}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if addr == secure {
		// Whose certificate it is does not matter here.
		conn = tls.Client(conn, &tls.Config{ServerName: fmt.Sprintf("host-%d.example", i), InsecureSkipVerify: true})
	}
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil {
		return err
	}
	for _, line := range []string{fmt.Sprintf("VERB%d x", i), fmt.Sprintf("AUTH MECH-%d", i), fmt.Sprintf("USER user-%d", i), fmt.Sprintf("PASS word-%d", i), "QUIT"} {
		if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if _, err := r.ReadString('\n'); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	return nil
}
