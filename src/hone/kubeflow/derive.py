"""What `make derive` writes: components/ from the stages, and the table of values in the chart's README."""

import ast
import importlib.util
import json
import pkgutil
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from hone import stages, tables
from hone.engine.schema import setting_rows
from hone.kubeflow.components import COMPONENTS, TOOLS, Component, Port, component, component_yaml, parents

CHART = "helm/hone"
VALUES = "## Values\n"
NOTE = "Written by `make derive` from the stage itself: change that, not this."
EXITS = (
    ("0", "done, or the finished result was found", "nothing"),
    ("2", "a mistake in settings or data: the log's last line says what, where and what to do", "fix it, run again"),
    (
        "75",
        "a fault outside (S3, an endpoint) that lasted through every retry in the process",
        "it is tried again in the task; then `hone submit --retries`",
    ),
    (
        "137",
        "killed: preemption, or more memory than the profile gives",
        "another run goes on at the last finished chunk",
    ),
    ("other", "a defect of Hone; the log ends with the traceback", "report it"),
)


def write(root: Path) -> list[Path]:
    """Writes every derived file below `root` and returns those whose content changed."""
    changed = stale(root)
    for name, text in changed.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return [root / name for name in changed]


def stale(root: Path) -> dict[str, str]:
    """The derived files below `root` that are missing or say something else than they should, with what they should."""
    return {
        name: text
        for name, text in files(root).items()
        if not (root / name).is_file() or (root / name).read_text("utf-8") != text
    }


def files(root: Path) -> dict[str, str]:
    """Path below the repository's `root` to content, of every derived file."""
    texts = {"components/README.md": _index(), f"{CHART}/README.md": _chart_readme(root / CHART)}
    for name in COMPONENTS:
        item = component(name)
        texts[f"components/{name}/component.yaml"] = f"# {NOTE}\n{component_yaml(item)}"
        texts[f"components/{name}/README.md"] = _readme(item)
    return texts


def _index() -> str:
    rows = [(f"[{name}]({name}/README.md)", component(name).image, component(name).meaning) for name in COMPONENTS]
    return "\n".join(
        [
            "# Components",
            "",
            f"{NOTE} Each loads on its own: `kfp.components.load_component_from_file`.",
            "",
            *_table(("component", "image", "what it does"), rows),
            "",
            "## How a task ends",
            "",
            "The platform shows 1 for any of these but 0: its launcher ends so. `hone submit` tells them apart.",
            "",
            *_table(("exit code", "meaning", "what to do"), EXITS),
            "",
        ]
    )


