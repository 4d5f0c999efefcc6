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
    "scheduler" "workers router step-tokens queue-max running-max run-ahead decode-routing drafts prefix-cache batching batch-age-steps batch-experts-max eviction preemptions-max worker-stall-timeout-s drain-timeout-s"
    "router" "threads step-tokens context-tokens sessions-max session-idle-s kv-cache-bytes"
    "gateway" "http-listen http-plaintext http-open http-threads api-tokens-file schedulers drain-timeout-s"
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

{{/* What the values bring to a pod must not take the names and places of what the chart brings. */}}
{{- define "pregate.validatePods" -}}
{{- range $component := list "scheduler" "router" "worker" "gateway" -}}
{{- include "pregate.validatePod" (dict "root" $ "component" $component "values" (index $.Values $component)) -}}
{{- end -}}
{{- if and .Values.model.initContainers (include "pregate.demoModel" .) -}}
{{- fail "model.initContainers without a volume to fill: set model.volume, such as {emptyDir: {}}" -}}
{{- end -}}
{{- with .Values.worker.livenessProbe -}}
{{- if le (mul .periodSeconds (sub .failureThreshold 1)) 60 -}}
{{- fail "worker.livenessProbe: periodSeconds x (failureThreshold - 1) must exceed 60 s, for which a worker may wait for its group" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pregate.validatePod" -}}
{{- $component := .component -}}
{{- $volumes := list "tls" -}}
{{- $places := list "/tls" "/model" -}}
{{- if include "pregate.mountsModel" . }}{{ $volumes = append $volumes "model" }}{{ end -}}
{{- if .values.apiTokensSecret }}{{ $volumes = append $volumes "api-tokens" }}{{ $places = append $places "/api-tokens" }}{{ end -}}
{{- if .values.shmSize }}{{ $volumes = append $volumes "shm" }}{{ $places = append $places "/dev/shm" }}{{ end -}}
{{- range .values.extraVolumes -}}
{{- if or (has .name $volumes) (has .name (list "model" "shm" "api-tokens")) -}}
{{- fail (printf "%s.extraVolumes: the name %s is taken" $component .name) -}}
{{- end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- range .values.extraVolumeMounts -}}
{{- include "pregate.validateMount" (dict "where" (printf "%s.extraVolumeMounts" $component) "mount" . "volumes" $volumes) -}}
{{- $path := clean .mountPath -}}
{{- range $place := $places -}}
{{- if or (eq $path $place) (hasPrefix (printf "%s/" $place) $path) (hasPrefix (printf "%s/" (trimSuffix "/" $path)) $place) -}}
{{- fail (printf "%s.extraVolumeMounts: %s would lie in or over %s, which is mounted already" $component $path $place) -}}
{{- end -}}
{{- end -}}
{{- $places = append $places $path -}}
{{- end -}}
{{- $names := list $component -}}
{{- $fills := ternary list (default list .root.Values.model.initContainers) (eq $component "gateway") -}}
{{- range $key, $containers := dict "model.initContainers" $fills (printf "%s.initContainers" $component) .values.initContainers (printf "%s.extraContainers" $component) .values.extraContainers -}}
{{- range $containers -}}
{{- if has .name $names -}}
{{- fail (printf "%s: a container of this pod is called %s already" $key .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- range .volumeMounts -}}
{{- include "pregate.validateMount" (dict "where" $key "mount" . "volumes" $volumes) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pregate.validateGateway" -}}
{{- with .Values.gateway -}}
{{- if .enabled -}}
{{- if and (not .apiTokensSecret) (not .open) -}}
{{- fail "gateway.enabled without gateway.apiTokensSecret: everybody who reaches it could use it. Name the secret with the API tokens, or say gateway.open=true" -}}
{{- end -}}
{{- if and .apiTokensSecret .open -}}
{{- fail "gateway.apiTokensSecret and gateway.open=true are both given; choose one" -}}
{{- end -}}
{{- if and .httpRoute.enabled (not .httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute.enabled needs gateway.httpRoute.parentRefs: the Gateways that it attaches to" -}}
{{- end -}}
{{- if .autoscaling.enabled -}}
{{- if gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas) -}}
{{- fail "gateway.autoscaling.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- if and (not .autoscaling.queueTimeMetric) (not .autoscaling.cpuPercent) -}}
{{- fail "gateway.autoscaling.enabled with neither queueTimeMetric nor cpuPercent: there is nothing to scale by" -}}
{{- end -}}
{{- if and .autoscaling.cpuPercent (not (((.resources).requests).cpu)) -}}
{{- fail "gateway.autoscaling.cpuPercent is a share of gateway.resources.requests.cpu, which is not given" -}}
{{- end -}}
{{- end -}}
{{- else if or .ingress.enabled .httpRoute.enabled .autoscaling.enabled -}}
{{- fail "gateway.ingress, gateway.httpRoute and gateway.autoscaling are of the gateway: set gateway.enabled" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pregate.validateMount" -}}
{{- if not (has .mount.name .volumes) -}}
{{- fail (printf "%s: there is no volume %s in this pod (%s)" .where .mount.name (join ", " .volumes)) -}}
{{- end -}}
{{- end -}}

{{- define "pregate.validate" -}}
{{- include "pregate.validateName" . -}}
{{- include "pregate.validateModel" . -}}
{{- include "pregate.validateTls" . -}}
{{- include "pregate.validateExtraArgs" . -}}
{{- include "pregate.validateCollective" . -}}
{{- include "pregate.validatePods" . -}}
{{- include "pregate.validateGateway" . -}}
{{- end -}}
