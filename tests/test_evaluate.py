"""evaluate end to end with a tiny student: what it measures, and the report it leaves."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import corpora
from hone import tables
from hone.backends.encoders.families import Student
from hone.backends.teachers.settings import Teacher
from hone.context import Job, Plan, Shard
from hone.errors import UserError
from hone.evaluation.metrics import MEASURES
from hone.evaluation.rankings import ranking
from hone.evaluation.test_collections import JudgedSet
from hone.report.collect import with_history
from hone.report.findings import Findings
from hone.report.markdown import markdown
from hone.report.page import page
from hone.results.manifest import Manifest, lineage
from hone.stages import evaluate, stage
from hone.storage.local import LocalStore
from hone.tables import Table
from story import EVIL
from tiny import student as tiny_student

pytestmark = pytest.mark.slow

TEXTS = ["apple pie recipe", "bake bread at home", "car engine repair", f"{EVIL} title", "swim in the sea"]
QUALIFIED = {"teacher": 0.5, "qualified": True}
CHAIN = {
    "prepare": ("docs", "judged_queries", "qrels", "dropped_by_prepare"),
    "generate": ("queries", "dropped_by_generate"),
    "mine": ("candidates", "dropped_by_mine"),
    "score": ("teacher_scores", "qualification", "dropped_by_score"),
    "curate": ("lists", "dropped_by_curate"),
    "distill": ("model", "start"),
}


class Chain:
    """Finished results of all stages before evaluate, written as the stages write them."""

    def __init__(self, folder: Path, chosen: Mapping[str, Any]) -> None:
        """`chosen` is what score found out about its teacher."""
        self.folder, self.store, self.chosen = folder, LocalStore(folder / "store"), chosen
        self.inputs: dict[str, Manifest] = {}

    def finish(self, name: str, rows: dict[str, list[dict[str, Any]]], model: Path | None = None) -> None:
        scratch = self.folder / name
        scratch.mkdir(parents=True)
        todo = Plan(name, stage(name).Config.model_construct(), dict(self.inputs), {}, "f" * 16)
        job = Job(todo, self.store, scratch, Shard())
        for output in CHAIN[name]:
            table = tables.OUTPUTS[output]
            if isinstance(table, Table):
                with job.writer(output) as writer:
                    writer.write(table.build(rows.get(output, [])))
        if name == "score":
            job.write_json("qualification", {"qualification": QUALIFIED, **self.chosen})
        if name == "distill":
            job.write_json("start", {})
        if model:
            for file in (path for path in model.rglob("*") if path.is_file()):
                target = job.new_folder("model") / file.relative_to(model)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        manifest = Manifest(
            stage=name, fingerprint="f" * 16, code="c", version="1", config={"note": EVIL}, sources={},
            inputs={table: found.prefix for table, found in self.inputs.items()}, input_digests={},
            outputs={output: job.publish(output) for output in CHAIN[name]},
            facts={"qualification": QUALIFIED} if name == "score" else {},
            cost={"pairs": 7}, seconds=1.5,
        )  # fmt: skip
        self.store.create(f"{manifest.prefix}/manifest.json", manifest.model_dump_json().encode())
        self.inputs |= dict.fromkeys(CHAIN[name], manifest)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and a tuned student; the tuned one has curves."""
    folder = tmp_path_factory.mktemp("models")
    base, tuned = (tiny_student(folder / name, seed=seed) for seed, name in enumerate(("base", "tuned")))
    training = {
        "summary": {"steps": 2},
        "steps": [{"step": 1, "kl": 0.9}, {"step": 2, "kl": 0.7}],
        "looks": [{"step": 2, "epoch": 1, "dev_loss": 0.8}],
        "alphas": [{"alpha": 1.0, "dev_loss": None}],
    }
    (tuned / "training.json").write_text(json.dumps(training))
    return base, tuned


