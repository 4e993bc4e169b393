{{- /* A claim of each server: its name, and the values with size and storageClassName. */ -}}
{{- define "engram.claim" -}}
- metadata:
    name: {{ index . 0 }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with (index . 1).storageClassName }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ (index . 1).size }}
{{- end }}

{{- define "engram.checkpointMount" -}}
- name: checkpoint
  mountPath: /checkpoint
  {{- with .Values.checkpoint.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}

{{- /* Brings the checkpoint into the server's volume, then lets nothing but the expected table pass. */ -}}
{{- define "engram.fetch" -}}
- name: fetch
  image: {{ .Values.checkpoint.fetch.image }}
  imagePullPolicy: IfNotPresent
  command:
    {{- toYaml .Values.checkpoint.fetch.command | nindent 4 }}
  env:
    - name: HOME
      value: /tmp
    {{- with .Values.checkpoint.fetch.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources:
    {{- include "engram.resources" . | trim | nindent 4 }}
  securityContext:
    {{- include "engram.securityContext" . | nindent 4 }}
  volumeMounts:
    {{- include "engram.checkpointMount" . | nindent 4 }}
    - name: fetch-tmp
      mountPath: /tmp
- name: digest
  image: {{ include "engram.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [/usr/bin/engramctl]
  args: [digest, /checkpoint, --expect-digest, {{ .Values.checkpoint.expectDigest | quote }}]
  resources:
    {{- include "engram.resources" . | trim | nindent 4 }}
  securityContext:
    {{- include "engram.securityContext" . | nindent 4 }}
  volumeMounts:
    {{- include "engram.checkpointMount" . | nindent 4 }}
{{- end }}
