#!/usr/bin/env bash
# A Docker engine of our own for the end-to-end test, and a base image made from Debian's packages: nothing is pulled.
#   e2e/engine.sh FOLDER up     installs what is missing (as root), starts dockerd, imports the base image
#   e2e/engine.sh FOLDER down   stops it; FOLDER keeps images for the next time
# The engine listens on FOLDER/docker.sock; /usr/bin/docker is Debian's client.
set -euo pipefail
folder=$(realpath -m "$1")
export DOCKER_HOST="unix://$folder/docker.sock"

install_parts() {
    command -v dockerd >/dev/null && command -v mmdebstrap >/dev/null && return
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends docker.io iptables mmdebstrap >/dev/null
}

start() {
    /usr/bin/docker info >/dev/null 2>&1 && return
    cat >"$folder/daemon.json" <<JSON
{"data-root": "$folder/data", "exec-root": "$folder/exec", "pidfile": "$folder/docker.pid",
 "hosts": ["unix://$folder/docker.sock"],
 "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 20000, "Soft": 20000}}}
JSON
    setsid nohup dockerd --config-file "$folder/daemon.json" >"$folder/dockerd.log" 2>&1 </dev/null &
    for _ in $(seq 60); do
        /usr/bin/docker info >/dev/null 2>&1 && return
        sleep 1
    done
    tail "$folder/dockerd.log" >&2
    exit 1
}

base_image() {
    /usr/bin/docker image inspect python:3.11-slim >/dev/null 2>&1 && return
    local sources=/etc/apt/sources.list.d/debian.sources
    [ -f "$sources" ] || sources=/etc/apt/sources.list
    [ -f "$folder/base.tar" ] || mmdebstrap --quiet --variant=minbase \
        --include=ca-certificates,python3,python3-pip,python3-venv bookworm "$folder/base.tar" "$sources"
    /usr/bin/docker import "$folder/base.tar" python:3.11-slim >/dev/null
}

mkdir -p "$folder"
case "$2" in
up)
    install_parts
    start
    base_image
    ;;
down) [ ! -f "$folder/docker.pid" ] || kill "$(cat "$folder/docker.pid")" ;;
esac
