#!/usr/bin/env bash
# One retraining as CI runs it; every example beside this script calls it. In the environment:
#   SETTINGS        the settings file; its corpus is an s3:// address that tasks can read
#   STORE           s3://bucket/prefix of the results
#   PROFILE         a profile in pipelines/profiles/, or a file
#   KFP_HOST, KFP_NAMESPACE, KFP_ACCOUNT     where runs are made, and the tasks' service account
#   IMAGES          a file of image: address@sha256:… lines; empty where the profile takes tags
#   CORPUS, CORPUS_AT    a folder to upload first, and the s3:// address that it goes to; empty if the corpus is there
#   PUBLISH         1 publishes what is promoted (the main branch), 0 only judges (a pull request)
#   ALWAYS          1 runs whatever diff-corpus says: another setting, generator or version of the code changed
#   OUT             the folder of outcome.json, changes.json, report.html and report.md
# Ends with 0 promoted (or nothing to retrain), 3 rejected, 4 held, 2 a mistake in settings or data, 75 try again.
set -euo pipefail
OUT=${OUT:-out}
mkdir -p "$OUT"
rm -f "$OUT"/*.json "$OUT"/report.*

if [ -n "${CORPUS:-}" ]; then
    aws s3 sync --delete "$CORPUS" "$CORPUS_AT"
fi

hone diff-corpus "$SETTINGS" --store "$STORE" --json >"$OUT/changes.json"
cat "$OUT/changes.json"
if [ "${ALWAYS:-0}" != 1 ] && grep -q '"retrain": false' "$OUT/changes.json"; then
    echo '{"outcome": "not needed", "exit_code": 0}' >"$OUT/outcome.json"
    echo "The corpus has not changed enough to train again: see \`retrain.min_changed\`." >"$OUT/report.md"
    exit 0
fi

# What the run will cost; a model that lies only in the cluster cannot be counted from here.
hone plan "$SETTINGS" --store "$STORE" --json >"$OUT/plan.json" 2>"$OUT/plan.txt" || cat "$OUT/plan.txt"

publish=--no-publish
[ "${PUBLISH:-0}" != 1 ] || publish=--publish
status=0
hone submit specialize "$SETTINGS" --store "$STORE" --profile "$PROFILE" ${IMAGES:+--images "$IMAGES"} \
    --host "$KFP_HOST" --namespace "${KFP_NAMESPACE:-}" --service-account "${KFP_ACCOUNT:-}" \
    --retries 2 "$publish" --report "$OUT" --json >"$OUT/outcome.json" || status=$?
[ ! -s "$OUT/outcome.json" ] || cat "$OUT/outcome.json"
[ -s "$OUT/report.md" ] || echo "The run ended with exit code $status before there was a report." >"$OUT/report.md"
exit "$status"
