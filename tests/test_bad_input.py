"""Bad input: one sentence that says what, where and what to do, exit code 2, and nothing written.

The cases stand in `tests/bad`, a module for each room.
"""

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bad.corpus
import bad.models
import bad.settings
import bad.store
import chain
import corpora
import given
from bad.corpus import doc
from bad.home import Home
from hone import settings
from hone.commands import cli
from hone.engine import runner
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

ROOT = os.geteuid() == 0
CASES = bad.settings.CASES | bad.models.CASES | bad.store.CASES | bad.corpus.CASES


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything is sound: corpus, student, settings, and a store with a finished run."""
    folder = chain.home(tmp_path_factory.mktemp("sound"), docs=24)
    Home(folder).settings()
    runner.run(settings.load(folder / "s.yaml"), LocalStore(folder / "store"))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_bad_input_ends_with_one_sentence_and_code_2_and_leaves_the_store_as_it_was(
    case: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, said = CASES[case]
    home = Home(Path(shutil.copytree(sound, tmp_path / "home")))
    spoil(home)
    monkeypatch.chdir(tmp_path)
    before, objects = sorted(tmp_path.rglob("*")), home.digests()
    monkeypatch.setattr(sys, "argv", ["hone", *home.command()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2, lines
    sentences = [line for line in lines if line.startswith("hone: ")]
    assert sentences == lines[-1:]
    assert re.search(said, sentences[0])
    assert home.digests() == objects
    assert sorted(tmp_path.rglob("*")) == before


def test_a_store_that_is_read_only_is_read_and_refused_where_something_must_be_written(
    sound: Path, tmp_path: Path
) -> None:
    home = Home(Path(shutil.copytree(sound, tmp_path / "home")))
    shutil.rmtree(home.store.root / "memo")
    before = home.digests()
    store = shlex.quote(home.store.uri)
    # Nothing but a mount stops root.
    guard = f"mount --bind {store} {store} && mount -o remount,ro,bind {store}" if ROOT else f"chmod -R a-w {store}"

    def hone(*arguments: str) -> subprocess.CompletedProcess[str]:
        asked = f"{guard} && {shlex.join([sys.executable, '-m', 'hone', *arguments])}"
        command = [*(["unshare", "--mount"] if ROOT else []), "sh", "-c", asked]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    for reading in (home.command(), ["search", "r", "wing", "--store", home.store.uri]):
        same = hone(*reading)
        assert same.returncode == 0, same.stderr
    home.settings(mine={"top_k": 9})
    new = hone(*home.command())
    assert new.returncode == 2, new.stderr
    assert re.fullmatch(r"hone: cannot write to the store .*; give another --store", new.stderr.splitlines()[-1])
    assert home.digests() == before


def test_a_full_disk_is_named_and_leaves_nothing_half_written(sound: Path, tmp_path: Path) -> None:
    home = Home(Path(shutil.copytree(sound, tmp_path / "home")))
    home.store, home.until = LocalStore(tmp_path / "store"), "prepare"
    home.docs(*(doc(_id=str(number), text=f"wing {'x' * 400} {number:x} y{number * 7:x}") for number in range(2_000)))
    home.write("corpus/qrels/test.tsv", "")
    home.write("corpus/qrels/dev.tsv", "")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-m", "hone", *home.command()]
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "hone: the disk is full" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    shutil.rmtree(tmp_path / "store")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr


def on_a_small_disk(folder: Path, kilobytes: int, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    """A process for which a file system of that size lies at a folder, and for no other."""
    folder.mkdir(exist_ok=True)
    alone = ["unshare", "--mount", *([] if ROOT else ["--user", "--map-root-user"])]
    mount = f"mount -t tmpfs -o size={kilobytes}k none {shlex.quote(str(folder))} && {shlex.join(command)}"
    environment = {**os.environ, **more}
    return subprocess.run([*alone, "sh", "-c", mount], capture_output=True, text=True, check=False, env=environment)


LATE = [pytest.param("scratch", 90, marks=pytest.mark.long), pytest.param("store", 180, marks=pytest.mark.long)]


@pytest.mark.parametrize(("what", "kilobytes"), [("scratch", 20), *LATE])
def test_a_disk_without_room_is_named_be_it_of_scratch_or_of_the_store(
    sound: Path, tmp_path: Path, what: str, kilobytes: int
) -> None:
    home = Home(Path(shutil.copytree(sound, tmp_path / "home")))
    small = tmp_path / "small"
    home.store = LocalStore(small / "store" if what == "store" else tmp_path / "store")
    scratch = small if what == "scratch" else tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "hone", *home.command()]
    ended = on_a_small_disk(small, kilobytes, command, TMPDIR=str(scratch))
    said = ended.stderr.splitlines()[-1]
    named = (
        f"the disk of the store {small}/store is full" if what == "store" else rf"the disk is full \({small}/hone-.*\)"
    )
    assert (ended.returncode, bool(re.match(rf"hone: {named}; free space and run again$", said))) == (2, True), said
    assert "Traceback" not in ended.stderr


def test_vectors_that_find_no_room_on_the_disk_are_one_sentence_and_no_signal(tmp_path: Path) -> None:
    work = (
        "import sys; from pathlib import Path; from types import SimpleNamespace\n"
        "from hone.backends.encoders import vectors; from hone.scratch import disk_full_in_one_sentence\n"
        "vectors.IN_MEMORY = 0; folder = Path(sys.argv[1])\n"
        "with disk_full_in_one_sentence(folder):\n"
        "    vectors._room(SimpleNamespace(scratch=folder), (1_000, 100))[:] = 1"
    )
    ended = on_a_small_disk(tmp_path / "small", 200, [sys.executable, "-c", work, str(tmp_path / "small")])
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("hone.errors.UserError: the disk is full (")


def test_what_is_odd_but_meant_is_data(tmp_path: Path) -> None:
    long = " ".join(f"word{number}" for number in range(600_000))
    assert len(long) > 5 << 20
    rows = [doc(_id="../../x", text="wing \u2028 one of two"), doc(_id="5MB", text=long), doc(_id="none", text="")]
    path = tmp_path / "corpus.jsonl"
    corpora.jsonl(path, rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    store = LocalStore(tmp_path / "store")
    manifest = corpora.prepared(store, path)
    kept = {row["doc_id"]: row["text"] for row in given.rows(store, manifest, "docs")}
    assert kept == {"../../x": "wing one of two", "5MB": long[:2_048]}
    dropped = given.rows(store, manifest, "dropped_by_prepare")
    assert [(row["id"], row["reason"]) for row in dropped] == [("none", "empty text")]
    assert {entry.name for entry in tmp_path.iterdir()} == {"corpus.jsonl", "store"}