def _readme(item: Component) -> str:
    lines = [f"# {item.name}", "", f"{item.meaning}", "", f"Image: `{item.image}`. {NOTE}", ""]
    lines += ["## Inputs", "", *_inputs(item.inputs), ""]
    if item.outputs:
        lines += ["## Outputs", "", *_outputs(item.outputs), ""]
    if item.name not in TOOLS:
        lines += [*_settings(item.name), *_data(item.name), *_refusals(item.name)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _inputs(ports: Sequence[Port]) -> list[str]:
    meanings = (port.meaning.partition(" Read from it:")[0] for port in ports)
    defaults = ("required" if port.default is None else f"`{port.default}`" for port in ports)
    rows = [(f"`{p.name}`", p.type, default, text) for p, default, text in zip(ports, defaults, meanings, strict=True)]
    return _table(("name", "type", "default", "meaning"), rows)


def _outputs(ports: Sequence[Port]) -> list[str]:
    return _table(("name", "type", "meaning"), [(f"`{port.name}`", port.type, port.meaning) for port in ports])


def _settings(name: str) -> list[str]:
    rows = [(f"`{name}.{key}`", *rest) for key, *rest in setting_rows("", stages.stage(name).Config)]
    return ["## Settings", "", *_table(("setting", "type", "default", "meaning"), rows), ""]


def _data(name: str) -> list[str]:
    lines = ["## Reads", ""]
    lines += [f"- from {parent}: {', '.join(read)}" for parent, read in parents(name).items()] or ["The corpus."]
    lines += ["", "## Writes", ""]
    for output in (tables.OUTPUTS[written] for written in stages.stage(name).WRITES):
        if isinstance(output, tables.Folder):
            lines += [f"### {output.name}/", "", f"{output.meaning}.", ""]
        else:
            key = ", ".join(f"`{column}`" for column in output.key)
            columns = [(f"`{column.name}`", f"`{column.type}`", column.meaning) for column in output.columns]
            lines += [f"### {output.name}", "", f"One row is {output.row}; key: {key}.", ""]
            lines += [*_table(("column", "type", "meaning"), columns), ""]
    return lines


def _refusals(name: str) -> list[str]:
    lines = [f"- {sentence}" for module in own_modules(name) for sentence in _sentences(_source(module))]
    return ["## Refuses", "", "With exit code 2 and nothing written, among others:", "", *lines, ""] if lines else []


def own_modules(name: str) -> list[str]:
    """The stage's modules and those that it alone of all stages imports: what makes it the stage that it is."""
    rooms = {stage: _modules(f"hone.stages.{stage}") for stage in stages.STAGES}
    imported = {
        stage: {one for module in modules for one in _imports(_source(module))} for stage, modules in rooms.items()
    }
    others = set[str]().union(*(modules for stage, modules in imported.items() if stage != name))
    return [*rooms[name], *sorted(imported[name] - others - set(rooms[name]))]


def _modules(name: str) -> list[str]:
    """A module, and if it is a package those inside it."""
    spec = importlib.util.find_spec(name)
    inner = pkgutil.iter_modules(spec.submodule_search_locations or []) if spec else ()
    return [name, *sorted(f"{name}.{module.name}" for module in inner)]


def _imports(source: str) -> set[str]:
    """The modules of Hone that a source imports names from."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    return {node.module for node in nodes if node.module and node.module.startswith("hone.")}


def _source(module: str) -> str:
    """The text of a module, which need not be importable here."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin if spec and spec.origin else "").read_text("utf-8")


def _sentences(source: str) -> Iterator[str]:
    """The sentences of the refusals in a module, with … for what is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) == "UserError":
            text = node.exc.args[0]
            if not isinstance(text, (ast.JoinedStr, ast.Constant)):
                continue  # put together elsewhere
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = (" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows)
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *(f"| {row} |" for row in escaped)]


def _chart_readme(chart: Path) -> str:
    """The chart's README: what was written by hand, and then every value with the comment above it in values.yaml."""
    text, schema = (chart / "values.yaml").read_text("utf-8"), json.loads((chart / "values.schema.json").read_text())
    rows = [
        (f"`{'.'.join(path)}`", _kind(schema, path), f"`{json.dumps(_at(yaml.safe_load(text), path))}`", meaning)
        for path, meaning in commented(text)
    ]
    above = (chart / "README.md").read_text("utf-8").partition(VALUES)[0]
    note = "Written by `make derive` from values.yaml: change that, not this table."
    return "\n".join([f"{above}{VALUES}", note, "", *_table(("value", "type", "default", "meaning"), rows), ""])


def commented(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The keys of a YAML text that have a comment right above them, with it."""
    path: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        key = re.match(r"( *)(\w+):", line)
        if line.lstrip().startswith("# "):
            said.append(line.lstrip()[2:])
            continue
        if key:
            path = [*path[: len(key[1]) // 2], key[2]]
            if said:
                yield tuple(path), " ".join(said)
        said = []


def _kind(schema: dict[str, Any], path: Sequence[str]) -> str:
    node = schema
    for key in path:
        node = node["properties"][key]
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return ", ".join(node["enum"]) if "enum" in node else node["type"]


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value[key]
    return value
