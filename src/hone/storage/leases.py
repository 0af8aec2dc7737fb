"""Who needs which results: leases, which runs renew and `hone store gc` respects.

    leases/run-<id>.json             what a living process needs; written anew every RENEWAL seconds
    leases/gc-<id>.json              what a living gc is about to look at and delete
    leases/last/<stage>-<digest>.json    when a result and what it was made from were last needed

A run writes its lease before it looks what is there, and then waits while a gc is at one of its results. A gc writes
its lease before it looks who needs what. Whichever comes second sees the other: nothing that is needed is deleted.
Times are the store's own. A lease that looks dead is watched for a while before that is believed: clocks may be wrong.
"""

import getpass
import platform
import threading
import time
import uuid
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress

from hone.errors import TransientError, UserError
from hone.log import log
from hone.storage.base import Object, Store
from hone.storage.sealed import SealError, read_sealed, seal

FOLDER = "leases"
LAST = f"{FOLDER}/last"
RUN, GC = "run", "gc"
RENEWAL = 20.0
WATCH = 3 * RENEWAL
LIFE = {RUN: 600.0, GC: 60.0}
"""Seconds without a renewal after which a lease looks dead."""
WAIT = 0.2


class Lease:
    """What one process needs, or one gc is at."""

    def __init__(self, store: Store, kind: str = RUN) -> None:
        self.store, self.kind = store, kind
        self.key = f"{FOLDER}/{kind}-{uuid.uuid4().hex}.json"
        self.prefixes: set[str] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()

    def hold(self, prefixes: Iterable[str]) -> None:
        """Needs these results too, from now on. Returns when no gc is at any of them."""
        wanted = set(prefixes) - self.prefixes
        if wanted:
            self.prefixes |= wanted
            # A store that cannot be written to is left to who can, and can be read all the same.
            with suppress(UserError):
                self.renew()
                self._wait_for_gc(wanted)

    def at(self, prefixes: Iterable[str]) -> float:
        """A gc goes on to these results, and leaves the others; returns the store's own time (s since the epoch)."""
        self.prefixes = set(prefixes)
        self.renew()
        return self.now()

    def renew(self) -> None:
        """Says that the process is alive."""
        with self._lock:
            if not self._over.is_set():
                held = {"kind": self.kind, "by": who(), "prefixes": sorted(self.prefixes)}
                self.store.replace(self.key, seal(held))

    def now(self) -> float:
        """The time of the last renewal by the store's own clock."""
        times = [stored.modified for stored in self.store.objects(FOLDER) if stored.key == self.key]
        return times[0] if times else time.time()

    def end(self) -> None:
        """Needs nothing any more, and leaves a note of when each result was last needed."""
        self._over.set()
        with self._lock:
            if self.kind == RUN and self.prefixes:
                for prefix in sorted(self.prefixes):
                    self.store.replace(f"{LAST}/{prefix.replace('/', '-')}.json", seal({"prefixes": [prefix]}))
            self.store.delete(Object(self.key, 0, 0.0))

    def renew_until_the_end(self) -> None:
        """The work of a thread beside the run."""
        while not self._over.wait(RENEWAL):
            try:
                self.renew()
            except (TransientError, UserError) as error:
                log.warning("lease not renewed", lease=self.key, error=str(error))

    def _wait_for_gc(self, wanted: set[str]) -> None:
        waiting = False
        watched = Watched(self.store)
        while busy := [key for key in watched.alive(GC, self.now()) if wanted & prefixes_of(self.store, key)]:
            if not waiting:
                log.info("waiting for hone store gc", lease=busy[0])
                waiting = True
            time.sleep(WAIT)


class Watched:
    """Which leases are alive; what was found dead is not watched again until it is renewed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._dead: dict[str, float] = {}

    def alive(self, kind: str, now: float) -> list[str]:
        """The keys of the leases of a kind whose processes are alive, as far as anyone can tell."""
        renewed = self._listed(kind)
        doubtful = {key: at for key, at in renewed.items() if now - at > LIFE[kind] and self._dead.get(key) != at}
        if doubtful:
            time.sleep(WATCH)
            again = self._listed(kind)
            self._dead |= {key: at for key, at in doubtful.items() if again.get(key, at) == at}
            renewed = again
        return [key for key, at in renewed.items() if self._dead.get(key) != at]

    def _listed(self, kind: str) -> dict[str, float]:
        start = f"{FOLDER}/{kind}-"
        return {one.key: one.modified for one in self.store.objects(FOLDER) if one.key.startswith(start)}


def prefixes_of(store: Store, key: str) -> set[str]:
    """The results that a lease names. One that is gone names none; one that cannot be read might name any."""
    try:
        content = read_sealed(store, key)
    except SealError as error:
        what = f"{key} in {store.uri} is damaged ({error})"
        raise UserError(f"{what}; remove it if no run and no gc is at work there") from error
    return set(content.get("prefixes", ())) if content else set()


@contextmanager
def leased(store: Store, prefixes: Iterable[str] = ()) -> Generator[Lease]:
    """A lease that is renewed until the block ends. A store that cannot be written to is left to who can."""
    lease = Lease(store)
    renewing = threading.Thread(target=lease.renew_until_the_end, daemon=True, name="lease")
    lease.hold(prefixes)
    renewing.start()
    try:
        yield lease
    except UserError:
        lease.prefixes.clear()  # a mistake of the user leaves the store as it was
        raise
    finally:
        with suppress(UserError, TransientError):
            lease.end()
        renewing.join(timeout=WAIT)


def who() -> str:
    """The user and the machine, for people."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{platform.node()}"
