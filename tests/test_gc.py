"""`hone store gc` beside runs: whatever the order of their steps, and whoever is killed, nothing needed is deleted.

A scheduler lets one process at a time take one step: an operation of the store, or a wait. Which one is drawn anew for
every schedule, and so is who is killed and when.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hone.config import StageConfig
from hone.context import Job, Plan
from hone.engine import commit, execute, garbage, record
from hone.errors import UserError
from hone.results.manifest import Manifest, load_manifest
from hone.storage import leases
from hone.storage.base import Fetched, Object, Store, sha256_of
from hone.storage.leases import leased

pytestmark = pytest.mark.long

SCHEDULES = 1_000
DAY = 86_400.0


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class World:
    """What is stored, the store's clock, and whose turn it is."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.held: dict[str, tuple[bytes, float]] = {}
        self.clock = 1_000_000.0
        self.actors: dict[str, Actor] = {}
        self.changed = threading.Condition()
        self.steps = Counter[str]()

    def run(self) -> None:
        """Lets all actors take their steps, one at a time, until none is left."""
        for actor in self.actors.values():
            actor.thread.start()
        last = ""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: all(actor.waits or actor.over for actor in self.actors.values()))
                able = sorted(name for name, actor in self.actors.items() if not actor.over)
                if not able:
                    return
                last = last if last in able and self.draw.random() < 0.7 else self.draw.choice(able)
                actor = self.actors[last]
                actor.waits, actor.turn = False, True
                self.changed.notify_all()


class Actor:
    """A process: a function of a store that is its own way to what all share."""

    def __init__(self, world: World, name: str, work: Callable[[Store], Any], lives: int) -> None:
        self.world, self.name, self.work, self.left = world, name, work, lives
        self.waits = self.turn = self.over = False
        self.answer: Any = None
        self.error: BaseException | None = None
        self.one_at_a_time = threading.Lock()
        self.thread = threading.Thread(target=self.live, name=name, daemon=True)
        world.actors[name] = self

    def live(self) -> None:
        try:
            self.answer = self.work(Shared(self))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        with self.world.changed:
            self.over = True
            self.world.changed.notify_all()

    def step(self, what: str, seconds: float = 0.01) -> None:
        """Waits for its turn, of several threads one after the other. Raises Killed once its life is over."""
        with self.one_at_a_time, self.world.changed:
            self.waits = True
            self.world.changed.notify_all()
            self.world.changed.wait_for(lambda: self.turn)
            self.turn = False
            self.world.clock += seconds
            self.world.steps[what] += 1
            self.left -= 1
            if self.left < 0:
                raise Killed(what)


class Shared:
    """The store as one process sees it."""

    uri = place = "memory"

    def __init__(self, actor: Actor) -> None:
        self.actor, self.world = actor, actor.world
        self.faults: Counter[str] = Counter()

    def check_writable(self) -> None: ...

    def read(self, key: str) -> bytes | None:
        self.actor.step("read")
        return self.world.held.get(key, (None, 0.0))[0]

    def fetch(self, key: str, folder: Path, *, anew: bool = False) -> Fetched:
        data = self.read(key)
        if data is None:
            raise FileNotFoundError(key)
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return Fetched(path, sha256_of(path))

    def put(self, key: str, path: Path) -> None:
        self.replace(key, path.read_bytes())

    def create(self, key: str, data: bytes) -> bool:
        self.actor.step("create")
        if key in self.world.held:
            return False
        self.world.held[key] = (data, self.world.clock)
        return True

    def replace(self, key: str, data: bytes) -> None:
        self.actor.step("replace")
        self.world.held[key] = (data, self.world.clock)

    def objects(self, prefix: str = "") -> Iterator[Object]:
        self.actor.step("list")
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        found = sorted(self.world.held.items())
        return iter([Object(key, len(data), at) for key, (data, at) in found if key.startswith(start)])

    def unfinished(self) -> Iterator[Object]:
        return iter(())

    def delete(self, unwanted: Object) -> None:
        self.actor.step("delete")
        self.world.held.pop(unwanted.key, None)


def write(name: str) -> Callable[[StageConfig, Job], None]:
    """The work of a stage: a checkpoint, then one file for each of two outputs; the same bytes every time."""

    def run(config: StageConfig, job: Job) -> None:
        checkpoint = f"{job.plan.prefix}/checkpoints/00000001.json"
        job.store.replace(checkpoint, b"{}")
        for output in ("model", "report"):
            (job.new_folder(output) / "file").write_text(f"{output} of {name}", "utf-8")
        job.afterwards.append(lambda: job.store.delete(Object(checkpoint, 0, 0.0)))

    return run


STAGES = {
    name: SimpleNamespace(WRITES=("model", "report"), READS=(), Config=StageConfig, run=write(name))
    for name in ("prepare", "mine", "distill")
}


def chain(store: Store, scratch: Path, name: str) -> dict[str, Manifest]:
    """What the runner does, stage by stage, for stages that cost nothing."""
    done: dict[str, Manifest] = {}
    with leased(store) as lease:
        for stage_name in STAGES:
            inputs = {"model": list(done.values())[-1]} if done else {}
            todo = Plan(stage_name, StageConfig(), inputs, {}, "0" * 16)
            lease.hold([todo.prefix])
            found = commit.finished(store, todo)
            if found is None:
                record.record(store, name, done, at=todo.prefix)
                place = scratch / f"{name}-{stage_name}"
                place.mkdir()
                found, _ = execute.execute(todo, store, place)
            done[stage_name] = found
        record.record(store, name, done)
    return done


