"""Logs of real queries as systems export them: their times, their fields, and what is in no field."""

import gzip
import json
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hone.errors import UserError
from hone.inputs.readers import times
from hone.stages.generate.from_people import Asked
from hone.stages.generate.query_log import QueryLog
from hone.stages.generate.settings import Log

START = datetime(2001, 9, 9, 1, 40, tzinfo=UTC)
MOMENTS = [START + timedelta(minutes=7 * step) for step in range(6)]
ZONES = [timezone(timedelta(hours=hours)) for hours in (-8, 0, 5.5, 13)]


def order(values: list[Any], form: str = "") -> list[int]:
    """Places of the values in the order of time."""
    found = times.seconds([times.moment(v, f"line {at}", form) for at, v in enumerate(values)], ["line"] * len(values))
    return sorted(range(len(values)), key=lambda at: found[at])


FORMS: dict[str, list[Any]] = {
    "seconds": [int(at.timestamp()) - 6 for at in MOMENTS],
    "seconds as text": [str(int(at.timestamp())) for at in MOMENTS],
    "milliseconds": [int(at.timestamp() * 1e3) for at in MOMENTS],
    "nanoseconds": [int(at.timestamp() * 1e9) for at in MOMENTS],
    "fractions": [at.timestamp() + 0.5 for at in MOMENTS],
    "offsets": [at.astimezone(ZONES[step % 4]).isoformat() for step, at in enumerate(MOMENTS)],
    "zulu": [at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in MOMENTS],
    "log4j": [at.strftime("%Y-%m-%d %H:%M:%S,123") for at in MOMENTS],
    "compact": [at.strftime("%Y%m%d%H%M%S") for at in MOMENTS],
    "apache": [at.astimezone(ZONES[step % 4]).strftime("[%d/%b/%Y:%H:%M:%S %z]") for step, at in enumerate(MOMENTS)],
    "mail": [at.strftime("%a, %d %b %Y %H:%M:%S GMT") for at in MOMENTS],
    "datetimes": [at.astimezone(ZONES[step % 4]) for step, at in enumerate(MOMENTS)],
    "european": [(at + timedelta(days=30 * step)).strftime("%d.%m.%Y %H:%M") for step, at in enumerate(MOMENTS)],
    "american": [(at + timedelta(days=30 * step)).strftime("%m/%d/%Y %I:%M %p") for step, at in enumerate(MOMENTS)]
    + ["12/31/2002 9:00 AM"],
    "day first": [(at + timedelta(days=30 * step)).strftime("%d/%m/%Y %H:%M") for step, at in enumerate(MOMENTS)]
    + ["31/12/2002 09:00"],
}


@pytest.mark.parametrize("form", FORMS)
def test_times_of_every_form_are_put_in_the_order_of_time(form: str) -> None:
    values = FORMS[form]
    places = random.Random(3).sample(range(len(values)), len(values))
    assert [places[at] for at in order([values[at] for at in places])] == list(range(len(values)))


def test_dates_that_could_have_the_day_or_the_month_first_are_refused_unless_something_tells() -> None:
    unclear = ["03/04/2024", "05/02/2024"]
    with pytest.raises(UserError, match=r"day first or month first \(no other date settles it\); set log\.time_format"):
        order(unclear)
    assert order(unclear, "%d/%m/%Y") == [1, 0]
    assert order(unclear, "%m/%d/%Y") == [0, 1]
    with pytest.raises(UserError, match="some dates of the file have the day first, others the month"):
        order([*unclear, "13/01/2024", "01/13/2024"])


@pytest.mark.parametrize(
    "value", ["yesterday", "10:30", "March", "12", "", None, True, "2024-05-01 10:00 CST", [], "5/2024"]
)
def test_what_is_no_time_is_refused_by_line(value: Any) -> None:
    if value == "12":  # twelve seconds after the epoch
        return
    with pytest.raises(UserError, match=r"^log, line 3: (.* cannot be read as a time|the time is empty)"):
        times.moment(value, "log, line 3")


def test_the_newest_share_of_a_log_is_held_out_by_time(tmp_path: Path) -> None:
    rows = [
        {"text": f"query {at}", "at": moment.astimezone(ZONES[at % 4]).isoformat()} for at, moment in enumerate(MOMENTS)
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    log = QueryLog.read(Asked(path, "text", "at"), Log(time_field="at"))
    faults = [log.fault(f"query {at}", 1, 0.5) for at in range(6)]
    assert [fault is None for fault in faults] == [True, True, True, False, False, False]


TEXTS = ["how do wings work", "747", 'why, "lift"']


@pytest.mark.parametrize("name", ["LOG.TXT", "log", "Log.CSV", "log.tsv", "log.ndjson", "log.json.gz", "log.parquet"])
def test_queries_in_every_kind_of_file_are_text_and_empty_ones_are_counted(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    kind = name.lower().partition(".")[2]
    if kind in ("", "txt"):
        path.write_text("\r\n".join([TEXTS[0], "", *TEXTS[1:]]))
    elif kind == "csv":
        path.write_text('id,text\r\n1,how do wings work\r\n2,\r\n3,747\r\n4,"why, ""lift"""\r\n')
    elif kind == "tsv":
        path.write_text(f"1\t{TEXTS[0]}\n2\t\n3\t747\n4\t{TEXTS[2]}\n")
    elif kind == "parquet":
        pq.write_table(pa.table({"text": [TEXTS[0], None, *TEXTS[1:]]}), path)
    else:
        rows = [{"text": TEXTS[0]}, {"text": None}, {"text": 747}, {"text": TEXTS[2]}]
        text = json.dumps(rows) if "json.gz" in name else "\n".join(json.dumps(row) for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    asked = Asked(path, "text")
    assert [text for _, text, _ in asked] == TEXTS
    assert asked.empty == 1
    assert asked.facts


def test_a_log_without_the_field_is_refused_with_those_it_has(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"q": "wing"}\n')
    with pytest.raises(UserError, match=r"no field 'text' \(it has q\); set the fields in generate"):
        list(Asked(tmp_path / "log.jsonl", "text"))
    (tmp_path / "log.csv").write_text("q,at\nwing,1\n")
    with pytest.raises(UserError, match=r"no field 'text' \(it has q, at\)"):
        list(Asked(tmp_path / "log.csv", "text"))
