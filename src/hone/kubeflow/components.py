"""Each stage as a Kubeflow container component, derived from its five names.

A component reads two strings, `settings` and `store`, and the prefix of the result of every stage it needs; it gives
back the prefix of its own. Tables never travel as artifacts: the platform would copy each whole before a task starts.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from hone import __version__, stages
from hone.engine.schema import setting_rows
from hone.kubeflow.notify import Notice
from hone.kubeflow.preflight import Needs
from hone.kubeflow.study import AllVariants, OneVariant

Parameter = Literal["String", "Integer", "JsonArray", "PipelineTaskFinalStatus"]
Artifact = Literal["Artifact", "Metrics", "HTML", "Markdown", "Model"]


@dataclass(frozen=True)
class Port:
    """An input or output of a component; an input without a default is required."""

    name: str
    type: Parameter | Artifact
    meaning: str
    default: str | None = None

    def row(self) -> dict[str, Any]:
        """As component.yaml writes it."""
        given = {} if self.default is None else {"default": self.default}
        return {"name": self.name, "type": self.type, "description": self.meaning, **given}


@dataclass(frozen=True)
class Component:
    """A container that Kubeflow can run: `python -m hone launch NAME`, with the executor input as its argument."""

    name: str
    image: str
    meaning: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


SETTINGS = "The settings file: its address s3://bucket/key or s3://bucket/key@SHA256, or its YAML or JSON text."
STORE = Port("store", "String", "Where results live: s3://bucket/prefix.")
ATTEMPT = Port(
    "attempt", "String", "The platform's id of the run, under which tasks note how they ended; shapes no result.", ""
)
ADOPT = Port("adopt", "String", "A model to take as it is instead of training: s3:// or a path in the image.", "")
MACHINES = Port(
    "machines",
    "String",
    "JSON of what each of several machines has that train together in a TrainJob; empty for one.",
    "",
)
SHARDED = (
    Port("shard", "String", "i/n does the i-th of n shares, with 0 <= i < n.", "0/1"),
    Port("shares", "JsonArray", "The prefixes that all shares gave back: joins them instead of doing one.", "[]"),
)
OUTPUTS = (
    Port("prefix", "String", "The prefix of the result in the store, for the stages after."),
    Port("manifest", "Artifact", "What was done, from what, with what result and at what cost; no data."),
    Port("metrics", "Metrics", "Rows, seconds, costs and findings."),
)
SHOWN: dict[str, tuple[Port, ...]] = {
    "model": (Port("model", "Model", "Where the model is, its digest and what it was made from; not its weights."),),
    "report": (
        Port("report", "HTML", "The report, one file."),
        Port("summary", "Markdown", "The finding, its table and its caveats."),
    ),
    "verdict": (Port("verdict", "String", "promote, hold or reject."),),
    "published": (
        Port("vectors", "String", "wanted where encode.out names a place for the corpus's vectors, else empty."),
    ),
}
"""What a stage that writes one of these shows beside OUTPUTS."""
GIVEN_BACK: dict[str, tuple[Port, ...]] = {
    "variant": (
        Port("found", "String", "Each seed with the prefix of its evaluate result, or why there is none."),
        Port("variants", "JsonArray", "The names of all variants of the groups that the full recipe is compared with."),
    ),
    "ablation": (
        Port("report", "HTML", "The table and its plot, one file."),
        Port("summary", "Markdown", "The finding and the table."),
    ),
}
"""What a component that is not a stage gives back."""


def component(name: str) -> Component:
    """The component of a stage, or of one that is not a stage."""
    return _tool(name, TOOLS[name]) if name in TOOLS else _stage_component(name)


def component_yaml(item: Component, image: str = "") -> str:
    """component.yaml: what `kfp.components.load_component_from_file` loads. `image` replaces the image's local tag."""
    document = {
        "name": item.name,
        "description": item.meaning,
        "inputs": [port.row() for port in item.inputs],
        "outputs": [port.row() for port in item.outputs],
        "implementation": {
            "container": {
                "image": image or f"hone-{item.image}:{__version__}",
                "command": ["python", "-m", "hone", "launch", item.name],
                "args": [{"executorInput": None}],
            }
        },
    }
    return yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)


def producers() -> dict[str, str]:
    """Table or folder to the stage that writes it."""
    return {output: name for name in stages.STAGES for output in stages.stage(name).WRITES}


def parents(name: str) -> dict[str, list[str]]:
    """The stages whose results a stage reads, each with the tables and folders read from it."""
    writer = producers()
    parents_of: dict[str, list[str]] = {}
    for table in stages.stage(name).READS:
        parents_of.setdefault(writer[table], []).append(table)
    return parents_of


def lackable(name: str, tables: list[str]) -> bool:
    """Whether a stage does without these tables where a model is taken as it is."""
    return set(tables) <= set(stages.stage(name).Config.without_training)


def _stage_component(name: str) -> Component:
    module = stages.stage(name)
    inputs = [
        Port("settings", "String", f"{SETTINGS} Read from it: {'; '.join(_settings_read(name))}."),
        STORE,
        *(
            Port(parent, "String", f"Prefix of a {parent} result: {', '.join(t)}.", "" if lackable(name, t) else None)
            for parent, t in parents(name).items()
        ),
        *(SHARDED if module.Config.sharded else ()),
        *((ADOPT, MACHINES) if "adopt" in module.Config.model_fields else ()),
        ATTEMPT,
    ]
    shown = [port for output in module.WRITES for port in SHOWN.get(output, ())]
    return Component(name, module.IMAGE, _meaning(module.__doc__), tuple(inputs), (*OUTPUTS, *shown))


def _settings_read(name: str) -> Iterator[str]:
    for setting, _, default, _ in setting_rows("", stages.stage(name).Config):
        if default != "as below":
            yield f"{name}.{setting} ({default})"


def _meaning(doc: str | None) -> str:
    sentence = " ".join((doc or "").split("\n\n")[0].split()).partition(": ")[2]
    return sentence[:1].upper() + sentence[1:]


def _tool(name: str, model: type[BaseModel]) -> Component:
    kinds: dict[Any, Parameter] = {int: "Integer", str: "String", list[str]: "JsonArray"}
    own = [
        Port(key, kinds[field.annotation], " ".join(str(field.description).split()), _written(field.default))
        for key, field in model.model_fields.items()
    ]
    status = Port("status", "PipelineTaskFinalStatus", "How the run ended; filled in by the platform.")
    inputs = [Port("settings", "String", SETTINGS), STORE, *own, ATTEMPT, *([status] if name == "notify" else [])]
    image = "train" if name == "variant" else "cpu"
    return Component(name, image, " ".join(str(model.__doc__).split()), tuple(inputs), GIVEN_BACK.get(name, ()))


def _written(default: object) -> str:
    return default if isinstance(default, str) else json.dumps(default)


TOOLS: dict[str, type[BaseModel]] = {
    "preflight": Needs,
    "variant": OneVariant,
    "ablation": AllVariants,
    "notify": Notice,
}
"""The components that are not stages, with the inputs of their own."""
COMPONENTS = ("preflight", *stages.STAGES, "variant", "ablation", "notify")
