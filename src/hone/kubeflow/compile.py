"""`hone compile`: a pipeline and a profile to the intermediate representation (IR) that Kubeflow runs."""

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.errors import UserError
from hone.kubeflow.components import COMPONENTS, TOOLS, component, component_yaml, parents
from hone.kubeflow.profile import JOIN, Profile, gib, pipelines_folder, settle

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask
    from kfp.dsl.base_component import BaseComponent

Build = Callable[[Profile], "BaseComponent"]


@dataclass(frozen=True)
class Hone:
    """What a pipeline is made of: tasks that run as the profile says, with the run's settings and store.

    `settings` and `store` are the pipeline's parameters of that name.
    """

    profile: Profile
    settings: Any
    store: Any

    def task(self, name: str, *upstream: "PipelineTask", **inputs: Any) -> "PipelineTask":
        """A task of a component. A stage reads the results of those `upstream` that it needs, and waits for all."""
        from kfp import dsl
        from kfp.components import load_component_from_text

        place = JOIN if "shares" in inputs else name
        image = self.profile.image(self.profile.place(place).image)
        made = load_component_from_text(component_yaml(component(name), image))
        needed = {} if name in TOOLS else parents(name)
        results = {_name(task): task.outputs["prefix"] for task in upstream if _name(task) in needed}
        given = {"settings": self.settings, "store": self.store, "attempt": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        if (machines := self.profile.machines(name)) and "adopt" not in inputs:
            inputs["machines"] = machines
        task = made(**given, **results, **inputs)
        rest = [other for other in upstream if _name(other) not in needed]
        return settle(task.after(*rest) if rest else task, place, self.profile)

    def shards(self, name: str, *upstream: "PipelineTask") -> "PipelineTask":
        """A sharded stage as the profile cuts it: one task per share, and one that joins them."""
        from kfp import dsl

        count = self.profile.shards
        if count == 1:
            return self.task(name, *upstream)
        items: list[Any] = [f"{index}/{count}" for index in range(count)]
        with dsl.ParallelFor(items, parallelism=self.profile.parallel or None, name=f"{name}-shares") as shard:
            share = self.task(name, *upstream, shard=shard)
        return self.task(name, *upstream, shares=dsl.Collected(share.outputs["prefix"]))

    def preflight(self) -> "PipelineTask":
        """The task that checks what all others will need; disk space is that of its node, for tasks of its image."""
        places = [self.profile.place(name) for name in COMPONENTS]
        own = self.profile.place("preflight")
        neighbours = [place for place in places if place.image == own.image]
        names = [name for keys in self.profile.secrets if not keys.optional for name in keys.env.values()]
        return self.task(
            "preflight",
            gpus=own.gpus,
            gpu_gib=max(place.gpu_gib for place in places) if own.gpus else 0,
            scratch_gib=max(gib(place.scratch) for place in neighbours),
            environment=",".join(names),
        )


def compile(pipeline: str, profile: Profile, out: Path) -> None:
    """Writes the IR of `pipelines/NAME.py`, or of a pipeline by its path. The same input gives the same bytes.

    Raises UserError.
    """
    from kfp.compiler import Compiler

    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: the file must end in .yaml")
    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(load_pipeline(pipeline)(profile), str(out))


def load_pipeline(name: str) -> Build:
    """The function `build` of a pipeline: a profile to what kfp compiles. Raises UserError."""
    path = Path(name) if name.endswith(".py") else pipelines_folder() / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in pipelines_folder().glob("*.py"))) or "none here"
        raise UserError(f"there is no pipeline {name}; the pipelines in {pipelines_folder()} are {known}")
    module = runpy.run_path(str(path))
    if "build" not in module:
        raise UserError(f"{path} has no function build(profile)")
    return module["build"]


def _name(task: "PipelineTask") -> str:
    return task.component_spec.name
