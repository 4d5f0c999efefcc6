{{/* What the pods of all programs share. (dict "root" $ "component" "router" "values" .Values.router) */}}

{{/* Pod Security "restricted", and no token of a service account: the programs never call the API server. */}}
{{- define "pregate.podBase" -}}
serviceAccountName: {{ include "pregate.serviceAccountName" .root | toYaml }}
automountServiceAccountToken: false
# Service variables such as PREGATE_ROUTER_PORT=tcp://... would stand among the programs' own PREGATE_ variables.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
  {{- with get (default dict $.root.Values.podSecurityContext) $key }}
  {{ $key }}: {{ int64 . }}
  {{- end }}
  {{- end }}
  # A large model volume must not be walked at every start.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ toYaml .name }}{{ else }}{{ toYaml . }}{{ end }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "pregate.podPlacement" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pregate.podMetadata" -}}
labels:
  {{- include "pregate.labels" (merge (dict "labels" .values.podLabels) .) | nindent 2 }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "values" .Values.router "variant" "cpu"): image, pull policy, security */}}
{{- define "pregate.containerBase" -}}
image: {{ include "pregate.image" (dict "root" .root "image" .values.image "variant" .variant) | quote }}
imagePullPolicy: {{ include "pregate.pullPolicy" (dict "root" .root "image" .values.image) }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Flags that all three programs have: (dict "root" $ "port" 7600) */}}
{{- define "pregate.commonArgs" -}}
- {{ printf "--model=%s" (include "pregate.modelPath" .root) | quote }}
{{- with .root.Values.model.name }}
- {{ include "pregate.literal" (printf "--model-name=%s" .) }}
{{- end }}
- --listen={{ .root.Values.listenAddress }}:{{ .port }}
- --metrics-listen={{ .root.Values.listenAddress }}:{{ add1 .port }}
{{ include "pregate.identityAndLogArgs" . }}
{{- end -}}

{{- define "pregate.identityAndLogArgs" -}}
- --tls-dir=/tls
- --tls-trust-domain={{ .root.Values.tls.trustDomain }}
- --log-level={{ .root.Values.log.level }}
- --log-format={{ .root.Values.log.format }}
{{- end -}}

{{- define "pregate.ports" -}}
ports:
  - {name: grpc, containerPort: {{ .port }}, protocol: TCP}
  - {name: metrics, containerPort: {{ add1 .port }}, protocol: TCP}
{{- end -}}

{{- define "pregate.modelPath" -}}
{{- if include "pregate.demoModel" . -}}
/usr/share/pregate/models/smollm2-135m-moe5
{{- else -}}
{{- printf "/model/%s" (default "" .Values.model.path) | trimSuffix "/" -}}
{{- end -}}
{{- end -}}

{{/* An argument as it is: Kubernetes would replace $(NAME) in it. */}}
{{- define "pregate.literal" -}}
{{- replace "$" "$$" . | quote -}}
{{- end -}}

{{/* Bytes as the programs read them: numbers without an exponent, and Kubernetes' Gi as GiB. */}}
{{- define "pregate.bytes" -}}
{{- if kindIs "string" . -}}
{{- regexReplaceAll "i$" . "iB" -}}
{{- else -}}
{{- int64 . -}}
{{- end -}}
{{- end -}}

