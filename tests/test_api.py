"""The Python API on the tiny chain."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sentence_transformers import SentenceTransformer

import chain
import hone

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
    with pytest.raises(Exception, match=r"qrels/none.tsv does not exist"):
        hone.evaluate(done.model(), corpus, "none")
