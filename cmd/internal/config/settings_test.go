package config_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/cmd/internal/config"
)

// The reference tells of each setting, and what it tells of it can be found.
func TestEverySettingIsExplained(t *testing.T) {
	var found []string
	for _, s := range config.Settings() {
		found = append(found, s.Name)
		section := s.Accepts == ""
		list := slices.Contains([]string{"listen", "upstreams", "routes", "oauth.grants"}, s.Name)
		if !section && !list && s.Value == "" {
			t.Errorf("%s has neither a default nor an example", s.Name)
		}
		if s.Meaning == "" && !section && !strings.Contains(s.Name, ".") {
			t.Errorf("%s is not explained", s.Name)
		}
	}
	for _, n := range config.Names() {
		if one, ok := strings.CutPrefix(n, "upstreams."); ok && slices.Contains(found, "upstream."+one) {
			continue // each of them has what the one has
		}
		if !slices.Contains(found, n) {
			t.Errorf("the reference does not tell of %s", n)
		}
	}
}

// The page of settings is what the program says. Run with -update to write it.
func TestThePageOfSettings(t *testing.T) {
	const page = "../../../deploy/docs/settings.md"
	want := config.Manual()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not up to date; go test ./cmd/internal/config -update", page)
	}
}
