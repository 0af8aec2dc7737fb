"""Models published in a store, as the publishing stage leaves them."""

import json
from collections.abc import Callable
from pathlib import Path

from hone.config import StageConfig
from hone.context import Job, Plan, Shard
from hone.engine.commit import manifest_of
from hone.engine.execute import execute
from hone.engine.plan import plan
from hone.results import registry
from hone.results.manifest import Manifest
from hone.results.registry import Move, Release
from hone.scratch import scratch_folder
from hone.stages import publish
from hone.storage.base import Store
from hone.storage.local import LocalStore

SUPPORT = publish.Config(domain="support")


def model(folder: Path, text: str) -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    (folder / "1_Pooling/config.json").write_text("{}")
    return folder


def add(store: LocalStore, folder: Path, version: str) -> Release:
    made = model(folder / version, f"weights of {version}")
    parts = registry.parts_of(made)
    found = Release(domain="support", version=version, model="m", verdict="v", finding="", parts=parts)
    registry.add(store, found, made)
    return found


def put(store: LocalStore, version: str, action: str = "publish") -> Move:
    return registry.move(store, "support", version, action, registry.moves(store, "support"))


def results(store: LocalStore, folder: Path, verdict: str, about: Callable[[str], str]) -> dict[str, Manifest]:
    """Finished results of distill, gate and report."""
    made: dict[str, Manifest] = {}
    for stage, name in (("distill", "model"), ("gate", "verdict"), ("report", "card")):
        config = StageConfig()
        job = Job(Plan(stage, config, {}, {}, "f" * 16), store, folder / stage, Shard())
        target = job.new_folder(name)
        if name == "model":
            (target / "model.safetensors").write_text("weights")
        elif name == "card":
            (target / "README.md").write_text("the card")
        else:
            found = {"verdict": verdict, "model": about(made["model"].outputs["model"].digest), "criteria": []}
            (target / "verdict.json").write_text(json.dumps({**found, "reasons": ["too few lists"]}))
        manifest = manifest_of(job.plan, {name: job.publish(name)}, {}, {}, 0.0)
        store.create(f"{manifest.prefix}/manifest.json", manifest.model_dump_json().encode())
        made[name] = manifest
    return made


def published(store: Store, folder: Path, inputs: dict[str, Manifest], config: publish.Config = SUPPORT) -> Manifest:
    with scratch_folder() as scratch:
        todo = plan("publish", config, inputs, scratch)
        return execute(todo, store, scratch)[0]