{{- define "pregate.resources" -}}
{{- with . }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Compute threads as the CPU request says, unless given: "one a hardware thread" would be the node's. */}}
{{- define "pregate.threadsEnv" -}}
{{- if eq (int .values.threads) 0 }}
- name: PREGATE_THREADS
  valueFrom:
    resourceFieldRef: {containerName: {{ .component }}, resource: requests.cpu, divisor: "1"}
{{- end }}
{{- end -}}

{{/* Variables of extraEnvFrom: (dict "values" .Values.router) */}}
{{- define "pregate.envFrom" -}}
{{- with .values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Whether this component mounts the model: "true", or nothing. */}}
{{- define "pregate.mountsModel" -}}
{{- if not (or (eq .component "gateway") (include "pregate.demoModel" .root)) -}}true{{- end -}}
{{- end -}}

{{- define "pregate.volumeMounts" -}}
volumeMounts:
  {{- if include "pregate.mountsModel" . }}
  - {name: model, mountPath: /model, readOnly: true}
  {{- end }}
  - {name: tls, mountPath: /tls, readOnly: true}
  {{- if .values.apiTokensSecret }}
  - {name: api-tokens, mountPath: /api-tokens, readOnly: true}
  {{- end }}
  {{- if .values.shmSize }}
  - {name: shm, mountPath: /dev/shm}
  {{- end }}
  {{- with .values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* A list of containers that the values bring. Pod Security "restricted" looks at each of a pod's containers. */}}
{{- define "pregate.givenContainers" -}}
{{- $restricted := dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) -}}
{{- range . }}
{{- $container := deepCopy . }}
{{- if not .securityContext }}{{ $_ := set $container "securityContext" $restricted }}{{ end }}
- {{ toYaml $container | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{- define "pregate.initContainers" -}}
{{- with concat (default list .root.Values.model.initContainers) (default list .values.initContainers) }}
initContainers:
  {{- include "pregate.givenContainers" . | trim | nindent 2 }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "role" "router") */}}
{{- define "pregate.tlsVolume" -}}
- name: tls
  secret:
    secretName: {{ include "pregate.tlsSecret" . | toYaml }}
    # Owner root, group fsGroup: the program reads its key, nobody else does.
    defaultMode: 0440
{{- end -}}

{{- define "pregate.volumes" -}}
volumes:
  {{- if include "pregate.mountsModel" . }}
  - name: model
    {{- with .root.Values.model }}
    {{- if .existingClaim }}
    persistentVolumeClaim: {claimName: {{ quote .existingClaim }}, readOnly: true}
    {{- else if .hostPath }}
    hostPath: {path: {{ quote .hostPath }}, type: Directory}
    {{- else }}
    {{- toYaml .volume | nindent 4 }}
    {{- end }}
    {{- end }}
  {{- end }}
  {{- include "pregate.tlsVolume" (dict "root" .root "role" .component) | nindent 2 }}
  {{- with .values.apiTokensSecret }}
  - name: api-tokens
    secret: {secretName: {{ toYaml . }}, defaultMode: 0440}
  {{- end }}
  {{- with .values.shmSize }}
  - name: shm
    emptyDir: {medium: Memory, sizeLimit: {{ quote . }}}
  {{- end }}
  {{- with .values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
Probes are exec because the kubelet's own gRPC and HTTP probes have no client certificate to show. Each opens a
new connection with the container's own certificate, so it also sees a listener that is stuck.

  readiness  grpc.health.v1 says SERVING: the loop turned within 0.7 s; for the scheduler also that a cell is
             formed, the router is there and no drain has begun. One miss takes the pod out of its Service.
  startup    --live: the server answers. A worker does not listen before its weights are read, so the
             threshold is the longest load, and nothing else is asked before.
  liveness   --live, for two minutes by default: the server answers, whatever its health says. A worker that waits
             for its group and a scheduler whose workers are down are not serving, yet a restart would not help them
             (and would end the scheduler's streams), so they must pass.

(dict "root" $ "port" 7600 "values" .Values.scheduler)
*/}}
{{- define "pregate.probes" -}}
{{- $health := list "pregate" "health" (printf "--server=%s:%v" (include "pregate.self" .root) .port) "--tls-dir=/tls"
    (printf "--tls-trust-domain=%s" .root.Values.tls.trustDomain) -}}
{{- include "pregate.probe" (dict "name" "startupProbe" "command" (append $health "--live") "values" .values) }}
{{ include "pregate.probe" (dict "name" "readinessProbe" "command" $health "values" .values) }}
{{ include "pregate.probe" (dict "name" "livenessProbe" "command" (append $health "--live") "values" .values) }}
{{- end -}}

{{/* The command gives up a second before the kubelet does, and says why. */}}
{{- define "pregate.probe" -}}
{{- $times := index .values .name -}}
{{ .name }}:
  exec:
    command: {{ append .command (printf "--timeout-s=%d" (sub $times.timeoutSeconds 1)) | toJson }}
  periodSeconds: {{ int64 $times.periodSeconds }}
  timeoutSeconds: {{ int64 $times.timeoutSeconds }}
  failureThreshold: {{ int64 $times.failureThreshold }}
{{- end -}}
