"""The Python API on the tiny chain."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sentence_transformers import SentenceTransformer

import chain
import hone
from hone.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> hone.Run:
    home = chain.home(tmp_path_factory.mktemp("home"))
    return hone.run(chain.settings_file(home), store=str(home / "store"), changes=["evaluate.examples=2"])


def test_importing_hone_imports_nothing_heavy() -> None:
    heavy = ("numpy", "pyarrow", "pydantic", "torch", "hone.api")
    code = f"import hone, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_run_gives_verdict_figures_tables_model_and_report(done: hone.Run) -> None:
    assert done.verdict in ("promote", "hold", "reject")
    assert {"test", "dev"} == set(done.metrics["set"].to_pylist())
    assert done.queries(sample=3).num_rows == 3
    assert done.queries(style="search").num_rows == done.queries().num_rows
    assert done.lists().num_rows == done.table("lists").num_rows
    assert done.report.read_text("utf-8").startswith("<!doctype html>")
    assert done.model().encode(["wing"]).shape == (1, 16)
    assert done.verdict in done._repr_html_()


def test_a_run_is_loaded_again_by_its_name(done: hone.Run) -> None:
    again = hone.load("tiny", done.store.uri)
    assert (again.verdict, again.metrics) == (done.verdict, done.metrics)


def test_a_model_is_saved_with_the_card_that_says_what_was_found(done: hone.Run, tmp_path: Path) -> None:
    folder = done.save_model(tmp_path / "tuned")
    front = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert front["base_model"] == "student"
    tuned = {row["measure"]: row["tuned"] for row in done.metrics.to_pylist() if row["set"] == "test"}
    results = {one["dataset"]["name"]: one["metrics"] for one in front["model-index"][0]["results"]}
    assert {"type": "ndcg_at_10", "value": round(tuned["nDCG@10"], 4)} in results["test (6 queries)"]
    assert (
        SentenceTransformer(str(folder), device="cpu").encode(["wing"]).tolist()
        == done.model().encode(["wing"]).tolist()
    )
    with pytest.raises(Exception, match="exists already"):
        done.save_model(folder)


def test_evaluate_measures_a_model_as_the_run_does(done: hone.Run, tmp_path: Path) -> None:
    corpus = done.done["prepare"].config["corpus"]
    found = hone.evaluate(done.model(), corpus)
    tuned = {row["measure"]: row["tuned"] for row in done.metrics.to_pylist() if row["set"] == "test"}
    assert found.means == pytest.approx(tuned, abs=1e-6)
    assert found.values.num_rows == 6
    with pytest.raises(UserError, match=r"holds no judgements called 'none', but .*test.*; correct folder or split"):
        hone.evaluate(done.model(), corpus, "none")


def test_evaluate_reads_whatever_layout_a_test_set_may_have(done: hone.Run, tmp_path: Path) -> None:
    """Tables without names as MS MARCO has them, and judgements in four columns; a query that is a document itself."""
    beir = Path(done.done["prepare"].config["corpus"])
    rows = {name: [json.loads(line) for line in (beir / f"{name}.jsonl").open()] for name in ("corpus", "queries")}
    judged = [line.split("\t") for line in (beir / "qrels/test.tsv").read_text().splitlines()[1:]]
    for name, kept in rows.items():
        file = {"corpus": "collection.tsv", "queries": "queries.tsv"}[name]
        (tmp_path / file).write_text("".join(f"{row['_id']}\t{row['text']}\n" for row in kept))
    (tmp_path / "qrels.test.txt").write_text("".join(f"{query} 0 {doc} {grade}\n" for query, doc, grade in judged))
    plain = hone.evaluate(done.model(), beir)
    assert hone.evaluate(done.model(), tmp_path).means == pytest.approx(plain.means, abs=1e-6)
    query = judged[0][0]
    with (tmp_path / "collection.tsv").open("a") as documents:
        documents.write(f"{query}\t{next(row['text'] for row in rows['queries'] if row['_id'] == query)}\n")
    found, before = (
        {row["query_id"]: row for row in measured.values.to_pylist()}[query]
        for measured in (hone.evaluate(done.model(), tmp_path), plain)
    )
    assert found == pytest.approx(before, abs=1e-6), "the query does not find itself"
