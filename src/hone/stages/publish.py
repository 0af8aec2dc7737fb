"""publish: hands a model over to the registry, but only one whose verdict is promote, and from there wherever asked."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from hone.backends import export, library, load
from hone.backends.export.settings import Hub, MLflow, ModelRegistry, Parcel
from hone.config import StageConfig
from hone.context import Job
from hone.errors import UserError
from hone.evaluation.policy import PROMOTE, read_verdict
from hone.inputs.model_folder import copy_declared
from hone.results import registry

IMAGE = "cpu"
READS = ("model", "verdict", "card")
WRITES = ("published",)


class Config(StageConfig):
    """Settings of publish."""

    reads_history: ClassVar[bool] = True

    domain: str = Field("", pattern=rf"^({registry.NAME})?$")
    """The name under which the registry keeps this corpus's models; a run publishes only if there is one."""
    onnx: bool = False
    """Add the ONNX form to the folder, checked to give the same vectors (extra `onnx`)."""
    hub: Hub = Hub()
    """A model hub to push to as well (extra `hub`)."""
    mlflow: MLflow = MLflow()
    """An MLflow server to log to as well (extra `mlflow`)."""
    model_registry: ModelRegistry = ModelRegistry()
    """A Kubeflow Model Registry to register in as well (extra `model-registry`)."""

    @property
    def places(self) -> dict[str, Hub | MLflow | ModelRegistry]:
        """Where else the model goes, by name."""
        chosen = {"hub": self.hub.repository, "mlflow": self.mlflow.uri, "model_registry": self.model_registry.url}
        return {name: getattr(self, name) for name, place in chosen.items() if place}


def run(config: Config, job: Job) -> None:
    """Uploads the model under its own version and moves the domain's pointer to it. Raises UserError."""
    if not config.domain:
        raise UserError("publish.domain: name the domain under which the model is published")
    seen = registry.moves(job.store, config.domain)
    check_verdict(job)
    folder = hand_over(config, job)
    release = describe(config, job, folder)
    registry.add(job.store, release, folder)
    # A version that was current once was moved away from by someone: only `hone registry` brings it back.
    before = next((step for step in seen if step.version == release.version), None)
    moved = before or registry.move(job.store, config.domain, release.version, "publish", seen)
    prefix = f"models/{config.domain}/{release.version}"
    # Last: the store's registry says what is current, and whatever fails from here on is done again by the next run.
    parcel = Parcel(release, folder, f"{job.store.uri}/{prefix}", figures(job))
    pushed = {name: load("handover", name)(settings, parcel) for name, settings in config.places.items()}
    record = {"domain": config.domain, "version": release.version, "prefix": prefix, **pushed}
    (job.new_folder("published") / "published.json").write_text(json.dumps(record, indent=1), "utf-8")
    job.facts.update(record, number=moved.number)


def check_verdict(job: Job) -> None:
    """Raises UserError unless the verdict is promote and about this very model."""
    verdict, _ = read_verdict((job.folder("verdict") / "verdict.json").read_text("utf-8"))
    if verdict["verdict"] != PROMOTE:
        raise UserError(
            f"the verdict is {verdict['verdict']}: {'; '.join(verdict['reasons'])}; only promote is published"
        )
    if verdict["model"] != job.plan.inputs["model"].outputs["model"].digest:
        raise UserError("the verdict is about another model; run evaluate and gate on this one first")


def hand_over(config: Config, job: Job) -> Path:
    """The folder that is published: the model with its card, and the verdict on it."""
    folder = job.scratch / "release"
    copy_declared(job.folder("model"), folder)
    shutil.copyfile(job.folder("verdict") / "verdict.json", folder / "verdict.json")
    shutil.copyfile(job.folder("card") / "README.md", folder / "README.md")
    if config.onnx:
        library("torch", "train")  # in a cluster: by_task: {publish: {image: train}} in the profile
        job.facts["onnx_difference"] = export.onnx_form.add(folder)
    return folder


def figures(job: Job) -> dict[str, float]:
    """The means of base and tuned on the set that the finding rests on, such as tuned_nDCG_at_10."""
    evaluate = job.ancestors.get("evaluate")
    facts: dict[str, Any] = evaluate.facts if evaluate else {}
    means_of: dict[str, dict[str, float]] = {system: facts.get(system, {}) for system in ("base", "tuned")}
    return {
        f"{system}_{measure.replace('@', '_at_')}": value
        for system, means in means_of.items()
        for measure, value in means.items()
    }


def describe(config: Config, job: Job, folder: Path) -> registry.Release:
    """The release: a version is named by what it holds, so that two publishers never write to the same place."""
    digests = [job.plan.inputs[name].outputs[name].digest for name in READS]
    held = [*digests, *(["onnx"] if config.onnx else [])]
    ancestors = job.ancestors
    evaluate, distill = ancestors.get("evaluate"), ancestors.get("distill")
    return registry.Release(
        domain=config.domain,
        version=hashlib.sha256("\0".join(held).encode()).hexdigest()[:12],
        model=digests[0],
        verdict=digests[1],
        finding=str(evaluate.facts.get("finding", "")) if evaluate else "",
        lists=ancestors["curate"].outputs["lists"].digest if "curate" in ancestors else "",
        tests=ancestors["prepare"].prefix if "prepare" in ancestors else "",
        start=registry.Start.model_validate(distill.config.get("start", {}) if distill else {}),
        parts=registry.parts_of(folder),
    )
