{{- define "rayscaler.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "rayscaler.labels" -}}
app.kubernetes.io/name: rayscaler
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* The service's pods, and not the test's. */}}
{{- define "rayscaler.selector" -}}
app.kubernetes.io/name: rayscaler
app.kubernetes.io/component: service
{{- end -}}

{{/* What the restricted profile of pod security asks of a pod, and of each container. */}}
{{- define "rayscaler.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . | int64 }}
runAsGroup: {{ . | int64 }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rayscaler.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end -}}

{{/* Where the sidecar's socket lies, in both containers. */}}
{{- define "rayscaler.executorDir" -}}
/run/rayscaler/executor
{{- end -}}
