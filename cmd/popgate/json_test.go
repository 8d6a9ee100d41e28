package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

// keys lists the names in the JSON of a type.
func keys(of reflect.Type) (out []string) {
	switch of.Kind() {
	case reflect.Slice, reflect.Pointer:
		return keys(of.Elem())
	case reflect.Struct:
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" {
				out = append(out, name)
			}
			if of != reflect.TypeFor[time.Time]() {
				out = append(out, keys(f.Type)...)
			}
		}
	}
	return out
}

// What scripts read is written down, word by word.
func TestTheHelpNamesEveryKey(t *testing.T) {
	for command, shape := range map[string]any{"version": versionJSON{}, "check": checkJSON{}, "route": routeJSON{}, "oauth status": tokenRow{}} {
		_, help, _ := invoke(t, append(strings.Fields(command), "--help")...)
		_, about, ok := strings.Cut(help, "--json prints")
		words := strings.FieldsFunc(about, func(r rune) bool { return !unicode.IsLetter(r) && r != '_' })
		all := keys(reflect.TypeOf(shape))
		if !ok || len(all) < 4 {
			t.Errorf("popgate %s --help says nothing of --json", command)
		}
		for _, key := range all {
			if !slices.Contains(words, key) {
				t.Errorf("popgate %s --help does not name %q", command, key)
			}
		}
	}
}

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
