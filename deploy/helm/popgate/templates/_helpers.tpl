{{- define "popgate.name" -}}
{{- if contains "popgate" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-popgate{{ end -}}
{{- end }}

{{- define "popgate.selector" -}}
app.kubernetes.io/name: popgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "popgate.labels" -}}
{{ include "popgate.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
{{- end }}

{{- define "popgate.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The configuration: that of the values, and what the chart itself decides. */}}
{{- define "popgate.config" -}}
{{- range $key, $instead := dict "listen" "listeners" "metrics" "metrics.port" "drain" "drainSeconds" }}
{{- if hasKey $.Values.config $key }}{{ fail (printf "config.%s: the chart sets it, from %s" $key $instead) }}{{ end }}
{{- end }}
{{- range $key := list "cert" "key" }}
{{- if dig "tls" $key "" $.Values.config }}{{ fail (printf "config.tls.%s: the chart sets it, from tls.secretName" $key) }}{{ end }}
{{- end }}
{{- range $section, $key := dict "oauth" "folder" "ledger" "file" "cache" "file" }}
{{- $file := dig $section $key "" $.Values.config }}
{{- if and $file (not (hasPrefix "/var/lib/popgate/" $file)) }}{{ fail (printf "config.%s.%s: name it below /var/lib/popgate; nothing else can be written to" $section $key) }}{{ end }}
{{- if and $file (not $.Values.state.enabled) }}{{ fail (printf "config.%s.%s needs state.enabled: true, or it would end with the pod" $section $key) }}{{ end }}
{{- end }}
{{- $listen := list }}
{{- $needed := ne (get .Values.config "clear-text-login") "anywhere" }}
{{- range .Values.listeners }}
{{- $needed = or $needed (and (eq .scheme "pop3s") (not (dig "legacy" "" (.options | default dict)))) }}
{{- $listen = append $listen (merge (dict "url" (printf "%s://:%v" .scheme .containerPort)) (.options | default dict)) }}
{{- end }}
{{- $own := dict "listen" $listen "metrics" (printf ":%v" .Values.metrics.port) "drain" (printf "%vs" .Values.drainSeconds) }}
{{- if and $needed (not .Values.tls.secretName) }}
{{- fail "tls.secretName is missing: name a secret of the type kubernetes.io/tls, or leave out the pop3s listeners and set config.clear-text-login: anywhere" }}
{{- end }}
{{- with .Values.tls.secretName }}
{{- $_ := set $own "tls" (dict "cert" "/run/secrets/popgate/tls/tls.crt" "key" "/run/secrets/popgate/tls/tls.key") }}
{{- end }}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) }}
{{- end }}
