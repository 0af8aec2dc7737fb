"""`hone compare`: the tuned models of two runs against each other."""

from pathlib import Path
from typing import Annotated

import typer

from hone.commands.options import DEFAULT_STORE, StoreOption, verbs
from hone.commands.output import console
from hone.report.files import write_report
from hone.report.terminal_table import before_after
from hone.scratch import scratch_folder
from hone.serving.compare import compare as compared
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def compare(
    one: Annotated[str, typer.Argument(metavar="RUN", help="The run to compare with.")],
    other: Annotated[str, typer.Argument(metavar="RUN", help="The run that is compared.")],
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(help="The folder of the report; default OTHER-against-ONE here.")] = None,
) -> None:
    """Compare the tuned models of two runs on every test set that both measured, and write a report."""
    folder = out or Path(f"{other}-against-{one}")
    with scratch_folder() as scratch:
        findings = compared(open_store(store), one, other, scratch)
    console.print(before_after(findings.metrics, findings.names))
    for setting, before, after in findings.changes:
        console.print(f"{setting}: {before} -> {after}", soft_wrap=True, markup=False)
    write_report(findings, folder)
    (folder / "metrics.json").write_text(findings.metrics_json(), "utf-8")
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
