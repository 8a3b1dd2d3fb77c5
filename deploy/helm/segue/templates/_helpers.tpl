{{/* Names, labels, the image, and values written as TOML. */}}

{{- define "segue.fullname" -}}
{{- printf "%s-segue" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The workload has the name of the release: it is the application's. */}}
{{- define "segue.workload" -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "segue.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "segue.workload" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- define "segue.selectorLabels" -}}
{{- if .Values.podSelector -}}
{{- toYaml .Values.podSelector -}}
{{- else -}}
app.kubernetes.io/name: {{ include "segue.workload" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- end -}}

{{- define "segue.labels" -}}
app.kubernetes.io/name: {{ include "segue.workload" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: segue
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "segue.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* A value in TOML. JSON's strings, numbers and booleans are TOML's; tables and lists are not. */}}
{{- define "segue.toml.value" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- $pairs = append $pairs (printf "%s = %s" (toJson $key) (include "segue.toml.value" $value)) -}}
{{- end -}}
{ {{ join ", " $pairs }} }
{{- else if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . -}}
{{- $items = append $items (include "segue.toml.value" .) -}}
{{- end -}}
[{{ join ", " $items }}]
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{/* Where the files of a side's secrets are, as keys of its section. */}}
{{- define "segue.secretKeys" -}}
password: password_file
applicationPassword: application_password_file
ca: sslrootcert
certificate: sslcert
key: sslkey
{{- end -}}

{{/* segue.toml: the values of `config`, and what the chart decides. */}}
{{- define "segue.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $listen := $config.listen | default dict -}}
{{- $_ := set $listen "sql" (printf "127.0.0.1:%v" .Values.sql.port) -}}
{{- $address := ternary "0.0.0.0" "127.0.0.1" (eq .Values.admin.bind "pod") -}}
{{- $_ := set $listen "admin" (printf "%s:%v" $address .Values.admin.port) -}}
{{- if .Values.secrets.adminToken -}}
{{- $_ := set $listen "admin_token_file" "/run/secrets/segue/admin/token" -}}
{{- end -}}
{{- $_ := set $config "listen" $listen -}}
{{- $keys := include "segue.secretKeys" . | fromYaml -}}
{{- range $side := list "source" "target" -}}
{{- $section := get $config $side | default dict -}}
{{- range $name, $_ := get $.Values.secrets $side -}}
{{- $_ := set $section (get $keys $name) (printf "/run/secrets/segue/%s/%s" $side $name) -}}
{{- end -}}
{{- $_ := set $config $side $section -}}
{{- end -}}
{{- if .Values.queries -}}
{{- $queries := $config.queries | default dict -}}
{{- $_ := set $queries "paths" (list "/etc/segue/queries") -}}
{{- $_ := set $config "queries" $queries -}}
{{- end -}}
{{- range $section, $keys := $config -}}
[{{ $section }}]
{{ range $key, $value := $keys -}}
{{ $key }} = {{ include "segue.toml.value" $value }}
{{ end }}
{{ end -}}
{{- end -}}

{{/* What no schema can say: values that do not fit each other, or the cluster. */}}
{{- define "segue.validate" -}}
{{- $native := eq .Values.mode "native" -}}
{{- if and $native (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "mode: native needs Kubernetes 1.29, and this is %s; set mode: plain" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if and .Values.workload.enabled (eq .Values.workload.kind "Job") (not $native) -}}
{{- fail "workload.kind: Job needs mode: native: a plain container of segue would keep the Job from ending" -}}
{{- end -}}
{{- if and (eq .Values.admin.bind "pod") (not .Values.secrets.adminToken) -}}
{{- fail "admin.bind: pod needs secrets.adminToken: without a token anyone who reaches the port is an operator" -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled (ne .Values.admin.bind "pod") -}}
{{- fail "podMonitor.enabled needs admin.bind: pod: Prometheus does not reach the loopback" -}}
{{- end -}}
{{- if and .Values.networkPolicy.monitoring (ne .Values.admin.bind "pod") -}}
{{- fail "networkPolicy.monitoring needs admin.bind: pod: there is nothing to reach" -}}
{{- end -}}
{{- if eq (int .Values.sql.port) (int .Values.admin.port) -}}
{{- fail "sql.port and admin.port are the same" -}}
{{- end -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is missing: the image that `scripts/image` or deploy/Dockerfile builds, in a registry of yours" -}}
{{- end -}}
{{- if and .Values.workload.enabled (not .Values.application.container) -}}
{{- fail "application.container is missing: the container that segue stands beside, with its name and image" -}}
{{- end -}}
{{- end -}}
