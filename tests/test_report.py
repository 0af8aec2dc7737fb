"""What a report says, escapes and leaves out."""

import html
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from hone.evaluation.metrics import MEASURES
from hone.evaluation.statistics import Comparison
from hone.inputs.references import declared_licence
from hone.report import ablation, charts
from hone.report.card import card, unmeasured_card
from hone.report.findings import Findings, Origin, headline
from hone.report.html import element
from hone.report.markdown import markdown
from hone.report.markdown_text import escaped
from hone.report.page import page
from hone.report.query_sources import queries
from hone.report.terminal_table import before_after, grid, rows
from hone.results.manifest import Manifest
from story import EVIL, UNMEASURED, VERDICT, measured, story

VOID = {"meta"}


class Outline(HTMLParser):
    """Checks that elements close in order, and keeps what a reader with a screen reader needs."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


def test_the_page_is_well_formed_self_contained_and_accessible() -> None:
    text = page(story(measured()))
    outline = Outline()
    outline.feed(text.removeprefix("<!doctype html>\n"))
    assert outline.open == []
    assert outline.all("html") == [{"lang": "en"}]
    assert [len(outline.all(tag)) for tag in ("h1", "header", "main", "nav", "footer")] == [1] * 5
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in outline.all("th"))
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for a in outline.all("svg"))
    ids = {attributes.get("id") for attributes in outline.all("h2")}
    assert {(a.get("href") or "").removeprefix("#") for a in outline.all("a")} == ids
    assert not any(word in text for word in ("http:", "https:", "src=", "@import", "url("))
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


@pytest.mark.parametrize(
    ("metrics", "kind", "start"),
    [
        (measured(), "up", "Tuned is better: nDCG@10 0.481 → 0.512 (+3.1 points, 95% CI +1.2 to +5.0, p = 0.004, 237"),
        (measured(p_value=0.3), "flat", "No significant gain: nDCG@10 0.481 → 0.512 (+3.1 points"),
        (measured(delta=-0.02, p_value=0.0001), "down", "Worse: nDCG@10 0.481 → 0.461 (−2.0 points"),
        (UNMEASURED, "flat", "Not measured: no judged queries"),
    ],
)
def test_the_first_line_is_the_finding_in_plain_words(metrics: dict[str, Any], kind: str, start: str) -> None:
    assert headline(metrics).startswith(start)
    assert f'<h1 class="{kind}">{start}' in page(Findings(metrics, "m"))
    assert markdown(Findings(metrics, "m")).startswith(start)


def test_the_verdict_comes_before_everything_else() -> None:
    findings = replace(story(measured()), verdict=VERDICT)
    text = page(findings)
    assert text.index("Verdict: hold") < text.index("<h1")
    assert text.index('id="verdict"') < text.index('id="before-and-after"')
    assert "<script" not in text
    assert markdown(findings).startswith("**Verdict: hold.** Tuned is better")


def test_text_of_a_corpus_is_no_markup_and_mentions_nobody_in_markdown() -> None:
    assert escaped("a|b *c* <i> $x$ `d`\n#1") == "a\\|b \\*c\\* &lt;i&gt; \\$x\\$ \\`d\\` \\#1"
    assert escaped("ask @octocat, a@b.org, nDCG@10") == "ask @\u200boctocat, a@b.org, nDCG@10"


def test_a_models_card_has_front_matter_that_tools_read_and_says_what_was_found() -> None:
    text = card(replace(story(measured()), verdict=VERDICT, licences={"model": "apache-2.0", "corpus": "not declared"}))
    front = yaml.safe_load(text.split("---")[1])
    assert (front["license"], front["library_name"]) == ("apache-2.0", "sentence-transformers")
    assert front["base_model"] == "m"
    result = front["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == "test (237 queries)"
    assert {"type": "ndcg_at_10", "value": 0.512} in result["metrics"]
    assert "**Verdict: hold.**" in text
    assert "nDCG@10 | 0.481 | 0.512" in text
    assert "licence of the corpus: not declared" in text
    assert "<script" not in text


def test_a_card_says_what_is_put_before_a_query_and_how_long_a_vector_is() -> None:
    distill = manifest_of("distill", {"prompts": {"query": "asked: ", "document": ""}})
    metrics = measured() | {"models": {"tuned": {"dimension": 384, "max_doc_tokens": 256}}}
    text = card(replace(story(metrics), history=(distill,)))
    assert "Before a query stands `asked: `." in text
    assert "A vector has 384 numbers; a document is cut at 256 tokens." in text
    assert '"title\ntext"' in text


def test_a_model_that_was_not_measured_has_a_card_without_measures() -> None:
    text = unmeasured_card("acme/small", "mit", (384, 256), {"query": "", "document": ""})
    front = yaml.safe_load(text.split("---")[1])
    assert (front["base_model"], front["license"], front["library_name"]) == (
        "acme/small",
        "mit",
        "sentence-transformers",
    )
    assert "model-index" not in front
    assert "It has not been measured on test queries yet" in text
    assert "Nothing is put before a query or a document." in text
    assert "A vector has 384 numbers" in text
    assert "SentenceTransformer(" in text


def manifest_of(stage: str, facts: dict[str, Any]) -> Manifest:
    return Manifest(
        stage=stage, fingerprint="f", code="c", version="1", config={}, sources={}, inputs={}, input_digests={},
        outputs={}, facts=facts, cost={}, seconds=1.0,
    )  # fmt: skip


def test_what_pointing_at_a_bar_shows_can_be_unfolded_too() -> None:
    findings = story(measured())
    text = page(findings)
    folded = re.search(r'<details class="bars"><summary>(.*?)</details>', text)
    assert folded
    assert len(findings.gains) > 1
    bars = re.findall(r"<rect[^>]*><title>(.*?)</title>", text)
    assert re.findall(r"<li>(.*?)</li>", folded[1]) == bars
    assert len(bars) == len(findings.gains)
    assert "<summary>Every bar" not in markdown(findings)
    assert "unchanged, " in markdown(findings)


def test_a_licence_is_what_the_settings_or_the_models_readme_declare(tmp_path: Path) -> None:
    assert declared_licence(tmp_path) == ""
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# model")
    assert declared_licence(tmp_path) == "mit"
    (tmp_path / "README.md").write_text("---\n: [\n---\n")
    assert declared_licence(tmp_path) == ""


@pytest.mark.parametrize("seeds", [(17,), (17, 18, 19)])
def test_no_letter_of_a_table_is_cut_off_at_80_columns(seeds: tuple[int, ...]) -> None:
    against = Comparison(0.02, 0.01, -0.0336, (-0.0391, -0.0283), 0.0005)
    names = ("InfoNCE, negatives of the batch only", "a_folder_without_spaces_in_its_name_as_the_teacher")
    gains = (0.014,) * len(seeds)
    variants = [ablation.Row("negatives", name, "", 1_006, 0.3, 0.31, gains, against, 510.0) for name in names]
    full = ablation.Row("recipe", "full recipe", "", 1_006, 0.3, 0.35, gains)
    study = ablation.Ablation("p", "test", 2_643, "dense", seeds, (full, *variants))
    headings = ablation.columns(study)
    assert ("each seed" in headings) == (len(seeds) > 1)
    cells = [(row.group, *ablation.cells(row, headings)) for row in study.rows]
    shown = io.StringIO()
    Console(file=shown, width=80).print(grid(("", *headings), cells, ablation.NUMERIC, ablation.finding(study)))
    assert max(map(len, shown.getvalue().splitlines())) <= 80
    wanted, got = Counter("".join(map("".join, cells))), Counter(shown.getvalue())
    assert not {letter: count for letter, count in (wanted - got).items() if letter != " "}


def test_the_terminal_table_has_a_row_for_each_measure_of_each_split() -> None:
    console = Console(width=160, record=True, quiet=True)
    assert before_after(measured()).row_count == len(rows(measured())) == len(MEASURES)
    console.print(before_after(measured()))
    assert before_after(UNMEASURED).row_count == 0


def test_text_is_escaped_and_markup_is_not() -> None:
    assert element("p", "<", element("b", "&"), title='"') == '<p title="&quot;">&lt;<b>&amp;</b></p>'


@pytest.mark.parametrize("count", [1, 3, 5_000])
def test_a_gain_chart_has_at_most_a_thousand_bars(count: int) -> None:
    drawn = charts.gain_bars([0.1] * count, ["<q>"] * count, "gains")
    assert drawn.count("<rect") == min(count, charts.MOST_BARS)
    assert "<q>" not in drawn


def test_a_curve_has_room_for_its_labels_and_is_not_stretched_beyond_the_least_span() -> None:
    points = [(0.0, 0.31952), (1.0, 0.31963)]
    near, wide = (str(charts.line_chart([charts.Line("a", points)], "", "alpha", least=least)) for least in (0, 0.02))
    labels = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="end">([\d.]+)<', near)
    assert max(len(text) for _, text in labels) >= 6
    assert all(float(x) >= 7 * len(text) for x, text in labels)
    ends = [[float(spot.split(",")[1]) for spot in re.findall(r"[\d.]+,[\d.]+", chart)] for chart in (near, wide)]
    assert abs(ends[0][0] - ends[0][1]) > 100 > 5 > abs(ends[1][0] - ends[1][1])


def test_charts_of_constant_values_are_drawn() -> None:
    assert "nan" not in charts.line_chart([charts.Line("train", [(0, 1.0), (0, 1.0)])], "loss", "step")
    assert "nan" not in charts.gain_bars([0.0, 0.0], ["a", "b"], "gains")
    assert "nan" not in charts.interval_mark(0.0, 0.0, 0.0, 0.0)


def test_queries_are_told_by_source_and_style_with_targets_reasons_examples_and_cost() -> None:
    dropped = {"count": 3, "examples": [f"Here is {EVIL}", "Sure"]}
    spent = {"answers": 9, "prompt_tokens": 900, "cached_tokens": 600, "new_tokens": 90, "without_cached_tokens": 0}
    times = {"microseconds": 3_000_000, "gpu_microseconds": 0}
    facts = {
        "target": {"vllm": {"claim": 9, "title": 9}},
        "kept": {"vllm": {"claim": 6}},
        "dropped": {"vllm": {"claim": {"preamble": dropped}}},
        "answers": {"vllm": {"claim": {**spent, **times}, "title": {**spent, **times, "without_cached_tokens": 1}}},
    }
    manifest = Manifest(
        stage="generate", fingerprint="f", code="", version="1", config={}, sources={}, inputs={}, input_digests={},
        outputs={}, facts=facts, cost={}, seconds=1.0,
    )  # fmt: skip
    origins = (Origin("vllm", "claim", 6, 3),)
    text = queries(Findings(measured(), "m", history=(manifest,), origins=origins))
    rows = re.findall("<tr>(.*?)</tr>", text)
    cells = [re.sub("<[^>]*>", "", re.sub("</t[dh]>", "\0", row)).split("\0") for row in rows]
    assert ["vllm", "claim", "9", "6", "3", "67%", "50%", ""] in cells
    assert ["vllm", "title", "9", "0", "0", "0%", "–", ""] in cells
    assert ["vllm", "claim", "preamble", "3", "33%", f"Here is {html.escape(EVIL)} · Sure", ""] in cells
    assert ["vllm", "claim", "9", "150.0", "100.0", "15.0", "0.5000", "0.0000", ""] in cells
    assert ["vllm", "title", "9", "–", "–", "–", "–", "–", ""] in cells
