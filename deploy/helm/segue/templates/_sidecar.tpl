{{/*
What other charts put into their pods:

  initContainers:
    {{- include "segue.sidecar" .Subcharts.segue | nindent 4 }}
  volumes:
    {{- include "segue.volumes" .Subcharts.segue | nindent 4 }}

`segue.sidecar` is a list with one container. In mode `native` it belongs into `initContainers`,
in mode `plain` into `containers`, before the application's.
*/}}

{{- define "segue.sidecar" -}}
{{- include "segue.validate" . -}}
- name: segue
  image: {{ include "segue.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [serve]
  {{- if eq .Values.mode "native" }}
  restartPolicy: Always
  {{- end }}
  env:
    - name: SEGUE_CONFIG
      value: /etc/segue/segue.toml
    - name: SEGUE_CONTROL_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if eq .Values.admin.bind "pod" }}
  ports:
    - name: segue-admin
      containerPort: {{ .Values.admin.port }}
  {{- end }}
  {{- include "segue.probes" . | nindent 2 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    readOnlyRootFilesystem: true
    allowPrivilegeEscalation: false
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
    - name: segue-config
      mountPath: /etc/segue
      readOnly: true
    {{- if include "segue.secretSources" . | fromYamlArray }}
    - name: segue-secrets
      mountPath: /run/secrets/segue
      readOnly: true
    {{- end }}
{{- end -}}

{{/*
The kubelet asks at the pod's address. Where the admin listener is on the loopback only, it runs
`segue status` in the container instead, and there is no liveness probe: `status` asks the
databases, and a slow database is no reason to restart segue.
*/}}
{{- define "segue.probes" -}}
{{- $probes := .Values.probes -}}
{{- if eq .Values.admin.bind "pod" -}}
startupProbe:
  grpc:
    port: {{ .Values.admin.port }}
  periodSeconds: {{ $probes.startup.periodSeconds }}
  timeoutSeconds: 2
  failureThreshold: {{ $probes.startup.failureThreshold }}
readinessProbe:
  grpc:
    port: {{ .Values.admin.port }}
  periodSeconds: {{ $probes.readiness.periodSeconds }}
  timeoutSeconds: 2
  failureThreshold: {{ $probes.readiness.failureThreshold }}
livenessProbe:
  httpGet:
    path: /livez
    port: segue-admin
  periodSeconds: {{ $probes.liveness.periodSeconds }}
  timeoutSeconds: 5
  failureThreshold: {{ $probes.liveness.failureThreshold }}
{{- else -}}
startupProbe:
  exec:
    command: [/usr/bin/segue, status, --json]
  periodSeconds: {{ $probes.startup.periodSeconds }}
  timeoutSeconds: 12
  failureThreshold: {{ $probes.startup.failureThreshold }}
{{- end -}}
{{- end -}}

{{/* The files of the secrets, for a projected volume; empty where there are none. */}}
{{- define "segue.secretSources" -}}
{{- range $side := list "source" "target" -}}
{{- range $name, $secret := get $.Values.secrets $side }}
- secret:
    name: {{ $secret.secretName }}
    items:
      - key: {{ $secret.key }}
        path: {{ $side }}/{{ $name }}
{{- end -}}
{{- end -}}
{{- with .Values.secrets.adminToken }}
- secret:
    name: {{ .secretName }}
    items:
      - key: {{ .key }}
        path: admin/token
{{- end -}}
{{- end -}}

{{/*
The files belong to root, and segue runs as another user: so everyone may read them, in segue's
container alone, which is the only one that mounts them.
*/}}
{{- define "segue.volumes" -}}
- name: segue-config
  configMap:
    name: {{ include "segue.fullname" . }}
    items:
      - key: segue.toml
        path: segue.toml
      {{- range $name, $_ := .Values.queries }}
      - key: queries.{{ $name }}
        path: queries/{{ $name }}
      {{- end }}
{{- with include "segue.secretSources" . | fromYamlArray }}
- name: segue-secrets
  projected:
    defaultMode: 0444
    sources:
      {{- toYaml . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Put it among the pod's annotations: a changed configuration then rolls the pods. */}}
{{- define "segue.annotations" -}}
segue/config: {{ printf "%s%s" (include "segue.config" .) (toJson .Values.queries) | sha256sum | trunc 16 }}
{{- end -}}
