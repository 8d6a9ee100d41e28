package packages_test

import (
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

const chart = "../helm/popgate"

// least are the values without which the chart says what is missing.
const least = `
image: {repository: registry.example.net/popgate}
config: {upstream: {url: "imaps://imap.example.net"}}
tls: {secretName: popgate-tls}
`

// unlocked is the same for more than one pod.
const unlocked = `
image: {repository: registry.example.net/popgate}
config: {upstream: {url: "imaps://imap.example.net"}, lock: {enabled: false}}
tls: {secretName: popgate-tls}
autoscaling: {enabled: true}
`

// everything switches on all that one pod can have.
const everything = `
image: {repository: registry.example.net/popgate, digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}
config: {upstream: {url: "imaps://imap.example.net"}, delete: trash, tls: {min-version: "1.3"}}
imagePullSecrets: [pull]
tls: {secretName: popgate-tls}
secrets: {google: mail-google, microsoft: mail-microsoft}
state: {enabled: true, storageClassName: fast}
service: {type: LoadBalancer, externalTrafficPolicy: Local, annotations: {a: b}, loadBalancerSourceRanges: [192.0.2.0/24]}
metrics: {serviceMonitor: {enabled: true, labels: {release: prometheus}}}
networkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
listeners: [{name: pop3s, scheme: pop3s, port: 995, containerPort: 1995, options: {proxy-protocol: {from: [10.0.0.0/8]}}}]
podAnnotations: {a: b}
podLabels: {c: d}
nodeSelector: {e: f}
tolerations: [{key: g, operator: Exists}]
affinity: {nodeAffinity: {}}
`

// renderAll renders the chart with values in YAML, as `helm install popgate` does, and
// returns the files by their path.
func renderAll(values string) (map[string]string, error) {
	c, err := loader.Load(chart)
	if err != nil {
		return nil, err
	}
	given, err := common.ReadValues([]byte(values))
	if err != nil {
		return nil, err
	}
	all, err := util.ToRenderValues(c, given, common.ReleaseOptions{Name: "popgate", Namespace: "mail", IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// render returns the manifests by the name of their file.
func render(values string) (map[string]string, error) {
	files, err := renderAll(values)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name, text := range files {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(text) != "" {
			out[filepath.Base(name)] = text
		}
	}
	return out, nil
}

// kinds are the types that manifests are decoded into.
var kinds = map[string]any{
	"v1 ConfigMap":                            core.ConfigMap{},
	"v1 Service":                              core.Service{},
	"v1 PersistentVolumeClaim":                core.PersistentVolumeClaim{},
	"apps/v1 Deployment":                      apps.Deployment{},
	"networking.k8s.io/v1 NetworkPolicy":      networking.NetworkPolicy{},
	"policy/v1 PodDisruptionBudget":           policy.PodDisruptionBudget{},
	"autoscaling/v2 HorizontalPodAutoscaler":  autoscaling.HorizontalPodAutoscaler{},
	"monitoring.coreos.com/v1 ServiceMonitor": monitoring.ServiceMonitor{},
}

// decode decodes every document of a manifest, where each field has to be known, and
// returns the objects by kind and name.
func decode(t *testing.T, manifests ...string) map[string]any {
	t.Helper()
	objects := map[string]any{}
	for _, m := range manifests {
		documents := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(m)))
		for {
			document := make([]byte, 1<<20)
			n, err := documents.Read(document)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var head struct {
				APIVersion, Kind string
				Metadata         struct{ Name string }
			}
			if err := strict.Unmarshal(document[:n], &head); err != nil {
				t.Fatalf("%v in\n%s", err, document[:n])
			}
			kind, known := kinds[head.APIVersion+" "+head.Kind]
			if !known {
				t.Fatalf("no type for %q %q in\n%s", head.APIVersion, head.Kind, document[:n])
			}
			object := reflect.New(reflect.TypeOf(kind)).Interface()
			if err := strict.UnmarshalStrict(document[:n], object); err != nil {
				t.Fatalf("%v in\n%s", err, document[:n])
			}
			name := head.Kind + "/" + head.Metadata.Name
			if objects[name] != nil {
				t.Fatalf("%s stands there twice", name)
			}
			objects[name] = object
		}
	}
	return objects
}

func mustRender(t *testing.T, values string) map[string]any {
	t.Helper()
	files, err := render(values)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, slices.Collect(maps.Values(files))...)
}

func TestChartRendersWhatKubernetesKnows(t *testing.T) {
	for _, test := range []struct {
		name, values string
		want         []string
	}{
		{"least", least, []string{
			"ConfigMap/popgate", "Deployment/popgate", "NetworkPolicy/popgate", "PodDisruptionBudget/popgate",
			"Service/popgate", "Service/popgate-metrics"}},
		{"everything", everything, []string{
			"ConfigMap/popgate", "Deployment/popgate", "NetworkPolicy/popgate", "PersistentVolumeClaim/popgate",
			"PodDisruptionBudget/popgate", "Service/popgate", "Service/popgate-metrics", "ServiceMonitor/popgate"}},
		{"many pods", unlocked, []string{
			"ConfigMap/popgate", "Deployment/popgate", "HorizontalPodAutoscaler/popgate", "NetworkPolicy/popgate",
			"PodDisruptionBudget/popgate", "Service/popgate", "Service/popgate-metrics"}},
		{"nothing optional", least + "networkPolicy: {enabled: false}\npodDisruptionBudget: {enabled: false}\n", []string{
			"ConfigMap/popgate", "Deployment/popgate", "Service/popgate", "Service/popgate-metrics"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects := mustRender(t, test.values)
			if got := slices.Sorted(maps.Keys(objects)); !slices.Equal(got, test.want) {
				t.Errorf("objects %q, want %q", got, test.want)
			}
		})
	}
}

func TestChartHasOnePodThatEndsBeforeTheNextStarts(t *testing.T) {
	d := mustRender(t, everything)["Deployment/popgate"].(*apps.Deployment)
	if d.Spec.Replicas == nil || *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != apps.RecreateDeploymentStrategyType {
		t.Errorf("replicas %v, strategy %q; want 1, Recreate", d.Spec.Replicas, d.Spec.Strategy.Type)
	}
	budget := mustRender(t, everything)["PodDisruptionBudget/popgate"].(*policy.PodDisruptionBudget)
	if budget.Spec.MinAvailable != nil || budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("disruption budget %+v would keep a node from being drained", budget.Spec)
	}
}

