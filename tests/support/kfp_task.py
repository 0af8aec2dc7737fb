"""A component run in this process, with the input and outputs that kfp itself makes."""

import json
from pathlib import Path
from typing import Any

from kfp import components
from kfp.local import executor_input_utils, executor_output_utils

from hone.kubeflow.launcher import launch

ROOT = Path(__file__).parents[2]


def call(name: str, root: Path, **arguments: Any) -> dict[str, Any]:
    """Runs a component with the executor input that kfp itself makes, and reads its outputs as kfp does."""
    spec = components.load_component_from_file(str(ROOT / "components" / name / "component.yaml"))
    ir = next(iter(spec.pipeline_spec.components.values()))
    given = executor_input_utils.construct_executor_input(ir, arguments, str(root), block_input_artifact=True)
    launch(name, json.dumps(executor_input_utils.executor_input_to_dict(given, ir)))
    return executor_output_utils.get_outputs_for_task(given, ir)
