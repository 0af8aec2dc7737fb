"""A finished run as those who ask it things need it: its results, and a job that reads what evaluate read."""

from hone.context import Plan
from hone.engine import record, runner
from hone.errors import UserError
from hone.results.manifest import Manifest
from hone.stages import evaluate
from hone.storage.base import Store


def finished(store: Store, run_name: str) -> tuple[dict[str, Manifest], Plan]:
    """The results of a run, and the plan of its evaluate. Raises UserError if the run is not finished."""
    done = record.results(store, run_name)
    if "evaluate" not in done:
        raise UserError(f"run {run_name!r} is not finished; `hone run` its settings first")
    manifest = done["evaluate"]
    config = evaluate.Config.model_validate(manifest.config)
    inputs = {name: runner.outputs_of(done)[name] for name in manifest.inputs}
    return done, Plan("evaluate", config, inputs, dict(manifest.sources), manifest.fingerprint)
