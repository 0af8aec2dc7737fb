"""docs/kubernetes.md, command by command: every line is one that the tools take, about things that there are."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Context
from typer.main import get_command

from hone.commands.cli import app
from hone.kubeflow import profile as profiles
from hone.kubeflow.compile import load_pipeline
from test_chart import CHART, named, objects, render

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/kubernetes.md").read_text("utf-8")
OTHERS = ("kubectl", "helm", "aws", "export", "make", "bash")
"""Programs whose own lines are shown; what they name of ours is looked at below."""


def shown() -> Iterator[list[str]]:
    """The words of every command in an indented block, continued lines joined, comments left out."""
    for line in re.sub(r" *\\\n *", " ", TEXT).splitlines():
        for command in line[4:].split(" && ") if line.startswith("    ") else ():
            words = shlex.split(command, comments=True)
            if words and words[0] in ("hone", *OTHERS):
                yield words


HONE = [words[1:] for words in shown() if words[0] == "hone"]


def test_the_page_shows_the_commands_that_a_user_needs() -> None:
    assert {words[0] for words in HONE} >= {"init", "plan", "submit", "compile", "fetch", "store", "diff-corpus"}
    assert {words[0] for words in shown()} == {"hone", *OTHERS}


@pytest.mark.parametrize("words", HONE, ids=" ".join)
def test_every_command_of_hone_is_one_that_it_takes(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command: Any = get_command(app)
    context, left = Context(command), list(words)
    while hasattr(command, "get_command"):
        command = command.get_command(context, left[0])
        assert command, f"hone {' '.join(words)}: there is no {left[0]}"
        left = left[1:]
    given = command.make_context(words[0], left).params  # refuses what it does not know
    if "profile" in given:
        profiles.load(given["profile"])
        load_pipeline(given["pipeline"])


def values() -> dict[str, Any]:
    block = TEXT.partition("    # values.yaml\n")[2].partition("\n\n")[0]
    text = re.sub(r'"sha256:…"', f'"sha256:{"0" * 64}"', block).replace('"…"', f'"{"0" * 64}"')
    return yaml.safe_load("\n".join(line[4:] for line in text.splitlines()))


def test_the_values_that_are_shown_make_what_the_commands_after_them_name() -> None:
    [install] = [words for words in shown() if words[:2] == ["helm", "install"]]
    assert install[2:6] == ["hone", "helm/hone", "-n", "team"]
    found = objects(render(CHART, values()))
    jobs = [word.partition("/")[2] for words in shown() if words[0] == "kubectl" for word in words if "job/" in word]
    assert sorted(jobs) == ["hone-prefetch", "hone-registrar"]
    for name in jobs:
        named(found, "Job", name)
    [token] = [words for words in shown() if words[0] == "kubectl" and "token" in words]
    named(found, "ServiceAccount", token[token.index("token") + 1])
    accounts = {words[words.index("--service-account") + 1] for words in HONE if "--service-account" in words}
    for name in accounts:
        named(found, "ServiceAccount", name)
    [secret] = [words for words in shown() if words[0] == "kubectl" and "secret" in words]
    keys = re.findall(r"--from-literal=(\w+)=", " ".join(secret))
    assert secret[secret.index("generic") + 1] == values()["s3"]["existingSecret"]
    profile = yaml.safe_load(named(found, "ConfigMap", "hone-plan")["data"]["profile.yaml"])
    assert set(profile["secrets"][0]["env"]) == set(keys)


def test_recurring_runs_that_are_shown_are_taken_by_the_chart() -> None:
    block = TEXT.partition("    recurring:")[2].partition("\n\n")[0]
    rows = [line.partition("#")[0][4:] for line in f"    recurring:{block}".splitlines()]
    found = objects(render(CHART, {**values(), **yaml.safe_load("\n".join(rows))}))
    plan = yaml.safe_load(named(found, "ConfigMap", "hone-plan")["data"]["plan.yaml"])
    assert [run["name"] for run in plan["recurring"]] == ["handbook-nightly", "support-weekly"]


def test_files_of_the_repository_that_are_shown_are_there() -> None:
    for words in shown():
        for word in words:
            if word.startswith(("images/images.sh", "helm/hone")) and "files/" not in word:
                assert (ROOT / word).exists(), word
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
