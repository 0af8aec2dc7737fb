"""hone plan: forecasts that are close to what a run then spends, and that write nothing."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import chain
import corpora
import tiny
from hone import settings
from hone.commands.cli import app
from hone.core.forecast import BLOCK, DEVICES, STARTING, Earlier, Forecast, Work, prefilled, priced
from hone.engine import execute
from hone.engine.forecast import forecast
from hone.engine.runner import run
from hone.errors import UserError
from hone.progress import task
from hone.settings import RunSettings
from hone.spent import growing, noted
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = chain.home(tmp_path_factory.mktemp("home"), docs=80)
    tiny.llama(folder / "llama")
    return folder


def checked(home: Path, name: str = "plan", **generate: Any) -> RunSettings:
    path = home / f"{name}.yaml"
    distill = {**chain.SETTINGS["distill"], "patience": 9}  # a forecast knows of no early stop
    path.write_text(yaml.safe_dump({"name": name, **chain.SETTINGS, "generate": generate, "distill": distill}), "utf-8")
    return settings.load(path)


def planned(settings: RunSettings, store: LocalStore, scratch: Path) -> dict[str, Any]:
    found = forecast(settings, store, "l4", 2.0, scratch)
    return {row.stage: row for row in found.rows}


def test_a_forecast_is_close_to_what_the_run_then_spends(home: Path, tmp_path: Path) -> None:
    store, styles = LocalStore(tmp_path / "store"), {"claim": 1, "free search": 0.5}
    llm = {"model": "llama", "max_new_tokens": 3, "styles": styles, "layout": "document"}
    chosen = checked(home, sources=["transformers", "extractive"], llm=llm, min_words=1)
    before = planned(chosen, store, tmp_path)
    assert not store.root.exists()
    done = run(chosen, store, last="distill")
    spent = done["generate"].cost
    assert before["generate"].amounts["prompt_tokens"] == pytest.approx(spent["prompt_tokens"], rel=0.1)
    assert before["generate"].amounts["new_tokens"] >= spent["new_tokens"]
    assert before["generate"].amounts["queries"] >= done["generate"].outputs["queries"].rows
    assert before["score"].amounts["pairs"] >= done["score"].cost["pairs"]
    assert before["distill"].amounts["steps"] >= done["distill"].cost["steps"]
    forecasted = forecast(chosen, store, "l4", 2.0, tmp_path)
    assert "times that rest on a run are of the machine it ran on, not of one L4" in forecasted.notes
    after = {row.stage: row for row in forecasted.rows}
    for name in ("prompt_tokens", "new_tokens"):
        assert after["generate"].amounts[name] == pytest.approx(spent[name], rel=0.1)
    assert after["mine"].amounts["queries"] == pytest.approx(done["mine"].cost["queries"], rel=0.1)
    assert after["distill"].amounts["tokens"] == pytest.approx(done["distill"].cost["tokens"], rel=0.25)
    assert after["score"].amounts["pairs"] == pytest.approx(done["score"].cost["pairs"], rel=0.1)
    assert after["distill"].amounts["lists"] == pytest.approx(done["curate"].outputs["lists"].rows, rel=0.1)
    assert after["generate"].hours * 3600 == pytest.approx(spent["model_seconds"], rel=0.1)
    assert {after[stage].source for stage in ("generate", "score", "distill")} == {"last run of plan"}
    assert after["generate"].price == pytest.approx(2 * after["generate"].hours)
    other = planned(checked(home, "other", sources=["transformers"], llm=llm, min_words=1), store, tmp_path)
    assert (other["score"].source, other["generate"].source) == ("last run of plan", "estimate")
    assert other["score"].amounts["pairs"] > after["score"].amounts["pairs"]


def test_the_documents_of_guard_sets_and_further_test_sets_are_counted(home: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    far = {"name": "far", "folder": str(home / "corpus"), "split": "test"}

    def tokens(**distill: Any) -> dict[str, float]:
        changes = {"distill": {**chain.SETTINGS["distill"], **distill}}
        if distill.get("guards"):
            changes["evaluate"] = {**chain.SETTINGS["evaluate"], "tests": [{**far, "name": "other"}]}
        rows = planned(chain.checked(home, "counted", **changes), store, tmp_path)
        return {name: row.amounts["tokens"] for name, row in rows.items() if name in ("distill", "evaluate")}

    alone, beside = tokens(), tokens(guards=[far])
    # It is the corpus itself, so that a pass over it takes what evaluate takes alone: one with the tuned student.
    once = alone["evaluate"]
    assert beside["evaluate"] == pytest.approx(3 * once)
    assert beside["distill"] == pytest.approx(alone["distill"] + 5 * once)
    headed = tokens(guards=[far], train="head")
    assert headed["evaluate"] == pytest.approx(once)
    assert headed["distill"] == pytest.approx(tokens(train="head")["distill"] + once)


def test_a_further_encoder_of_the_teacher_is_counted_once_for_every_document(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "student", home / "larger", dirs_exist_ok=True)
    larger = {"model": "larger", "max_doc_tokens": 8}

    def rows(teacher: dict[str, Any], **changes: Any) -> dict[str, Any]:
        chosen = chain.checked(home, "encoded", teacher=teacher, **changes)
        return planned(chosen, LocalStore(tmp_path / "store"), tmp_path)

    fusion = {"kind": "fusion", "force": True}
    none, two = rows(fusion), rows({**fusion, "encoders": [larger, larger]})
    assert (none["score"].amounts["tokens"], none["score"].hours) == (0, 0)
    queries = none["mine"].amounts["tokens"] - 80 * 24  # documents have 24 words, each a token of the student
    assert two["score"].amounts["tokens"] == pytest.approx(80 * 8 + queries)
    assert two["score"].hours > 0
    found = {"retrievers": [{"model": "larger", "max_doc_tokens": 8}]}
    mined = rows({**fusion, "encoders": [larger]}, mine={**chain.SETTINGS["mine"], **found})
    assert mined["mine"].amounts["tokens"] == pytest.approx(none["mine"].amounts["tokens"] + 80 * 8 + queries)
    assert mined["score"].amounts["tokens"] == 0  # its vectors are kept


def test_vllm_is_forecast_with_its_prefix_cache_and_a_guide_fills_it(home: Path, tmp_path: Path) -> None:
    chosen = checked(
        home, sources=["vllm"], llm={"model": "llama", "styles": {"claim": 1, "title": 1}, "layout": "guide"}
    )
    amounts = planned(chosen, LocalStore(tmp_path), tmp_path)["generate"].amounts
    assert amounts["cached_tokens"] > 0.7 * amounts["prompt_tokens"]


def test_the_command_prints_every_stage_and_writes_nothing(home: Path, tmp_path: Path) -> None:
    checked(home)
    command = ["plan", str(home / "plan.yaml"), "--store", str(tmp_path / "store"), "--device", "cpu", "--price", "0.1"]
    said = CliRunner().invoke(app, [*command, "--json"])
    rows = {row["stage"]: row for row in json.loads(said.stdout)["rows"]}
    assert set(rows) == {"prepare", "generate", "mine", "score", "distill", "evaluate"}
    assert rows["mine"]["source"] == "estimate"
    assert rows["mine"]["price"] == pytest.approx(0.1 * rows["mine"]["hours"])
    told = CliRunner().invoke(app, command).stdout
    assert "bound: curate drops nothing" in told
    assert "than the 4 tokens" not in told
    cut = CliRunner().invoke(app, [*command, "--set", "student.max_doc_tokens=4"]).stdout
    assert "documents are longer than the 4 tokens that the student reads" in " ".join(cut.split())
    assert "of which a forward pass is taken to reach 75% and decoding 10%; fp32 measured" in told.replace("\n", " ")
    assert not (tmp_path / "store").exists()
    with pytest.raises(UserError, match="not one of cpu, l4"):
        forecast(checked(home), LocalStore(tmp_path), "abacus", 0.0, tmp_path)


def test_the_help_names_every_device_that_is_known() -> None:
    said = CliRunner().invoke(app, ["plan", "--help"], terminal_width=200).stdout
    *first, last = DEVICES
    assert f"What would run it: {', '.join(first)} or {last};" in " ".join(said.split())


def test_time_follows_an_earlier_run_before_it_follows_the_device() -> None:
    work = Work("score", {"pairs": 7_200.0}, forward=0.4 * 121e12 * 36)
    assert priced(work, DEVICES["l4"], {}, 3.0).hours == pytest.approx(0.01 + STARTING / 3600)
    row = priced(work, DEVICES["l4"], {"score": Earlier({"fixed": (3600.0, 1800.0)}, {}, "last run")}, 3.0)
    assert (row.hours, row.price, row.source, row.processor_hours) == (1.0, 3.0, "last run", 0.5)
    assert Forecast("L4", (row, row)).total("price") == 6.0


def test_what_a_stage_took_grows_part_by_part() -> None:
    spent = {"fixed": (5.0, 4.0), "docs": (10.0, 8.0), "queries": (2.0, 1.0), "comparisons": (1.0, 1.0)}
    earlier = Earlier(spent, {"docs": 100.0, "queries": 10.0}, "last run")
    assert earlier.seconds({"docs": 100.0, "queries": 10.0}) == (18.0, 14.0)
    assert earlier.seconds({"docs": 300.0, "queries": 20.0}) == (5 + 30 + 4 + 6, 4 + 24 + 2 + 6)
    # What is not known of both runs is taken to be as it was.
    assert earlier.seconds({"docs": 300.0}) == (5 + 30 + 2 + 3, 4 + 24 + 1 + 3)


def test_every_second_of_a_stage_is_noted_once_with_what_it_grows_with() -> None:
    with noted() as spent:
        time.sleep(0.02)
        with growing("docs"):
            time.sleep(0.04)
            with task("t", 1, "queries"):
                time.sleep(0.06)
                elsewhere = threading.Thread(target=_grown)
                elsewhere.start()
                elsewhere.join()
            with pytest.raises(ValueError, match="half"), growing("queries"):
                raise ValueError("half done")
    assert set(spent) == {"fixed", "docs", "queries"}
    assert 0.02 <= spent["fixed"][0] < spent["docs"][0] < spent["queries"][0]
    assert _grown() == "nothing is noted here, and it runs"


@growing("elsewhere")
def _grown() -> str:
    return "nothing is noted here, and it runs"


PROMPTS = st.lists(
    st.lists(st.integers(0, 1), max_size=4).map(lambda bits: [bit for bit in bits for _ in range(BLOCK)])
)


@given(PROMPTS, PROMPTS)
def test_prefilled_tokens_are_those_of_the_slow_count(prompts: list[list[int]], known: list[list[int]]) -> None:
    seen = {tuple(tokens[:end]) for tokens in known for end in range(BLOCK, len(tokens) + 1, BLOCK)}
    paid = 0
    for tokens in prompts:
        ends = range(BLOCK, len(tokens) + 1, BLOCK)
        paid += max(1, len(tokens) - max([end for end in ends if tuple(tokens[:end]) in seen], default=0))
        seen |= {tuple(tokens[:end]) for end in ends}
    assert prefilled(prompts, known) == paid


def test_what_a_stage_took_is_noted_beside_the_seconds_of_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "_gpus", lambda: 2)
    corpus = corpora.jsonl(tmp_path / "c.jsonl", [{"_id": "a", "text": "a wing in a slip stream"}])
    made = corpora.prepared(LocalStore(tmp_path / "store"), corpus)
    assert made.cost["gpu_seconds"] == pytest.approx(2 * made.seconds, abs=0.01)
    assert set(made.spent) == {"fixed", "docs"}
