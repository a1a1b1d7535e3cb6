{{- define "loggia.name" -}}
{{- if contains "loggia" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-loggia" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "loggia.selector" -}}
app.kubernetes.io/name: loggia
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "loggia.labels" -}}
{{ include "loggia.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
