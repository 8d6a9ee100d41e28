package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every example is right as it stands, once what it names is beside it.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	read := func(file string) string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			example := writeConfig(t, read(file))
			for name, text := range map[string]string{
				"fullchain.pem": read(certFile), "privkey.pem": read(keyFile),
				"old-devices.pem": read(rsaCertFile), "old-devices-key.pem": read(rsaKeyFile),
				"auth.secret": "a key\n", "client.secret": "a secret\n", "token.key": strings.Repeat("0123456789abcdef", 2) + "\n",
				"accounts": "alice::external:upstream-user=alice@example.net\n",
			} {
				if err := os.WriteFile(filepath.Join(filepath.Dir(example), name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			code, stdout, stderr := invoke(t, "check", "--config", example)
			if code != exitOK || stderr != "" {
				t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
			}
			for line := range strings.Lines(read(file)) {
				if strings.Contains(line, "--config ") && !strings.Contains(line, "--config "+filepath.Base(file)) {
					t.Errorf("another file is named: %s", line)
				}
			}
		})
	}
}
