"""Pictures of what people see of a finished run: its report, and the page that `hone serve` shows.

python tests/pictures.py STORE RUN FOLDER QUERY
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from browser import opened, show
from hone.engine import record
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.serving.page import Judgements, Server
from hone.serving.search import Searcher
from hone.storage.addresses import open_store
from hone.storage.base import Store
from loopback import running

HEIGHT = 1500


def report(store: Store, run: str, picture: Path) -> str:
    """Takes a picture of the top of a run's report; returns all text of the page."""
    done = record.results(store, run)
    with scratch_folder() as scratch, opened() as page:
        show(page, fetch_folder(store, done["report"], "report", scratch) / "report.html")
        page.screenshot(path=picture, clip={"x": 0, "y": 0, "width": 1100, "height": HEIGHT}, full_page=True)
        return page.inner_text("body")


def served(store: Store, run: str, query: str, judged: Path, picture: Path) -> str:
    """Searches the served page of a run, judges the tuned model's first answer with a click and takes a picture.

    Returns all text of the page; what was clicked is kept in `judged`.
    """
    with serving(store, run, judged) as address, opened() as page:
        page.goto(f"{address}?q={quote(query)}")
        page.locator("section[aria-labelledby=tuned] li").first.get_by_role("button", name="relevant").first.click()
        page.locator("button[aria-pressed=true]").first.wait_for()
        page.screenshot(path=picture)
        return page.inner_text("body")


@contextmanager
def serving(store: Store, run: str, judged: Path) -> Iterator[str]:
    """The address of a run's page, served on a free port while the block runs."""
    with scratch_folder() as scratch:
        server = Server(("127.0.0.1", 0), Searcher(store, run, scratch), Judgements(judged), run)
        with running(server):
            yield f"http://127.0.0.1:{server.server_address[1]}/"


def main(place: str, run: str, folder: str, query: str) -> None:
    store, out = open_store(place), Path(folder)
    report(store, run, out / "report.png")
    with tempfile.TemporaryDirectory() as judged:
        served(store, run, query, Path(judged), out / "serve.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