def chain(
    folder: Path, tuned: Path, splits: tuple[str, ...], held_out: bool = False,
    chosen: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:  # fmt: skip
    made = Chain(folder, chosen)
    docs = [
        {"doc_id": f"d{n}", "title": text if n == 3 else "", "text": text, "held_out": held_out}
        for n, text in enumerate([*TEXTS, *(f"filler text number {n}" for n in range(8))])
    ]
    judged = [{"query_id": f"q{n}", "text": TEXTS[n], "split": splits[n % len(splits)]} for n in range(4) if splits]
    judged += [{"query_id": "d4", "text": TEXTS[4], "split": splits[0]}] if splits else []
    # A query that is a document is answered by another.
    answers = [f"d{5 if n == 4 else n}" for n in range(len(judged))]
    qrels = [
        {"query_id": query["query_id"], "doc_id": answers[n], "relevance": 1 + n % 2} for n, query in enumerate(judged)
    ]
    judged += [{"query_id": "nobody judged", "text": "x", "split": splits[0]}] if splits else []
    queries = [
        {"query_id": f"t{n}", "text": "t", "doc_id": "d0", "source": "log", "style": EVIL if n else "title"}
        for n in range(3)
    ]
    lost = {"id": "t2", "stage": "mine", "reason": "too far away", "detail": EVIL}
    example = {"query_id": "t1", "text": "t", "style": "s", "doc_id": "", "split": "train"}
    example |= {"doc_ids": ["d0"], "scores": [1.0], "likely": []}
    made.finish("prepare", {"docs": docs, "judged_queries": judged, "qrels": qrels})
    made.finish("generate", {"queries": queries})
    made.finish("mine", {"dropped_by_mine": [lost, {**lost, "id": "t3"}]})
    made.finish("score", {})
    made.finish("curate", {"lists": [example]})
    made.finish("distill", {}, tuned)
    return {"store": made.store, "inputs": {name: made.inputs[name] for name in evaluate.READS}}


def evaluated(
    folder: Path, models: tuple[Path, Path], splits: tuple[str, ...], held_out: bool = False,
    chosen: Mapping[str, Any] = MappingProxyType({}), **settings: Any,
) -> Job:  # fmt: skip
    base, tuned = models
    done = chain(folder, tuned, splits, held_out, chosen)
    settings = {"teacher": Teacher(kind="fusion"), **settings}
    config = evaluate.Config(
        student=Student(model=str(base)), permutations=200, bootstrap=200, examples=2, **settings
    )  # fmt: skip
    scratch = folder / "evaluate"
    scratch.mkdir()
    job = Job(Plan("evaluate", config, done["inputs"], {}, "e" * 16), done["store"], scratch, Shard())
    evaluate.run(config, job)
    return job


def output(job: Job, name: str) -> list[dict[str, Any]]:
    return pq.read_table(job.new_folder(name)).to_pylist()


def test_an_ensemble_is_measured_with_the_weights_that_the_dev_queries_chose(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    words, meaning = ({"kind": "fusion", "lexical_weight": share, "feedback_docs": 0} for share in (1.0, 0.0))
    ensemble = {"kind": "ensemble", "members": [meaning, words]}

    def opinions(name: str, teacher: dict[str, Any], **chosen: Any) -> list[list[str]]:
        (tmp_path / name).mkdir()
        job = evaluated(
            tmp_path / name, models, ("test", "dev"), chosen=chosen, teacher=Teacher.model_validate(teacher)
        )
        return [row["doc_ids"] for row in output(job, "runs") if row["system"] == "teacher"]

    alone = opinions("alone", words)
    assert opinions("chosen", ensemble, weights={"fusion": 0.0, "fusion (2)": 1.0}) == alone
    assert opinions("as set", ensemble) != alone


def test_evaluate_measures_both_systems_on_every_split(tmp_path: Path, models: tuple[Path, Path]) -> None:
    job = evaluated(tmp_path, models, ("test", "dev"))
    metrics = json.loads((job.new_folder("findings") / "metrics.json").read_text())
    assert {
        "base",
        "tuned",
        "delta",
        "p_value",
        "ci95",
        "queries",
        "split",
        "synthetic",
        "significant",
        "sets",
        "models",
        "search_as",
        "bm25_weights",
    } == set(metrics)
    assert (metrics["split"], metrics["queries"], metrics["sets"]["dev"]["queries"]) == ("test", 3, 2)
    measures = output(job, "measures")
    assert len(measures) == (5 * 5 + 5) * len(MEASURES)
    mean = np.mean(
        [
            row["value"]
            for row in measures
            if row["system"] == "tuned" and row["measure"] == "nDCG@10" and row["query_id"] in ("q0", "q2", "d4")
        ]
    )
    assert metrics["tuned"]["nDCG@10"] == pytest.approx(mean)
    assert job.facts["finding"].startswith(("Tuned", "No significant gain", "Worse"))
    assert job.cost == {"queries": 5, "docs": 13, "pairs": 5 * 13 - 1}


@pytest.mark.parametrize(
    ("fusion", "dev", "test", "weighs"),
    [
        ("auto", 50, 1, True),
        ("auto", 49, 1, False),
        ("auto", 80, 0, False),
        ("ranks", 80, 80, False),
        ("weights", 1, 0, True),
    ],
)
def test_bm25_is_weighed_where_enough_dev_queries_choose_for_others(
    fusion: str, dev: int, test: int, weighs: bool
) -> None:
    assert evaluate.by_weights(fusion, dev, test) == weighs


def test_the_report_says_how_bm25_was_fused_and_with_what_weights(tmp_path: Path, models: tuple[Path, Path]) -> None:
    def said(fusion: str) -> tuple[dict[str, float], str]:
        (tmp_path / fusion).mkdir()
        job = evaluated(tmp_path / fusion, models, ("test", "dev"), fusion=fusion)
        found = Findings.from_json((job.new_folder("findings") / "findings.json").read_bytes())
        return found.metrics["bm25_weights"], page(found)

    (tmp_path / "hybrid").mkdir()
    ranks, by_ranks = said("auto")  # two dev queries are too few to choose
    weights, by_weights = said("weights")
    assert ranks == {}
    assert "fused by reciprocal ranks (k = 60)" in by_ranks
    shares = f"{weights['base']:g} with base and {weights['tuned']:g} with tuned, which dev queries chose"
    assert shares in by_weights
    hybrid = evaluated(tmp_path / "hybrid", models, ("test", "dev"), fusion="weights", search_as="hybrid")
    found = Findings.from_json((hybrid.new_folder("findings") / "findings.json").read_bytes())
    assert shares in markdown(found)  # and so in the card of a published model


def test_a_querys_own_document_is_left_out_of_its_results(tmp_path: Path, models: tuple[Path, Path]) -> None:
    runs = output(evaluated(tmp_path, models, ("test",)), "runs")
    assert {(row["system"], len(row["doc_ids"])) for row in runs if row["query_id"] == "d4"} == {
        (system, 0 if system == "bm25" else 12)
        for system in ("base", "tuned", "bm25", "base+bm25", "tuned+bm25", "teacher")
    }
    assert all("d4" not in row["doc_ids"] for row in runs if row["query_id"] == "d4")


def test_equal_scores_are_ranked_as_trec_eval_ranks_them() -> None:
    found = ranking(["a", "q", "c", "b"], [0.5, 0.9, 0.5, 0.7], 2, left_out="q")
    assert (found.doc_ids, found.scores) == (["b", "c"], pytest.approx([0.7, 0.5]))


def test_without_a_test_split_dev_is_reported_and_said_to_be_dev(tmp_path: Path, models: tuple[Path, Path]) -> None:
    report = evaluated(tmp_path, models, ("dev",)).new_folder("findings")
    assert json.loads((report / "metrics.json").read_text())["split"] == "dev"
    for text in drawn(report):
        assert "There is no test split" in text


def test_without_judged_queries_the_report_says_that_nothing_was_measured(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    job = evaluated(tmp_path, models, ())
    report = job.new_folder("findings")
    assert json.loads((report / "metrics.json").read_text())["queries"] == 0
    shown, text = drawn(report)
    assert "Not measured: no judged queries" in shown
    assert text.startswith("Not measured: no judged queries\n")
    assert job.cost["queries"] == 0


def drawn(folder: Path, ancestors: Mapping[str, Manifest] = MappingProxyType({})) -> tuple[str, str]:
    """The page and the Markdown of what evaluate left in a folder, as the stage report draws them."""
    findings = with_history(Findings.from_json((folder / "findings.json").read_bytes()), ancestors)
    return page(findings), markdown(findings)


def general(folder: Path) -> Path:
    """A test set of its own, whose query has an id that the corpus uses too."""
    docs = [{"_id": f"g{n}", "title": f"T{n}", "text": text} for n, text in enumerate(TEXTS)]
    return corpora.beir(folder, docs, {"q0": TEXTS[1]}, test=[("q0", "g1", 1)])


def test_guard_sets_are_measured_beside_the_corpus_with_documents_of_their_own(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    guard = JudgedSet(name="general", folder=str(general(tmp_path / "general")))
    job = evaluated(tmp_path, models, ("test", "dev"), tests=(guard,))
    metrics = json.loads((job.new_folder("findings") / "metrics.json").read_text())
    assert {name: found["role"] for name, found in metrics["sets"].items()} == {
        "test": "domain", "dev": "dev", "general": "guard",
    }  # fmt: skip
    assert (metrics["split"], metrics["sets"]["general"]["queries"]) == ("test", 1)
    assert set(metrics["sets"]["test"]["systems"]) == {"base", "tuned", "bm25", "base+bm25", "tuned+bm25", "teacher"}
    assert set(metrics["sets"]["general"]["systems"]) == {"base", "tuned", "bm25", "base+bm25", "tuned+bm25"}
    assert metrics["sets"]["general"]["systems"]["bm25"]["MRR@10"] == 1.0
    found = [row for row in output(job, "runs") if row["set"] == "general"]
    assert len(found) == 5
    assert all(doc_id.startswith("g") for row in found for doc_id in row["doc_ids"])
    p_values = [v for found in metrics["sets"].values() for v in found["measures"].values()]
    assert all(values["p_value"] <= values["p_holm"] <= 1 for values in p_values)


def test_a_test_set_that_lacks_something_is_refused_by_name(tmp_path: Path, models: tuple[Path, Path]) -> None:
    folder = general(tmp_path / "general")
    with pytest.raises(UserError, match=r"evaluate\.tests: general: .* holds no judgements called 'dev', but test"):
        evaluated(tmp_path / "a", models, (), tests=(JudgedSet(name="general", folder=str(folder), split="dev"),))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "other", "text": "x"}))
    with pytest.raises(UserError, match=r"evaluate\.tests: general: .*unknown query 'q0'"):
        evaluated(tmp_path / "b", models, (), tests=(JudgedSet(name="general", folder=str(folder)),))
    with pytest.raises(UserError, match="the name 'test' is taken"):
        evaluated(tmp_path / "c", models, ("test",), tests=(JudgedSet(name="test", folder=str(folder)),))


def test_without_judgements_held_out_documents_make_a_test_set_labelled_synthetic(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    job = evaluated(tmp_path, models, (), held_out=True)
    report = job.new_folder("findings")
    metrics = json.loads((report / "metrics.json").read_text())
    assert (metrics["split"], metrics["synthetic"], metrics["queries"]) == ("synthetic", True, 12)
    assert {row["query_id"].split(":")[0] for row in output(job, "runs")} == {"synthetic"}
    assert "12 synthetic queries" in job.facts["finding"]
    for text in drawn(report):
        assert "These queries are synthetic" in text


def test_what_gate_reads_back_is_what_evaluate_found(tmp_path: Path, models: tuple[Path, Path]) -> None:
    found = evaluated(tmp_path, models, ("test",)).new_folder("findings")
    data = (found / "findings.json").read_bytes()
    findings = Findings.from_json(data)
    assert findings.to_json() == data
    assert findings.histograms[0].shares["the teacher's first"][-1] == 1.0


def test_the_report_tells_the_whole_story_and_escapes_every_text(tmp_path: Path, models: tuple[Path, Path]) -> None:
    job = evaluated(tmp_path, models, ("test",))
    text, _ = drawn(job.new_folder("findings"), lineage(job.store, job.plan.inputs))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "2 too far away" in text
    assert "Listwise loss" in text
    assert "<td>7</td>" in text  # pairs
    assert "qualified" in text
    assert "f" * 16 in text


def test_the_markdown_report_unfolds_to_what_the_page_says(tmp_path: Path, models: tuple[Path, Path]) -> None:
    job = evaluated(tmp_path, models, ("test",))
    shown, text = drawn(job.new_folder("findings"), lineage(job.store, job.plan.inputs))
    titles = [title for title in re.findall("<h2[^>]*>(.*?)<", shown) if title != "Before and after"]
    unfolded = re.findall("<details><summary>(.*?)</summary>", text)
    assert [title for title in unfolded if title in titles] == titles
    assert text.count("<details>") == text.count("</details>")
    assert "| mine | queries with candidates | 0 | 2 too far away |" in text
    assert "<script" not in text
    assert "<svg" not in text


class Busy:
    """A machine with a clock of its own, on which bursts of other work, of any length, add to whatever runs."""

    def __init__(self, seed: int) -> None:
        self.draw, self.now, self.busy_until = np.random.default_rng(seed), 0.0, 0.0

    def work(self, seconds: float) -> None:
        if self.now > self.busy_until and self.draw.random() < 0.05:
            self.busy_until = self.now + self.draw.exponential(0.3)
        held_up = self.draw.exponential(0.004) if self.now < self.busy_until else 0.0
        self.now += seconds + held_up


class Timed:
    """A student that takes a given time for a query."""

    def __init__(self, machine: Busy, seconds: float) -> None:
        self.machine, self.seconds = machine, seconds

    def queries(self, texts: list[str]) -> None:
        self.machine.work(self.seconds)


@pytest.mark.parametrize("slower", [1.0, 1.5])
def test_other_work_on_a_machine_does_not_make_a_model_slower_or_hide_that_it_is(
    slower: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(200):
        machine = Busy(seed)
        monkeypatch.setattr(evaluate.time, "perf_counter", lambda machine=machine: machine.now)
        models: Any = {"base": Timed(machine, 0.001), "tuned": Timed(machine, 0.001 * slower)}
        took = evaluate.latency(models, ["a query"] * 16)
        assert took["tuned"] / took["base"] == pytest.approx(slower, rel=0.2), seed
