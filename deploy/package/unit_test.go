package packages_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
)

const service = "../systemd/popgate.service"

// settings of the unit's section Service, in order.
func settings(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(service)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	options, err := unit.DeserializeOptions(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range options {
		if o.Section == "Service" && o.Name == name {
			out = append(out, o.Value)
		}
	}
	return out
}

// TestUnitIsExposedLittle: 2.0 or less of 10, as systemd counts.
func TestUnitIsExposedLittle(t *testing.T) {
	needs(t, "systemd-analyze")
	c := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", service)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "Overall exposure level for popgate.service") {
		t.Errorf("no level is told:\n%s", out)
	}
}

// TestUnitIsUnderstood: systemd ignores what it does not know.
func TestUnitIsUnderstood(t *testing.T) {
	needs(t, "systemd-analyze")
	out := inCopy(t, `
install -m 755 /given/popgate /usr/bin/popgate
cp /given/popgate.service /etc/systemd/system/
systemd-analyze verify --man=no --recursive-errors=no /etc/systemd/system/popgate.service 2>&1
`, service, built(t, "files/popgate"))
	if strings.Contains(out, "popgate.service") {
		t.Error(out)
	}
}

// systemCalls are those that the unit's filter lets through, as systemd knows its sets.
func systemCalls(t *testing.T) map[string]bool {
	t.Helper()
	needs(t, "systemd-analyze")
	allowed := map[string]bool{}
	var set func(name string, to bool)
	set = func(name string, to bool) {
		if !strings.HasPrefix(name, "@") {
			allowed[name] = to
			return
		}
		out, err := exec.Command("systemd-analyze", "syscall-filter", "--no-pager", name).Output()
		if err != nil {
			t.Fatalf("systemd-analyze syscall-filter %s: %v", name, err)
		}
		for line := range strings.Lines(string(out)) {
			if member := strings.TrimSpace(line); member != "" && member != name && !strings.HasPrefix(member, "#") {
				set(member, to)
			}
		}
	}
	set("@default", true) // systemd adds it to a list of what is allowed
	for _, value := range settings(t, "SystemCallFilter") {
		names, denied := strings.CutPrefix(value, "~")
		for _, name := range strings.Fields(names) {
			set(name, !denied)
		}
	}
	return allowed
}
