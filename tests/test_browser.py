"""The report and the served page as people see them, in Chromium."""

import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from browser import faults, needs_browser, opened, show
from hone.evaluation.statistics import Comparison
from hone.report.ablation import Ablation, Curve, Row, Saturation, ablation_page, saturation_page
from hone.report.findings import Findings, Histogram, Move, Origin, QueryGain
from hone.report.page import page as report_page
from hone.serving.page import Judgements, Server, query_id
from hone.serving.search import Hit
from loopback import running
from story import EVIL, VERDICT, measured, story

pytestmark = pytest.mark.slow

ATTACK = '<script>document.title = "owned"</script><img src=x onerror="document.title=\'owned\'">'


def whole_story() -> Findings:
    """Findings that fill every section, with markup planted in every text of a corpus."""
    gain = QueryGain(f"join {ATTACK}", 0.2, 0.9, (Move(f"Thread.join {ATTACK}", 14, 1, 2),))
    lost = QueryGain(f"worse {ATTACK}", 0.5, 0.1, (Move("Some document", 1, 0, 0),))
    alphas = [{"alpha": alpha, "dev_loss": 0.7 + (alpha - 0.6) ** 2} for alpha in (0.0, 0.5, 0.75, 1.0)]
    steps = [{"step": step, "kl": 1 / step} for step in range(1, 30)]
    shape = np.linspace(0, 1, 24)
    shares = {"relevant": tuple((shape / shape.sum()).tolist()), "not judged relevant": tuple([1 / 24] * 24)}
    return replace(
        story(measured()),
        gains=(gain, *(QueryGain(f"q{n}", 0.5, 0.5 + (20 - n) / 50) for n in range(40)), lost),
        won=(gain,),
        lost=(lost,),
        verdict=VERDICT,
        origins=(Origin("extractive", f"search {ATTACK}", 100, 60),),
        training={"steps": steps, "looks": [{"step": 9, "dev_loss": 0.6}], "alphas": alphas, "summary": {"steps": 29}},
        histograms=(Histogram("Cosine of what the tuned model retrieved", 0.1, 0.9, shares),),
        licences={"model": "apache-2.0", "corpus": "not declared"},
        latency={"base": 8.1, "tuned": 8.0},
        changes=(("distill.alphas", "[0.0]", ATTACK),),
    )


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_report_runs_no_script_of_the_corpus_and_is_accessible(tmp_path: Path, dark: bool) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_page(whole_story()), "utf-8")
    with opened(dark=dark) as page:
        show(page, path)
        assert page.title().startswith("Tuned is better")
        assert page.locator("script, img").count() == 0
        assert page.locator(f"text={ATTACK[:20]}").count() > 0
        assert page.locator("p.verdict").inner_text() == "Verdict: hold"
        wide, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= shown
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert faults(page) == []
        page.screenshot(path=tmp_path / f"report-{dark}.png", full_page=True)


@needs_browser
def test_the_report_prints_and_fits_a_narrow_screen(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_page(whole_story()), "utf-8")
    with opened(width=390) as page:
        show(page, path)
        wide, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= shown
        cell = page.locator("section[aria-labelledby=verdict] td:nth-child(2)").first.bounding_box()
        assert cell
        assert cell["x"] + cell["width"] <= 390  # the outcome is read without scrolling
        assert page.locator("[title]").count() == 0
        unfolded = page.locator("details.bars li").all_text_contents()
        assert page.locator("rect title").all_text_contents() == unfolded  # a keyboard cannot point at a bar
        printed = page.pdf(format="A4")
        assert printed.startswith(b"%PDF")
        assert 1 < len(re.findall(rb"/Type /Page\b", printed)) < 12
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible()
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert not page.locator("details.settings table").first.is_visible()


class Answers:
    """Stands where both students would: the same ten documents in two orders."""

    def top_tens(self, query: str) -> tuple[list[Hit], list[Hit]]:
        texts = [f"{query} {EVIL}", "a second document", "a third"]
        hits = [Hit(f"d{n}", text, f"{text}, in full", 1 - n / 10, 0) for n, text in enumerate(texts)]
        ranked = [replace(hit, other_rank=3 - n) for n, hit in enumerate(hits)]
        return ranked, [replace(hit, other_rank=n + 1) for n, hit in enumerate(ranked)][::-1]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Answers(), Judgements(tmp_path / "judged"), "demo")  # type: ignore[arg-type]
    with running(server):
        yield server


