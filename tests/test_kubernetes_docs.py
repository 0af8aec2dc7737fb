"""docs/kubernetes.md, command by command: every line is one that the tools take, about things that there are."""

import functools
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import kubernetes_validate
import pytest
import yaml
from click import Context
from moto.server import ThreadedMotoServer
from typer.main import get_command
from typer.testing import CliRunner

import cluster_tools
import kfp_server
from hone import __version__
from hone.commands.cli import app
from hone.kubeflow import attempts, submit
from hone.kubeflow import profile as profiles
from hone.kubeflow.compile import load_pipeline
from hone.results.manifest import Manifest
from hone.storage.addresses import open_store
from test_chart import CHART, named, objects, render

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/kubernetes.md").read_text("utf-8")
OTHERS = ("kubectl", "helm", "aws", "export", "make", "bash")
"""Programs whose own lines are shown."""
PROGRAMS = ("hone", "docker", *OTHERS)


def shown() -> Iterator[list[str]]:
    """The words of every command in an indented block, continued lines joined, comments and redirections left out."""
    for line in re.sub(r" *\\\n *", " ", TEXT).splitlines():
        if line.startswith("    "):
            yield from commands(line[4:])


def commands(line: str) -> Iterator[list[str]]:
    for command in line.split(" && "):
        words = shlex.split(command, comments=True)
        if words and words[0] in PROGRAMS:
            yield words[: words.index(">")] if ">" in words else words


def in_sentences() -> Iterator[list[str]]:
    """The words of every command between backquotes, which may be no more than the name of one."""
    text = "\n".join(line for line in TEXT.splitlines() if not line.startswith("    "))
    for line in re.findall(r"`([^`]+)`", text.replace("\n", " ")):
        for words in commands(line):
            if len(words) > 1:
                yield words


HONE = [words[1:] for words in shown() if words[0] == "hone"]
MENTIONED = [words[1:] for words in in_sentences() if words[0] == "hone"]
CLUSTER = [words for words in (*shown(), *in_sentences()) if words[0] in ("kubectl", "helm")]


def test_the_page_shows_the_commands_that_a_user_needs() -> None:
    assert {words[0] for words in HONE} >= {"init", "plan", "submit", "compile", "fetch", "store", "diff-corpus"}
    assert {words[0] for words in shown()} == {"hone", *OTHERS}
    assert {words[0] for words in in_sentences()} <= {*PROGRAMS}


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


@pytest.mark.parametrize("words", MENTIONED, ids=" ".join)
def test_every_command_of_hone_in_a_sentence_has_the_verbs_and_options_that_it_names(words: list[str]) -> None:
    command: Any = get_command(app)
    context, left = Context(command), list(words)
    while hasattr(command, "get_command") and left:
        command = command.get_command(context, left.pop(0))
        assert command, f"hone {' '.join(words)}"
    known = {option for parameter in getattr(command, "params", ()) for option in parameter.opts}
    assert {word for word in left if word.startswith("--")} <= known


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    cluster_tools.unpack(folder)
    return folder


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder in which the page's commands find the chart and the values that it shows."""
    shutil.copytree(CHART, tmp_path / "helm/hone")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values()), "utf-8")
    return tmp_path


@pytest.mark.parametrize("words", CLUSTER, ids=" ".join)
def test_kubectl_and_helm_take_every_command_as_far_as_they_can_without_a_cluster(
    words: list[str], tools: Path, desk: Path
) -> None:
    if words[:2] == ["helm", "push"]:
        assert cluster_tools.run(tools, ["helm", "package", "helm/hone"], desk).returncode == 0
        words = [word.replace("registry.example", "127.0.0.1:9") for word in words]
        words = [*words, "--plain-http"]
    name_only = len(words) == 2
    ran = cluster_tools.run(tools, [*words, "--help"] if name_only else words, desk)
    if name_only or words[:2] == ["helm", "package"]:
        assert ran.returncode == 0, ran.stderr
        return
    assert ran.returncode != 0
    assert any(refusal in ran.stderr for refusal in cluster_tools.REFUSED), ran.stderr


def test_what_kubectl_makes_of_the_secret_is_taken_by_kubernetes(tools: Path, desk: Path) -> None:
    [words] = [words for words in CLUSTER if "secret" in words]
    ran = cluster_tools.run(tools, [*words, "--dry-run=client", "-o", "yaml"], desk)
    made = yaml.safe_load(ran.stdout)
    made["metadata"].pop("creationTimestamp", None)
    kubernetes_validate.validate(made, "1.33", strict=True)
    assert made["metadata"] == {"name": "hone-s3", "namespace": "team"}


