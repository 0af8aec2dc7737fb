#!/usr/bin/env bash
# The images and the extras of pyproject.toml that each holds.
#   images/images.sh pins              resolves what each image holds into images/*.txt (Linux, CUDA where torch is)
#   images/images.sh build [NAME ...]  builds them with the Docker engine at DOCKER_HOST; without NAME: cpu and train
#   images/images.sh push REGISTRY     pushes all that were built and prints the file that --images takes
# Wheels of build/wheels are kept for the next time; pip's find-links may name others. Where they name a torch without
# CUDA, CPU_ONLY=1 takes a FAISS without it too.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A extras=([cpu]=hub,mlflow,model-registry [train]=train,faiss-gpu,hub,mlflow,model-registry,onnx,openai
    [vllm]=train,faiss-gpu,vllm [pipeline]=pipeline)
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hone/__init__.py)
docker=${DOCKER:-/usr/bin/docker}
tools=(cyclonedx-bom hatchling "$(.venv/bin/uv --version | sed 's/^uv \([^ ]*\).*/uv==\1/')")

pins() {
    local resolve=(.venv/bin/uv pip compile -q --no-header --no-annotate --python-version 3.11
        --python-platform x86_64-unknown-linux-gnu --overrides images/left-out)
    for name in "${!extras[@]}"; do
        local chosen=()
        for extra in ${extras[$name]//,/ }; do chosen+=(--extra "$extra"); done
        "${resolve[@]}" "${chosen[@]}" pyproject.toml -o "images/$name.txt"
    done
    printf '%s\n' "${tools[@]}" | "${resolve[@]}" - -o images/tools.txt
}

# What an image holds when it is built here.
held() {
    [ -z "${CPU_ONLY:-}" ] && echo "${extras[$1]}" || echo "${extras[$1]/faiss-gpu/faiss}"
}

# Wheels are gathered here, with pip's own settings of this machine: the build itself needs no network, index or CA.
wheels() {
    mkdir -p build/wheels
    local pip=(.venv/bin/python -m pip wheel -qq --disable-pip-version-check -f build/wheels -w build/wheels)
    for name in "$@"; do "${pip[@]}" -c "images/$name.txt" ".[$(held "$name")]"; done
    "${pip[@]}" -c images/tools.txt "${tools[@]}"
    rm -f build/wheels/hone_retrieval-*.whl
}

build() {
    wheels "$@"
    for name in "$@"; do
        DOCKER_BUILDKIT=1 "$docker" build -q --network=none -f images/Dockerfile -t "hone-$name:$version" \
            --build-arg "IMAGE=$name" --build-arg "EXTRAS=$(held "$name")" --build-arg OFFLINE=1 \
            --build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD)" .
    done
}

# Without cpu and train no pipeline runs, without pipeline nothing is registered; vllm is for profiles that generate on it.
push() {
    local name
    for name in cpu train pipeline; do
        "$docker" image inspect "hone-$name:$version" >/dev/null 2>&1 ||
            { echo "hone-$name:$version was not built; bash images/images.sh build $name" >&2; exit 2; }
    done
    for name in cpu train pipeline vllm; do
        "$docker" image inspect "hone-$name:$version" >/dev/null 2>&1 || continue
        "$docker" tag "hone-$name:$version" "$1/hone-$name:$version"
        "$docker" push -q "$1/hone-$name:$version" >&2
        echo "$name: $("$docker" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1/hone-$name:$version" |
            grep -F "$1/hone-$name@" | head -n 1)"
    done
}

case "$1" in
pins) pins ;;
push) push "$2" ;;
build)
    shift
    [ $# -gt 0 ] || set -- cpu train
    build "$@"
    ;;
esac
