"""From an own folder of Markdown to a verdict with judgements made by clicks, by the commands that README names."""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

import chain
import tiny
from browser import needs_browser, opened
from hone.commands.cli import app

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
QUICK = (
    "mine.top_k=10", "score.depth=10", "teacher.force=true", "curate.list_size=4", "curate.min_docs=4",
    "curate.dev_share=0", "distill.list_size=4", "distill.batch_size=16", "distill.max_steps=3",
    "evaluate.permutations=20", "evaluate.bootstrap=10", "evaluate.ceiling_queries=4",
)  # fmt: skip
JUDGED = 3


def hone(*arguments: str) -> str:
    assert f"hone {arguments[0]}" in README
    made = CliRunner().invoke(app, list(arguments), env={"HONE_STORE": "store"})
    assert made.exit_code == 0, (made.output, made.exception)
    return made.stdout


@contextmanager
def served(name: str) -> Iterator[str]:
    """The address of `hone serve NAME`, which is ended with Ctrl-C."""
    assert "hone serve" in README
    command = [sys.executable, "-m", "hone", "serve", name, "--port", "0"]
    env = {**os.environ, "HONE_STORE": "store", "HONE_PROGRESS": "off"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        yield found[0]
        server.send_signal(signal.SIGINT)
    assert server.returncode == 0


@needs_browser
def test_a_folder_of_markdown_gets_a_verdict_on_what_was_clicked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(7)
    (tmp_path / "notes").mkdir()
    for number in range(60):
        words = draw.choices([*draw.choice(chain.TOPICS).split(), *chain.COMMON.split()], k=24)
        (tmp_path / f"notes/{number}.md").write_text(f"# {words[0]} {number}\n\n{' '.join(words)}\n")
    tiny.student(tmp_path / "student", dim=16, layers=1, vocab_texts=[*chain.TOPICS, chain.COMMON])
    changes = [part for change in QUICK for part in ("--set", change)]

    assert "next: hone run notes.yaml" in hone("init", "notes", "--student", "student", "--device", "cpu")
    first = hone("run", "notes.yaml", *changes)
    assert "There are no human judgements. Next: judge results with `hone serve notes`" in " ".join(first.split())

    with served("notes") as address, opened() as page:
        page.goto(address)
        for _ in range(JUDGED):
            page.locator(".agenda li a").first.click()
            page.locator("section[aria-labelledby=tuned] li button").first.click()
            page.locator("button[aria-pressed=true]").first.wait_for()
        assert f"{JUDGED} of about" in page.locator(".progress").inner_text()

    again = hone("run", "notes.yaml", *changes)
    assert "judgements: judgements/notes (made with `hone serve`)" in again
    assert re.search(rf"test \({JUDGED}\)", again)
    assert "synthetic" not in again
    assert re.search("verdict: (promote|hold|reject)", again)
    assert "verdict: " in hone("gate", "notes")
