package realtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// elsewhere is what a gateway tells that has access tokens and asks an auth_http
// service, which this one does not. # is the number of the scrape.
const elsewhere = `popgate_oauth_accounts{grant="g",state="good"} 1
popgate_oauth_accounts{grant="g",state="failing"} 0
popgate_oauth_requests_total{grant="g",outcome="issued"} #
popgate_oauth_requests_total{grant="g",outcome="down"} 0
popgate_oauth_request_duration_seconds_bucket{le="1"} #
popgate_oauth_request_duration_seconds_bucket{le="+Inf"} #
popgate_oauth_oldest_success_timestamp_seconds{grant="g"} 1700000000
popgate_oauth_refresh_token_expiry_timestamp_seconds{grant="g"} 99000000000
popgate_auth_http_duration_seconds_bucket{le="0.05",result="ok"} #
popgate_auth_http_duration_seconds_bucket{le="+Inf",result="ok"} #
`

// A meter stands between the gateway's metrics and Prometheus and adds to series
// that no healthy gateway counts, such as its own faults. It can fail altogether.
type meter struct {
	t            *testing.T
	addr, source string

	mu      sync.Mutex
	add     map[string]float64 // to the series of this name and labels
	down    bool
	scrapes int
}

func newMeter(t *testing.T, source string) *meter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{t: t, addr: ln.Addr().String(), source: source, add: map[string]float64{}}
	s := &http.Server{Handler: m, ReadTimeout: popTimeout, WriteTimeout: popTimeout}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return m
}

// change sets what is added to some series.
func (m *meter) change(add map[string]float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for series, v := range add {
		m.add[series] = v
	}
}

func (m *meter) fail(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *meter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	client := http.Client{Timeout: popTimeout}
	resp, err := client.Get("http://" + m.source + "/metrics") // as text
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	m.scrapes++
	more := strings.NewReader(strings.ReplaceAll(elsewhere, "#", strconv.Itoa(m.scrapes)))
	left := len(m.add)
	for lines := bufio.NewScanner(io.MultiReader(resp.Body, more)); lines.Scan(); {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if by, ok := m.add[line[:max(at, 0)]]; ok {
			left--
			v, err := strconv.ParseFloat(line[at+1:], 64)
			if err != nil {
				m.t.Errorf("%s: %v", line, err)
			}
			line = line[:at+1] + strconv.FormatFloat(v+by, 'f', -1, 64)
		}
		fmt.Fprintln(w, line)
	}
	if left != 0 {
		m.t.Errorf("of %v, %d are no series", m.add, left)
	}
}

// A valve stands between the gateway and a mail server. It can be shut, and slow.
type valve struct {
	addr   string
	target string

	mu    sync.Mutex
	shut  bool
	delay time.Duration // of each piece from the server
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newValve(t *testing.T, target string) *valve {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{addr: ln.Addr().String(), target: target, conns: map[net.Conn]bool{}}
	v.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			v.wg.Go(func() { v.pass(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		v.set(true, 0)
		v.wg.Wait()
	})
	return v
}

// set shuts the valve, which ends all connections, or opens it.
func (v *valve) set(shut bool, delay time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut, v.delay = shut, delay
	if shut {
		for c := range v.conns {
			c.Close()
		}
	}
}

// keep notes a connection that set may have to close.
func (v *valve) keep(c net.Conn) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns[c] = true
	return !v.shut
}

func (v *valve) drop(c net.Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, c)
	c.Close()
}

func (v *valve) pass(client net.Conn) {
	defer v.drop(client)
	if !v.keep(client) {
		return
	}
	server, err := net.DialTimeout("tcp", v.target, popTimeout)
	if err != nil {
		return
	}
	defer v.drop(server)
	if !v.keep(server) {
		return
	}
	v.wg.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	})
	piece := make([]byte, 32<<10)
	for {
		n, err := server.Read(piece)
		if n > 0 {
			v.mu.Lock()
			delay := v.delay
			v.mu.Unlock()
			if delay > 0 {
				<-time.After(delay)
			}
			if _, err := client.Write(piece[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
