"""The verdict: what promotes, what holds, what rejects; first as a policy, then from the command line."""

import json
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from hone import tables
from hone.commands.cli import app
from hone.commands.compare import compare
from hone.context import Job, Plan, Shard
from hone.engine import record
from hone.errors import UserError
from hone.evaluation.metrics import MEASURES
from hone.evaluation.policy import Evidence, Policy, decide, reasons
from hone.report.findings import Findings
from hone.results.manifest import Manifest, lineage, load_manifest
from hone.results.table_io import TableReader
from hone.settings import load
from hone.stages import stage
from hone.storage.local import LocalStore
from tiny import student as tiny_student

pytestmark = pytest.mark.slow

SHAPE = {"dimension": 32, "parameters": 1000, "layers": 2, "max_doc_tokens": 512}


def measured(
    delta: float,
    p_value: float,
    *,
    role: str = "domain",
    ci95: tuple[float, float] = (0.01, 0.05),
    synthetic: bool = False,
    judged_by: str = "people",
    free: float | None = None,
    held_out: str = "documents",
    dropped: int = 0,
) -> dict[str, Any]:
    """One set of metrics.json."""
    values = {"base": 0.5, "tuned": 0.5 + delta, "delta": delta, "ci95": ci95, "p_value": p_value}
    best = min(0.48, 0.49 + delta) if free is None else free
    beside = {"best": "base+bm25", "base": best, "tuned": 0.5 + delta, "delta": 0.5 + delta - best, "p_value": 0.03}
    return {
        "role": role, "synthetic": synthetic, "queries": 75, "minimal_detectable_effect": 0.021,
        "measures": dict.fromkeys(MEASURES, values), "free": beside, "judged_by": judged_by, "held_out": held_out,
        "judged_docs": 796, "judged_docs_dropped": dropped,
    }  # fmt: skip


def evidence(
    sets: dict[str, Any],
    lists: int = 500,
    leaks: int = 0,
    qualified: bool = True,
    tuned: dict[str, int] = SHAPE,
    slower: float = 1.0,
) -> Evidence:
    models, teacher = {"base": SHAPE, "tuned": tuned}, {"qualified": qualified, "reason": ""}
    metrics = {"sets": sets, "models": models, "search_as": "dense"}
    return Evidence(metrics, lists, 84, leaks, teacher, {"base": 8.0, "tuned": 8.0 * slower})


BETTER = {"test": measured(0.03, 0.001)}


@pytest.mark.parametrize(
    ("found", "verdict", "failing"),
    [
        (evidence(BETTER), "promote", []),
        (evidence({"test": measured(0.0, 1.0)}), "hold", ["gain in nDCG@10 on test", "p-value on test"]),
        (evidence({"test": measured(0.03, 0.2)}), "hold", ["p-value on test"]),
        (evidence({"test": measured(-0.03, 0.2)}), "hold", ["gain in nDCG@10 on test", "p-value on test"]),
        (evidence({"test": measured(-0.03, 0.001)}), "reject", ["gain in nDCG@10 on test"]),
        (evidence({**BETTER, "other": measured(-0.03, 0.001)}), "reject", ["gain in nDCG@10 on other"]),
        (evidence({"dev": measured(0.03, 0.001, role="dev")}), "hold", ["independent test queries"]),
        (evidence({"test": measured(0.03, 0.001, synthetic=True)}), "hold", ["independent test queries"]),
        (evidence({}), "hold", ["gain in nDCG@10", "independent test queries"]),
        (evidence(BETTER, lists=20), "hold", ["training lists"]),
        (evidence(BETTER, leaks=1), "hold", ["lists that leak test data"]),
        (evidence({"test": measured(0.03, 0.001, free=0.56)}), "hold", ["best without training on test"]),
        (evidence({"test": measured(0.03, 0.001, judged_by="model")}), "hold", ["independent test queries"]),
        (evidence({"test": measured(0.03, 0.001, held_out="queries", dropped=61)}), "promote", []),
        (evidence(BETTER, qualified=False), "hold", ["teacher"]),
        (evidence(BETTER, tuned={**SHAPE, "dimension": 64}), "reject", ["dimension unchanged"]),
        (evidence(BETTER, tuned={**SHAPE, "parameters": 1020}), "promote", []),
        (evidence(BETTER, tuned={**SHAPE, "parameters": 1021}), "reject", ["parameters"]),
        (evidence(BETTER, slower=1.25), "promote", []),
        (evidence(BETTER, slower=1.26), "hold", ["time to encode a query"]),
        (replace(evidence(BETTER), latency={}), "hold", ["time to encode a query"]),
    ],
)
def test_shown_harm_rejects_missing_proof_holds_and_the_rest_promotes(
    found: Evidence, verdict: str, failing: list[str]
) -> None:
    judged, criteria = decide(found, Policy())
    assert (judged, [c.name for c in criteria if c.outcome != "pass"]) == (verdict, failing)
    assert len(reasons(criteria)) == len(failing)


