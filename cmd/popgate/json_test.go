package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestScriptsReadJSON(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want map[string]any // of some keys
	}{
		{[]string{"version", "--json"}, exitOK, map[string]any{"version": "devel"}},
		{[]string{"check", "--json", "--listen", "pop3://127.0.0.1", "--upstream", "imap://127.0.0.1"}, exitOK, map[string]any{"ok": true}},
		{[]string{"check", "--json", "--listen", "what", "--upstream", "imap://127.0.0.1"}, exitUsage, map[string]any{"ok": false}},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), tt.args, &stdout, &stderr); code != tt.code || stderr.Len() > 0 {
			t.Errorf("%q: exit code %d, want %d; stderr: %s", tt.args, code, tt.code, &stderr)
		}
		var got map[string]any
		if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
			t.Errorf("%q: %v in %s", tt.args, err, &stdout)
		}
		for k, v := range tt.want {
			if got[k] != v {
				t.Errorf("%q: %s is %v, want %v", tt.args, k, got[k], v)
			}
		}
		if problems, ok := got["problems"].([]any); tt.code == exitUsage && (!ok || len(problems) != 1) {
			t.Errorf("%q: the problems are %v", tt.args, got["problems"])
		}
	}
}
