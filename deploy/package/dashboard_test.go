package packages_test

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// filled are the fields that Grafana fills in where a dashboard has none.
var filled = regexp.MustCompile(`^(panels\[\d+\]\.options|templating\.list\[\d+\]\.current)\.`)

// TestDashboardIsWhatGrafanaKnows decodes the dashboard, the panels' own options and
// the queries too, into Grafana's types, where each field has to be known.
func TestDashboardIsWhatGrafanaKnows(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile("../grafana/popgate.json")
	if err != nil {
		t.Fatal(err)
	}
	var strictly dashboard.Dashboard
	if err := strictly.UnmarshalJSONStrict(text); err != nil {
		var all cog.BuildErrors
		if !errors.As(err, &all) {
			t.Fatal(err)
		}
		for _, err := range all {
			if err.Message != "required field is missing from input" || !filled.MatchString(err.Path) {
				t.Error(err)
			}
		}
	}
	// Decoded strictly, a panel with an error is not complete.
	var d dashboard.Dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	if len(d.Panels) == 0 {
		t.Fatal("no panels")
	}
	for i, p := range d.Panels {
		switch {
		case p.RowPanel != nil:
		case p.Panel == nil:
			t.Errorf("panel %d is neither a panel nor a row", i)
		default:
			if _, known := cog.ConfigForPanelcfgVariant(p.Panel.Type); !known {
				t.Errorf("panel %d is of the type %q", i, p.Panel.Type)
			}
		}
	}
}
