"""The settings file: one YAML, a section per stage, plus what several stages share.

`name` names the run; `store` says where its results lie, unless the command or HONE_STORE does. `preset` lays the
user's settings over one of `hone/presets/*.yaml`. A section called like a stage holds its settings. Any other top-level
key (seed, student, teacher) is handed to every stage whose Config has a field of that name, so that it is written once.
"""

import difflib
import re
import reprlib
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, Field, ValidationError

from hone.config import Settings, StageConfig, checked, flaw, section
from hone.errors import UserError
from hone.secrets import INSTEAD, secrets_in
from hone.stages import STAGES, stage

OWN = ("name", "preset", "store", "retrain")
MOST_VALUES = 100_000
MOST_MERGED = 2_000
LONGEST_NAME = 200


class Retrain(Settings):
    """When a changed corpus is worth a run: for CI and recurring runs to decide by."""

    min_changed: float = Field(default=0.0, ge=0, le=1)
    """The share of new, changed and gone documents from which `hone diff-corpus` says retrain; 0 for any change."""


@dataclass(frozen=True)
class RunSettings:
    """A checked settings file: the run's name, the settings of every stage, and when a changed corpus is trained on."""

    name: str
    stages: dict[str, StageConfig]
    retrain: Retrain
    store: str = ""
    """Where the results lie, if the file says so."""
    preset: str = ""


def load(path: Path, changes: Sequence[str] = ()) -> RunSettings:
    """Reads and checks a settings file, with `changes` (KEY=VALUE) laid over it.

    Raises UserError naming file, key and what to write.
    """
    return check(overlay(read_yaml(path), parse_changes(changes)), str(path), path.resolve().parent)


