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

// mostSeries is how many series a configuration may have, as deploy/docs/metrics.md says it. more
// is for shared secrets, tokens and certificates of clients, an auth_http service and
// grants.
func mostSeries(listeners, upstreams, routes, grants int, more bool) int {
	n := 223 + 45*listeners + 182*upstreams + 3*routes + 12*grants
	if more {
		n += 85
	}
	return n
}

// TestTheConfigurationBoundsTheSeries counts the series of a gateway that has several
// of everything, and all that brings some.
func TestTheConfigurationBoundsTheSeries(t *testing.T) {
	testdata, err := filepath.Abs("../config/testdata")
	if err != nil {
		t.Fatal(err)
	}
	plain, monitor := freeAddr(t), freeAddr(t)
	config := filepath.Join(t.TempDir(), "popgate.yaml")
	text := fmt.Sprintf(`
metrics: %[3]s
tls: {cert: %[1]s/tls/cert.pem, key: %[1]s/tls/key.pem}
listen:
  - pop3://%[2]s
  - {url: "pop3s://127.0.0.1:0", name: tokens, bearer: true, shared-secrets: true, client-ca: %[1]s/tls/cert.pem}
  - {url: "pop3s://127.0.0.1:0", name: old, legacy: {from: 127.0.0.0/8, cert: %[1]s/tls/rsa-cert.pem, key: %[1]s/tls/rsa-key.pem}}
upstreams:
  - {name: one, url: imap://127.0.0.1:1}
  - {name: two, url: imap://127.0.0.1:1, reuse: 1m}
  - {name: three, url: jmap+https://127.0.0.1:1}
accounts: {file: %[1]s/routes/accounts}
oauth:
  grants:
    - {name: a, kind: client-credentials, client-id: id, client-secret-file: %[1]s/routes/master.secret, token-url: "https://127.0.0.1:1/", mailboxes: alice@example.com}
    - {name: b, kind: client-credentials, client-id: id, client-secret-file: %[1]s/routes/master.secret, token-url: "https://127.0.0.1:1/", mailboxes: alice@example.com}
routes:
  - {name: a, match: {users: a}, upstream: one, accounts: true, oauth: a}
  - {name: b, match: {users: b}, upstream: two, accounts: true, oauth: b}
  - {name: c, match: {users: c}, upstream: three}
  - {name: d, match: {users: d}, auth-http: {url: "https://127.0.0.1:1/"}}
`, testdata, plain, monitor)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	launchGateway(t, buildGateway(t), plain, "--config", config)
	n, most := len(scrape(t, monitor)), mostSeries(3, 3, 4, 2, true)
	proof.Report(t, "M20", n <= most, "3 listeners, 3 upstreams, 4 routes, 2 grants and all ways to log in: %d series, to be at most %d", n, most)
	if low := most * 3 / 4; n < low {
		t.Errorf("%d series: the bound of %d says little", n, most)
	}
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
	if most := mostSeries(2, 1, 1, 0, false); most > limit {
		t.Errorf("two listeners and one upstream may have %d series, to be at most %d", most, limit)
	}
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
