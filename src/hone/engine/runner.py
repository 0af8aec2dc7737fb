"""The laptop runner: the whole chain on one machine, stage after stage, through the one door, `execute`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hone import tables
from hone.config import ModelMark, SourceMark, StageConfig, marked
from hone.context import Plan, Shard
from hone.engine.commit import finished
from hone.engine.execute import execute
from hone.engine.explain import explain
from hone.engine.merge import merge
from hone.engine.plan import plan
from hone.engine.record import record, unless_refused
from hone.errors import UserError
from hone.evaluation.policy import PROMOTE
from hone.inputs import model_folder
from hone.inputs.references import local_path
from hone.log import about
from hone.progress import leg
from hone.results import registry
from hone.results.manifest import Manifest
from hone.scratch import scratch_folder
from hone.settings import RunSettings
from hone.stages import STAGES, distill, encode, publish, stage
from hone.stages.generate.outcomes import none_kept
from hone.storage.addresses import is_remote, open_store
from hone.storage.base import Store
from hone.storage.leases import leased

TRAINING = ("generate", "mine", "score", "curate")
"""The stages that make what distill trains on."""


@dataclass(frozen=True)
class Step:
    """What happened to one stage of a run, or would happen.

    `reason` says why it runs, empty if it need not; `left_out` why it is not part of this run.
    """

    stage: str
    manifest: Manifest | None
    reason: str
    left_out: str = ""


def run(
    settings: RunSettings,
    store: Store,
    *,
    first: str = STAGES[0],
    last: str = STAGES[-1],
    shards: int = 1,
    tell: Callable[[Step], None] = lambda step: None,
    made: Callable[[str, Mapping[str, Manifest]], None] = lambda name, done: None,
    expected: Mapping[str, float] | None = None,
    others: Mapping[str, Manifest] | None = None,
) -> dict[str, Manifest]:
    """Runs the stages from `first` to `last` that have no result yet and returns all manifests by stage.

    Stages before `first` must be finished. `tell` hears of every stage before it runs, `made` of its result, with all
    before it, after it ran; `expected` are the seconds that stages are thought to take, for the time left; `others` are
    results of other runs that a stage reads, by `RUN/TABLE`. Raises UserError.
    """
    if STAGES.index(last) < STAGES.index(first):
        raise UserError(f"{last} comes before {first}; nothing would run; give a later --until or an earlier --from")
    _look_for_sources(settings, last)
    done: dict[str, Manifest] = {}
    ran = 0
    since = time.monotonic()
    with about(run=settings.name), leased(store, {one.prefix for one in (others or {}).values()}) as lease:
        for name in _until(last):
            if why := left_out(name, settings, done):
                tell(Step(name, None, "", why))
                continue
            with scratch_folder() as scratch:
                _refuse_without_queries(name, outputs_of(done))
                inputs = {**outputs_of(done), **(others or {})}
                todo = plan(name, settled(name, settings, outputs_of(done), store), inputs, scratch)
                lease.hold([todo.prefix])
                result = finished(store, todo)
                if result is None and STAGES.index(name) < STAGES.index(first):
                    raise UserError(f"{name} has no result for these settings; run without --from {first}")
                reason = "" if result else explain(store, settings.name, todo)
                if result is None and not ran and "encode" in _until(last):
                    look_where_vectors_go(settings)
                tell(Step(name, result, reason))
                if result is None:
                    ran += 1
                    after = sum((expected or {}).get(later, 0.0) for later in _until(last)[STAGES.index(name) + 1 :])
                    with unless_refused(store, settings.name), leg(STAGES.index(name) + 1, len(STAGES), after):
                        record(store, settings.name, done, settings.stages, todo.prefix)
                        done[name] = _execute(todo, store, shards, since)
                        since += done[name].overhead + done[name].seconds
                    record(store, settings.name, done, settings.stages)
                    made(name, done)
                else:
                    done[name] = result
        record(store, settings.name, done, settings.stages)
    return done


def _look_for_sources(settings: RunSettings, last: str) -> None:
    """Looks at every local path before anything runs: no work is lost to a misspelt one, or a broken model, of a later
    stage."""
    for name in _until(last):
        here = [one for one in marked(settings.stages[name], SourceMark) if not is_remote(one)]
        paths = {reference: local_path(reference, Path()) for reference in here}
        for reference in marked(settings.stages[name], ModelMark):
            if reference in paths:
                model_folder.check(paths[reference])


def look_where_vectors_go(settings: RunSettings) -> None:
    """Nothing is computed for a place that no vectors can be written to. Raises UserError."""
    if left_out("encode", settings, {}):
        return
    try:
        open_store(vectors_out(settings)).check_writable()
    except UserError as error:
        raise UserError(f"encode.out: {error}") from error


def _refuse_without_queries(name: str, inputs: Mapping[str, Manifest]) -> None:
    """Whatever follows generate works on its queries. Raises UserError if there is none."""
    made = inputs.get("queries")
    if name == "mine" and made and not made.outputs["queries"].rows:
        raise UserError(f"generate kept no query: {none_kept(made.facts)}; correct the settings of generate")


def run_stage(
    name: str, config: StageConfig, inputs: Mapping[str, Manifest], store: Store, shard: Shard, merge_count: int = 0
) -> tuple[Manifest, bool]:
    """One stage or shard of it, or with `merge_count` its shards joined; False if the result was there already."""
    _refuse_without_queries(name, inputs)
    with scratch_folder() as scratch:
        todo = plan(name, config, inputs, scratch)
        return (merge(todo, store, merge_count), True) if merge_count else execute(todo, store, scratch, shard)


def explain_run(settings: RunSettings, store: Store, *, last: str = STAGES[-1]) -> list[Step]:
    """What `run` would do, without doing it."""
    steps: list[Step] = []
    done: dict[str, Manifest] = {}
    for name in _until(last):
        if why := left_out(name, settings, done):
            steps.append(Step(name, None, "", why))
            continue
        left = {table for step in steps if step.left_out for table in stage(step.stage).WRITES}
        waits = [table for table in stage(name).READS if table not in {*outputs_of(done), *left}]
        if waits:
            steps.append(Step(name, None, f"reads {waits[0]}, which will be made anew"))
            continue
        with scratch_folder() as scratch:
            todo = plan(name, settled(name, settings, outputs_of(done), store), outputs_of(done), scratch)
        result = finished(store, todo)
        steps.append(Step(name, result, "" if result else explain(store, settings.name, todo)))
        if result:
            done[name] = result
    return steps


def settled(name: str, settings: RunSettings, inputs: Mapping[str, Manifest], store: Store) -> StageConfig:
    """The settings of a stage, with what the store has to say: the published model that training starts from."""
    config = settings.stages[name]
    if not isinstance(config, distill.Config) or not config.starts_from_published:
        return config
    domain = cast(publish.Config, settings.stages["publish"]).domain
    start = registry.start_after(store, domain, inputs["lists"].outputs["lists"].digest)
    return config.model_copy(update={"start": start})


def outputs_of(done: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """Every table and folder of finished stages with the manifest it belongs to."""
    return {name: manifest for manifest in done.values() for name in manifest.outputs if name in tables.OUTPUTS}


def _execute(todo: Plan, store: Store, shards: int, since: float) -> Manifest:
    count = shards if todo.config.sharded else 1
    results: list[Manifest] = []
    for index in range(count):
        with scratch_folder() as scratch:
            results.append(execute(todo, store, scratch, Shard(index, count), since)[0])
            since += results[-1].overhead + results[-1].seconds
    return merge(todo, store, count) if count > 1 else results[0]


def left_out(name: str, settings: RunSettings, done: Mapping[str, Manifest]) -> str:
    """Why a stage is not part of a run.

    Only what passed is published, and only where the settings name a domain; vectors are of what is published; a model
    that is taken as it is needs nothing to be trained on.
    """
    if name in TRAINING and cast(distill.Config, settings.stages["distill"]).adopt:
        return "distill.adopt takes a model as it is"
    if name not in ("publish", "encode"):
        return ""
    if name == "encode" and not vectors_out(settings):
        return "encode.out is not set"
    if not cast(publish.Config, settings.stages["publish"]).domain:
        return "publish.domain is not set"
    verdict = done["gate"].facts["verdict"] if "gate" in done else PROMOTE
    return "" if verdict == PROMOTE else f"the verdict is {verdict}"


def vectors_out(settings: RunSettings) -> str:
    """Where the vectors of what is published shall go; empty for nowhere."""
    return cast(encode.Config, settings.stages["encode"]).out


def _until(last: str) -> tuple[str, ...]:
    return STAGES[: STAGES.index(last) + 1]
