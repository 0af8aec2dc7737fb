#!/usr/bin/env bash
# make e2e where a machine can run containers and has the time; where not, one loud line says why it is left out.
#   e2e/ci.sh SECONDS [ENGINE]     at most so many seconds; a failing test fails, and one that hangs where time was ample
set -euo pipefail
cd "$(dirname "$0")/.."
longest=$1
engine=${2:-build/engine}
LEAST=600 # seconds below which it is not begun
AMPLE=1000 # seconds within which it is done on 2 quiet cores: not done in these, it has failed
PROBE=420 # seconds that the probe may take, apt and the base image with it
SECONDS=0

left_out() {
    printf '\n######## make e2e LEFT OUT: %s ########\n\n' "$1"
    exit 0
}

[ "$longest" -ge "$LEAST" ] || left_out "$longest s are left, $LEAST are needed"
why=$(timeout --kill-after=10 "$PROBE" bash e2e/engine.sh "$engine" probe 2>&1) ||
    left_out "no container runs here: $(tail -n 1 <<<"${why:-no answer in $PROBE s}")"
left=$((longest - SECONDS))
[ "$left" -ge "$LEAST" ] || left_out "the probe took $SECONDS s, $left are left and $LEAST are needed"
status=0
timeout --kill-after=30 "$left" make e2e ENGINE="$(realpath "$engine")" || status=$?
bash e2e/engine.sh "$engine" down || true
case $status in
124 | 137)
    [ "$left" -ge "$AMPLE" ] || left_out "not done in $left s"
    echo "make e2e was not done in $left s"
    exit 1
    ;;
*) exit "$status" ;;
esac