@pytest.mark.parametrize(
    ("ci95", "verdict"),
    [((-0.005, 0.01), "promote"), ((-0.03, 0.02), "hold"), ((-0.05, -0.02), "reject"), ((-0.009, -0.001), "promote")],
)
def test_a_guard_set_may_not_lose_more_than_the_margin(ci95: tuple[float, float], verdict: str) -> None:
    sets = {**BETTER, "general": measured(0.0, 1.0, role="guard", ci95=ci95)}
    assert decide(evidence(sets), Policy())[0] == verdict


def test_what_the_policy_waives_holds_no_longer() -> None:
    waived = Policy(human_judgements=False, test_split=False, teacher_qualified=False, min_lists=0, max_leaks=5)
    synthetic = {"test": measured(0.03, 0.001, synthetic=True)}
    assert decide(evidence(synthetic, lists=1, leaks=5, qualified=False), waived)[0] == "promote"
    assert decide(evidence({"dev": measured(0.03, 0.001, role="dev")}), waived)[0] == "promote"


def test_a_teacher_that_nobody_judged_is_not_called_qualified_without_a_word() -> None:
    tried = {"judged": "synthetic", "qualified": True, "reason": "", "teacher": 0.61, "student": 0.53, "queries": 500}
    tried |= {"p_value": 0.0001, "ci95": [-0.071, 0.089], "kind": "queries cut from documents"}
    tried |= {"caution": "nobody judged"}
    _, criteria = decide(replace(evidence(BETTER), teacher=tried), Policy())
    [found] = [one for one in criteria if one.name == "teacher"]
    assert (found.found, found.outcome) == ("better on queries that nobody judged", "pass")
    assert found.note == (
        "nDCG@10 0.610, the student's 0.530, on 500 queries cut from documents: +8.0 points (95% −7.1 to +8.9, "
        "p < 0.001); nobody judged"
    )


def test_the_verdict_speaks_in_points_and_names_what_is_free() -> None:
    _, criteria = decide(evidence({"test": measured(0.00757, 0.001, free=0.56, dropped=61)}, leaks=884), Policy())
    found = {one.name: one for one in criteria}
    gain = found["gain in nDCG@10 on test"]
    assert (gain.found, gain.wanted) == ("+0.76 points", "at least +0.50 points")
    free = found["best without training on test"]
    assert free.note == "base + BM25 has 0.560 without training, tuned 0.508 (p = 0.030)"
    assert decide(evidence({"test": measured(0.03, 0.001, free=0.56)}), Policy(beat="base"))[0] == "promote"
    assert found["judged documents dropped of test"].value == "61 of 796"
    assert found["training lists"].note == "and 84 that choose the best weights"
    assert found["lists that leak test data"].note.startswith("of all 584 lists")


WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]
DOCS, QUERIES, WORDS_EACH = 60, 120, 6


