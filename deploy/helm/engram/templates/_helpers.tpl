{{- define "engram.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "engram.labels" -}}
app.kubernetes.io/name: engram
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "engram.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end -}}
{{- end }}

{{- define "engram.securityContext" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "engram.resources" -}}
{{- range list "requests" "limits" }}
{{ . }}:
  cpu: {{ $.Values.resources.cpu | quote }}
  memory: {{ $.Values.resources.memory }}
  {{- with $.Values.resources.hugePages2Mi }}
  hugepages-2Mi: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* Labels of what is scraped: rules count servers by them, also those that are down. */ -}}
{{- define "engram.relabelings" -}}
- action: replace
  replacement: engramd
  targetLabel: job
- action: replace
  sourceLabels: [__meta_kubernetes_pod_label_engram_dev_shard]
  targetLabel: shard
{{- end }}

{{- define "engram.monitorLabels" -}}
{{- include "engram.labels" . }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}
