#!/usr/bin/env bash
# A Docker engine of our own for the end-to-end test, and a base image made from Debian's packages: nothing is pulled.
#   e2e/engine.sh FOLDER up      installs what is missing (as root), starts dockerd, imports the base image
#   e2e/engine.sh FOLDER probe   the same, and then runs a container as the test does; its last line says what failed
#   e2e/engine.sh FOLDER down    stops it; FOLDER keeps images for the next time
# The engine listens on FOLDER/docker.sock; /usr/bin/docker is Debian's client. It makes no bridge and no firewall
# rules: images are built without a network, and containers share the machine's.
set -euo pipefail
folder=$(realpath -m "$1")
export DOCKER_HOST="unix://$folder/docker.sock"
LEAST_GIB=12

install_parts() {
    command -v dockerd >/dev/null && command -v mmdebstrap >/dev/null && return
    [ "$(id -u)" = 0 ] || { echo "dockerd and mmdebstrap are missing, and only root can install them"; return 1; }
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends docker.io mmdebstrap >/dev/null ||
        { echo "apt cannot install docker.io and mmdebstrap"; return 1; }
}

start() {
    /usr/bin/docker info >/dev/null 2>&1 && return
    cat >"$folder/daemon.json" <<JSON
{"data-root": "$folder/data", "exec-root": "$folder/exec", "pidfile": "$folder/docker.pid",
 "hosts": ["unix://$folder/docker.sock"], "bridge": "none", "iptables": false,
 "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 20000, "Soft": 20000}}}
JSON
    setsid nohup dockerd --config-file "$folder/daemon.json" >"$folder/dockerd.log" 2>&1 </dev/null &
    for _ in $(seq 60); do
        /usr/bin/docker info >/dev/null 2>&1 && return
        sleep 1
    done
    tail -n 5 "$folder/dockerd.log"
    echo "dockerd does not start: $(tail -n 1 "$folder/dockerd.log")"
    return 1
}

base_image() {
    /usr/bin/docker image inspect python:3.11-slim >/dev/null 2>&1 && return
    local sources=/etc/apt/sources.list.d/debian.sources
    [ -f "$sources" ] || sources=/etc/apt/sources.list
    if [ ! -f "$folder/base.tar" ]; then
        mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
            bookworm "$folder/part.tar" "$sources" ||
            { echo "mmdebstrap cannot make a base image from $sources"; return 1; }
        mv "$folder/part.tar" "$folder/base.tar"
    fi
    /usr/bin/docker import "$folder/base.tar" python:3.11-slim >/dev/null
}

space() {
    local free
    free=$(df --output=avail -BG "$folder" | tail -n 1 | tr -dc 0-9)
    [ "$free" -ge "$LEAST_GIB" ] || { echo "$folder has $free GiB free; $LEAST_GIB are needed"; return 1; }
}

container() {
    /usr/bin/docker run --rm --network host --user 1001:1001 --read-only --tmpfs /tmp --cap-drop ALL \
        --security-opt no-new-privileges --memory 4g python:3.11-slim python3 -c 'import ssl' 2>&1 ||
        { echo "dockerd starts but runs no container"; return 1; }
}

up() { space && install_parts && start && base_image; }

mkdir -p "$folder"
case "$2" in
up) up ;;
probe) up && container ;;
down) [ ! -f "$folder/docker.pid" ] || kill "$(cat "$folder/docker.pid")" ;;
esac
