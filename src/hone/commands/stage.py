"""`hone stage`: one stage by itself, exactly as its container runs it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from hone import settings
from hone.commands.options import DEFAULT_STORE, StoreOption, verbs
from hone.context import Shard
from hone.engine import runner
from hone.errors import UserError
from hone.kubeflow import attempts
from hone.launch import rank
from hone.results.manifest import Manifest, load_manifest
from hone.stages import known_stage
from hone.storage.addresses import open_store
from hone.storage.base import Store

app = verbs()


@app.command()
def stage(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The stage to run.")],
    config: Annotated[str, typer.Option("--config", help="Its settings as JSON, or the path of a settings file.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="TABLE=PREFIX", help="A result to read, such as docs=prepare/1f0c…"),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    shard: Annotated[str, typer.Option("--shard", metavar="i/n", help="Do one share of a sharded stage.")] = "0/1",
    merge: Annotated[int, typer.Option("--merge", metavar="n", min=0, help="Join n finished shards instead.")] = 0,
    note: Annotated[str, typer.Option("--note", help="Leave word in the store, by this name, of how it ends.")] = "",
) -> None:
    """Run one stage, exactly as its container does; prints the prefix of its result."""
    known_stage(name)
    place = open_store(store)
    with attempts.noting(place, note, name, f"process {rank()}"):
        given = _inputs(place, inputs or [])
        manifest, _ = runner.run_stage(name, _config(name, config), given, place, Shard.parse(shard), merge)
    print(manifest.prefix)


def _config(name: str, text: str) -> Any:
    if not text.lstrip().startswith("{"):
        return settings.load(Path(text)).stages[name]
    try:
        section = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--config is not valid JSON ({error}); write an object or name a settings file") from error
    return settings.stage_config(name, cast(dict[str, Any], section), "--config", Path.cwd())


def _inputs(store: Store, given: list[str]) -> Mapping[str, Manifest]:
    inputs_by_table: dict[str, Manifest] = {}
    for text in given:
        table, _, prefix = text.partition("=")
        manifest = load_manifest(store, f"{prefix.strip('/')}/manifest.json")
        if manifest is None or table.rpartition("/")[2] not in manifest.outputs:
            missing = f"there is no finished {table or 'table'} at {prefix} in {store.uri}"
            raise UserError(f"--input {text}: {missing}; run its stage first")
        inputs_by_table[table] = manifest
    return inputs_by_table
