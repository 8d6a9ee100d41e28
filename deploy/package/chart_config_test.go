package packages_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

const (
	onlyClearText = `
image: {repository: r}
config: {upstream: {url: "imaps://imap.example.net"}, clear-text-login: anywhere}
listeners: [{name: pop3, scheme: pop3, port: 110, containerPort: 1110}]
`
	// numbers are those that a detour by floating point writes otherwise.
	numbers = `
image: {repository: r}
config:
  upstream: {url: "jmap+https://mail.example.net"}
  limits: {connections: 1000000, mailbox-messages: 10000000, mailbox-octets: 52428800}
  tls: {min-version: "1.3"}
tls: {secretName: popgate-tls}
`
	domains = `
image: {repository: r}
config:
  upstreams:
    - {name: net, url: "imaps://imap.example.net", ca: /run/secrets/popgate/roots/ca.pem}
    - {name: org, url: "jmap+https://mail.example.org"}
  routes:
    - {name: net, match: {domains: example.net}, upstream: net, user: "{local}", folders: plus}
    - {name: org, match: {domains: example.org}, upstream: org, delete: hide}
tls: {secretName: popgate-tls}
secrets: {roots: example-net-roots}
`
	routesFile = `
image: {repository: r}
config:
  upstreams:
    - {name: net, url: "imaps://imap.example.net"}
    - {name: org, url: "imaps://imap.example.org"}
  routes-file: /run/secrets/popgate/routes/routes.yaml
  ledger: {file: /var/lib/popgate/ledger}
tls: {secretName: popgate-tls}
secrets: {routes: popgate-routes}
state: {enabled: true}
`
	scanners = `
image: {repository: r}
listeners:
  - {name: pop3s, scheme: pop3s, port: 995, containerPort: 1995, options: {name: usual, shared-secrets: true}}
  - name: old
    scheme: pop3s
    port: 9950
    containerPort: 9950
    options: {name: old, legacy: {from: [192.168.7.0/24], cert: /run/secrets/popgate/old/tls.crt, key: /run/secrets/popgate/old/tls.key}}
config:
  upstream: {url: "imaps://outlook.office365.com"}
  accounts: {file: /run/secrets/popgate/accounts/users}
  oauth:
    folder: /var/lib/popgate/tokens
    key-file: /run/secrets/popgate/tokens/key
    grants:
      - {name: users, provider: microsoft, tenant: example.onmicrosoft.com, client-id: 00000000-0000-0000-0000-000000000000}
      - name: own
        provider: microsoft
        tenant: example.onmicrosoft.com
        kind: client-credentials
        client-id: 00000000-0000-0000-0000-000000000000
        client-secret-file: /run/secrets/popgate/microsoft/client-secret
        mailboxes: [tickets@example.com]
  routes:
    - {name: tickets, match: {users: tickets@example.com}, accounts: true, oauth: own}
    - {name: scanners, accounts: true, oauth: users}
  cache: {file: /var/lib/popgate/lists}
tls: {secretName: popgate-tls}
secrets: {accounts: popgate-accounts, tokens: popgate-tokens, microsoft: popgate-microsoft, old: popgate-old}
state: {enabled: true, existingClaim: mail-state}
`
	asked = `
image: {repository: r}
config:
  upstreams:
    - {name: first, url: "imaps://10.0.0.11", server-name: imap.example.net}
    - {name: second, url: "imaps://10.0.0.12", server-name: imap.example.net}
  routes:
    - {name: asked, auth-http: {url: "https://auth.example.net/", ca: /run/secrets/popgate/auth/ca.pem, key-header: X-Auth-Key, key-file: /run/secrets/popgate/auth/key}}
tls: {secretName: popgate-tls}
secrets: {auth: popgate-auth}
`
)