func TestChartPodIsRestricted(t *testing.T) {
	pod := mustRender(t, everything)["Deployment/popgate"].(*apps.Deployment).Spec.Template.Spec
	c := pod.Containers[0]
	is := func(b *bool, want bool) bool { return b != nil && *b == want }
	for rule, holds := range map[string]bool{
		"not as root":                is(pod.SecurityContext.RunAsNonRoot, true) && *pod.SecurityContext.RunAsUser > 0,
		"seccomp":                    pod.SecurityContext.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault,
		"no more privileges":         is(c.SecurityContext.AllowPrivilegeEscalation, false),
		"no capabilities":            slices.Equal(c.SecurityContext.Capabilities.Drop, []core.Capability{"ALL"}) && len(c.SecurityContext.Capabilities.Add) == 0,
		"read-only root":             is(c.SecurityContext.ReadOnlyRootFilesystem, true),
		"no token of the cluster":    is(pod.AutomountServiceAccountToken, false),
		"time for the drain":         *pod.TerminationGracePeriodSeconds == 60,
		"probes":                     c.LivenessProbe.HTTPGet.Path == "/-/healthy" && c.ReadinessProbe.HTTPGet.Path == "/-/ready" && c.StartupProbe != nil,
		"memory is limited":          !c.Resources.Limits.Memory().IsZero(),
		"image by digest":            strings.Contains(c.Image, "popgate@sha256:"),
		"every volume is mounted":    len(pod.Volumes) == 5 && len(c.VolumeMounts) == 5,
		"ports that need no root":    c.Ports[0].ContainerPort == 1995 && len(c.Ports) == 2,
		"neither node nor host used": !pod.HostNetwork && !pod.HostPID && !pod.HostIPC && c.Ports[0].HostPort == 0,
	} {
		if !holds {
			t.Errorf("%s: does not hold", rule)
		}
	}
	for i, v := range pod.Volumes {
		if v.Name != c.VolumeMounts[i].Name {
			t.Errorf("volume %s beside mount %s", v.Name, c.VolumeMounts[i].Name)
		}
		if v.HostPath != nil {
			t.Errorf("volume %s is the host's", v.Name)
		}
	}
}

// TestChartSelectsItsPods holds what selects by labels to the labels there are.
func TestChartSelectsItsPods(t *testing.T) {
	objects := mustRender(t, everything)
	pod := objects["Deployment/popgate"].(*apps.Deployment).Spec.Template.Labels
	metrics := objects["Service/popgate-metrics"].(*core.Service)
	for name, s := range map[string]struct{ selector, labels map[string]string }{
		"deployment":     {objects["Deployment/popgate"].(*apps.Deployment).Spec.Selector.MatchLabels, pod},
		"service":        {objects["Service/popgate"].(*core.Service).Spec.Selector, pod},
		"metrics":        {metrics.Spec.Selector, pod},
		"network policy": {objects["NetworkPolicy/popgate"].(*networking.NetworkPolicy).Spec.PodSelector.MatchLabels, pod},
		"budget":         {objects["PodDisruptionBudget/popgate"].(*policy.PodDisruptionBudget).Spec.Selector.MatchLabels, pod},
		"monitor":        {objects["ServiceMonitor/popgate"].(*monitoring.ServiceMonitor).Spec.Selector.MatchLabels, metrics.Labels},
	} {
		if len(s.selector) < 2 {
			t.Errorf("%s selects by %v alone", name, s.selector)
		}
		for key, value := range s.selector {
			if s.labels[key] != value {
				t.Errorf("%s selects %s=%s, the label is %q", name, key, value, s.labels[key])
			}
		}
	}
	if clients := objects["Service/popgate"].(*core.Service).Labels; clients["app.kubernetes.io/component"] == "metrics" {
		t.Error("the monitor takes the clients' service too")
	}
}

