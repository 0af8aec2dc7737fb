"""encode: the vectors of what was just published, written by the run itself where `encode.out` says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

import chain
import corpora
import faults
import tiny
from ceph import Gateway
from hone import settings
from hone.commands.cli import app
from hone.engine import runner
from hone.errors import TransientError, UserError
from hone.results import registry
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.storage import s3_connection
from hone.storage.addresses import open_store
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

OTHERS = {"other": 7, "third": 1}
"""Students that are taken as tuned models, with the seeds of their weights."""


def published(home: Path, out: str, model: str = "other", **changes: Any) -> settings.RunSettings:
    own = {**chain.PROMOTED, "distill": {"adopt": model}, "encode": {"out": out}}
    return chain.checked(home, **{**own, **changes})


def folder_of(home: Path, done: dict[str, Manifest], out: str = "vectors") -> Path:
    return home / out / "tiny" / done["distill"].outputs["model"].digest[:12]


def kept(store: LocalStore) -> dict[str, int]:
    """The parts of vectors that stages kept in the store, with their rows."""
    parts = [one.key for one in store.objects("memo/vectors")]
    return {key: ipc.open_file(store.root / key).read_all().num_rows for key in parts}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name, seed in OTHERS.items():
        tiny.student(tmp_path / name, dim=16, layers=1, vocab_texts=[*chain.TOPICS, chain.COMMON], seed=seed)
    return chain.home(tmp_path)


def test_a_run_writes_the_vectors_of_what_it_published_and_encodes_nothing_for_it(home: Path, tmp_path: Path) -> None:
    store, wanted = LocalStore(home / "store"), published(home, "vectors")
    runner.run(wanted, store, last="publish")
    before = kept(store)
    assert not list((home / "vectors").rglob("*.parquet"))
    done = runner.run(wanted, store)
    assert kept(store) == before
    folder = folder_of(home, done)
    about = json.loads((folder / "vectors.json").read_text())
    release = registry.current(store, "tiny")
    assert release is not None
    assert (about["version"], about["model"], about["docs"]) == (release.version, release.model, 40)
    rows = pq.read_table(folder / "part-00000.parquet").to_pylist()
    model = SentenceTransformer(str(fetch_folder(store, done["distill"], "model", tmp_path)), device="cpu")
    texts = {
        row["_id"]: row["text"] for row in map(json.loads, (home / "corpus/corpus.jsonl").read_text().splitlines())
    }
    expected = model.encode_document([texts[row["doc_id"]] for row in rows])
    np.testing.assert_allclose([row["vector"] for row in rows], expected, atol=1e-5)
    assert runner.run(wanted, store)["encode"].prefix == done["encode"].prefix
    made = CliRunner().invoke(app, ["run", str(home / "tiny.yaml"), "--store", store.uri])
    assert f"vectors: {folder} (40 new, 0 known)\n" in made.stdout
    assert not any(step.reason for step in runner.explain_run(wanted, store))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"gate": {"min_gain": 0.9}}, "the verdict is "),
        ({"publish": {"domain": ""}}, "publish.domain is not set"),
        ({"encode": {"out": ""}}, "encode.out is not set"),
    ],
)
def test_no_vectors_are_written_of_what_is_not_published_or_where_nobody_asked(
    changes: dict[str, Any], why: str, home: Path
) -> None:
    left: dict[str, str] = {}

    def tell(step: runner.Step) -> None:
        left[step.stage] = step.left_out

    done = runner.run(published(home, "vectors", **changes), LocalStore(home / "store"), tell=tell)
    assert "encode" not in done
    assert left["encode"].startswith(why)
    assert not [path for path in (home / "vectors").rglob("*") if path.is_file()]


def test_a_second_run_of_the_same_model_encodes_and_adds_only_new_and_changed_documents(home: Path) -> None:
    store, wanted = LocalStore(home / "store"), published(home, "vectors")
    first = runner.run(wanted, store)
    assert (first["encode"].facts["new"], first["encode"].facts["known"]) == (40, 0)
    lines = (home / "corpus/corpus.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    new = {"_id": "new", "title": "", "text": "foam on the reef"}
    corpora.jsonl(home / "corpus/corpus.jsonl", [rows[0], {**rows[1], "text": "sea wave tide"}, *rows[3:], new])
    runner.run(wanted, store, last="publish")
    shutil.rmtree(store.root / "memo/vectors")  # then what encode does not find there is what it encodes
    again = runner.run(wanted, store)
    assert sum(kept(store).values()) == 2
    facts = again["encode"].facts
    assert (facts["new"], facts["known"], facts["gone"]) == (2, 40, 1)
    folder = folder_of(home, again)
    assert pq.read_table(folder / "part-00001.parquet")["doc_id"].to_pylist() == ["d1", "new"]
    assert json.loads((folder / "vectors.json").read_text())["gone"] == ["d2"]


def test_another_model_has_a_folder_of_its_own_and_the_old_one_stays(home: Path) -> None:
    store = LocalStore(home / "store")
    first = runner.run(published(home, "vectors"), store)
    second = runner.run(published(home, "vectors", "third"), store)
    assert folder_of(home, first) != folder_of(home, second)
    for done in (first, second):
        about = json.loads((folder_of(home, done) / "vectors.json").read_text())
        assert about["model"] == done["distill"].outputs["model"].digest


def test_what_keeps_vectors_from_being_written_loses_nothing_of_what_is_published(home: Path) -> None:
    store, wanted = LocalStore(home / "store"), published(home, "vectors")
    (home / "vectors").mkdir()
    (home / "vectors/tiny").write_text("in the way")
    with pytest.raises(UserError, match="cannot write to the store"):
        runner.run(wanted, store)
    release = registry.current(store, "tiny")
    assert release is not None
    registry.fetch(store, "tiny", release.version, home / "fetched")
    (home / "vectors/tiny").unlink()
    ran: list[str] = []
    runner.run(wanted, store, tell=lambda step: ran.extend([step.stage] if step.reason else []))
    assert ran == ["encode"]
    assert len(registry.moves(store, "tiny")) == 1


@pytest.mark.parametrize("out", ["gs://bucket/vectors", "s3:/bucket/vectors", "s3://", "file:///tmp/vectors"])
def test_an_address_that_no_vectors_can_go_to_is_refused_with_the_settings(out: str, home: Path) -> None:
    with pytest.raises(UserError, match=r"tiny\.yaml: encode\.out: .*write (a folder or )?s3://bucket/prefix"):
        published(home, out)


def test_a_place_that_cannot_be_written_is_told_before_anything_is_computed(home: Path) -> None:
    (home / "vectors").write_text("a file")
    with pytest.raises(UserError, match=r"encode\.out: cannot write to the store .*/vectors: it is a file"):
        runner.run(published(home, "vectors"), LocalStore(home / "store"))
    assert not (home / "store/prepare").exists()


def test_vectors_go_to_s3_through_faults_and_a_bucket_that_is_not_there_is_told_at_once(
    gateway: Gateway, bucket: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_connection, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(s3_connection, "LONGEST_WAIT", 0.2)
    store = LocalStore(home / "store")
    with pytest.raises(UserError, match=r"encode\.out: .*s3://nobodys"):
        runner.run(published(home, "s3://nobodys/vectors"), store)
    assert not (home / "store/prepare").exists()
    wanted, ran = published(home, f"{bucket}/{home.name}"), list[str]()

    def tell(step: runner.Step) -> None:
        ran.extend([step.stage] if step.reason else [])

    # Parts are refused for as long as any is tried again, and what is said of them is never written.
    with faults.proxy(gateway.address, refusing("part-00000.parquet")) as troubled:
        monkeypatch.setenv("AWS_ENDPOINT_URL", troubled)
        with pytest.raises(TransientError):
            runner.run(wanted, store, tell=tell)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.address)
    assert registry.current(store, "tiny") is not None
    place = open_store(f"{bucket}/{home.name}")
    assert list(place.objects()) == []
    ran.clear()
    done = runner.run(wanted, store, tell=tell)
    assert ran == ["encode"]
    below = f"tiny/{done['distill'].outputs['model'].digest[:12]}"
    assert [one.key for one in place.objects()] == [f"{below}/part-00000.parquet", f"{below}/vectors.json"]
    assert done["encode"].facts["vectors"] == f"{place.uri}/{below}"


def refusing(name: str) -> Callable[[str, str, int], str | None]:
    return lambda method, path, count: "slow down" if method == "PUT" and name in path else None
