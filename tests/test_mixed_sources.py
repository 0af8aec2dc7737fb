"""A query log, queries with known documents and extracts, mixed by weight, all the way to the report."""

import re

import pytest
import yaml

import chain
import corpora
import given
from hone import settings
from hone.engine import runner
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

LOGGED, LATE = 60, 20
WORDS = " ".join(chain.TOPICS).split()


def asked() -> list[str]:
    """The queries of the log, newest first."""
    return [f"{one} {other}" for one in WORDS for other in WORDS if one < other][:LOGGED]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return LocalStore(tmp_path_factory.mktemp("mixed") / "store")


@pytest.fixture(scope="module")
def done(store: LocalStore) -> dict[str, Manifest]:
    home = chain.home(store.root.parent, docs=60)
    # The newest stand first: the field, not the place in the file, says when a query was asked.
    rows = [{"text": text, "day": f"2026-05-{30 - at // 3:02}"} for at, text in enumerate(asked())]
    corpora.jsonl(home / "log.jsonl", rows)
    clicks = [{"text": f"{word} {word} test", "doc_id": f"d{20 + at}"} for at, word in enumerate(WORDS)]
    corpora.jsonl(home / "clicks.jsonl", clicks)
    generate = {
        **chain.SETTINGS["generate"],
        "sources": ["log", "human", "extractive"],
        "mix": {"log": 2, "human": 1, "extractive": 2},
        "query_log": "log.jsonl",
        "log": {"time_field": "day", "holdout": LATE / LOGGED},
        "human": {"file": "clicks.jsonl"},
    }
    path = home / "mixed.yaml"
    sections = {**chain.SETTINGS, "generate": generate, "mine": {"top_k": 10, "consistency_rank": 0}}
    path.write_text(yaml.safe_dump({"name": "mixed", **sections}), "utf-8")
    return runner.run(settings.load(path), store, last="report")


def test_sources_give_as_their_weights_say_and_the_newest_of_the_log_is_held_out(
    store: LocalStore, done: dict[str, Manifest]
) -> None:
    targets = {source: sum(styles.values()) for source, styles in done["generate"].facts["target"].items()}
    assert targets["log"] / targets["human"] == pytest.approx(2, rel=0.1)
    assert targets["log"] / targets["extractive"] == pytest.approx(1, rel=0.1)
    kept = {row["text"] for row in given.rows(store, done["generate"], "queries") if row["source"] == "log"}
    dropped = given.rows(store, done["generate"], "dropped_by_generate")
    held_out = {row["detail"] for row in dropped if row["reason"].startswith("held out")}
    assert kept
    assert held_out
    assert not kept & held_out
    newest = set(asked()[:LATE])
    assert held_out <= newest
    assert not kept & newest


def test_every_source_teaches_and_the_report_sets_them_side_by_side(
    store: LocalStore, done: dict[str, Manifest]
) -> None:
    made = {row["query_id"]: row["source"] for row in given.rows(store, done["generate"], "queries")}
    lists = given.rows(store, done["curate"], "lists")
    assert {made[row["query_id"]] for row in lists} == {"log", "human", "extractive"}
    with scratch_folder() as scratch:
        text = (fetch_folder(store, done["report"], "report", scratch) / "report.html").read_text("utf-8")
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall("<tr>(.*?)</tr>", text)]
    for source, style in (("log", "log"), ("human", "human"), ("extractive", "search")):
        count = sum(name == source for name in made.values())
        used = sum(made[row["query_id"]] == source for row in lists)
        assert any(row[:2] == [source, style] and row[3:5] == [str(count), str(used)] for row in rows)