// secrets are the files of the secrets in a cluster, by the secret's name.
func secrets(t *testing.T) map[string]map[string]string {
	t.Helper()
	modern, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	usual := certificate(t, modern)
	ca := usual["tls.crt"]
	return map[string]map[string]string{
		"popgate-tls":       usual,
		"popgate-old":       certificate(t, old),
		"example-net-roots": {"ca.pem": ca},
		"popgate-auth":      {"ca.pem": ca, "key": "tanstaaf\n"},
		"popgate-accounts":  {"users": "scanner1::shared-secret=tanstaaf:upstream-user=scans@example.com\n"},
		"popgate-tokens":    {"key": base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"},
		"popgate-microsoft": {"client-secret": "tanstaaf\n"},
		"popgate-routes": {"routes.yaml": `routes:
- {name: scans, match: {domains: example.org}, upstream: org, mailbox: Scans, window: {days: 30}}
- {name: rest, upstream: net}
`},
	}
}

// mounted lays out what the pod sees in a folder: its configuration, and the secrets
// that it mounts, with nothing beside them. It returns the name of the configuration,
// whose file names lead into the folder.
func mounted(t *testing.T, objects map[string]any, cluster map[string]map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		mustMkdir(t, filepath.Dir(name))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pod := objects["Deployment/popgate"].(*apps.Deployment).Spec.Template.Spec
	for i, v := range pod.Volumes {
		mount := pod.Containers[0].VolumeMounts[i]
		if v.Name != mount.Name {
			t.Fatalf("volume %s beside mount %s", v.Name, mount.Name)
		}
		var files map[string]string
		switch {
		case v.ConfigMap != nil:
			files = objects["ConfigMap/"+v.ConfigMap.Name].(*core.ConfigMap).Data
		case v.Secret != nil:
			files = cluster[v.Secret.SecretName]
		}
		for name, text := range files {
			write(filepath.Join(root, mount.MountPath, name), strings.ReplaceAll(text, "/run/secrets/popgate", root+"/run/secrets/popgate"))
		}
	}
	command := pod.Containers[0].Args
	return filepath.Join(root, command[slices.Index(command, "--config")+1])
}

// TestChartConfigurationPassesCheck gives popgate the configuration of the chart,
// with the secrets where the chart mounts them.
func TestChartConfigurationPassesCheck(t *testing.T) {
	popgate, cluster := built(t, "files/popgate"), secrets(t)
	for name, values := range map[string]string{
		"least":                   least,
		"everything":              everything,
		"many pods":               unlocked,
		"clear text":              onlyClearText,
		"numbers":                 numbers,
		"upstreams and routes":    domains,
		"a file of routes":        routesFile,
		"accounts and tokens":     scanners,
		"a service that is asked": asked,
	} {
		t.Run(name, func(t *testing.T) {
			file := mounted(t, mustRender(t, values), cluster)
			if out, err := exec.Command(popgate, "check", "--config", file).CombinedOutput(); err != nil {
				text, _ := os.ReadFile(file)
				t.Errorf("popgate check: %v\n%s\n%s", err, out, text)
			}
		})
	}
}

// TestChartConfigurationNeedsItsSecrets takes them away, one by one: each is needed
// where the chart mounts it, so the test before this one looks at all of them.
func TestChartConfigurationNeedsItsSecrets(t *testing.T) {
	popgate, cluster := built(t, "files/popgate"), secrets(t)
	objects := mustRender(t, scanners)
	pod := objects["Deployment/popgate"].(*apps.Deployment).Spec.Template.Spec
	for i, v := range pod.Volumes {
		if v.Secret == nil {
			continue
		}
		t.Run(v.Secret.SecretName, func(t *testing.T) {
			others := maps.Clone(cluster)
			delete(others, v.Secret.SecretName)
			file := mounted(t, objects, others)
			out, err := exec.Command(popgate, "check", "--config", file).CombinedOutput()
			if err == nil || !strings.Contains(string(out), pod.Containers[0].VolumeMounts[i].MountPath) {
				t.Errorf("popgate check without it: %v\n%s", err, out)
			}
		})
	}
}

func TestChartKeepsStateInTheClaimThatIsThere(t *testing.T) {
	objects := mustRender(t, scanners)
	if objects["PersistentVolumeClaim/popgate"] != nil {
		t.Error("a claim is made beside the existing one")
	}
	pod := objects["Deployment/popgate"].(*apps.Deployment).Spec.Template.Spec
	last := len(pod.Volumes) - 1
	if claim := pod.Volumes[last].PersistentVolumeClaim; claim == nil || claim.ClaimName != "mail-state" {
		t.Errorf("volume %+v, want the claim mail-state", pod.Volumes[last])
	}
	if mount := pod.Containers[0].VolumeMounts[last]; mount.MountPath != "/var/lib/popgate" || mount.ReadOnly {
		t.Errorf("mount %+v, want /var/lib/popgate, to be written to", mount)
	}
}

// TestChartNotesNameCommandsThatAreThere: what the notes tell to run in the pod.
func TestChartNotesNameCommandsThatAreThere(t *testing.T) {
	popgate := built(t, "files/popgate")
	for _, test := range []struct {
		name, values string
		want         []string
	}{
		{"least", least, nil},
		{"upstreams and routes", domains, []string{"route"}},
		{"a file of routes", routesFile, []string{"route"}},
		{"accounts and tokens", scanners, []string{"oauth login", "oauth status", "route"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := notes(t, test.values)
			var told []string
			for _, c := range regexp.MustCompile(`-- /usr/bin/popgate ([a-z ]+) --config /etc/popgate/popgate.yaml`).FindAllStringSubmatch(text, -1) {
				told = append(told, c[1])
				if out, err := exec.Command(popgate, append(strings.Fields(c[1]), "--help")...).CombinedOutput(); err != nil || !strings.Contains(string(out), "--config") {
					t.Errorf("popgate %s --help: %v\n%s", c[1], err, out)
				}
			}
			if !slices.Equal(told, test.want) {
				t.Errorf("the notes tell of %q, want %q\n%s", told, test.want, text)
			}
			if strings.Contains(text, "\n\n\n") || strings.HasPrefix(text, "\n") || !strings.Contains(text, "--namespace mail ") {
				t.Errorf("the notes are\n%s", text)
			}
		})
	}
}

// notes is what `helm install` prints in the end.
func notes(t *testing.T, values string) string {
	t.Helper()
	files, err := renderAll(values)
	if err != nil {
		t.Fatal(err)
	}
	return files["popgate/templates/NOTES.txt"]
}
