"""Draws docs/architecture.svg, the rooms and their order, from the import contract in pyproject.toml.

python docs/draw_architecture.py
"""

import tomllib
from html import escape
from pathlib import Path

PHRASES = {
    "__main__": "python -m hone",
    "commands": "one file per verb; the only console",
    "api": "import hone",
    "kubeflow": "components, pipelines",
    "demo": "the demo corpus",
    "serving": "what a finished run can be asked",
    "engine": "how a stage runs: plan, fingerprint, execute, merge, the chain",
    "settings": "one settings file, checked",
    "stages": "one module per stage",
    "report": "the report for people",
    "backends": "torch, transformers, vllm: encoders, teachers, generators, search, training",
    "evaluation": "test collections, measures, statistics, policy",
    "context": "what a running stage may touch",
    "results": "manifests, tables in parts, content cache, registry",
    "inputs": "corpora, logs, qrels, model folders",
    "storage": "a folder or S3",
    "core": "pure rules",
    "config": "what a setting is",
    "scratch": "temporary folders, swept after kills",
    "tables": "READ FIRST",
    "progress": "rate and time left",
    "log": "events",
    "secrets": "never said",
    "retry": "one way to try again",
    "spent": "where time goes",
    "errors": "exit codes 2 and 75",
    "launch": "processes of one launch",
}
WIDTH, ROW, GAP = 860, 34, 6


def layers() -> list[list[str]]:
    """The rooms from top to bottom; those of one row do not know each other."""
    contracts = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    return [[room.strip() for room in row.split("|")] for row in contracts[0]["layers"]]


def drawing(rows: list[list[str]]) -> str:
    """The picture as SVG: a row per layer, names in bold, a phrase beside each."""
    height = len(rows) * (ROW + GAP) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        "<title>The rooms of Hone: each imports only from those below it</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        '<text x="10" y="20" fill="#555">Each room imports only from the rooms below it; rooms side by side do not '
        "know each other.</text>",
    ]
    for number, rooms in enumerate(rows):
        top, each = 30 + number * (ROW + GAP), (WIDTH - 20) / len(rooms)
        for at, room in enumerate(rooms):
            left = 10 + at * each
            phrase = PHRASES.get(room, "")
            parts.append(
                f'<rect x="{left:.0f}" y="{top}" width="{each - GAP:.0f}" height="{ROW}" rx="4" fill="#eef3f8" '
                f'stroke="#8aa4bf"/><text x="{left + 10:.0f}" y="{top + 22}"><tspan font-weight="bold">{escape(room)}'
                f'</tspan><tspan dx="10" fill="#444">{escape(phrase)}</tspan></text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path("docs/architecture.svg").write_text(drawing(layers()), "utf-8")