def test_helm_makes_of_the_shown_commands_what_is_rendered_in_tests(tools: Path, desk: Path) -> None:
    [install] = [words for words in CLUSTER if words[:2] == ["helm", "install"]]
    ran = cluster_tools.run(tools, ["helm", "template", *install[2:]], desk)
    assert ran.returncode == 0, ran.stderr
    made = [one for one in yaml.safe_load_all(ran.stdout) if one]
    kinds = sorted((one["kind"], one["metadata"]["name"]) for one in made)
    assert kinds == sorted((one["kind"], one["metadata"]["name"]) for one in objects(render(CHART, values())))
    [upgrade] = [words for words in CLUSTER if words[:3] == ["helm", "upgrade", "--install"]]
    refused = cluster_tools.run(tools, ["helm", "template", *upgrade[3:]], desk)
    compiled = [words[words.index("--out") + 1] for words in HONE if words[0] == "compile"]
    registered = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["registration"]["pipelines"]
    assert sorted(compiled) == sorted(f"helm/hone/files/{name}.yaml" for name in registered)
    assert f"files/{registered[0]}.yaml is missing" in refused.stderr


def test_what_is_built_pushed_and_copied_is_named_as_it_is() -> None:
    script = (ROOT / "images/images.sh").read_text("utf-8")
    known = set(re.findall(r"\[(\w+)\]=", script.split("declare -A extras=")[1]))
    for words in (*shown(), *in_sentences()):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        elif words[0] == "bash":
            assert (ROOT / words[1]).is_file()
            assert re.search(rf"^{words[2]}\)", script, re.MULTILINE)
            assert words[2] != "build" or set(words[3:]) <= known
        elif words[0] == "docker":
            assert words[1:4] == ["run", "--rm", f"hone-cpu:{__version__}"]
            assert words[-1].rpartition("/")[2] in (ROOT / "images/Dockerfile").read_text("utf-8")
        elif words[0] == "aws":
            assert words[:4] == ["aws", "s3", "cp", "--recursive"]
            assert words[5].startswith("s3://team-hone/")
    packed = [words[2] for words in CLUSTER if words[:2] == ["helm", "push"]]
    assert packed == [f"hone-{__version__}.tgz"]


def promoting(run: dict[str, Any]) -> None:
    """What the tasks of a run leave that promotes, or measures what it was asked to."""
    given = run["runtime_config"]["parameters"]
    store, zeros = open_store(given["store"]), "0" * 16
    if "over" in given:
        with attempts.noting(store, run["run_id"], "ablation", ""):
            return
    rest: dict[str, Any] = {"code": "", "version": "", "config": {}, "sources": {}, "inputs": {}, "input_digests": {}}
    facts = {"verdict": "promote", "reasons": []}
    gate = Manifest(stage="gate", fingerprint=zeros, outputs={}, facts=facts, cost={}, seconds=1.0, **rest)
    store.create(f"{gate.prefix}/manifest.json", gate.model_dump_json().encode())
    for about in given.get("domains", [""]):
        with attempts.noting(store, run["run_id"], "gate", "", about) as note:
            note.prefix = gate.prefix


@pytest.mark.slow
def test_every_submission_runs_on_the_platform_by_the_token_that_was_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    digests = {name: f"registry.example/ml/hone-{name}@sha256:{'0' * 64}" for name in ("cpu", "train")}
    (tmp_path / "images.yaml").write_text(yaml.safe_dump(digests), "utf-8")
    text = "preset: cpu\nstudent: {model: /models/student}\nprepare: {corpus: s3://team-hone/corpora/handbook}\n"
    (tmp_path / "handbook.yaml").write_text(f"name: handbook\n{text}", "utf-8")
    (tmp_path / "domains").mkdir()
    for name in ("base", "handbook", "support"):
        (tmp_path / f"domains/{name}.yaml").write_text(text if name == "base" else "seed: 3\n", "utf-8")
    [export] = [words[1] for words in shown() if words[0] == "export"]
    variable, _, file = export.partition("=")
    (tmp_path / Path(file).name).write_text("made-by-kubectl", "utf-8")
    server = ThreadedMotoServer(port=0)
    server.start()
    monkeypatch.setattr(submit, "Following", functools.partial(submit.Following, pause=0))
    host, port = server.get_host_and_port()
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", variable)
    given = ("k", "s", "us-east-1", f"http://{host}:{port}", str(tmp_path / Path(file).name))
    for name, value in zip(names, given, strict=True):
        monkeypatch.setenv(name, value)
    boto3.Session().client("s3").create_bucket(Bucket="team-hone")
    submissions = [words for words in HONE if words[0] == "submit"]
    assert {words[1] for words in submissions} == {"specialize", "evaluate", "ablate", "specialize_many"}
    with kfp_server.running() as platform:
        platform.begins = promoting
        for words in submissions:
            at = words.index("--host") + 1
            ran = CliRunner().invoke(app, [*words[:at], platform.address, *words[at + 1 :]])
            assert ran.exit_code == 0, f"{' '.join(words)}: {ran.output} {ran.exception!r}"
        assert len(platform.held["runs"]) == len(submissions)
        assert set(platform.tokens) == {"Bearer made-by-kubectl"}
    server.stop()


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
