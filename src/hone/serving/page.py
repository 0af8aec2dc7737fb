"""`hone serve`: a local page to type a query, see base and tuned side by side, and judge documents with a click.

It proposes the queries on which the two differ most, counts what is judged, and lists all runs of the store. Plain
forms, no script. Judgements are kept as a BEIR test set: FOLDER/queries.jsonl and FOLDER/qrels/test.tsv, and every
click in FOLDER/history.jsonl, to which lines are only added. Several servers may share a folder.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hone.core.text import flat
from hone.errors import UserError
from hone.inputs import readers
from hone.report.collect import cut
from hone.report.html import Html, element, join
from hone.report.style import CSS, SERVE_CSS
from hone.scratch import scratch_folder
from hone.serving.agenda import GAIN, Agenda, agenda
from hone.serving.front import Front, Request
from hone.serving.runs_page import report_of, runs_table
from hone.serving.search import Hit, Searcher
from hone.settings import is_run_name
from hone.storage.addresses import open_store
from hone.storage.base import Store

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LARGEST_FORM = 16_384
LONGEST_QUERY = 1_000
REMEMBERED = 256
"""Queries whose answers stay in memory."""
EXCERPT = 320
PROPOSED = 8
"""Queries that are proposed at once."""
WHY_THESE = (
    "Judge these: base and tuned differ most on them. A few such queries show which of the two is better; "
    "they overstate by how much."
)
GRADES = {"relevant": 1, "not relevant": 0}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


class Judgements:
    """What was clicked, written to disk at every click."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queries: dict[str, str] = {}
        self.grades: dict[tuple[str, str], int] = {}
        self._read()

    def _read(self) -> None:
        folder = self.folder
        if (folder / "queries.jsonl").is_file():
            self.queries = {row["_id"]: row["text"] for _, row in readers.rows(folder / "queries.jsonl")}
        if (folder / "qrels/test.tsv").is_file():
            self.grades = {(query, doc): grade for _, query, doc, grade in readers.qrels(folder / "qrels/test.tsv")}

    @property
    def judged(self) -> set[str]:
        """The texts of the queries that have a judgement."""
        return {self.queries[query] for query, _ in self.grades if query in self.queries}

    def of(self, query: str) -> dict[str, int]:
        """doc_id to relevance, as judged for one query."""
        own = query_id(query)
        return {doc: grade for (judged, doc), grade in self.grades.items() if judged == own}

    def judge(self, query: str, doc_id: str, grade: int) -> None:
        """Keeps one judgement, in place of an earlier one, beside what other servers have written since."""
        (self.folder / "qrels").mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._read()
            self.queries[query_id(query)] = query
            self.grades[query_id(query), doc_id] = grade
            self._write()
            click = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "query": query, "doc_id": doc_id}
            with (self.folder / "history.jsonl").open("a", encoding="utf-8") as history:
                history.write(json.dumps({**click, "relevance": grade}, ensure_ascii=False) + "\n")

    @contextmanager
    def _alone(self) -> Generator[None]:
        """No other server writes to the folder meanwhile."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self) -> None:
        lines = [json.dumps({"_id": key, "text": text}, ensure_ascii=False) for key, text in self.queries.items()]
        _write(self.folder / "queries.jsonl", lines)
        rows = [f"{key}\t{doc}\t{value}" for (key, doc), value in self.grades.items()]
        _write(self.folder / "qrels/test.tsv", ["query-id\tcorpus-id\tscore", *rows])


def query_id(query: str) -> str:
    """The same text has the same id."""
    return hashlib.blake2b(query.encode(), digest_size=8).hexdigest()


class Server(Front):
    """One run's page. One query is searched at a time, and answers are remembered."""

    def __init__(
        self,
        address: tuple[str, int],
        searcher: Searcher,
        judgements: Judgements,
        title: str,
        agenda: Agenda | None = None,
        store: Store | None = None,
    ) -> None:
        super().__init__(address, self._handle, LARGEST_FORM)
        self.judgements, self.title = judgements, title
        self.agenda, self.store = agenda or Agenda(), store
        self._top_tens = lru_cache(REMEMBERED)(searcher.top_tens)
        self.token = secrets.token_urlsafe(16)
        self.lock = threading.Lock()
        host, port = address[0], self.server_address[1]
        self.hosts = {f"{name}:{port}" for name in ((*LOOPBACK, host) if host in LOOPBACK else (host,))}

    def top_tens(self, query: str) -> tuple[list[Hit], list[Hit]]:
        """What both models find."""
        with self.lock:
            return self._top_tens(query)

    def _handle(self, request: Request) -> None:
        Handler(request, ("", 0), self)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """GET / searches, GET /runs lists the runs, /runs/NAME is a report; POST /judge keeps a click and goes back."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if not self._is_ours():
            return
        if address.path.startswith("/runs") and self.server.store:
            self._runs(address.path, self.server.store)
            return
        if address.path != "/":
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        query = flat(parse_qs(address.query).get("q", [""])[0])
        if len(query) > LONGEST_QUERY:
            self._refuse(HTTPStatus.BAD_REQUEST, f"a query has {LONGEST_QUERY:,} characters at most")
            return
        hits = self.server.top_tens(query) if query else None
        judged = self.server.judgements.of(query)
        next_up = _next_up(self.server.agenda, self.server.judgements.judged, query)
        self._send(page(self.server.title, query, hits, judged, self.server.token, next_up))

    def _runs(self, path: str, store: Store) -> None:
        """All runs, or the report of one."""
        if path == "/runs":
            self._send(document(f"Runs · {self.server.title}", "Runs", Html(), runs_table(store, self.server.title)))
            return
        name = unquote(path.removeprefix("/runs/"))
        if not is_run_name(name):
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        try:
            self._send(report_of(store, name))
        except UserError as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and int(length) <= LARGEST_FORM):
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the form is too large")
            return
        # Read before any refusal: closing a connection with unread bytes resets it, and the answer is lost.
        body = parse_qs(self.rfile.read(int(length)).decode("utf-8", "replace"), keep_blank_values=True)
        if not self._is_ours():
            return
        form = {key: values[0] for key, values in body.items()}
        if not hmac.compare_digest(form.get("token", "").encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "this form is not from this page; load it again")
            return
        query, doc_id, grade = flat(form.get("q", "")), form.get("doc_id", ""), form.get("grade", "")
        if self.path != "/judge" or grade not in GRADES or not query or len(query) > LONGEST_QUERY:
            self._refuse(HTTPStatus.BAD_REQUEST, "a judgement is a query, a document and a grade")
            return
        shown = {hit.doc_id for side in self.server.top_tens(query) for hit in side}
        if doc_id not in shown or not doc_id.isprintable():
            self._refuse(HTTPStatus.BAD_REQUEST, "only a document that is shown for the query can be judged")
            return
        try:
            with self.server.lock:
                self.server.judgements.judge(query, doc_id, GRADES[grade])
        except OSError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, f"the judgement could not be written: {error.strerror}")
            return
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", f"/?q={quote(query)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: queries are nobody else's business."""

    def _is_ours(self) -> bool:
        """A page elsewhere that has its name point here is refused by the name it asks for."""
        ours = self.headers.get("Host", "").lower() in self.server.hosts
        if not ours:
            self._refuse(HTTPStatus.FORBIDDEN, "this address is not served here")
        return ours

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self._send(f"{sentence}\n", status, "text/plain")

    def _send(self, text: str, status: HTTPStatus = HTTPStatus.OK, kind: str = "text/html") -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)


