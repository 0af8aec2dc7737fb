"""generate as its own process, to be killed: light enough to start twenty times."""

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forking import forks
from hone.context import Shard
from hone.engine.execute import execute
from hone.engine.plan import plan
from hone.results.manifest import Manifest
from hone.scratch import scratch_folder
from hone.stages.generate.settings import Config
from hone.storage.local import LocalStore


def generate(
    root: Path, inputs: dict[str, Manifest], sections: dict[str, Any], key: str, batches: Path, kept_every: float = 0.0
) -> None:
    """Runs the stage, which keeps answers as soon as they come, or every so many seconds; every batch that a model in
    this process begins adds the number of its prompts to `batches`."""
    from hone.backends.generators import openai_api
    from hone.backends.generators.causal_lm import CausalLM
    from hone.stages.generate import from_model

    os.environ["OPENAI_API_KEY"] = key
    tempfile.tempdir = str(root.parent)
    plain = CausalLM._sample
    from_model.KEPT_EVERY, openai_api.HEARTBEAT = kept_every, 0.05

    def counted(self: CausalLM, batch: Any, seeds: Any) -> Any:
        with batches.open("a") as file:
            file.write(f"{len(batch.rows)}\n")
        return plain(self, batch, seeds)

    CausalLM._sample = counted  # type: ignore[method-assign]
    with scratch_folder() as scratch:
        todo = plan("generate", Config.model_validate(sections), inputs, scratch)
        execute(todo, LocalStore(root), scratch, Shard())


def kill(
    arguments: tuple[Any, ...], seen: Callable[[], int], draw: random.Random, most: int, seconds: float = 0.03
) -> None:
    """Starts the stage and ends it by SIGKILL, up to so many seconds after it has done a random number of steps up to
    `most`."""
    process = forks().Process(target=generate, args=arguments)
    target = seen() + draw.randint(1, most)
    process.start()
    while seen() < target and process.is_alive():
        time.sleep(0.002)
    time.sleep(draw.random() * seconds)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
