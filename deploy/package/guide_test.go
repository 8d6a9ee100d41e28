package packages_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// services is what the guide finds on a machine with systemd: systemctl starts and
// tells what systemd would, as the units of Debian say.
const services = `
export -f start must soon
cat >/tmp/service <<'end'
#!/bin/bash
case "$*" in
'enable --now popgate') start >>/tmp/log && soon curl -fs http://127.0.0.1:9110/-/ready ;; # Type=notify
'reload dovecot') doveadm reload ;;
'reload prometheus') kill -HUP "$(cat /tmp/prometheus.pid)" ;;
esac
end
chmod +x /tmp/service

# What the packages of Debian have started by then.
must dovecot
install -d -o prometheus -g prometheus /var/lib/prometheus
# shellcheck disable=SC2016
setpriv --reuid prometheus --regid prometheus --init-groups --no-new-privs bash -c '. /etc/default/prometheus && exec prometheus $ARGS' >>/tmp/log 2>&1 &
echo $! >/tmp/prometheus.pid
# Grafana is not in Debian: of it there are the folders alone.
mkdir -p /etc/grafana/provisioning/datasources /etc/grafana/provisioning/dashboards

# Nor is there a network, so what is installed already is new enough.
echo 'APT::Get::Upgrade "false";' >/etc/apt/apt.conf.d/99guide

# run runs a block in the folder where the last one ended; what is expected of it, a
# pattern in each line, is waited for.
cd /given
run() {
	local block=/given/$1 pattern missing status
	for _ in {1..60}; do
		status=0
		bash -euc 'source "$1"; pwd >/tmp/folder' bash "$block" 2>&1 </dev/null | tr -d '\r' >/tmp/out || status=$?
		missing=
		while IFS= read -r pattern; do
			grep -qxE -- "$pattern" /tmp/out || missing=$pattern
		done <"$block.expected"
		[ "$status" = 0 ] && [ -n "$missing" ] || break
		sleep 1
	done
	sed 's/^/said: /' /tmp/out
	if [ "$status" != 0 ] || [ -n "$missing" ]; then
		echo "the guide fails: status $status, not said: $missing"
		cat "$block" /tmp/log
		exit 1
	fi
	cd "$(cat /tmp/folder)"
}
set -o pipefail
set +x
`

// graphed holds what the guide has led to: Prometheus knows the alerts, and has data
// for every query of the dashboard; Grafana would find both; the page has plots;
// and a certificate that is renewed is shown.
const graphed = `
set -x
must [ -s "$(sed -n 's/^ *path: //p' /etc/grafana/provisioning/dashboards/popgate.yaml)/popgate.json" ]
prometheus=$(sed -n 's/^ *url: //p' /etc/grafana/provisioning/datasources/popgate.yaml)
answers() { promtool query instant "$prometheus" "$1" | grep -q .; }
set +x
while read -r query; do soon answers "$query"; done </given/queries
set -x
curl -fsS "$prometheus/api/v1/rules" >/tmp/rules
must grep -q '"name":"PopgateDown"' /tmp/rules
must not grep -q '"health":"err"' /tmp/rules
must [ "$(promtool query instant "$prometheus" 'ALERTS{job="popgate"}')" = '' ]
curl -fsS http://127.0.0.1:9110/ >/tmp/page
must grep -q '<svg' /tmp/page

export RENEWED_LINEAGE=/tmp/lineage
mkdir $RENEWED_LINEAGE
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=renewed -keyout $RENEWED_LINEAGE/privkey.pem -out $RENEWED_LINEAGE/fullchain.pem 2>/dev/null
must /etc/letsencrypt/renewal-hooks/deploy/popgate
set +x
renewed() { openssl s_client -connect 127.0.0.1:995 </dev/null 2>/dev/null | grep -q 'subject=CN = renewed'; }
soon renewed
`

// A block of the guide is commands of a shell, and what they print in the end.
type guideBlock struct{ commands, expected string }

// guide reads the blocks of the README's guide.
func guide(t *testing.T) (blocks []guideBlock) {
	t.Helper()
	text := section(t, "From a package to a graph")
	for _, m := range regexp.MustCompile("(?ms)^( *)```([a-z]*)\n(.*?)^ *```$").FindAllStringSubmatch(text, -1) {
		content := strings.ReplaceAll("\n"+m[3], "\n"+m[1], "\n")[1:]
		switch m[2] {
		case "sh":
			blocks = append(blocks, guideBlock{commands: content})
		case "text":
			blocks[len(blocks)-1].expected = content
		default:
			t.Errorf("a block of the guide is %q, neither commands nor what they print:\n%s", m[2], content)
		}
	}
	if len(blocks) < 5 {
		t.Fatalf("%d blocks in the guide", len(blocks))
	}
	return blocks
}

// queries are those of the dashboard, for all instances, without those of what the
// guide's gateway does not have: a question to an auth_http service, and tokens.
func queries(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../grafana/popgate.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, p := range board.Panels {
		for _, q := range p.Targets {
			query := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$upstream", ".*").Replace(q.Expr)
			if strings.Contains(query, "popgate_auth_http_") || strings.Contains(query, "popgate_oauth_") {
				continue
			}
			fmt.Fprintln(&all, strings.Join(strings.Fields(query), " "))
		}
	}
	return all.String()
}

// TestGuide goes the way of the README from the package to mail over TLS, alerts and
// graphs, in a copy of this machine with the Dovecot and Prometheus of Debian.
func TestGuide(t *testing.T) {
	needs(t, "dpkg", "dovecot", "prometheus", "promtool", "curl", "openssl", "setpriv", "prlimit")
	blocks := guide(t)
	folder := t.TempDir()
	files := []string{built(t, "*_"+runtime.GOARCH+".deb")}
	write := func(name, text string) {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	write("queries", queries(t))
	script := begin + services
	for i, b := range blocks {
		name := fmt.Sprintf("block%02d", i)
		write(name, b.commands)
		expected := strings.ReplaceAll(regexp.QuoteMeta(b.expected), `\.\.\.`, ".*")
		write(name+".expected", expected)
		script += "run " + name + "\n"
	}
	t.Log(inCopy(t, script+graphed, files...))
}
