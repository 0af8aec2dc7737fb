"""publish: hands a model over to the registry, but only one whose verdict is promote."""

import hashlib
import json
import shutil
from pathlib import Path

from pydantic import Field

from hone import registry
from hone.config import StageConfig
from hone.core.verdict import PROMOTE
from hone.errors import UserError
from hone.job import Job
from hone.stages.gate import read_verdict

IMAGE = "cpu"
READS = ("model", "verdict")
WRITES = ("published",)


class Config(StageConfig):
    """Settings of publish."""

    domain: str = Field("", pattern=rf"^({registry.NAME})?$")
    """The name under which the registry keeps this corpus's models; a run publishes only if there is one."""


def run(config: Config, job: Job) -> None:
    """Uploads the model under a version of its own and moves the domain's pointer to it. Raises UserError."""
    if not config.domain:
        raise UserError("publish.domain: name the domain under which the model is published")
    seen = registry.moves(job.store, config.domain)
    check_verdict(job)
    folder = hand_over(job)
    found = describe(config, job, folder)
    registry.add(job.store, found, folder)
    moved = registry.move(job.store, config.domain, found.version, "publish", seen)
    record = {"domain": config.domain, "version": found.version, "prefix": f"models/{config.domain}/{found.version}"}
    (job.new_folder("published") / "published.json").write_text(json.dumps(record, indent=1), "utf-8")
    job.facts.update(record, number=moved.number)


def check_verdict(job: Job) -> None:
    """Raises UserError unless the verdict is promote and about this very model."""
    found, _ = read_verdict((job.folder("verdict") / "verdict.json").read_text("utf-8"))
    if found["verdict"] != PROMOTE:
        raise UserError(f"the verdict is {found['verdict']}: {'; '.join(found['reasons'])}; only promote is published")
    if found["model"] != job.plan.inputs["model"].outputs["model"].digest:
        raise UserError("the verdict is about another model; run evaluate and gate on this one first")


def hand_over(job: Job) -> Path:
    """The folder that is published: the model with its card, and the verdict on it."""
    folder = job.scratch / "release"
    shutil.copytree(job.folder("model"), folder)
    for name in ("verdict.json", "README.md"):
        shutil.copyfile(job.folder("verdict") / name, folder / name)
    return folder


def describe(config: Config, job: Job, folder: Path) -> registry.Release:
    """The release: a version is named by what it holds, so that two publishers never write to the same place."""
    digests = [job.plan.inputs[name].outputs[name].digest for name in READS]
    evaluate = job.ancestors.get("evaluate")
    return registry.Release(
        domain=config.domain,
        version=hashlib.sha256("\0".join(digests).encode()).hexdigest()[:12],
        model=digests[0],
        verdict=digests[1],
        finding=str(evaluate.facts.get("finding", "")) if evaluate else "",
        parts=registry.parts_of(folder),
    )
