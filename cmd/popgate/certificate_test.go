package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
)

// A renewal is a certificate that somebody renews while popgate runs.
type renewal struct {
	t         *testing.T
	cert, key string // files
	log       *logBuffer
	metrics   *metrics.Metrics
	certs     *certificates
}

const renewed = "pop3s://127.0.0.1:995"

// newRenewal has certificate 1.
func newRenewal(t *testing.T) *renewal {
	dir := t.TempDir()
	r := &renewal{t: t, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), log: &logBuffer{}}
	r.write(makePair(t, 1))
	cfg, err := config.Load("", config.Flags{"listen": {renewed}, "upstream": {"imap://127.0.0.1"}, "tls-cert": {r.cert}, "tls-key": {r.key}})
	if err != nil {
		t.Fatal(err)
	}
	names := listenerNames(cfg.Listen)
	r.metrics = metrics.New(metrics.Build{}, labelSets(cfg))
	if r.certs, err = openCertificates(cfg, names, r.metrics, slog.New(slog.NewJSONHandler(r.log, nil))); err != nil {
		t.Fatal(err)
	}
	return r
}

// makePair makes certificate number n, which expires in n hours.
func makePair(t *testing.T, n int64) (cert, key []byte) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(n*3600, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func (r *renewal) write(cert, key []byte) {
	r.t.Helper()
	for file, data := range map[string][]byte{r.cert: cert, r.key: key} {
		r.replace(file, data)
	}
}

// replace puts another file in the place, as a renewal does.
func (r *renewal) replace(file string, data []byte) {
	r.t.Helper()
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		r.t.Fatal(err)
	}
}

// poll looks as often as a change needs to be seen and found settled.
func (r *renewal) poll() {
	for range 2 {
		r.certs.pairs[0].poll()
	}
}

// shows checks which certificate a client gets, what the metric says of it, how
// many failures were counted, and whether it is the one in the files.
func (r *renewal) shows(n int64, failures, good int) {
	r.t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	secure := tls.Server(server, r.certs.config[0])
	done := make(chan error, 1)
	go func() { done <- secure.Handshake() }()
	c := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	if got := c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != n {
		r.t.Errorf("certificate %d is shown, want %d", got, n)
	}
	want := fmt.Sprintf(`
# HELP popgate_certificate_expiry_timestamp_seconds When the certificate of a listener expires, in Unix time.
# TYPE popgate_certificate_expiry_timestamp_seconds gauge
popgate_certificate_expiry_timestamp_seconds{listener=%[1]q} %[2]d
# HELP popgate_certificate_last_reload_successful Whether the certificate that a listener shows is the one in its files: 0 while the files are of no use and the last one stays.
# TYPE popgate_certificate_last_reload_successful gauge
popgate_certificate_last_reload_successful{listener=%[1]q} %[4]d
# HELP popgate_certificate_reload_failures_total New certificates of a listener that were of no use; the last one stayed.
# TYPE popgate_certificate_reload_failures_total counter
popgate_certificate_reload_failures_total{listener=%[1]q} %[3]d
`, renewed, n*3600, failures, good)
	if err := testutil.GatherAndCompare(r.metrics.Gatherer(), strings.NewReader(want),
		"popgate_certificate_expiry_timestamp_seconds", "popgate_certificate_last_reload_successful", "popgate_certificate_reload_failures_total"); err != nil {
		r.t.Error(err)
	}
}

func (r *renewal) logged(text string, times int) {
	r.t.Helper()
	if got := strings.Count(r.log.String(), text); got != times {
		r.t.Errorf("%q is in the log %d times, want %d:\n%s", text, got, times, r.log)
	}
}

func TestANewCertificateIsShown(t *testing.T) {
	r := newRenewal(t)
	r.poll()
	r.shows(1, 0, 1)
	r.write(makePair(t, 2))
	r.poll()
	r.shows(2, 0, 1)
	r.logged("a new certificate", 1)
}

func TestABrokenCertificateLeavesTheLast(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(r *renewal)
		want  string // in the log
	}{
		{"not_PEM", func(r *renewal) { r.replace(r.cert, []byte("half a file")) }, "holds no certificate in PEM"},
		{"empty", func(r *renewal) { r.replace(r.key, nil) }, "holds no private key in PEM"},
		{"another_key", func(r *renewal) { _, key := makePair(t, 2); r.replace(r.key, key) }, "does not belong to the first certificate"},
		{"gone", func(r *renewal) { os.Remove(r.cert) }, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRenewal(t)
			tt.spoil(r)
			r.poll()
			r.poll()
			r.shows(1, 1, 0)
			r.logged("the last one stays", 1) // and not at every look
			r.logged(tt.want, 1)
			r.write(makePair(t, 3))
			r.poll()
			r.shows(3, 1, 1)
			os.Remove(r.cert)
			r.poll()
			r.shows(3, 2, 0) // a failure after a success is told again
		})
	}
}

// Files that are as they were are no failure any more.
func TestTheLastCertificateMayComeBack(t *testing.T) {
	r := newRenewal(t)
	if err := os.Rename(r.cert, r.cert+".away"); err != nil {
		t.Fatal(err)
	}
	r.poll()
	r.shows(1, 1, 0)
	if err := os.Rename(r.cert+".away", r.cert); err != nil {
		t.Fatal(err)
	}
	r.poll()
	r.shows(1, 1, 1)
}

// What is being written is left alone: the files are read when two looks in a row
// saw the same.
func TestAHalfWrittenCertificateIsNotRead(t *testing.T) {
	r := newRenewal(t)
	cert, key := makePair(t, 2)
	r.replace(r.cert, cert[:20])
	r.certs.pairs[0].poll()
	r.replace(r.cert, cert)
	r.certs.pairs[0].poll()
	r.replace(r.key, key)
	r.certs.pairs[0].poll()
	r.shows(1, 0, 1)
	r.certs.pairs[0].poll()
	r.shows(2, 0, 1)
}

func TestCertificatesAreWatched(t *testing.T) {
	r := newRenewal(t)
	synctest.Test(t, func(t *testing.T) {
		stop := r.certs.watch(context.Background())
		defer stop()
		r.write(makePair(t, 2))
		time.Sleep(2*certificatePoll + time.Second)
		synctest.Wait()
	})
	r.shows(2, 0, 1)
}
