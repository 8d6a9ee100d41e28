package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/popgate/popgate/cmd/internal/config"
)

// What shells offer is what the configuration accepts, and all of it.
func TestCompletionsOfFlagsAreAccepted(t *testing.T) {
	k, err := kong.New(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range k.Model.Leaves(true)[0].Flags {
		words, flag := f.Tag.Get("complete"), f.Name
		if words == "" {
			continue
		}
		load := func(value string) error {
			_, err := config.Load("", config.Flags{"listen": {"pop3://127.0.0.1"}, "upstream": {"imap://127.0.0.1"}, flag: {value}})
			return err
		}
		for word := range strings.SplitSeq(words, ",") {
			if err := load(word); err != nil {
				t.Errorf("--%s %s is offered: %v", flag, word, err)
			}
		}
		problems, ok := errors.AsType[config.Problems](load("no such word"))
		if !ok || !strings.Contains(problems.Error(), strings.ReplaceAll(words[:strings.LastIndex(words, ",")], ",", ", ")) {
			t.Errorf("--%s offers %s, and the configuration says %v", flag, words, problems)
		}
	}
}

func TestManualAndCompletionsArePrinted(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"man"}, exitOK, `.SS "popgate serve"`},
		{[]string{"completion", "bash"}, exitOK, "complete -F _popgate popgate"},
		{[]string{"completion", "zsh"}, exitOK, "#compdef popgate"},
		{[]string{"completion", "fish"}, exitOK, "complete -c popgate -f"},
		{[]string{"completion", "tcsh"}, exitUsage, "there is bash, fish, zsh"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), tt.args, &stdout, &stderr)
		if out := stdout.String() + stderr.String(); code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%q: exit code %d, want %d and %q in %s", tt.args, code, tt.code, tt.want, out)
		}
	}
}
