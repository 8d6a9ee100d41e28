package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/cmd/internal/config"
)

// FuzzConfig: no file makes the loader panic, and what it accepts keeps the
// promises that the rest of the program builds on.
func FuzzConfig(f *testing.F) {
	for _, pattern := range []string{"reference.yaml", "testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	file := filepath.Join(f.TempDir(), "popgate.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(file, nil)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, file) {
					t.Errorf("a message that names no place: %q", line)
				}
			}
			return
		}
		if len(c.Listen) == 0 || len(c.Upstreams) == 0 || len(c.Routes) == 0 {
			t.Errorf("incomplete: %+v", c)
		}
		known := map[string]bool{}
		for _, u := range c.Upstreams {
			if known[u.Name] || u.Name == "" || u.Host == "" || u.Port == 0 {
				t.Errorf("incomplete or twice: %+v", u)
			}
			known[u.Name] = true
		}
		for _, r := range c.Routes {
			switch {
			case r.Name == "" || r.Delete == "" || known[r.Upstream] == r.AuthHTTP.Given():
				t.Errorf("a route that leads nowhere, or to two places: %+v", r)
			case (r.Master.Given() || r.PasswordFile != "") && !r.Accounts:
				t.Errorf("anybody can log in: %+v", r)
			}
		}
		if c.Limits.IdleTime.Minutes() < 10 || c.Limits.Connections < 1 || c.Limits.LoginTries < 1 || c.Limits.BadCommands < 1 {
			t.Errorf("limits out of range: %+v", c.Limits)
		}
		for _, l := range c.Listen {
			if l.TLS && !c.TLS.Given() && !l.Legacy.Given() {
				t.Errorf("%s without a certificate", l)
			}
			if !l.Loopback() && !c.TLS.Given() && !c.ClearText && !l.Legacy.Given() {
				t.Errorf("nobody can log in on %s", l)
			}
			if old := l.Legacy; (len(old.From) > 0) != old.Given() || (old.Key != "") != old.Given() {
				t.Errorf("%s is for old devices in part: %+v", l, old)
			}
			for _, n := range slices.Concat(l.Proxies, l.Legacy.From) {
				if !n.IsValid() || n.Bits() == 0 || n != n.Masked() {
					t.Errorf("%v is no network to list", n)
				}
			}
		}
	})
}
