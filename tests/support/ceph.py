"""A real S3 server on this machine: Ceph's RADOS gateway over one monitor and one disk, on loopback.

    python tests/support/ceph.py FOLDER PID    starts it, prints its address and keys as JSON, and ends with PID

As root on Debian or Ubuntu it installs what it needs. The cluster lives in FOLDER and dies with this process.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph-common")
DISK_BYTES = 16 << 30
"""Sparse: only what is written takes room, and what is deleted goes on taking it for hours."""
CONFIG = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon}
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
ms_client_mode = crc
ms_bind_port_min = 20000
ms_bind_port_max = 29000
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
osd_memory_target = 900000000
mon_data_avail_crit = 1
mon_osd_full_ratio = .99
run_dir = {folder}
admin_socket = {folder}/$name.asok
pid_file = {folder}/$name.pid
log_file = {folder}/$name.log
crash_dir = {folder}/crash
keyring = {folder}/keyring
mon_data = {folder}/mon
osd_data = {folder}/osd
osd_objectstore = bluestore
bluestore_block_size = {disk}
bluestore_fsck_on_mount = false
rgw_data = {folder}/rgw
"""


@dataclass(frozen=True)
class Gateway:
    """Where the server answers and who may use it."""

    address: str
    access_key: str
    secret_key: str
    folder: str
    """Where the cluster lives; `serve` starts further gateways to it."""


def install() -> None:
    if not shutil.which("radosgw"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", *arguments], check=True, env=quiet, stdout=sys.stderr)


class Cluster:
    """The daemons of one cluster; every one is a child of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "ceph.conf"
        self.children: list[subprocess.Popen[bytes]] = []
        for name in ("mon", "osd", "rgw", "crash"):
            (folder / name).mkdir(parents=True)
        (folder / "keyring").touch()
        self.fsid, self.mon = str(uuid.uuid4()), free_port()
        self.config.write_text(CONFIG.format(fsid=self.fsid, mon=self.mon, folder=folder, disk=DISK_BYTES))

    def start(self) -> None:
        monmap = str(self.folder / "monmap")
        at = ["--addv", "a", f"[v2:127.0.0.1:{self.mon}]"]
        self.call("monmaptool", "--create", *at, "--fsid", self.fsid, monmap)
        self.call("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, *self.own)
        self.spawn("ceph-mon", "-i", "a", "-f", *self.own)
        osd = str(uuid.uuid4())
        self.call("ceph", *self.own, "osd", "new", osd)
        self.call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, *self.own)
        self.spawn("ceph-osd", "-i", "0", "-f", *self.own)

    def user(self) -> tuple[str, str]:
        """Access and secret key of a new user."""
        name = f"u{uuid.uuid4().hex[:8]}"
        made = self.call("radosgw-admin", *self.own, "user", "create", "--uid", name, "--display-name", name)
        key = json.loads(made)["keys"][0]
        return key["access_key"], key["secret_key"]

    @property
    def own(self) -> tuple[str, ...]:
        return ("-c", str(self.config))

    def call(self, *command: str) -> bytes:
        with (self.folder / "commands.log").open("ab") as errors:
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=errors, timeout=120).stdout

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "daemons.log").open("ab") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log)
        self.children.append(child)
        return child

    def stop(self) -> None:
        for child in self.children:
            child.kill()
        for child in self.children:
            child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def serve(folder: str | Path, name: str, port: int) -> list[str]:
    """The command that runs a gateway of a cluster at a port; several, each with its name, may run at once."""
    frontend = f"beast endpoint=127.0.0.1:{port}"
    return ["radosgw", "-f", "-n", f"client.{name}", "--rgw-frontends", frontend, "-c", str(Path(folder) / "ceph.conf")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, seconds: float = 120) -> None:
    """Until something accepts connections at a port of loopback. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing answers at 127.0.0.1:{port} after {seconds:.0f} s")


def main(arguments: Sequence[str]) -> None:
    install()
    cluster = Cluster(Path(arguments[0]).resolve())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        cluster.start()
        port = free_port()
        cluster.spawn(*serve(cluster.folder, "rgw", port))
        keys = cluster.user()
        wait_for(port)
        print(json.dumps(asdict(Gateway(f"http://127.0.0.1:{port}", *keys, str(cluster.folder)))), flush=True)
        while Path(f"/proc/{arguments[1]}").exists():
            time.sleep(0.5)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