def write_corpus(folder: Path, seed: int = 3) -> None:
    """Documents of random words, and queries of three words of one of them: word matching finds it."""
    draw = random.Random(seed)
    texts = [" ".join(draw.sample(WORDS, WORDS_EACH)) for _ in range(DOCS)]
    (folder / "qrels").mkdir(parents=True)
    queries = [(f"q{n}", n % DOCS, " ".join(draw.sample(texts[n % DOCS].split(), 3))) for n in range(4 * QUERIES)]
    rows = [json.dumps({"_id": f"d{n}", "title": "", "text": text}) for n, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    judged = queries[:QUERIES]
    (folder / "queries.jsonl").write_text("\n".join(json.dumps({"_id": q, "text": t}) for q, _, t in judged))
    (folder / "qrels/test.tsv").write_text("q\td\ts\n" + "\n".join(f"{q}\td{d}\t1" for q, d, _ in judged) + "\n")
    (folder / "log.txt").write_text("\n".join(text for _, _, text in queries[QUERIES:]))


def run_settings(folder: Path, name: str, alphas: list[float], student: Path | None = None, **publish: str) -> Path:
    settings = {
        "name": name,
        "student": {"model": str(student or folder / "student")},
        "teacher": {"kind": "fusion", "lexical_weight": 1.0, "feedback_docs": 0, "force": True},
        "prepare": {"corpus": str(folder / "corpus"), "deduplicate": False, "exclude_judged": False},
        "generate": {"sources": ["log"], "query_log": str(folder / "corpus/log.txt")},
        "mine": {"top_k": 40},
        "curate": {"min_docs": 16, "list_size": 16, "weak_percentile": 0},
        "distill": {
            "alphas": alphas, "batch_size": 16, "learning_rate": 5e-3, "max_steps": 50, "patience": 99,
            "list_size": 16, "warmup_steps": 2,
        },
        "evaluate": {"permutations": 2000, "bootstrap": 500, "ceiling_queries": 5},
        "gate": {"min_lists": 50, "teacher_qualified": False, "beat": "base"},
        "publish": publish,
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@dataclass
class Site:
    """A store with a finished run, and the command line."""

    folder: Path
    store: LocalStore

    def hone(self, *arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--store", str(self.store.root)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    def stages(self, run: str) -> dict[str, str]:
        return record.recorded(self.store, run)

    def manifest(self, prefix: str) -> Manifest:
        found = load_manifest(self.store, f"{prefix}/manifest.json")
        assert found
        return found

    def folder_of(self, prefix: str, name: str) -> Path:
        return self.store.root / self.manifest(prefix).place(name)

    def verdict(self, prefix: str) -> dict[str, Any]:
        return json.loads((self.folder_of(prefix, "verdict") / "verdict.json").read_text())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    write_corpus(folder / "corpus")
    tiny_student(folder / "student", layers=1, vocab_texts=WORDS, seed=4)
    made = Site(folder, LocalStore(folder / "store"))
    made.hone("run", str(run_settings(folder, "better", [1.0], domain="words")))
    return made


def test_a_better_model_is_promoted_and_published(site: Site) -> None:
    stages = site.stages("better")
    found = site.verdict(stages["gate"])
    assert found["verdict"] == "promote", found["reasons"]
    assert found["model"] == site.manifest(stages["distill"]).outputs["model"].digest
    assert found["reasons"] == []
    report = site.folder_of(stages["report"], "report")
    findings = Findings.from_json((site.folder_of(stages["evaluate"], "findings") / "findings.json").read_bytes())
    assert findings.won
    # The teacher is asked about every example; the ceiling rests on the random sample alone.
    assert all(move.teacher >= 0 for gain in findings.won for move in gain.moves)
    assert findings.metrics["sets"]["test"]["ceiling"]["queries"] == 5
    assert "Verdict: promote" in (report / "report.html").read_text()
    assert "verdict: promote" in site.hone("gate", "better", "--strict")
    published = site.manifest(stages["publish"]).facts
    folder = site.store.root / published["prefix"]
    assert "**Verdict: promote.**" in (folder / "README.md").read_text()
    vectors = SentenceTransformer(str(folder), device="cpu").encode(["bab", "bel"])
    tuned = SentenceTransformer(
        str(site.store.root / site.manifest(stages["distill"]).place("model")), device="cpu"
    ).encode(["bab", "bel"])
    assert (vectors == tuned).all()
    assert published["version"] in site.hone("registry", "show", "words")


def test_an_unchanged_model_is_held_and_not_published(site: Site) -> None:
    told = site.hone("run", str(run_settings(site.folder, "unchanged", [0.0], domain="words")))
    assert site.verdict(site.stages("unchanged")["gate"])["verdict"] == "hold"
    assert "left out: the verdict is hold" in told
    assert "publish" not in site.stages("unchanged")
    held = CliRunner().invoke(app, ["gate", "unchanged", "--strict", "--store", str(site.store.root)])
    assert (held.exit_code, "verdict: hold" in held.stdout) == (4, True)


def test_a_model_trained_on_shuffled_lists_is_rejected(site: Site) -> None:
    stages = site.stages("better")
    good = site.folder_of(stages["distill"], "model")
    config = str(run_settings(site.folder, "worse", [1.0], good))
    curate = shuffled_lists(site, stages["curate"])
    reads = {"docs": stages["prepare"], "qualification": stages["score"]}
    reads |= dict.fromkeys(("lists", "dropped_by_curate"), curate)
    model = site.hone(
        "stage", "distill", "--config", config, *inputs({name: reads[name] for name in stage("distill").READS})
    ).strip()
    reads |= {"judged_queries": stages["prepare"], "qrels": stages["prepare"], "queries": stages["generate"]}
    evaluated = site.manifest(stages["evaluate"]).inputs
    reads |= {name: evaluated[name] for name in stage("evaluate").READS if name not in reads}
    reads |= {"model": model, "start": model}
    report = site.hone("stage", "evaluate", "--config", config, *inputs(reads)).strip()
    reads["findings"] = report
    wanted = {name: reads[name] for name in stage("gate").READS}
    gate = site.hone("stage", "gate", "--config", config, *inputs(wanted)).strip()
    assert site.verdict(gate)["verdict"] == "reject", site.verdict(gate)["criteria"]
    record.record(site.store, "shuffled", lineage(site.store, {"verdict": site.manifest(gate)}))
    command = [sys.executable, "-m", "hone", "gate", "shuffled", "--store", str(site.store.root)]
    codes = [subprocess.run([*command, *flag], capture_output=True).returncode for flag in ([], ["--strict"])]
    assert codes == [0, 3]


def inputs(reads: dict[str, str]) -> list[str]:
    return [part for name, prefix in reads.items() for part in ("--input", f"{name}={prefix}")]


def shuffled_lists(site: Site, prefix: str) -> str:
    """The lists of a finished run with the documents dealt out to other queries, as a result of curate."""
    manifest = site.manifest(prefix)
    reader = TableReader(tables.LISTS, manifest.outputs["lists"], prefix, site.store, site.folder)
    rows = reader.read().to_pylist()
    draw = random.Random(1)
    every = [f"d{n}" for n in range(DOCS)]
    dealt = [{**row, "doc_ids": draw.sample(every, len(row["doc_ids"]))} for row in rows]
    scratch = site.folder / "shuffled"
    job = Job(Plan("curate", stage("curate").Config(), {}, {}, "5" * 16), site.store, scratch, Shard())
    with job.writer("lists") as writer:
        writer.write(tables.LISTS.build(dealt))
    outputs = {**manifest.outputs, "lists": job.publish("lists")}
    made = manifest.model_copy(update={"fingerprint": "5" * 16, "outputs": outputs})
    site.store.create(f"{made.prefix}/manifest.json", made.model_dump_json().encode())
    return made.prefix


def test_two_runs_are_compared_on_what_both_measured_and_written_as_a_report(site: Site) -> None:
    site.hone("run", str(run_settings(site.folder, "unchanged", [0.0], domain="words")))
    out = site.folder / "compared"
    told = site.hone("compare", "unchanged", "better", "--out", str(out))
    assert "better is better than unchanged" in told
    assert "distill.alphas: [0.0] -> [1.0]" in told
    metrics = json.loads((out / "metrics.json").read_text())
    single = json.loads((site.folder_of(site.stages("better")["evaluate"], "findings") / "metrics.json").read_text())
    assert metrics["delta"] == pytest.approx(single["delta"])  # the unchanged model is the base
    assert metrics["sets"]["test"]["queries"] == QUERIES
    assert metrics["p_value"] < 0.001
    for name in ("report.html", "report.md"):
        assert "better is better than unchanged: nDCG@10" in (out / name).read_text()
    page = (out / "report.html").read_text()
    titles = re.findall("<h2 id=[^>]*>([^<]*)<", page)
    assert titles == [
        "Verdict", "Before and after", "Systems side by side", "Gain per query", "By style and length",
        "Examples won and lost", "Size and speed", "Training", "Teacher and student",
        "From documents to training lists", "Training queries by source and style", "Cost", "Settings that differ",
        "Settings", "Lineage", "Licences",
    ]  # fmt: skip
    for both in ("Systems side by side", "Teacher and student", "Cost", "Lineage"):
        section = page.partition(f">{both}</h2>")[2].partition("</section>")[0]
        assert re.findall("<h3>([^<]*)<", section) == ["unchanged", "better"]
    curves = page.partition(">Training</h2>")[2].partition("</section>")[0]
    assert re.findall('<text [^>]*text-anchor="start">([^<]*)<', curves) == ["unchanged", "better"] * 2
    assert re.findall("<span [^>]*>(hold|promote)<", page) == ["hold", "promote"]
    text = json.loads((site.folder / "corpus/queries.jsonl").read_text().splitlines()[0])["text"]
    assert text in page


def test_runs_that_share_no_query_are_not_compared(site: Site) -> None:
    elsewhere = site.folder / "elsewhere"
    write_corpus(elsewhere / "corpus", seed=4)
    settings = run_settings(elsewhere, "elsewhere", [0.0], site.folder / "student")
    site.hone("run", str(settings))
    with pytest.raises(UserError, match="measured no query in common"):
        compare("better", "elsewhere", str(site.store.root), elsewhere / "out")
    assert not (elsewhere / "out").exists()


def warm_settings(folder: Path, name: str, corpus: str = "corpus", student: Path | None = None) -> Path:
    """Settings of a run that starts from what is published as `warm`, on a corpus beside the first."""
    path = run_settings(folder, name, [1.0], student, domain="warm")
    found = yaml.safe_load(path.read_text())
    found["student"]["start"] = "published"
    found["prepare"]["corpus"] = str(folder / corpus)
    found["generate"]["query_log"] = str(folder / corpus / "log.txt")
    found["gate"] |= {"published_margin": 0.9, "max_slowdown": 99.0, "min_gain": -0.5, "max_p": 0.99}
    path.write_text(yaml.safe_dump(found))
    return path


def changed_corpus(folder: Path) -> None:
    """The corpus on the next day: fewer test queries, and a log without its last lines."""
    shutil.copytree(folder / "corpus", folder / "tomorrow")
    for file, lines in (("qrels/test.tsv", 5), ("log.txt", 20)):
        path = folder / "tomorrow" / file
        path.write_text("\n".join(path.read_text().splitlines()[:-lines]) + "\n")


def test_a_retraining_starts_from_what_is_published_and_is_judged_against_it_too(site: Site) -> None:
    first = site.hone("run", str(warm_settings(site.folder, "warm")))
    night = site.stages("warm")
    version = site.manifest(night["publish"]).facts["version"]
    # The first night finds nothing published, so it trains as a run from the base does, which was made already.
    assert night["distill"] == site.stages("better")["distill"], first
    again = site.hone("run", str(warm_settings(site.folder, "warm")))
    assert "nothing was run" in again
    assert site.stages("warm") == night

    changed_corpus(site.folder)
    site.hone("run", str(warm_settings(site.folder, "warm", "tomorrow")))
    later = site.stages("warm")
    trained = site.manifest(later["distill"])
    published = site.manifest(night["distill"]).outputs["model"].digest
    assert trained.config["start"] == {
        "domain": "warm", "version": version, "model": published, "tests": night["prepare"],
    }  # fmt: skip
    found = site.verdict(later["gate"])
    titles = {criterion["name"]: criterion["outcome"] for criterion in found["criteria"]}
    assert titles["test no worse than published"] == titles["last test not forgotten"] == "pass"
    metrics = json.loads((site.folder_of(later["evaluate"], "findings") / "metrics.json").read_text())
    sets = metrics["sets"]
    assert (sets["last test"]["queries"], sets["test"]["queries"]) == (QUERIES, QUERIES - 5)
    # What the published model has now is what its own run measured it to have, on the same queries and documents.
    then = json.loads((site.folder_of(night["evaluate"], "findings") / "metrics.json").read_text())["sets"]["test"]
    assert sets["last test"]["systems"]["published"] == pytest.approx(then["systems"]["tuned"])
    assert sets["last test"]["systems"]["base"] == pytest.approx(then["systems"]["base"])
    report = (site.folder_of(later["report"], "report") / "report.md").read_text()
    assert f"Training started from what is published: version {version} of warm." in report
    assert "Against the published version on last test:" in report
    # A night later nothing has changed, although another version is current now.
    assert found["verdict"] == "promote", found["reasons"]
    assert "nothing was run" in site.hone("run", str(warm_settings(site.folder, "warm", "tomorrow")))


def test_training_from_a_published_model_begins_at_its_weights(site: Site) -> None:
    site.hone("run", str(warm_settings(site.folder, "warm")))
    path = warm_settings(site.folder, "still", "again")
    if not (site.folder / "again").exists():
        shutil.copytree(site.folder / "corpus", site.folder / "again")
        log = site.folder / "again/log.txt"
        log.write_text("\n".join(log.read_text().splitlines()[:-30]))
    settings = yaml.safe_load(path.read_text())
    settings["distill"]["alphas"] = [0.0]
    path.write_text(yaml.safe_dump(settings))
    site.hone("run", str(path), "--until", "distill")
    made = site.manifest(site.stages("still")["distill"])
    release = site.store.root / f"models/warm/{made.config['start']['version']}"
    vectors = [
        SentenceTransformer(str(folder), device="cpu").encode(["bab", "bel"])
        for folder in (site.store.root / made.place("model"), release)
    ]
    assert (vectors[0] == vectors[1]).all()


def test_starting_from_what_is_published_needs_a_domain(tmp_path: Path) -> None:
    path = run_settings(tmp_path, "nowhere", [1.0])
    path.write_text(path.read_text().replace("student:\n", "student:\n  start: published\n"))
    with pytest.raises(UserError, match=r"student.start: published starts from what publish.domain names"):
        load(path)


def against_published(ci95: tuple[float, float], role: str = "last") -> Evidence:
    published = {"base": 0.5, "tuned": 0.5, "delta": 0.0, "p_value": 1.0, "ci95": ci95}
    sets = {"test": measured(0.03, 0.001), "last test": {**measured(0.03, 0.001), "role": role}}
    sets["test"]["published"], sets["last test"]["published"] = {**published, "ci95": (0.0, 0.0)}, published
    found = evidence(sets)
    return replace(found, metrics={**found.metrics, "start": {"domain": "d", "version": "v"}})


@pytest.mark.parametrize(
    ("ci95", "verdict"), [((-0.009, 0.0), "promote"), ((-0.02, 0.0), "hold"), ((-0.03, -0.02), "reject")]
)
def test_what_was_tested_before_must_not_be_forgotten(ci95: tuple[float, float], verdict: str) -> None:
    found, criteria = decide(against_published(ci95), Policy())
    assert found == verdict, reasons(criteria)
    assert [one.name for one in criteria if "published" in one.name or "forgotten" in one.name] == [
        "test no worse than published", "last test not forgotten",
    ]  # fmt: skip
