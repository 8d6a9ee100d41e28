package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A list is known over a restart where a file keeps it.
func TestTheCacheFileOutlivesTheProcess(t *testing.T) {
	upstream := imapServer(t, 3)
	dir := t.TempDir()
	file := filepath.Join(dir, "popgate.yaml")
	text := fmt.Sprintf("listen: [pop3://127.0.0.1:0]\nupstream: {url: imap://%s}\nmetrics: 127.0.0.1:0\ncache: {file: lists}\n", upstream)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"full", "unchanged"} {
		s := serve(t, "--config", file)
		c := connect(t, s.pop3[0])
		c.login()
		c.do("STAT", "+OK 3 ")
		c.do("QUIT", "+OK")
		c.ended()
		s.wantMetrics(t, fmt.Sprintf("popgate_upstream_listings_total{how=%q,upstream=\"upstream\"} 1", how))
		s.stop()
		if code := s.code(t); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "lists")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the cache file: %v, %v", info, err)
	}
}
