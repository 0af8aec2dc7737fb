"""What running a stage would be: its settings, its inputs, and the fingerprint that follows from both and its code."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from hone import tables
from hone.config import CorpusMark, ModelMark, SourceMark, StageConfig, identity, marked
from hone.context import Plan
from hone.engine.fingerprint import code_digest
from hone.errors import UserError
from hone.inputs import model_folder, readers, references
from hone.results.manifest import Manifest, digest_of
from hone.stages import prepare, stage
from hone.tables import Folder


def plan(name: str, config: StageConfig, inputs: Mapping[str, Manifest], scratch: Path) -> Plan:
    """What running a stage with these settings on these inputs would be. Raises UserError on a missing input."""
    module = stage(name)
    reads = config.reading(module.READS)
    missing = [table for table in reads if table not in {*inputs, *config.without_training}]
    if missing:
        raise UserError(f"{name} reads {', '.join(missing)}: run the stages before it first")
    chosen = {table: inputs[table] for table in reads if table in inputs}
    corpora = set(marked(config, CorpusMark))
    contents: dict[str, str] = {}
    for reference in marked(config, SourceMark):
        path = references.local_path(reference, scratch)
        read = readers.layout(path, _format(config, reference)) if reference in corpora else None
        contents[reference] = references.corpus_digest(read) if read else references.content_digest(path)
    for reference in marked(config, ModelMark):
        model_folder.check(references.local_path(reference, scratch))
    shaping: dict[str, object] = {
        "stage": name,
        "code": code_digest(name, config),
        "schema": {output: str(_schema(output)) for output in module.WRITES},
        "config": identity(config, contents),
        "inputs": {table: manifest.output(table).digest for table, manifest in chosen.items()},
    }
    if config.reads_history:
        shaping["history"] = sorted({manifest.history for manifest in chosen.values()})
    return Plan(name, config, chosen, contents, digest_of(shaping)[:16])


def _format(config: StageConfig, reference: str) -> readers.Format:
    """How the settings say that a corpus is written."""
    return config.format if isinstance(config, prepare.Config) and reference == config.corpus else "auto"


def _schema(name: str) -> pa.Schema | str:
    output = tables.OUTPUTS[name]
    return output.name if isinstance(output, Folder) else output.schema
