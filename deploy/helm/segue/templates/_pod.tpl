{{/* The application's pod. */}}
{{- define "segue.pod" -}}
{{- $native := eq .Values.mode "native" -}}
metadata:
  labels:
    {{- include "segue.selectorLabels" . | nindent 4 }}
    {{- with .Values.application.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .Values.application.container.name }}
    {{- include "segue.annotations" . | nindent 4 }}
    {{- with .Values.application.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "segue.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
  terminationGracePeriodSeconds: {{ .Values.workload.terminationGracePeriodSeconds }}
  {{- if eq .Values.workload.kind "Job" }}
  restartPolicy: Never
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.workload.spread }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "segue.selectorLabels" . | nindent 10 }}
  {{- end }}
  {{- if $native }}
  initContainers:
    {{- include "segue.sidecar" . | nindent 4 }}
  {{- end }}
  containers:
    {{- if not $native }}
    {{- include "segue.sidecar" . | nindent 4 }}
    {{- end }}
    - {{ toYaml .Values.application.container | nindent 6 | trim }}
  volumes:
    {{- include "segue.volumes" . | nindent 4 }}
    {{- with .Values.application.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
