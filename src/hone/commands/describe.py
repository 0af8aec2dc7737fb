"""`hone describe`: what the stages read, write and accept."""

from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid

from hone import tables
from hone.commands.options import verbs
from hone.commands.output import console
from hone.engine.schema import schema_json, setting_rows
from hone.stages import STAGES, known_stage, stage

app = verbs()


@app.command()
def describe(
    name: Annotated[str, typer.Argument(metavar="[STAGE|TABLE]", help="All about this one.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every setting and column of all stages.")] = False,
    json_schema: Annotated[bool, typer.Option("--json-schema", help="Print the schema of a settings file.")] = False,
) -> None:
    """List the stages and what each does; of one, every setting with default and meaning, and its tables."""
    if json_schema:
        print(schema_json())
    elif everything:
        for chosen in STAGES:
            _describe_stage(chosen)
        for output in tables.OUTPUTS.values():
            _describe_output(output)
    elif name in tables.OUTPUTS and name not in STAGES:
        _describe_output(tables.OUTPUTS[name])
    elif name:
        _describe_stage(known_stage(name))
        for output in stage(name).WRITES:
            _describe_output(tables.OUTPUTS[output])
    else:
        _overview()


def _overview() -> None:
    grid = _grid("stage", "what it does", "reads", "writes")
    for name in STAGES:
        module = stage(name)
        meaning = _first_line(module).removeprefix(f"{name}: ")
        grid.add_row(name, escape(meaning), _few(module.READS) or "the corpus", _few(module.WRITES))
    console.print(grid)
    console.print("\n`hone describe STAGE` lists its settings, `hone describe TABLE` its columns, `--all` everything.")


def _few(names: tuple[str, ...]) -> str:
    """Names on one line; what was dropped counts as one table."""
    return ", ".join(dict.fromkeys("dropped" if name.startswith("dropped_by") else name for name in names))


def _first_line(module: Any) -> str:
    return next(iter((module.__doc__ or "").strip().splitlines()), "")


def _grid(*columns: str) -> Grid:
    return Grid(*columns, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _describe_stage(name: str) -> None:
    module = stage(name)
    console.print(f"\n[bold]{name}[/]  [dim]image {module.IMAGE}{', sharded' if module.Config.sharded else ''}[/]")
    console.print(escape(_first_line(module)))
    console.print(f"reads  {', '.join(module.READS) or 'the corpus'}")
    console.print(f"writes {', '.join(module.WRITES)}\n")
    for setting, kind, default, meaning in setting_rows("", module.Config):
        given = f" = {escape(default)}" if default not in ("", "required") else ", required" if default else ""
        console.print(f"[bold]{setting}[/]{given}  [dim]{escape(kind)}[/]", soft_wrap=True)
        if meaning:
            console.print(Padding(escape(meaning), (0, 0, 0, 4)))


def _describe_output(output: tables.Table | tables.Folder) -> None:
    if isinstance(output, tables.Folder):
        console.print(f"\n[bold]{output.name}/[/]  {output.meaning}")
        return
    console.print(f"\n[bold]{output.name}[/]  one row is {output.row}; key: {', '.join(output.key)}")
    grid = _grid("column", "type", "meaning")
    for column in output.columns:
        grid.add_row(column.name, escape(str(column.type)), escape(column.meaning))
    console.print(grid)
