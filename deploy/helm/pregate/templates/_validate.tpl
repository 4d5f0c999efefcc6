{{/* Refuses what a schema cannot: fields that depend on each other. Included once, by the scheduler. */}}

{{- define "pregate.validateName" -}}
{{- $name := include "pregate.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "a Service cannot be called %s-scheduler: give the release a name of letters, digits and '-' that begins with a letter, or set fullnameOverride" $name) -}}
{{- end -}}
{{- end -}}

{{- define "pregate.validateModel" -}}
{{- $sources := list -}}
{{- with .Values.model -}}
{{- if .existingClaim }}{{ $sources = append $sources "model.existingClaim" }}{{ end -}}
{{- if .hostPath }}{{ $sources = append $sources "model.hostPath" }}{{ end -}}
{{- if .volume }}{{ $sources = append $sources "model.volume" }}{{ end -}}
{{- end -}}
{{- if and (not $sources) .Values.model.path -}}
{{- fail "model.path is a place in a volume: set one of model.existingClaim, model.hostPath and model.volume (without them the demo model of the image is served)" -}}
{{- end -}}
{{- if gt (len $sources) 1 -}}
{{- fail (printf "more than one model: %s; set one" (join ", " $sources)) -}}
{{- end -}}
{{- end -}}

{{- define "pregate.validateTls" -}}
{{- $names := list -}}
{{- range $role, $name := .Values.tls.existingSecrets }}{{ if $name }}{{ $names = append $names $role }}{{ end }}{{ end -}}
{{- if .Values.tls.certManager.enabled -}}
{{- if not .Values.tls.certManager.issuerRef.name -}}
{{- fail "tls.certManager.enabled needs tls.certManager.issuerRef.name: the issuer of the certificates" -}}
{{- end -}}
{{- if $names -}}
{{- fail (printf "tls.existingSecrets (%s) and tls.certManager.enabled are both given; choose one" (join ", " $names)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The programs take a flag once; those of the chart are values, or what Services, probes and policies rely on. */}}
{{- define "pregate.validateExtraArgs" -}}
{{- $all := splitList " " "model model-name listen metrics-listen tls-dir tls-trust-domain log-level log-format" -}}
{{- $own := dict
    "scheduler" "workers router step-tokens queue-max running-max run-ahead decode-routing drafts batching batch-age-steps batch-experts-max eviction preemptions-max worker-stall-timeout-s drain-timeout-s"
    "router" "threads step-tokens context-tokens sessions-max session-idle-s kv-cache-bytes"
    "worker" "rank world-size collective-host collective-insecure device dtype threads kv-cache-bytes step-tokens seq-slots context-tokens expert-slots" -}}
{{- range $component, $flags := $own -}}
{{- $taken := concat $all (splitList " " $flags) -}}
{{- range (index $.Values $component).extraArgs -}}
{{- $flag := regexFind "^--[a-z0-9-]+" . -}}
{{- if has (trimPrefix "--" $flag) $taken -}}
{{- fail (printf "%s.extraArgs: %s is set by the chart" $component $flag) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pregate.validateCollective" -}}
{{- if and (gt (int .Values.worker.replicas) 1) (not .Values.networkPolicy.enabled) (not .Values.worker.collectiveInsecure) -}}
{{- fail "worker.replicas > 1 with networkPolicy.enabled=false: activations between workers are not encrypted and nothing would keep other pods away from them. Turn networkPolicy.enabled on, or say worker.collectiveInsecure=true" -}}
{{- end -}}
{{- end -}}

{{- define "pregate.validate" -}}
{{- include "pregate.validateName" . -}}
{{- include "pregate.validateModel" . -}}
{{- include "pregate.validateTls" . -}}
{{- include "pregate.validateExtraArgs" . -}}
{{- include "pregate.validateCollective" . -}}
{{- end -}}