def ask(server: Server, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@needs_browser
def test_a_click_in_the_browser_becomes_a_judgement_on_disk(served: Server, tmp_path: Path) -> None:
    with opened() as page:
        page.goto(f"http://127.0.0.1:{served.server_address[1]}/")
        page.get_by_role("searchbox").fill("read <b>a</b> file")
        page.get_by_role("button", name="Search").click()
        page.locator("section li").first.wait_for()
        assert page.locator("section li").count() == 6
        assert page.locator("script").count() == 0
        page.locator("section[aria-labelledby=tuned] li").nth(1).get_by_role("button", name="relevant").first.click()
        page.locator("button[aria-pressed=true]").first.wait_for()
        assert page.locator("button[aria-pressed=true]").count() == 2  # the document stands on both sides
        assert faults(page) == []
        page.screenshot(path=tmp_path / "serve.png", full_page=True)
    key = query_id("read <b>a</b> file")
    assert (tmp_path / "judged/qrels/test.tsv").read_text() == f"query-id\tcorpus-id\tscore\n{key}\td1\t1\n"
    assert json.loads((tmp_path / "judged/queries.jsonl").read_text()) == {"_id": key, "text": "read <b>a</b> file"}
    assert Judgements(tmp_path / "judged").of("read <b>a</b> file") == {"d1": 1}


def test_the_page_is_served_to_its_own_address_only(served: Server) -> None:
    assert ask(served, "GET", "/")[0] == 200
    assert ask(served, "GET", "/", Host="evil.example")[0] == 403
    assert ask(served, "POST", "/judge", "q=a", Host="evil.example")[0] == 403
    assert ask(served, "GET", "/etc/passwd")[0] == 404


def test_a_judgement_without_the_pages_token_is_refused(served: Server, tmp_path: Path) -> None:
    token = re.findall(r'name="token" value="([^"]+)"', ask(served, "GET", "/?q=a")[1])[0]
    assert ask(served, "POST", "/judge", "q=a&doc_id=d1&grade=relevant&token=guess")[0] == 403
    assert ask(served, "POST", "/judge", f"q=a&doc_id=d1&grade=best&token={token}")[0] == 400
    assert ask(served, "POST", "/judge", f"q=a&doc_id=d%091&grade=relevant&token={token}")[0] == 400
    assert not (tmp_path / "judged").exists()
    assert ask(served, "POST", "/judge", f"q=a&doc_id=d1&grade=not+relevant&token={token}")[0] == 303
    assert (tmp_path / "judged/qrels/test.tsv").read_text().endswith("\td1\t0\n")


def test_every_text_of_the_served_page_is_escaped(served: Server) -> None:
    text = ask(served, "GET", "/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")[1]
    assert "<script" not in text
    assert 'value="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"' in text


@needs_browser
def test_the_table_of_an_ablation_fits_its_page_and_a_refusal_is_read_in_full(tmp_path: Path) -> None:
    beside = Comparison(0.45, 0.44, -0.01, (-0.021, -0.001), 0.0004)
    changes = "teacher.kind: fusion, teacher.lexical_weight: 0, teacher.feedback_docs: 0, teacher.force: True"
    rows = [Row("recipe", "full recipe", "", 1935, 0.43, 0.45, (0.017, 0.016, 0.018), None, 65.0)]
    gains = (-0.017, -0.017, -0.017)
    names = [f"the student as its own teacher {number}" for number in range(3)]
    rows += [Row("teacher", name, changes, 1935, 0.43, 0.44, gains, beside, 400.0) for name in names]
    why = f"refused: the teacher is not better: {'its nDCG@10 is not above. ' * 6}set teacher.force: true"
    rows.append(Row("teacher", "refused", changes, note=why))
    path = tmp_path / "ablation.html"
    path.write_text(ablation_page(Ablation("wings", "test", 150, "dense", (17, 18, 19), tuple(rows))), "utf-8")
    with opened() as page:
        show(page, path)
        assert page.title().startswith("Of 3 variants 3 are worse than the full recipe")
        wide = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
        )
        assert wide == []
        assert page.locator("td", has_text=why).count() == 1
        assert not faults(page)


@needs_browser
def test_a_saturation_curve_shows_its_interval(tmp_path: Path) -> None:
    line = tuple((float(x), 0.01 * x / (x + 400)) for x in range(100, 2000, 100))
    curve = Curve("queries", line[:5], line, line, line, 1000, (0.001, 0.003), 130.0, 0.04)
    path = tmp_path / "saturation.html"
    path.write_text(saturation_page(Saturation("wings", "test", 150, "dense", (17,), (curve,))), "utf-8")
    with opened() as page:
        show(page, path)
        drawn = "[...document.querySelectorAll('.line polyline')].map(one => getComputedStyle(one).stroke)"
        assert "none" not in page.evaluate(drawn)
        assert not faults(page)
