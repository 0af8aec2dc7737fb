"""A publisher in its own process, that may kill itself right before it moves the pointer.

python tests/publishers.py STORE FOLDER VERSION [die]
"""

import os
import signal
import sys
from pathlib import Path

from hone.errors import UserError
from hone.results import registry
from hone.results.registry import Release
from hone.storage.addresses import open_store

DOMAIN = "support"


def main(place: str, folder: str, version: str, fate: str = "") -> int:
    store = open_store(place)
    seen = registry.moves(store, DOMAIN)
    parts = registry.parts_of(Path(folder))
    made = Release(domain=DOMAIN, version=version, model="m", verdict="v", finding="", parts=parts)
    registry.add(store, made, Path(folder))
    print("uploaded", flush=True)
    if fate == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()  # all publishers start their move together
    try:
        registry.move(store, DOMAIN, version, "publish", seen)
    except UserError as error:
        print(error, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