def parse_changes(changes: Sequence[str]) -> dict[str, Any]:
    """Settings given one by one as `section.key=value`, the value as YAML. Raises UserError."""
    data: dict[str, Any] = {}
    for text in changes:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(f"--set {text}: write KEY=VALUE, such as mine.top_k=50")
        nested: Any = parse_yaml(f"value: {value}", f"--set {text}")["value"]
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        data = overlay(data, nested)
    return data


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises UserError naming the file and line."""
    try:
        return parse_yaml(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; `hone init FOLDER` writes a settings file") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; name a settings file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def parse_yaml(text: str, file: str) -> dict[str, Any]:
    """The text of `file`, YAML or JSON, that holds a mapping. Raises UserError naming the file and line."""
    try:
        # A SafeLoader: it builds plain values only.
        data: object = yaml.load(text, Loader=_Careful)
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{file}{where} is not valid YAML: {error.problem}; correct the line") from error
    except (yaml.YAMLError, RecursionError) as error:
        flaw = str(error).partition("\n")[0]
        raise UserError(f"{file} is not valid YAML: {flaw}; write it again as plain text") from error
    if not isinstance(data, dict):
        raise UserError(f"{file} holds no settings; write `key: value` lines, see `hone describe`")
    return cast(dict[str, Any], data)


class _Careful(yaml.SafeLoader):
    """Refuses a mapping that has one key twice, of which YAML would silently keep the last, and bombs of aliases."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _check_aliases(node, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            flaw = f"a value cannot be what it looks like ({str(error).partition(';')[0]}); put it in quotes"
            raise yaml.constructor.ConstructorError(problem=flaw, problem_mark=node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                twice = f"the key {key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(problem=twice, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def refuse_secrets(value: object, file: str) -> None:
    """A secret in settings would be kept with every result. Raises UserError that says where it stands, but not it."""
    for secret in secrets_in(value):
        raise UserError(f"{file}: {secret}; {INSTEAD}")


def _check_aliases(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node stands for if every alias in it is written out; `sizes` holds those known already."""
    if id(node) not in sizes:
        sizes[id(node)] = 0
        sizes[id(node)] = 1 + sum(_check_aliases(one, sizes) for one in _inner(node))
    size = sizes[id(node)]
    if size > MOST_MERGED and isinstance(node, yaml.MappingNode) and any(key.value == "<<" for key, _ in node.value):
        flaw = f"its merges (<<) stand for more than {MOST_MERGED:,} values"
        raise yaml.constructor.ConstructorError(problem=flaw, problem_mark=node.start_mark)
    if not 0 < size <= MOST_VALUES:
        flaw = f"its aliases stand for more than {MOST_VALUES:,} values" if size else "an alias stands for itself"
        raise yaml.constructor.ConstructorError(problem=flaw, problem_mark=node.start_mark)
    return size


def _inner(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def check(data: dict[str, Any], file: str, base: Path) -> RunSettings:
    """Settings as a mapping to checked settings; relative paths are beside `base`. Raises UserError."""
    refuse_secrets(data, file)
    if preset := data.get("preset"):
        data = overlay(_without_other_kinds(load_preset(str(preset), file), data), data)
    data = _known_elsewhere(data)
    name = data.get("name")
    if not isinstance(name, str) or not is_run_name(name):
        raise UserError(f"{file}: name: give the run a name of letters, digits, - and _, {LONGEST_NAME} at most")
    shared = {key: value for key, value in data.items() if key not in (*OWN, *STAGES)}
    _refuse_unknown(shared, file)
    configs = {stage_name: _stage_config(stage_name, data, shared, file, base) for stage_name in STAGES}
    _refuse_contradictions(configs, file)
    store = _store(data.get("store"), file, base)
    retrain = data.get("retrain")
    return RunSettings(
        name, configs, checked(Retrain, {} if retrain is None else retrain, file, "retrain"), store, str(preset or "")
    )


def _store(value: object, file: str, base: Path) -> str:
    """The store that a settings file names; a folder lies beside the file. Raises UserError."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str):
        raise UserError(f"{file}: store: write a folder or s3://bucket/prefix, not {reprlib.repr(value)}")
    return value if "://" in value else str((base / Path(value).expanduser()).resolve())


def is_run_name(name: str) -> bool:
    """Whether a run may be called so."""
    return re.fullmatch(r"[\w-]+", name) is not None and len(name.encode()) <= LONGEST_NAME


def stage_config(
    name: str, section: dict[str, Any], file: str, base: Path, shared: Set[str] = frozenset()
) -> StageConfig:
    """The checked settings of one stage; those named in `shared` stand at the top of the file.

    Raises UserError naming the key and the remedy.
    """
    refuse_secrets({name: section}, file)
    try:
        return stage(name).Config.model_validate(section, context={"base": base})
    except ValidationError as error:
        raise UserError(_sentence(error, name, file, shared)) from error


def load_preset(name: str, file: str) -> dict[str, Any]:
    """One of the presets that come with Hone, laid over the one that it names. Raises UserError listing them."""
    folder = resources.files("hone.presets")
    known = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if name not in known:
        raise UserError(f"{file}: preset: {name!r} is not a preset; write one of {', '.join(known)}")
    data = cast(dict[str, Any], yaml.safe_load(folder.joinpath(f"{name}.yaml").read_text("utf-8")))
    below = data.pop("preset", "")
    return overlay(load_preset(below, file), data) if below else data


def _without_other_kinds(preset: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The preset without what it says of one kind of backend where the settings choose another."""
    kept = dict(preset)
    for key, value in above.items():
        old = kept.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            below, chosen = cast(dict[str, Any], old), cast(dict[str, Any], value)
            other = "kind" in below and chosen.get("kind", below["kind"]) != below["kind"]
            kept[key] = {} if other else _without_other_kinds(below, chosen)
    return kept


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`; mappings are merged key by key, anything else is replaced.

    A section without a line (all of them comments, say) changes nothing.
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if value is None and isinstance(old, dict):
            continue
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = overlay(cast(dict[str, Any], old), cast(dict[str, Any], value)) if both else value
    return merged


def _known_elsewhere(data: dict[str, Any]) -> dict[str, Any]:
    """Settings of one stage that others must know: what evaluate tests and distill guards with is trained with by none,
    and gate looks for texts as prepare cut them, and only for those that it was to keep out."""
    of = (("evaluate", "tests"), ("distill", "guards"), ("prepare", "max_chars"), ("prepare", "exclude_judged"))
    for name, field in of:
        section = data.get(name)
        value = cast(dict[str, Any], section).get(field) if isinstance(section, dict) else None
        data = {field: value, **data} if value is not None else data
    return data


def _stage_config(name: str, data: dict[str, Any], shared: dict[str, Any], file: str, base: Path) -> StageConfig:
    raw = {} if data.get(name) is None else data[name]
    if not isinstance(raw, dict):
        raise UserError(f"{file}: {name}: write the settings of {name} as indented `key: value` lines")
    section = cast(dict[str, Any], raw)
    fields = stage(name).Config.model_fields
    given = {key: value for key, value in shared.items() if key in fields}
    everywhere = {*given, *(field for field in fields if len(_holders(field)) > 1)} - section.keys()
    return stage_config(name, {**given, **section}, file, base, everywhere)


def _refuse_contradictions(configs: dict[str, Any], file: str) -> None:
    """What the settings of two stages cannot both say. Raises UserError."""
    if configs["curate"].outscored == "relabel" and configs["score"].exits_early:
        raise UserError(
            f"{file}: curate.outscored: relabel needs whole lists of scores, and early exit leaves out those of "
            "outscored queries; set score.early_exit: false"
        )
    if configs["distill"].domains:
        raise UserError(
            f"{file}: distill.domains is filled in by `hone run FOLDER`; write `general: {{weights: …}}` into the "
            "folder's base.yaml"
        )
    if configs["distill"].student.start == "published" and not configs["publish"].domain:
        raise UserError(f"{file}: student.start: published starts from what publish.domain names; set publish.domain")


def _holders(field: str) -> list[str]:
    return [name for name in STAGES if field in stage(name).Config.model_fields]


def _refuse_unknown(shared: dict[str, Any], file: str) -> None:
    known = {field for name in STAGES for field in stage(name).Config.model_fields}
    for key in shared:
        if key not in known:
            raise UserError(f"{file}: {key}: unknown setting{_hint(str(key), [*STAGES, *OWN, *known])}")


def _sentence(error: ValidationError, name: str, file: str, shared: Set[str]) -> str:
    first = error.errors()[0]
    place = first["loc"] if first["loc"] and first["loc"][0] in shared else (name, *first["loc"])
    where = ".".join(map(str, place))
    if first["type"] == "extra_forbidden":
        key, above = str(first["loc"][-1]), _fields_at(name, first["loc"][:-1])
        elsewhere = f"; give it outside of {first['loc'][-2]}" if key in above else ""
        return f"{file}: {where}: unknown setting{elsewhere or _hint(key, _fields_at(name, first['loc']))}"
    return f"{file}: {where}: {flaw(error)}; `hone describe {name}` lists the settings"


def _fields_at(name: str, location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] | None = stage(name).Config
    for part in location[:-1]:
        if isinstance(part, str):  # a number is a place in a list of what the setting before it says
            field = model.model_fields.get(part) if model else None
            model = section(field.annotation) if field else None
    return list(model.model_fields) if model else []


def _hint(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; `hone describe` lists all settings"
