"""What `hone serve` proposes to judge, how far one is, which runs there are, and when `hone run` uses the clicks."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

import chain
import corpora
from browser import faults, needs_browser, opened
from hone.commands.cli import app
from hone.scratch import scratch_folder
from hone.serving.agenda import agenda, difference
from hone.serving.page import Judgements, Server, query_id
from hone.serving.search import Searcher
from hone.storage.local import LocalStore
from loopback import running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a corpus without judgements."""
    folder = chain.home(tmp_path_factory.mktemp("home"), docs=120)
    shutil.rmtree(folder / "corpus/qrels")
    (folder / "corpus/queries.jsonl").unlink()
    trained = {**chain.SETTINGS["distill"], "learning_rate": 0.1}
    chain.run(
        folder, LocalStore(folder / "store"), distill=trained, curate={**chain.SETTINGS["curate"], "dev_share": 0}
    )
    return folder


@pytest.fixture
def served(home: Path, tmp_path: Path) -> Iterator[Server]:
    store = LocalStore(home / "store")
    with scratch_folder() as scratch:
        searcher, todo = Searcher(store, "tiny", scratch), agenda(store, "tiny", scratch)
        server = Server(("127.0.0.1", 0), searcher, Judgements(tmp_path / "judged"), "tiny", todo, store)
        with running(server):
            yield server


def got(server: Server, path: str) -> str:
    return urlopen("http://{}:{}{}".format(*server.server_address, path)).read().decode()


def test_rankings_differ_more_the_higher_the_change() -> None:
    assert difference("abc", "abc") == 0
    assert difference("abc", "xyz") == 1
    assert difference("abc", "acb") < difference("abc", "bac") < difference("abc", "xbc")


def test_the_queries_that_tell_most_come_first_and_judged_ones_are_counted_and_left_out(served: Server) -> None:
    todo = served.agenda
    assert len(todo.queries) == 12
    assert todo.wanted == 630

    def differs(query: str) -> float:
        base, tuned = ([hit.doc_id for hit in side] for side in served.top_tens(query))
        return difference(base, tuned)

    assert differs(todo.queries[0]) == max(map(differs, todo.queries)) > differs(todo.queries[-1])
    page = got(served, "/")
    assert "0 of about 630 queries judged, which show a gain of 2 points" in page
    assert page.count('<li><a href="/?q=') == 8
    served.judgements.judge(todo.queries[0], "d1", 1)
    page = got(served, "/")
    assert "1 of about 630 queries judged" in page
    assert f'href="/?q={quote(todo.queries[0])}"' not in page
    proposed = f'Judge next</p><ul><li><a href="/?q={quote(todo.queries[1])}"'
    assert proposed in got(served, f"/?q={quote(todo.queries[0])}")


def test_the_page_of_runs_has_verdict_and_report_of_each(served: Server) -> None:
    page = got(served, "/runs")
    assert '<th scope="row"><a href="/">tiny</a></th>' in page
    assert 'href="/runs/tiny"' in page
    assert "<td>hold</td>" in page or "<td>reject</td>" in page
    assert "<title>" in got(served, "/runs/tiny")
    for path in ("/runs/other", "/runs/..%2f..%2fetc"):
        with pytest.raises(HTTPError, match="404"):
            got(served, path)


@needs_browser
def test_the_page_of_runs_and_what_is_proposed_fit_a_phone(served: Server, tmp_path: Path) -> None:
    with opened(width=390) as page:
        for path in ("/", "/runs", f"/?q={quote(served.agenda.queries[0])}"):
            page.goto("http://{}:{}{}".format(*served.server_address, path))
            wide, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= shown
            assert faults(page) == []
            page.screenshot(path=tmp_path / f"{path.strip('/')[:4] or 'home'}.png", full_page=True)


JUDGED = "judgements: judgements/tiny (made with `hone serve`)"


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("layout", ["beir", "flat files"])
def test_the_next_run_uses_the_clicks_unless_the_corpus_has_judgements_of_its_own_in_any_layout(
    own: bool, layout: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student").symlink_to(home / "student")
    docs, asked = corpora.docs("wing lift", "sea wave"), {"q": "lift"}
    if layout == "beir":
        corpora.beir(tmp_path / "corpus", docs, asked, **({"test": [("q", "d0", 1)]} if own else {}))
    else:
        corpora.delimited(corpora.jsonl(tmp_path / "corpus/queries.jsonl", []).with_name("collection.tsv"), docs, "\t")
        corpora.jsonl(tmp_path / "corpus/queries.jsonl", [{"_id": "q", "text": "lift"}])
        if own:
            (tmp_path / "corpus/qrels.test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td0\t1\n")
    Judgements(Path("judgements/tiny")).judge("waves", "d1", 1)
    settings = chain.settings_file(tmp_path)
    said = CliRunner().invoke(app, ["run", str(settings), "--explain", "--store", str(tmp_path / "store")])
    assert said.exit_code == 0, said.output
    assert (JUDGED in said.stdout) is not own
    assert query_id("waves") in Path("judgements/tiny/qrels/test.tsv").read_text()