def collect(store: Store, hours: float, results: bool) -> int:
    return len(list(garbage.collect(store, hours, results=results)))


def broken(world: World, names: list[str]) -> list[str]:
    """What is wrong: a manifest whose parts are not all there, or a run that stands for something that is gone."""
    calm = Shared(Actor(world, "witness", lambda store: None, 1 << 30))
    calm.actor.step = lambda what, seconds=0.0: None  # type: ignore[method-assign]
    del world.actors["witness"]
    found: list[str] = []
    for key in [key for key in world.held if key.endswith("/manifest.json")]:
        manifest = load_manifest(calm, key)
        assert manifest
        parts = [f"{manifest.prefix}/{part.path}" for output in manifest.outputs.values() for part in output.parts]
        found += [f"{part} is gone" for part in parts if part not in world.held]
    for name in names:
        for prefix in record.recorded(calm, name).values():
            if f"{prefix}/manifest.json" not in world.held:
                found.append(f"{name} stands for {prefix}, which is gone")
    return found


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch) -> Callable[[World], None]:
    """Time passes only as the world says."""

    def bind(world: World) -> None:
        def sleep(seconds: float) -> None:
            actor = world.actors[threading.current_thread().name]
            actor.step("wait", seconds)

        clock = SimpleNamespace(sleep=sleep, time=lambda: world.clock, monotonic=lambda: world.clock)
        for module in (leases, garbage):
            monkeypatch.setattr(module, "time", clock)

    monkeypatch.setattr(leases, "WAIT", 15.0)
    monkeypatch.setattr(leases, "RENEWAL", 1e6)  # no thread of a lease takes its own step
    for module in (execute, commit):
        monkeypatch.setattr(module, "stage", STAGES.__getitem__)
    monkeypatch.setattr(execute, "_keep_log", lambda *arguments: None)
    return bind


def before(world: World, scratch: Path, draw: random.Random) -> None:
    """What was there days ago: nothing, what a killed run left, or a whole chain that no run stands for."""
    scratch.mkdir()
    lives = draw.choice([0, draw.randrange(1, 60), 1 << 30])
    if lives:
        Actor(world, "old", lambda store: chain(store, scratch, "old"), lives)
        world.run()
        world.actors.clear()
        world.held.pop("runs/old.json", None)
    world.clock += draw.choice([0.0, 3_000.0, 2 * DAY])


@pytest.mark.parametrize("part", range(4))
def test_whatever_the_order_of_steps_and_whoever_is_killed_nothing_needed_is_deleted(
    tmp_path: Path, timeless: Callable[[World], None], part: int
) -> None:
    outcomes, deleted, steps = Counter[str](), 0, Counter[str]()
    for number in range(part, SCHEDULES, 4):
        draw = random.Random(number)
        world = World(draw)
        timeless(world)
        before(world, tmp_path / f"{number}-old", draw)
        names = [f"run-{at}" for at in range(draw.randrange(1, 3))]
        for name in names:
            place = tmp_path / f"{number}-{name}"
            place.mkdir()
            lives = draw.choice([1 << 30, 1 << 30, draw.randrange(1, 120)])
            Actor(world, name, lambda store, place=place, name=name: chain(store, place, name), lives)
        for at in range(draw.randrange(1, 3)):
            hours, results = draw.choice([0.0, 0.5, 24.0]), draw.random() < 0.6
            lives = draw.choice([1 << 30, 1 << 30, draw.randrange(1, 200)])
            Actor(world, f"gc-{at}", lambda store, h=hours, r=results: collect(store, h, r), lives)
        world.run()
        steps += world.steps
        for name, actor in world.actors.items():
            kind = name.partition("-")[0]
            outcomes[f"{kind} {'done' if actor.error is None else type(actor.error).__name__}"] += 1
            assert isinstance(actor.error, Killed | None), f"schedule {number}, {name}: {actor.error!r}"
            deleted += actor.answer if kind == "gc" and actor.error is None else 0
        finished = [name for name in names if world.actors[name].error is None]
        assert broken(world, names) == [], f"schedule {number}"
        assert all(set(world.actors[name].answer) == set(STAGES) for name in finished)
    print(dict(outcomes), dict(steps), deleted)
    assert outcomes["run done"] > SCHEDULES // 8
    assert outcomes["run Killed"] > SCHEDULES // 40
    assert outcomes["gc done"] > SCHEDULES // 8
    assert deleted > SCHEDULES // 20


def test_the_scheduler_finds_the_race_that_leases_prevent(
    tmp_path: Path, timeless: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without leases and the second look the same schedules lose parts: they would show it."""
    monkeypatch.setattr(leases.Watched, "alive", lambda self, kind, now: [])
    monkeypatch.setattr(execute, "_keep_whole", lambda *arguments: None)
    lost = 0
    for number in range(200):
        draw = random.Random(number)
        world = World(draw)
        timeless(world)
        before(world, tmp_path / f"{number}-old", draw)
        place = tmp_path / f"{number}"
        place.mkdir()
        Actor(world, "run-0", lambda store, place=place: chain(store, place, "run-0"), 1 << 30)
        Actor(world, "gc-0", lambda store: collect(store, 0.0, True), 1 << 30)
        world.run()
        lost += bool(broken(world, ["run-0"])) or isinstance(world.actors["run-0"].error, UserError)
    assert lost > 3