func TestChartRefusesWrongValues(t *testing.T) {
	with := func(image, config, rest string) string {
		return "image: " + image + "\nconfig: " + config + "\n" + rest + "\n"
	}
	const image, config, tls = "{repository: r}", "{upstream: {url: 'imaps://h'}}", "tls: {secretName: s}"
	for _, test := range []struct{ name, values, want string }{
		{"no image", with("{}", config, tls), "at '/image/repository': minLength"},
		{"no upstream", with(image, "{}", tls), "missing property 'upstreams'"},
		{"both forms of upstream", with(image, "{upstream: {url: 'imaps://h'}, upstreams: [{name: a, url: 'imaps://h'}]}", tls), "at '/config': 'oneOf' failed, subschemas 0, 1 matched"},
		{"no upstream in the list", with(image, "{upstreams: []}", tls), "at '/config/upstreams': minItems"},
		{"empty section", with(image, "{upstream: {url: 'imaps://h'}, oauth: }", tls), "at '/config/oauth': got null, want object"},
		{"upstream of another kind in the list", with(image, "{upstreams: [{name: a, url: 'pop3://h'}]}", tls), "at '/config/upstreams/0/url'"},
		{"upstream of another kind", with(image, "{upstream: {url: 'pop3://h'}}", tls), "at '/config/upstream/url'"},
		{"unknown value", least + "replicas: 3", "additional properties 'replicas' not allowed"},
		{"listen in the configuration", with(image, "{listen: ['pop3://:110'], upstream: {url: 'imap://h'}}", tls), "config.listen: the chart sets it"},
		{"certificate in the configuration", with(image, "{tls: {cert: x}, upstream: {url: 'imap://h'}}", tls), "config.tls.cert: the chart sets it"},
		{"no certificate", with(image, config, ""), "tls.secretName is missing"},
		{"no certificate for TLS", with(image, "{clear-text-login: anywhere, upstream: {url: 'imap://h'}}", ""), "tls.secretName is missing"},
		{"privileged port", least + "listeners: [{name: a, scheme: pop3, port: 110, containerPort: 110}]", "at '/listeners/0/containerPort'"},
		{"scheme", least + "listeners: [{name: a, scheme: imap, port: 143, containerPort: 1143}]", "at '/listeners/0/scheme'"},
		{"drain in words", least + "drainSeconds: 30s", "at '/drainSeconds'"},
		{"secret over the certificate", least + "secrets: {tls: other}", "at '/secrets/tls': false schema"},
		{"secret in a folder elsewhere", least + "secrets: {../../etc: other}", "at '/secrets': additional properties '../../etc' not allowed"},
		{"tokens with no volume", with(image, "{upstream: {url: 'imaps://h'}, oauth: {folder: /var/lib/popgate/tokens}}", tls), "config.oauth.folder needs state.enabled: true"},
		{"lists in a place that is read-only", with(image, "{upstream: {url: 'imaps://h'}, cache: {file: lists.cache}}", tls+"\nstate: {enabled: true}"), "config.cache.file: name it below /var/lib/popgate"},
		{"many pods with a lock", least + "autoscaling: {enabled: true}", "autoscaling.enabled needs config.lock.enabled: false"},
		{"many pods with a volume", unlocked + "state: {enabled: true}", "autoscaling.enabled needs state.enabled: false"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := render(test.values)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("render: %v, want %q", err, test.want)
			}
		})
	}
}

func TestChartPassesHelmLint(t *testing.T) {
	values, err := common.ReadValues([]byte(least))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range lint.RunAll(chart, values, "mail").Messages {
		if !strings.Contains(m.Err.Error(), "icon is recommended") {
			t.Errorf("%s: %v", m.Path, m.Err)
		}
	}
}

// TestManifestsAreTheChart holds deploy/kubernetes to what the chart renders.
func TestManifestsAreTheChart(t *testing.T) {
	files, err := render(`
image: {repository: popgate, tag: devel}
config: {upstream: {url: "imaps://imap.example.net"}}
tls: {secretName: popgate-tls}
metrics: {serviceMonitor: {enabled: true}}
`)
	if err != nil {
		t.Fatal(err)
	}
	const monitor = "servicemonitor.yaml"
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name != monitor {
			parts = append(parts, strings.TrimSpace(files[name])+"\n")
		}
	}
	all := "# popgate in Kubernetes without Helm: what deploy/helm/popgate renders. Change the image\n" +
		"# and upstream.url, and make a secret popgate-tls of the type kubernetes.io/tls.\n" + strings.Join(parts, "---\n")
	golden(t, "../kubernetes/popgate.yaml", all)
	golden(t, "../kubernetes/servicemonitor.yaml", "# Where the Prometheus operator runs.\n"+strings.TrimSpace(files[monitor])+"\n")
	decode(t, all)
}
