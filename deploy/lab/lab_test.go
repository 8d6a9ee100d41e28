package lab_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/popgate/popgate/deploy/lab"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSavedFilesComeBack(t *testing.T) {
	tests := []struct {
		name   string
		before string // "" where there was no file
		during string // "" where the lab wrote none
	}{
		{"replaced", "theirs", "ours"},
		{"removed", "theirs", ""},
		{"new", "", "ours"},
		{"never_there", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "userdb")
			write(t, file, tt.before)
			if err := lab.SaveFile(file); err != nil {
				t.Fatal(err)
			}
			write(t, file, tt.during)
			if err := lab.RestoreFile(file); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if tt.before == "" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a file again: %q, %v", got, err)
			}
			if string(got) != tt.before {
				t.Errorf("got %q, want %q", got, tt.before)
			}
			if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) > 1 || tt.before == "" && len(entries) > 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
			if err := lab.RestoreFile(file); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if text == "" {
		return
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificatesVerifyAgainstTheRightAuthorityAlone(t *testing.T) {
	l, err := lab.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(l.Certificate(), l.Key())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{l.CA(): true, l.OtherCA(): false} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		for _, name := range []string{"localhost", "127.0.0.1"} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); (err == nil) != want {
				t.Errorf("%s against %s: %v, want success %v", name, filepath.Base(file), err, want)
			}
		}
	}
}