def serve(run_name: str, store_uri: str, host: str, port: int, out: Path) -> None:
    """Serves until interrupted. Raises UserError if the run is not finished or the port is taken."""
    with scratch_folder() as scratch:
        store = open_store(store_uri)
        searcher = Searcher(store, run_name, scratch)
        proposed = agenda(store, run_name, scratch)
        try:
            server = Server((host, port), searcher, Judgements(out), run_name, proposed, store)
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
        print(f"http://{host}:{server.server_address[1]}/ (judgements go to {out}; Ctrl-C ends)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            server.server_close()


def page(
    title: str,
    query: str,
    hits: tuple[list[Hit], list[Hit]] | None,
    judged: Mapping[str, int],
    token: str,
    next_up: Html | None = None,
) -> str:
    """The whole document, every text escaped."""
    field = Html(
        f'<input id="q" name="q" type="search" autofocus maxlength="{LONGEST_QUERY}" value="{_attribute(query)}">'
    )
    label = element("label", f"Search with both models of {title}", for_="q")
    search = element("form", label, field, element("button", "Search"), action="/", method="get", role="search")
    answers = _sides(query, hits, judged, token) if hits else Html()
    return document(f"{query} · {title}" if query else title, title, search, join([next_up or Html(), answers]))


def document(name: str, heading: str, below: Html, content: Html) -> str:
    """A page with its heading, what stands below that, and its content."""
    head = element(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", name),
        element("style", Html(CSS + SERVE_CSS)),
    )
    links = element("nav", element("a", "search", href="/"), element("a", "all runs", href="/runs"), class_="places")
    top = element("header", links, element("h1", heading), below)
    return f"<!doctype html>\n{element('html', head, element('body', top, element('main', content)), lang='en')}\n"


def _next_up(agenda: Agenda, judged: set[str], query: str) -> Html:
    """How many queries are judged of how many are wanted, and which of the others would show most."""
    if not agenda.queries:
        return Html()
    count = len(judged)
    bar = Html(f'<progress max="{agenda.wanted}" value="{min(count, agenda.wanted)}" aria-label="judged queries">')
    so_far = f"{count:,} of about {agenda.wanted:,} queries judged, which show a gain of {100 * GAIN:g} points"
    enough = f"{count:,} queries judged: enough to show a gain of {100 * GAIN:g} points; `hone run` uses them now"
    progress = element("p", so_far if count < agenda.wanted else enough, bar, Html("</progress>"), class_="progress")
    left = [text for text in agenda.left(judged) if text != query][: 1 if query else PROPOSED]
    links = [element("li", element("a", text, href=f"/?q={quote(text)}")) for text in left]
    says = "Judge next" if query else WHY_THESE
    proposed = element("div", element("p", says, class_="soft"), element("ul", *links)) if links else Html()
    return element("section", progress, proposed, class_="agenda", aria_label="what to judge")


def _sides(query: str, hits: tuple[list[Hit], list[Hit]], judged: Mapping[str, int], token: str) -> Html:
    columns = [
        element(
            "section",
            element("h2", name, id=name),
            element("ol", *(_hit(query, hit, rank, judged, token) for rank, hit in enumerate(side, 1))),
            aria_labelledby=name,
        )
        for name, side in zip(("base", "tuned"), hits, strict=True)
    ]
    return element("div", *columns, class_="sides")


def _hit(query: str, hit: Hit, rank: int, judged: Mapping[str, int], token: str) -> Html:
    about = element("p", f"{hit.score:.3f} · {hit.doc_id}{_moved(rank, hit)}", class_="soft")
    words = element("p", cut(hit.text, EXCERPT)) if hit.text != hit.title else Html()
    return element("li", element("h3", hit.title), about, words, _buttons(query, hit, judged, token))


def _moved(rank: int, hit: Hit) -> str:
    if not hit.other_rank:
        return " · not in the other's ten"
    return "" if hit.other_rank == rank else f" · {hit.other_rank} with the other"


def _buttons(query: str, hit: Hit, judged: Mapping[str, int], token: str) -> Html:
    hidden = {"token": token, "q": query, "doc_id": hit.doc_id}
    fields = [
        Html(f'<input type="hidden" name="{name}" value="{_attribute(value)}">') for name, value in hidden.items()
    ]
    grade = judged.get(hit.doc_id)
    buttons = [
        element("button", name, name="grade", value=name, aria_pressed=str(grade == value).lower())
        for name, value in GRADES.items()
    ]
    return element("form", join(fields), *buttons, action="/judge", method="post", class_="judge")


def _attribute(value: str) -> str:
    return str(element("i", value)).removeprefix("<i>").removesuffix("</i>")


def _write(path: Path, lines: Sequence[str]) -> None:
    """All lines or none: a killed server leaves the last whole file."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    os.replace(temporary, path)
