package upstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
)

func TestSecretCannotBePrinted(t *testing.T) {
	const canary = "hunter2-canary"
	c := upstream.Credentials{User: "alice", Secret: upstream.NewSecret(canary)}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		fmt.Fprintf(&out, verb+verb+verb, c, c.Secret, &c.Secret)
	}
	fmt.Fprintln(&out, c, c.Secret)
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("login", "secret", c.Secret, "credentials", c, "group", slog.GroupValue(slog.Any("s", c.Secret)))
	}
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret shows as %q in: %s", form, out.String())
		}
	}
	if got := c.Secret.Reveal(); got != canary {
		t.Errorf("Reveal() = %q, want %q", got, canary)
	}
}

func TestKindOf(t *testing.T) {
	gone := &upstream.Error{Kind: upstream.Gone, Op: "retrieve", Err: io.EOF}
	for _, tt := range []struct {
		name string
		err  error
		want upstream.Kind
	}{
		{"direct", gone, upstream.Gone},
		{"wrapped", fmt.Errorf("session: %w", gone), upstream.Gone},
		{"a_stranger_is_internal", errors.New("x"), upstream.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := upstream.KindOf(tt.err); got != tt.want {
				t.Errorf("KindOf(%v) = %v, want %v", tt.err, got, tt.want)
			}
		})
	}
	if !errors.Is(gone, io.EOF) {
		t.Error("the cause is not in the chain")
	}
	seen := map[string]bool{}
	for _, k := range upstream.Kinds() {
		if seen[k.String()] || k.String() == "invalid" {
			t.Errorf("Kinds(): %v twice or without a name", k)
		}
		seen[k.String()] = true
	}
}

func TestFoldedUIDLIsLegalAndInjective(t *testing.T) {
	ids := []string{"1.2", "~", strings.Repeat("x", 70), strings.Repeat("x", 71), "", " ", "a b", "\x7f", "é", "#",
		"#e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "a\nb", "a\rb"}
	seen := map[string]string{}
	for _, id := range ids {
		got := string(upstream.AppendFoldedUIDL(nil, []byte(id)))
		if !upstream.ValidUIDL([]byte(got)) {
			t.Errorf("AppendFoldedUIDL(%q) = %q, not a legal unique-id", id, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q share the unique-id %q", id, other, got)
		}
		seen[got] = id
	}
	if got := string(upstream.AppendFoldedUIDL(nil, []byte("17.4"))); got != "17.4" {
		t.Errorf("a legal id was changed to %q", got)
	}
}
