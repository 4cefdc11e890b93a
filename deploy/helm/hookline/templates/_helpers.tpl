{{- define "hookline.name" -}}{{ if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-hookline" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}{{- end }}
{{- define "hookline.select" -}}
app.kubernetes.io/name: hookline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "hookline.labels" -}}
{{ include "hookline.select" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "hookline.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}
{{/* config, with TLS on its listener where a Secret has the certificate. */}}
{{- define "hookline.config" -}}
{{- $config := .Values.config }}
{{- if .Values.tls.secret }}
{{- $files := dict "cert" "/etc/hookline-tls/tls.crt" "key" "/etc/hookline-tls/tls.key" }}
{{- $config = set (deepCopy $config) "listen" (dict "address" $config.listen "tls" $files) }}
{{- end }}
{{- $config | toYaml }}
{{- end }}
{{- define "hookline.scheme" -}}{{ if .Values.tls.secret }}https{{ else }}http{{ end }}{{- end }}
{{/* What a pod that opens a log has, whether it serves or drains. */}}
{{- define "hookline.pod" -}}
serviceAccountName: {{ include "hookline.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ range . }}
  - name: {{ . }}{{ end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- define "hookline.container" -}}
name: hookline
image: {{ include "hookline.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
envFrom: [ { secretRef: { name: {{ .Values.existingSecret }} } } ]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ ALL ] }
resources: {{ toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - { name: log, mountPath: /var/lib/hookline }
  - { name: config, mountPath: /etc/hookline/hookline.yaml, subPath: hookline.yaml, readOnly: true }
{{- with .Values.tls.secret }}
  - { name: tls, mountPath: /etc/hookline-tls, readOnly: true }
{{- end }}
{{- range .Values.secretFiles }}
  - { name: secret-{{ . }}, mountPath: /etc/hookline/secrets/{{ . }}, readOnly: true }
{{- end }}
{{- end }}
{{- define "hookline.volumes" -}}
- { name: config, configMap: { name: {{ include "hookline.name" . }} } }
{{- with .Values.tls.secret }}
- { name: tls, secret: { secretName: {{ . }}, defaultMode: 0440 } }
{{- end }}
{{- range .Values.secretFiles }}
- { name: secret-{{ . }}, secret: { secretName: {{ . }}, defaultMode: 0440 } }
{{- end }}
{{- end }}
