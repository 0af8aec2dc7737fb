"""The pictures in docs/ show what a run found: taken here, by the same functions, of a small run."""

import re
from pathlib import Path

import pytest

import chain
import pictures
from browser import needs_browser
from hone.serving.page import query_id
from hone.serving.search import top_tens
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow


@needs_browser
def test_the_pictures_show_the_figures_of_the_run(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    done = chain.run(chain.home(tmp_path), store)
    shown = pictures.report(store, "tiny", tmp_path / "report.png")
    assert f"Verdict: {done['gate'].facts['verdict']}" in shown
    assert done["evaluate"].facts["finding"] in shown
    found = done["evaluate"].facts
    assert f"{found['base']['nDCG@10']:.3f}\t{found['tuned']['nDCG@10']:.3f}" in shown
    query = "wing lift drag"
    base, tuned = top_tens(store, "tiny", query)
    page = pictures.served(store, "tiny", query, tmp_path / "judged", tmp_path / "serve.png")
    listed = re.findall(r"^(\d\.\d{3}) · (d\d+)", page, re.MULTILINE)
    assert listed == [(f"{hit.score:.3f}", hit.doc_id) for hit in (*base, *tuned)]
    judged = (tmp_path / "judged/qrels/test.tsv").read_text()
    assert judged == f"query-id\tcorpus-id\tscore\n{query_id(query)}\t{tuned[0].doc_id}\t1\n"
    for name in ("report.png", "serve.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
