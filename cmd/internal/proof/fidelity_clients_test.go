package proof_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// fidelityClient is a POP3 client of the machine: a program that prints the
// SHA-256 of each message, a line each, LF for line ends, and then "end".
type fidelityClient struct {
	name, needs string // needs: a command that tells whether the client is here
	program     []string
}

const fidelityPython = `
import hashlib, poplib, sys
poplib._MAXLINE = 1 << 30  # its limit of 2048 octets a line is its own matter
p = poplib.POP3(sys.argv[1], int(sys.argv[2]))
p.user(sys.argv[3]); p.pass_(sys.argv[4])
for n in range(1, p.stat()[0] + 1):
    print(hashlib.sha256(b"".join(l + b"\n" for l in p.retr(n)[1])).hexdigest())
    p.noop()
p.quit()
print("end")
`

const fidelityPerl = `
use Net::POP3; use Digest::SHA;
my $p = Net::POP3->new($ARGV[0], Port => $ARGV[1], Timeout => 60) or die;
my $n = $p->login($ARGV[2], $ARGV[3]); defined $n or die;
for my $i (1 .. $n) {
    my $m = $p->get($i) or die "RETR $i";
    print Digest::SHA::sha256_hex(join("", @$m)), "\n";
}
$p->quit or die;
print "end\n";
`

// fidelityClients lets real clients read messages over a loopback port, and
// returns those that are here.
func fidelityClients(t *testing.T, total *fidelityCount) (names []string) {
	for _, c := range []fidelityClient{
		{"Python's poplib", "python3 -c pass", []string{"python3", "-c", fidelityPython}},
		{"Perl's Net::POP3", "perl -MNet::POP3 -MDigest::SHA -e1", []string{"perl", "-e", fidelityPerl}},
	} {
		if needs := strings.Fields(c.needs); exec.CommandContext(t.Context(), needs[0], needs[1:]...).Run() != nil {
			t.Logf("left out: %s is not here", c.name)
			continue
		}
		names = append(names, c.name)
		for n := range proof.Pick(1, 4, 100) {
			t.Run(fmt.Sprint(c.name, n), func(t *testing.T) { fidelityRealClient(t, total, c, uint64(n)) })
		}
	}
	return names
}

func fidelityRealClient(t *testing.T, total *fidelityCount, c fidelityClient, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 13))
	list := fidelityTable()
	for range 100 {
		list = append(list, fidelityRandom(r))
	}
	total.messages += len(list)
	srv := fidelityDeliver(t, imaptest.Full(), list)
	host, port := fidelityListen(t, fidelityEngine(t, srv, pop3.Options{}, imap.Options{}))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	script := filepath.Join(t.TempDir(), "client")
	if err := os.WriteFile(script, []byte(c.program[2]), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, c.program[0], script, host, port, imaptest.DefaultUser, imaptest.DefaultPassword).CombinedOutput()
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(got) != len(list)+1 || got[len(list)] != "end" {
		t.Fatalf("%v, %d lines of %d: %.500s", err, len(got), len(list)+1, out)
	}
	for i, m := range list {
		sum := sha256.Sum256([]byte(strings.ReplaceAll(m.normalised(), "\r\n", "\n")))
		if got[i] != hex.EncodeToString(sum[:]) {
			total.differences++
			t.Errorf("message %d (%s) is another one: %.200q", i+1, m.class, m.body)
		}
		total.readings++
	}
}

// fidelityListen serves s on a loopback port until the test ends.
func fidelityListen(t *testing.T, s *pop3.Server) (host, port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.Serve(t.Context(), c, pop3.Via{Listener: "proof"})
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	addr := ln.Addr().(*net.TCPAddr)
	return addr.IP.String(), strconv.Itoa(addr.Port)
}
