"""`hone describe`: what the stages read, write and accept."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table as Grid

from hone import tables
from hone.commands.options import verbs
from hone.commands.output import console
from hone.engine.schema import schema_json, setting_rows
from hone.stages import STAGES, known_stage, stage

app = verbs()


@app.command()
def describe(
    name: Annotated[str, typer.Argument(metavar="[STAGE]", help="Only this stage.")] = "",
    json_schema: Annotated[bool, typer.Option("--json-schema", help="Print the schema of a settings file.")] = False,
) -> None:
    """List stages, tables with columns and types, and settings with defaults and meaning."""
    if json_schema:
        print(schema_json())
        return
    if name:
        known_stage(name)
    for chosen in [name] if name else STAGES:
        _describe_stage(chosen)
    for output in tables.OUTPUTS.values():
        if not name or output.name in stage(name).WRITES:
            _describe_output(output)


def _describe_stage(name: str) -> None:
    module = stage(name)
    doc = (module.__doc__ or "").strip().splitlines()
    console.print(f"\n[bold]{name}[/]  [dim]image {module.IMAGE}{', sharded' if module.Config.sharded else ''}[/]")
    console.print(escape(doc[0]) if doc else "")
    console.print(f"reads  {', '.join(module.READS) or 'the corpus'}")
    console.print(f"writes {', '.join(module.WRITES)}")
    grid = Grid("setting", "type", "default", "meaning")
    for row in setting_rows("", module.Config):
        grid.add_row(*map(escape, row))
    console.print(grid)


def _describe_output(output: tables.Table | tables.Folder) -> None:
    if isinstance(output, tables.Folder):
        console.print(f"\n[bold]{output.name}/[/]  {output.meaning}")
        return
    console.print(f"\n[bold]{output.name}[/]  one row is {output.row}; key: {', '.join(output.key)}")
    grid = Grid("column", "type", "meaning")
    for column in output.columns:
        grid.add_row(column.name, escape(str(column.type)), escape(column.meaning))
    console.print(grid)
