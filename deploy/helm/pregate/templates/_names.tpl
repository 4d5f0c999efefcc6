{{/* Names, labels and addresses: what other objects and other charts rely on. */}}

{{/*
The prefix of every object's name. At most 40 characters, so that the longest name made of it
("-scheduler-external", a pod's "-worker-255", a StatefulSet's 10 characters of revision) stays within 63;
a longer one keeps its start and gets a hash, so that two long names do not become one.
*/}}
{{- define "pregate.fullname" -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- $full := printf "%s-%s" .Release.Name $chart -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if contains $chart .Release.Name -}}
{{- $full = .Release.Name -}}
{{- end -}}
{{- if gt (len $full) 40 -}}
{{- printf "%s-%s" ($full | trunc 31 | trimSuffix "-" | trimSuffix ".") (sha256sum $full | trunc 8) -}}
{{- else -}}
{{- $full -}}
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "component" "router"): FULLNAME-router */}}
{{- define "pregate.name" -}}
{{- printf "%s-%s" (include "pregate.fullname" .root) .component -}}
{{- end -}}

{{/* What never changes in the life of a release: selectors are immutable. */}}
{{- define "pregate.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" | toYaml }}
app.kubernetes.io/instance: {{ .root.Release.Name | toYaml }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* The chart's labels, those of all objects and those of one: (dict "root" $ "component" "router" "labels" LABELS) */}}
{{- define "pregate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: pregate
{{ include "pregate.selectorLabels" . }}
{{- with merge dict (default dict .labels) (default dict .root.Values.commonLabels) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The head of an object: (dict "root" $ "component" "router" "name" NAME "labels" LABELS) */}}
{{- define "pregate.metadata" -}}
name: {{ default (include "pregate.name" .) .name | toYaml }}
namespace: {{ .root.Release.Namespace | toYaml }}
labels:
  {{- include "pregate.labels" . | nindent 2 }}
{{- end -}}

{{- define "pregate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "pregate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The label that lets a pod of the release's namespace reach the client API. */}}
{{- define "pregate.clientLabel" -}}
{{ include "pregate.fullname" . }}-client
{{- end -}}

{{/* A component's Service as DNS name. */}}
{{- define "pregate.host" -}}
{{- printf "%s.%s.svc.%s" (include "pregate.name" .) .root.Release.Namespace .root.Values.clusterDomain -}}
{{- end -}}

{{/* The workers' stable addresses, comma-separated: entry r is rank r, for ever. */}}
{{- define "pregate.workers" -}}
{{- $name := include "pregate.name" (dict "root" . "component" "worker") -}}
{{- $host := include "pregate.host" (dict "root" . "component" "worker") -}}
{{- $workers := list -}}
{{- range $rank := until (int .Values.worker.replicas) -}}
{{- $workers = append $workers (printf "%s-%d.%s:7620" $name $rank $host) -}}
{{- end -}}
{{- join "," $workers -}}
{{- end -}}

{{/* Whom a gateway calls, comma-separated: this cell's scheduler, then others'. */}}
{{- define "pregate.schedulers" -}}
{{- $own := printf "%s:7600" (include "pregate.host" (dict "root" . "component" "scheduler")) -}}
{{- join "," (prepend (default list .Values.gateway.schedulers) $own) -}}
{{- end -}}

{{/* The model's name in requests and metrics, as the programs make it of the path. */}}
{{- define "pregate.modelName" -}}
{{- default (include "pregate.modelPath" . | base | trimSuffix ".gguf") .Values.model.name -}}
{{- end -}}

{{/* Where a probe dials its own container. */}}
{{- define "pregate.self" -}}
{{- if contains ":" .Values.listenAddress -}}[::1]{{- else -}}127.0.0.1{{- end -}}
{{- end -}}

{{/* Whether the model comes with the image: "true", or nothing. */}}
{{- define "pregate.demoModel" -}}
{{- $model := .Values.model -}}
{{- if not (or $model.existingClaim $model.hostPath $model.volume) -}}true{{- end -}}
{{- end -}}

{{/* (dict "root" $ "image" overrides "variant" "cuda"): REGISTRY/REPOSITORY:TAG or @DIGEST */}}
{{- define "pregate.image" -}}
{{- $own := default dict .image -}}
{{- $image := mergeOverwrite (deepCopy .root.Values.image) $own -}}
{{- /* A tag of its own is meant to win over a digest for all. */ -}}
{{- if and $own.tag (not $own.digest) }}{{ $_ := set $image "digest" "" }}{{ end -}}
{{- $name := $image.repository -}}
{{- if $image.registry -}}
{{- $name = printf "%s/%s" (trimSuffix "/" $image.registry) $name -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default (printf "%s-%s%s" .root.Chart.AppVersion (default "cpu" .variant) (ternary "-demo" "" (eq "true" (include "pregate.demoModel" .root)))) $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "pregate.pullPolicy" -}}
{{- default .root.Values.image.pullPolicy (default dict .image).pullPolicy -}}
{{- end -}}

{{/* (dict "root" $ "role" "scheduler"): the secret with that role's tls.crt, tls.key and ca.crt */}}
{{- define "pregate.tlsSecret" -}}
{{- $role := .role -}}
{{- /* The gateway is a client; cert-manager makes it a certificate of its own, which has its host names. */ -}}
{{- if and (eq $role "gateway") (not (or .root.Values.tls.certManager.enabled .root.Values.tls.existingSecrets.gateway)) }}{{ $role = "client" }}{{ end -}}
{{- default (printf "%s-%s-tls" (include "pregate.fullname" .root) $role) (get .root.Values.tls.existingSecrets $role) -}}
{{- end -}}
