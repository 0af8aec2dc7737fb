{{/* Labels of every object, and of every pod that the NetworkPolicy is about. */}}
{{- define "hone.labels" -}}
app.kubernetes.io/name: hone
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: hone
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "hone.name" -}}
{{ printf "%s-%s" .root.Release.Name .what | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of the submitter's or the runner's ServiceAccount. */}}
{{- define "hone.account" -}}
{{ (index .root.Values.serviceAccounts .what).name | default (include "hone.name" .) }}
{{- end }}

{{/* The address of an image: by digest, by tag where that is allowed, else a refusal; vllm may be left out. */}}
{{- define "hone.image" -}}
{{- $image := index .root.Values.images .what -}}
{{- $registry := .root.Values.global.imageRegistry -}}
{{- $repository := list $registry $image.repository | compact | join "/" -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $repository $image.digest }}
{{- else if .root.Values.images.allowTags -}}
{{ printf "%s:%s" $repository ($image.tag | default .root.Chart.AppVersion) }}
{{- else if ne .what "vllm" -}}
{{ fail (printf "images.%s.digest is empty: give the image's sha256:… digest, or set images.allowTags to take it by tag" .what) }}
{{- end -}}
{{- end }}

{{/* The ConfigMap of certificate authorities, if any. */}}
{{- define "hone.ca" -}}
{{- if and .Values.s3.caBundle .Values.s3.existingCaConfigMap -}}
{{ fail "s3.caBundle and s3.existingCaConfigMap are both set; keep one" }}
{{- end -}}
{{- if .Values.s3.existingCaConfigMap }}{{ .Values.s3.existingCaConfigMap }}
{{- else if .Values.s3.caBundle }}{{ include "hone.name" (dict "root" . "what" "ca") }}
{{- end -}}
{{- end }}

{{- define "hone.claim" -}}
{{- if .Values.modelCache.enabled }}{{ .Values.modelCache.existingClaim | default (include "hone.name" (dict "root" . "what" "models")) }}{{ end -}}
{{- end }}

{{/* Environment variables by which S3 is reached. */}}
{{- define "hone.s3Env" -}}
{{- with .Values.s3.endpoint }}
- {name: AWS_ENDPOINT_URL_S3, value: {{ . | quote }}}
{{- end }}
{{- with .Values.s3.region }}
- {name: AWS_DEFAULT_REGION, value: {{ . | quote }}}
{{- end }}
{{- with .Values.s3.existingSecret }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- {name: {{ $key }}, valueFrom: {secretKeyRef: {name: {{ $.Values.s3.existingSecret }}, key: {{ $key }}}}}
{{- end }}
{{- end }}
{{- if include "hone.ca" . }}
- {name: AWS_CA_BUNDLE, value: /etc/hone/ca/ca.crt}
{{- end }}
{{- end }}

{{/* The profile that pipelines are compiled for: the named one, with what this release has. */}}
{{- define "hone.profile" -}}
{{- $root := . -}}
{{- $images := dict -}}
{{- range list "cpu" "train" "vllm" -}}
{{- $address := include "hone.image" (dict "root" $root "what" .) -}}
{{- if $address }}{{ $_ := set $images . $address }}{{ end -}}
{{- end -}}
{{- $secrets := list -}}
{{- with .Values.s3.existingSecret -}}
{{- $secrets = append $secrets (dict "name" . "env" (dict "AWS_ACCESS_KEY_ID" "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SECRET_ACCESS_KEY")) -}}
{{- end -}}
{{- with .Values.notify.existingSecret -}}
{{- $secrets = append $secrets (dict "name" . "env" (dict "address" "HONE_WEBHOOK") "optional" true) -}}
{{- end -}}
{{- $env := dict -}}
{{- with .Values.s3.endpoint }}{{ $_ := set $env "AWS_ENDPOINT_URL_S3" . }}{{ end -}}
{{- with .Values.s3.region }}{{ $_ := set $env "AWS_DEFAULT_REGION" . }}{{ end -}}
{{- $profile := dict
  "extends" .Values.profile.name
  "name" .Release.Name
  "digests" (not .Values.images.allowTags)
  "images" $images
  "queue" (ternary .Values.kueue.localQueue "" .Values.kueue.enabled)
  "labels" (dict "app.kubernetes.io/part-of" "hone" "app.kubernetes.io/instance" .Release.Name)
  "env" $env
  "secrets" $secrets
  "config_maps" list
  "ca" (include "hone.ca" .)
  "ca_optional" false
  "model_cache" (dict "claim" (include "hone.claim" .) "path" .Values.modelCache.path)
-}}
{{ toYaml (mergeOverwrite $profile .Values.profile.overrides) }}
{{- end }}

{{/* What hone reconcile makes the platform hold. */}}
{{- define "hone.plan" -}}
{{- $account := include "hone.account" (dict "root" . "what" "runner") -}}
{{ toYaml (dict
  "profile" "profile.yaml"
  "pipelines" .Values.registration.pipelines
  "experiment" (printf "%s-recurring" .Release.Name)
  "service_account" $account
  "recurring" .Values.recurring) }}
{{- end }}

{{/* The pod of a job or test: dict of root, image (its name), account, command, and optionally apiToken, env,
     volumes, mounts, resources, tolerations. */}}
{{- define "hone.pod" -}}
{{- $root := .root -}}
{{- $ca := include "hone.ca" $root -}}
metadata:
  labels:
    {{- include "hone.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    # A sidecar would keep the pod from ever ending.
    sidecar.istio.io/inject: "false"
spec:
  serviceAccountName: {{ include "hone.account" (dict "root" $root "what" .account) }}
  automountServiceAccountToken: {{ .apiToken | default false }}
  restartPolicy: Never
  {{- with $root.Values.global.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1001
    runAsGroup: 1001
    fsGroup: 1001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with $root.Values.jobs.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with concat $root.Values.jobs.tolerations (.tolerations | default list) }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "hone.image" (dict "root" $root "what" .image) }}
      imagePullPolicy: {{ $root.Values.images.pullPolicy }}
      command: {{ toJson .command }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      env:
        - {name: TMPDIR, value: /tmp}
        {{- if $ca }}
        - {name: SSL_CERT_FILE, value: /etc/hone/ca/ca.crt}
        {{- end }}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      resources: {{- toYaml (.resources | default $root.Values.jobs.resources) | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if $ca }}
        - {name: ca, mountPath: /etc/hone/ca, readOnly: true}
        {{- end }}
        {{- with .mounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    {{- if $ca }}
    - {name: ca, configMap: {name: {{ $ca }}}}
    {{- end }}
    {{- with .volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The projected token with which the submitter signs in to Kubeflow. */}}
{{- define "hone.tokenEnv" -}}
- {name: KF_PIPELINES_SA_TOKEN_PATH, value: /var/run/secrets/hone/token}
{{- end }}
{{- define "hone.tokenMount" -}}
- {name: kubeflow-token, mountPath: /var/run/secrets/hone, readOnly: true}
{{- end }}
{{- define "hone.tokenVolume" -}}
- name: kubeflow-token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 7200, audience: {{ .Values.kubeflow.tokenAudience }}}
{{- end }}
