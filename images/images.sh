#!/usr/bin/env bash
# The images and the extras of pyproject.toml that each holds.
#   images/images.sh pins              resolves what each image holds into images/*.txt (Linux, CUDA where torch is)
#   images/images.sh build [NAME ...]  builds them with the Docker engine at DOCKER_HOST; without NAME: cpu and train
# Wheels of build/wheels are kept for the next time; pip's find-links may name others, such as a torch without CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A extras=([cpu]= [train]=train,openai [vllm]=train,vllm [pipeline]=pipeline)
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hone/__init__.py)
docker=${DOCKER:-/usr/bin/docker}

pins() {
    local resolve=(.venv/bin/uv pip compile -q --no-header --no-annotate --python-version 3.11
        --python-platform x86_64-unknown-linux-gnu)
    for name in "${!extras[@]}"; do
        local chosen=()
        for extra in ${extras[$name]//,/ }; do chosen+=(--extra "$extra"); done
        echo hatchling | "${resolve[@]}" "${chosen[@]}" pyproject.toml - -o "images/$name.txt"
    done
    echo cyclonedx-bom | "${resolve[@]}" - -o images/sbom.txt
}

# Wheels are gathered here, with pip's own settings of this machine: the build itself needs no network, index or CA.
wheels() {
    mkdir -p build/wheels
    local pip=(.venv/bin/python -m pip wheel -q --disable-pip-version-check -f build/wheels -w build/wheels)
    for name in "$@"; do
        "${pip[@]}" -c "images/$name.txt" ".${extras[$name]:+[${extras[$name]}]}" hatchling
    done
    "${pip[@]}" -c images/sbom.txt -r images/sbom.txt
    rm -f build/wheels/hone-*.whl
}

build() {
    wheels "$@"
    for name in "$@"; do
        DOCKER_BUILDKIT=1 "$docker" build -q --network=none -f images/Dockerfile -t "hone-$name:$version" \
            --build-arg "IMAGE=$name" --build-arg "EXTRAS=${extras[$name]}" --build-arg PIP_NO_INDEX=1 \
            --build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD)" .
    done
}

case "$1" in
pins) pins ;;
build)
    shift
    [ $# -gt 0 ] || set -- cpu train
    build "$@"
    ;;
esac
