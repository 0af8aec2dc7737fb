"""A page of all runs of a store: what, when, gain, verdict and cost, with its report; and the published domains."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hone.engine import record
from hone.errors import UserError
from hone.evaluation.metrics import PRIMARY
from hone.report.html import Html, element, table
from hone.results import registry
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.storage.base import Store

HEADINGS = ("run", "verdict", "points", "nDCG@10", "finished", "minutes", "report")


@dataclass(frozen=True)
class Row:
    """One run, as far as it came."""

    name: str
    finished: float
    done: dict[str, Manifest]
    fault: str = ""


def rows(store: Store) -> list[Row]:
    """Every run of a store, the newest first."""
    all_rows = [_row(store, Path(one.key).stem) for one in store.objects("runs") if one.key.endswith(".json")]
    return sorted(all_rows, key=lambda row: (-row.finished, row.name))


def _row(store: Store, name: str) -> Row:
    try:
        done = record.results(store, name)
    except UserError as error:
        return Row(name, 0.0, {}, str(error))
    last = next((done[stage] for stage in reversed(done)), None)
    times = [stored.modified for stored in store.objects(last.prefix)] if last else []
    return Row(name, max(times, default=0.0), done)


def report_of(store: Store, name: str) -> str:
    """The report of a run as HTML. Raises UserError if there is none."""
    done = record.results(store, name)
    holder = next(((done[stage], output) for stage, output in (("report", "report"), ("evaluate", "findings"))
                   if stage in done), None)  # fmt: skip
    if holder is None:
        raise UserError(f"run {name!r} has no report yet")
    with scratch_folder() as scratch:
        return (fetch_folder(store, *holder, scratch) / "report.html").read_text("utf-8")


def runs_table(store: Store, served: str) -> Html:
    """The runs and the domains; `served` is the one that can be searched here."""
    body = [list(_cells(row, served)) for row in rows(store)]
    domains = [
        [domain, moves[-1].version, moves[-1].action, moves[-1].at.replace("T", " ")[:16], str(len(moves))]
        for domain in registry.domains(store)
        if (moves := registry.moves(store, domain))
    ]
    return Html(
        table("Runs of this store", HEADINGS, body, "points|minutes")
        + table("Published models", ("domain", "current version", "by", "at", "moves"), domains, "moves")
    )


def _cells(row: Row, served: str) -> Iterator[object]:
    yield element("a", row.name, href="/") if row.name == served else row.name
    evaluate, gate = row.done.get("evaluate"), row.done.get("gate")
    yield str(gate.facts["verdict"]) if gate else ""
    if evaluate and evaluate.facts.get("queries"):
        facts = evaluate.facts
        yield f"{100 * facts['delta'][PRIMARY]:+.1f}"
        yield f"{facts['base'][PRIMARY]:.3f} → {facts['tuned'][PRIMARY]:.3f}"
    else:
        yield ""
        yield row.fault or "not measured"
    yield datetime.fromtimestamp(row.finished, UTC).strftime("%Y-%m-%d %H:%M") if row.finished else ""
    yield f"{sum(manifest.seconds for manifest in row.done.values()) / 60:.1f}"
    yield element("a", "report", href=f"/runs/{row.name}") if evaluate else ""
