"""The stages, in the order of the flow. A new stage is one module here and one name in STAGES."""

import importlib
from typing import Protocol, cast

from hone.config import StageConfig
from hone.context import Job
from hone.errors import UserError

STAGES = (
    "prepare", "generate", "mine", "score", "curate", "distill", "evaluate", "gate", "report", "publish", "encode",
)  # fmt: skip


class Stage(Protocol):
    """What a stage module defines: five names, no base class."""

    __name__: str
    IMAGE: str
    READS: tuple[str, ...]
    WRITES: tuple[str, ...]
    Config: type[StageConfig]

    @staticmethod
    def run(config: StageConfig, job: Job) -> None: ...


def stage(name: str) -> Stage:
    """The module of a stage. Importing one costs little: torch and the like are imported inside `run`."""
    return cast(Stage, importlib.import_module(f"hone.stages.{name}"))


def known_stage(name: str) -> str:
    """The name itself. Raises UserError listing the stages if it is not one of them."""
    if name not in STAGES:
        raise UserError(f"{name!r} is not a stage; the stages are {', '.join(STAGES)}")
    return name
