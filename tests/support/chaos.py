"""A process that has imported everything and forks a child for each run, so that a hundred kills take little time.

python tests/support/chaos.py kill|race|together FOLDER [STORES KILLS]     prints one line of JSON per run
"""

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tqdm

import chain
from hone import scratch
from hone.engine import garbage, maintenance
from hone.log import kept
from hone.results.manifest import load_manifest
from hone.storage import leases
from hone.storage.addresses import open_store
from hone.storage.base import Store
from hone.storage.local import LocalStore

KILLS = 100
KILLS_OVER_S3 = int(os.environ.get("HONE_KILLS_OVER_S3", "6"))
"""Each takes some seconds more than one in a local folder."""
EVERY_BY_TIME = 5
"""One in so many is killed after some CPU time, the others at an audit event."""
RACERS = 8
TOGETHER = 20
VARIANTS = 4


class Child:
    """A forked process that does some work; what it returns comes back as JSON."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.said, writing = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(writing)
            return
        try:
            answer = json.dumps(work()).encode()
            os.write(writing, answer)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - whatever it was, the parent is told
            print(f"child: {error!r}", file=sys.stderr)
            os._exit(1)

    def wait(self) -> tuple[int, Any]:
        """The signal that ended it, or minus its exit status, and its answer."""
        with os.fdopen(self.said, "rb") as said:
            answer = said.read()
        _, status = os.waitpid(self.pid, 0)
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)
        return ended, json.loads(answer) if answer else None


def finish(home: Path, uri: str) -> dict[str, str]:
    """The digests of a run that goes on in whatever store of that address holds."""
    scratch._sweep.cache_clear()  # a process of its own sweeps once, and this one was forked
    return chain.digests(chain.run(home, open_store(uri)))


def measured(home: Path, uri: str) -> dict[str, Any]:
    """An undisturbed run: what came of it, how many audit events it had and how much CPU time it took."""
    events = 0

    def count(event: str, arguments: object) -> None:
        nonlocal events
        events += 1

    sys.addaudithook(count)
    started = time.process_time()
    digests = finish(home, uri)
    return {"digests": digests, "events": events, "seconds": time.process_time() - started}


def killed_at_event(home: Path, uri: str, moment: int) -> None:
    """A run that kills itself at its n-th audit event: an open, a rename, an import, a call of ctypes ..."""
    left = moment

    def strike(event: str, arguments: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(strike)
    finish(home, uri)


def killed_at_time(home: Path, uri: str, seconds: float) -> None:
    """A run that the kernel ends after that much CPU time, wherever it is; nothing can catch or delay it."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    finish(home, uri)


def orphans(store: Store) -> list[str]:
    """What is wrong with any manifest in the store: a part that is not there or not whole, an input not done."""
    keys = [one.key for one in store.objects() if one.key.endswith("/manifest.json")]
    flaws = {
        key.removesuffix("/manifest.json"): maintenance.flaws(store, key.removesuffix("/manifest.json")) for key in keys
    }
    found = [flaw for some in flaws.values() for flaw in some]
    for key in keys:
        manifest = load_manifest(store, key)
        assert manifest
        found += [f"{source} is not done" for source in manifest.inputs.values() if flaws.get(source, ["missing"])]
    return found


def kill(home: Path, root: Path, stores: str = "", kills: str = str(KILLS)) -> None:
    """Each run in its own store below `stores`, `root` if empty."""
    stores = stores or str(root)
    calm = Child(lambda: measured(home, f"{stores}/calm")).wait()[1]
    draw = random.Random(7)
    for number in range(int(kills)):
        uri = f"{stores}/{number}"
        share = (number + draw.random()) / int(kills)
        if number % EVERY_BY_TIME:
            moment = max(1, round(share * calm["events"]))
            ended, _ = Child(lambda: killed_at_event(home, uri, moment)).wait()  # noqa: B023
        else:
            moment = max(0.001, share * calm["seconds"])
            ended, _ = Child(lambda: killed_at_time(home, uri, moment)).wait()  # noqa: B023
        store = open_store(uri)
        done = sorted({one.key.split("/")[0] for one in store.objects() if one.key.endswith("/manifest.json")})
        broken = orphans(store)
        status, digests = Child(lambda: finish(home, uri)).wait()  # noqa: B023
        for one in garbage.garbage(store, -1.0):
            store.delete(one.stored)
        tell(number=number, moment=moment, ended=ended, done=done, orphans=broken, rerun=status,
             differs=differing(digests, calm["digests"]), after=orphans(store), left=len(list(store.unfinished())),
             scratch=sorted(path.name for path in root.glob(f"{scratch.PREFIX}*")))  # fmt: skip


def differing(digests: dict[str, str] | None, calm: dict[str, str]) -> list[str]:
    """The outputs of an undisturbed run that another lacks or has with other bytes."""
    return [name for name, digest in calm.items() if (digests or {}).get(name) != digest]


def race(home: Path, root: Path) -> None:
    """All at once the same run in the same store."""

    def work() -> dict[str, Any]:
        with kept() as lines:
            digests = chain.digests(chain.run(home, LocalStore(root / "race")))
        events = [json.loads(line) for line in lines]
        return {"digests": digests, "events": [(e["event"], e.get("stage", "")) for e in events]}

    answers = [child.wait() for child in [Child(work) for _ in range(RACERS)]]
    won = Counter(stage for _, answer in answers for event, stage in answer["events"] if event == "committed")
    lost = Counter(stage for _, a in answers for event, stage in a["events"] if event in ("adopted", "up to date"))
    same = len({json.dumps(answer["digests"], sort_keys=True) for _, answer in answers}) == 1
    tell(ended=[ended for ended, _ in answers], same=same, won=won, lost=lost)


def together(home: Path, root: Path) -> None:
    """Twenty runs of several kinds at once in one store, each compared with itself alone."""

    def work(number: int, store: LocalStore) -> dict[str, str]:
        # They encode the same texts: a vector differs in its last bit by what it was batched with.
        distill = {**chain.SETTINGS["distill"], "learning_rate": 0.01 * (1 + number % VARIANTS)}
        return chain.digests(chain.run(home, store, f"run-{number}", distill=distill))

    shared = LocalStore(root / "shared")
    running = [Child(lambda number=number: work(number, shared)) for number in range(TOGETHER)]
    answers = [child.wait() for child in running]
    alone = [Child(lambda n=n: work(n, LocalStore(root / f"alone-{n}"))).wait()[1] for n in range(VARIANTS)]
    for number, (ended, digests) in enumerate(answers):
        tell(number=number, ended=ended, differs=differing(digests, alone[number % VARIANTS]))
    tell(runs=garbage.runs(shared), orphans=orphans(shared), kinds=len({json.dumps(one) for one in alone}))


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def main(what: str, folder: str, *more: str) -> None:
    os.environ.update(HONE_LOG="off", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    sys.stderr = open(os.devnull, "w") if what == "kill" else sys.stderr  # noqa: SIM115 - progress of killed runs
    torch.set_num_threads(1)
    # Its own is shared by forked processes: one killed while holding it would stop all that come after.
    tqdm.tqdm.set_lock(threading.RLock())
    # The leases of the killed would protect what they left for some minutes.
    leases.WATCH, leases.LIFE = 0.0, dict.fromkeys(leases.LIFE, 0.0)
    root = Path(folder)
    home = chain.home(root / "home", docs=24)
    chain.run(home, LocalStore(root / "warm"))
    tempfile.tempdir = str(root)
    {"kill": kill, "race": race, "together": together}[what](home, root, *more)


if __name__ == "__main__":
    main(*sys.argv[1:])
