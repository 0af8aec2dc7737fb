"""Registering and submitting, against a server that speaks the platform's API as kfp's client calls it."""

import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kfp_server
from hone.errors import TransientError, UserError
from hone.kubeflow import attempts, platform, settings_text, submit, submit_many
from hone.kubeflow.compile import compile
from hone.kubeflow.profile import Profile, load
from hone.results.manifest import Manifest
from hone.results.table_io import upload
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SETTINGS = "name: handbook\npreset: cpu\nstudent: {model: /models/student}\nprepare: {corpus: s3://hone/handbook}\n"
FINDING = "Tuned is better: nDCG@10 0.400 → 0.450"


@functools.cache
def compiled(pipeline: str, profile: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        compile(pipeline, load(profile), Path(folder) / "out.yaml")
        return (Path(folder) / "out.yaml").read_bytes()


def compiled_once(pipeline: str, profile: Profile, out: Path) -> None:
    """Compiling takes seconds and always gives the same bytes."""
    out.write_bytes(compiled(pipeline, profile.name))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[kfp_server.Platform]:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(submit, "compile", compiled_once)
    # Nothing answers at this address: what the settings name cannot be looked at from here.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with kfp_server.running() as server:
        yield server


def submitted(served: kfp_server.Platform, tmp_path: Path, **how: Any) -> submit.Ended:
    given = {"store": str(tmp_path / "store"), **({"model": how["model"]} if "model" in how else {})}
    following = submit.Following(how.get("wait", True), how.get("retries", 0), 0, how.get("report"))
    return submit.main(
        platform.connect(served.address),
        (how.get("pipeline", "specialize"), load("dev-cpu")),
        how.get("text", SETTINGS),
        given,
        submit.Place(how.get("namespace", ""), service_account="hone-runner"),
        following,
    )


def deciding(tmp_path: Path, verdict: str, published: bool = False) -> Callable[[dict[str, Any]], None]:
    """What the tasks of a run leave in the store when they reach this verdict."""
    store = LocalStore(tmp_path / "store")
    facts: dict[str, dict[str, Any]] = {
        "evaluate": {"finding": FINDING},
        "gate": {"verdict": verdict, "reasons": [] if verdict == "promote" else ["the gain is too small"]},
        **({"publish": {"version": "abc"}} if published else {}),
    }
    rest: dict[str, Any] = {"code": "", "version": "", "config": {}, "sources": {}, "inputs": {}, "input_digests": {}}

    facts["report"] = {}
    written = tmp_path / "report/report"
    written.mkdir(parents=True, exist_ok=True)
    for name in ("report.html", "report.md"):
        (written / name).write_text(f"{verdict} in {name}", "utf-8")
    outputs = {"report": {"report": upload(written, "report", store, f"report/{'0' * 16}")}}

    def begin(run: dict[str, Any]) -> None:
        for name, found in facts.items():
            shown, zeros = outputs.get(name, {}), "0" * 16
            done = Manifest(stage=name, fingerprint=zeros, outputs=shown, facts=found, cost={}, seconds=1.0, **rest)
            store.create(f"{done.prefix}/manifest.json", done.model_dump_json().encode())
            with attempts.noting(store, run["run_id"], name, "") as note:
                note.prefix = done.prefix

    return begin


def failing(served: kfp_server.Platform, tmp_path: Path, *faults: Exception | str) -> None:
    """Every run fails, each in its own way; "stopped" leaves a task that says nothing any more."""
    left, store = list(faults), LocalStore(tmp_path / "store")

    def begin(run: dict[str, Any]) -> None:
        fault = left.pop(0)
        if isinstance(fault, Exception):
            with pytest.raises(type(fault)), attempts.noting(store, run["run_id"], "generate", "1/2"):
                raise fault
        else:
            store.create(f"attempts/{run['run_id']}/distill.json", json.dumps({"task": "distill"}).encode())

    served.ends, served.begins = "FAILED", begin


@pytest.mark.parametrize(
    ("verdict", "published", "outcome", "code"),
    [
        ("promote", True, "published", 0),
        ("promote", False, "promoted", 0),
        ("reject", False, "rejected", 3),
        ("hold", False, "held", 4),
    ],
)
def test_a_run_is_followed_to_its_verdict_which_is_the_exit_code(
    verdict: str,
    published: bool,
    outcome: str,
    code: int,
    served: kfp_server.Platform,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served.begins = deciding(tmp_path, verdict, published)
    ended = submitted(served, tmp_path)
    assert (ended.outcome, ended.exit_code, ended.finding, ended.verdict) == (outcome, code, FINDING, verdict)
    assert "RUNNING: 1 running, 1 succeeded; now mine" in capsys.readouterr().out
    assert submit.summary(ended) == f"{ended.name}: {outcome}: {FINDING}"
    (run,) = served.held["runs"]
    assert run["service_account"] == "hone-runner"
    assert run["display_name"].startswith("hone-specialize-dev-cpu-handbook-")


def test_settings_lie_in_the_store_by_digest_and_travel_as_address_and_digest(
    served: kfp_server.Platform, tmp_path: Path
) -> None:
    long = SETTINGS + "".join(f"# line {n} of the remarks that people keep here\n" for n in range(1_000))
    for text in (SETTINGS, long):
        submitted(served, tmp_path, text=text, wait=False)
    for run, text in zip(served.held["runs"], (SETTINGS, long), strict=True):
        given = run["runtime_config"]["parameters"]
        assert len(json.dumps(given)) < 1_000
        assert settings_text.fetch(given["settings"]) == text
    address = served.held["runs"][0]["runtime_config"]["parameters"]["settings"]
    kept = Path(address.partition("@")[0])
    kept.write_text(SETTINGS + "seed: 4\n", "utf-8")
    with pytest.raises(UserError, match=r"has the digest .*, not the declared .*; submit the settings again"):
        settings_text.fetch(address)


def test_parameters_that_the_server_would_refuse_are_refused_before_they_are_sent() -> None:
    with pytest.raises(UserError, match=r"take 10,0.. bytes, 10,000 at most; give shorter addresses"):
        submit.refuse_too_long({"store": "s3://hone", "model": "s3://" + "m" * 10_000})


def test_an_unfinished_run_is_adopted_and_the_same_version_is_not_uploaded_again(
    served: kfp_server.Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        submitted(served, tmp_path, wait=False)
    assert len(served.held["runs"]) == len(served.held["versions"]) == len(served.held["pipelines"]) == 1
    assert "exists already" in capsys.readouterr().out
    submitted(served, tmp_path, text=SETTINGS + "seed: 3\n", wait=False)
    assert len(served.held["runs"]) == 2
    assert len(served.held["versions"]) == 1


def test_a_finished_run_is_adopted_only_while_what_it_read_is_the_same(
    served: kfp_server.Platform, tmp_path: Path
) -> None:
    served.begins = deciding(tmp_path, "promote")
    corpus, student = tmp_path / "corpus.jsonl", tmp_path / "student"
    corpus.write_text('{"_id": "1", "text": "one"}\n', "utf-8")
    student.mkdir()
    text = SETTINGS.replace("s3://hone/handbook", str(corpus)).replace("/models/student", str(student))
    names = [submitted(served, tmp_path, text=text).name for _ in range(2)]
    assert len(served.held["runs"]) == 1
    corpus.write_text('{"_id": "1", "text": "another"}\n', "utf-8")
    names.append(submitted(served, tmp_path, text=text).name)
    assert len(served.held["runs"]) == len(set(names)) == 2


def test_of_what_cannot_be_looked_at_from_here_no_finished_run_is_adopted(
    served: kfp_server.Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.begins = deciding(tmp_path, "promote")
    for _ in range(2):
        submitted(served, tmp_path)
    assert len(served.held["runs"]) == 2
    told = capsys.readouterr().out
    assert "no finished run is adopted: /models/student, s3://hone/handbook" in told


def test_a_model_from_elsewhere_is_a_parameter_and_another_one_another_run(
    served: kfp_server.Platform, tmp_path: Path
) -> None:
    for model in ("s3://hone/one", "s3://hone/other", "s3://hone/one"):
        submitted(served, tmp_path, pipeline="evaluate", model=model, wait=False)
    assert [run["runtime_config"]["parameters"]["model"] for run in served.held["runs"]] == [
        "s3://hone/one", "s3://hone/other",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "outcome", "code", "error"),
    [
        (UserError("no text in the field body"), "failed", 2, "generate 1/2: no text in the field body"),
        (TransientError("S3 was gone"), "failed", 75, "generate 1/2: S3 was gone"),
        (ZeroDivisionError(), "failed", 1, "generate 1/2: it crashed; its log ends with the traceback"),
        ("stopped", "stopped", 75, "distill was stopped from outside: out of memory, preempted, or past its deadline"),
    ],
)
def test_a_failed_run_says_which_task_failed_and_why_and_ends_with_that_task_s_exit_code(
    fault: Exception | str, outcome: str, code: int, error: str, served: kfp_server.Platform, tmp_path: Path
) -> None:
    failing(served, tmp_path, fault)
    ended = submitted(served, tmp_path)
    assert (ended.outcome, ended.exit_code, ended.error) == (outcome, code, error)


def test_a_run_that_failed_for_a_passing_reason_is_started_again_as_often_as_asked(
    served: kfp_server.Platform, tmp_path: Path
) -> None:
    failing(served, tmp_path, TransientError("S3 was gone"), "stopped", UserError("no text"), "stopped")
    assert submitted(served, tmp_path, retries=5).exit_code == 2, "a mistake is not tried again"
    assert len(served.held["runs"]) == 3
    assert submitted(served, tmp_path).outcome == "stopped", "a failed run is not adopted"


def test_settings_that_no_task_would_take_are_refused_before_anything_is_sent(
    served: kfp_server.Platform, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="distil: unknown setting; did you mean distill"):
        submitted(served, tmp_path, text=SETTINGS + "distil: {}\n")
    assert not served.held["runs"]
    assert not served.held["pipelines"]


def test_pipelines_and_runs_belong_to_the_namespace_that_is_named(served: kfp_server.Platform, tmp_path: Path) -> None:
    for namespace in ("team", "other", "team"):
        submitted(served, tmp_path, namespace=namespace, wait=False)
    assert [one["namespace"] for one in served.held["pipelines"]] == ["team", "other"]
    assert {one["namespace"] for one in served.held["experiments"]} == {"team", "other"}


def test_judging_without_publishing_takes_the_domain_out_of_the_settings_and_nothing_else() -> None:
    text = SETTINGS + "publish: {domain: handbook, onnx: true}\n"
    with_domain, without = (settings_text.check(one).stages for one in (text, submit.without_publishing(text)))
    assert without["publish"].model_dump() == {**with_domain["publish"].model_dump(), "domain": ""}
    assert {**without, "publish": 0} == {**with_domain, "publish": 0}


def test_what_ci_needs_of_a_run_is_one_json_object_on_stdout(
    served: kfp_server.Platform, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from hone.commands import kubeflow

    served.begins = deciding(tmp_path, "hold")
    (tmp_path / "settings.yaml").write_text(SETTINGS, "utf-8")
    store, path = str(tmp_path / "store"), str(tmp_path / "settings.yaml")
    given = ["submit", "specialize", path, "--store", store, "--profile", "dev-cpu", "--host", served.address, "--json"]
    given += ["--report", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        kubeflow.app(given)
    printed = capfd.readouterr()
    assert ended.value.code == 4
    found = json.loads(printed.out)
    assert (found["outcome"], found["exit_code"], found["reasons"]) == ("held", 4, ["the gain is too small"])
    assert "RUNNING" in printed.err
    assert found["report"].startswith(f"{store}/report/")
    assert (tmp_path / "out/report.md").read_text("utf-8") == "hold in report.md"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (
            401,
            {"error": "no token"},
            UserError,
            "401 .*no token; it requires a token: give the file that holds one in KF_",
        ),
        (
            403,
            {"error": "this account may not"},
            UserError,
            "403 .*this account may not; give the account that",
        ),
        (400, {"error_message": "invalid pipeline"}, UserError, "400 .*invalid pipeline; correct what it names"),
        (409, {"message": "already exists"}, UserError, "409 .*already exists; the name is taken"),
        (413, "<html>too large</html>", UserError, "413 .*too large; put the settings at an s3:// address"),
        (422, {"error": "unknown field"}, UserError, "422 .*unknown field"),
        (429, {"error": "slow down"}, TransientError, "429 .*slow down; try again"),
        (503, "<html>gone</html>", TransientError, "503 .*; try again"),
    ],
)
@pytest.mark.parametrize("at", ["GET /pipelines", "POST /pipelines/upload.*", ".* /experiments", "POST /runs"])
def test_a_refusal_of_the_platform_is_one_sentence(
    at: str,
    status: int,
    body: Any,
    kind: type[Exception],
    words: str,
    served: kfp_server.Platform,
    tmp_path: Path,
) -> None:
    served.refuses, served.because, served.refused = status, body, at
    with pytest.raises(kind, match=words) as refused:
        submitted(served, tmp_path)
    assert "\n" not in str(refused.value)
    assert not served.held["runs"]


def test_a_platform_that_is_gone_for_a_while_is_followed_again(served: kfp_server.Platform, tmp_path: Path) -> None:
    served.begins = deciding(tmp_path, "promote")
    seen: list[int] = []
    looked_at = kfp_server.Handler.looked_at

    def flaky(handler: kfp_server.Handler, run_id: str) -> dict[str, Any]:
        served.refuses, served.refused = (503, "GET /runs/.*") if len(seen) % 2 else (0, "")
        seen.append(1)
        return looked_at(handler, run_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kfp_server.Handler, "looked_at", flaky)
        patch.setattr(kfp_server.Handler, "is_refused", once_refused(served))
        assert submitted(served, tmp_path).outcome == "promoted"
    assert len(seen) >= 3


def once_refused(served: kfp_server.Platform) -> Callable[[kfp_server.Handler, str], bool]:
    def refuse(handler: kfp_server.Handler, path: str) -> bool:
        if not served.refuses or not path.startswith("/runs/"):
            return False
        status, served.refuses = served.refuses, 0
        handler.answer({"error": "gone"}, status)
        return True

    return refuse


def test_a_platform_that_does_not_answer_is_a_passing_fault() -> None:
    with pytest.raises(TransientError, match="does not answer"):
        platform.connect("http://127.0.0.1:9")


def test_the_platform_s_own_namespace_is_not_that_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a cluster the client makes ml-pipeline.NAMESPACE.svc of the namespace it is given."""
    from kubernetes import config

    monkeypatch.setattr(config, "load_incluster_config", lambda: None)
    monkeypatch.setattr("kfp.Client._get_config_with_default_credentials", lambda self, config: config)
    monkeypatch.setattr("kfp.Client.get_kfp_healthz", lambda self: type("Health", (), {"multi_user": False}))
    for given, host in ((("",), "kubeflow"), (("", "platform"), "platform")):
        client = platform.connect(*given)
        assert client._existing_config.host == f"ml-pipeline.{host}.svc.cluster.local:8888"


def test_settings_are_read_from_s3_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
        for key, value in {**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            monkeypatch.setenv(key, value)
        client: Any = boto3.Session().client("s3")
        client.create_bucket(Bucket="hone")
        client.put_object(Bucket="hone", Key="settings/handbook.yaml", Body=SETTINGS.encode())
        assert submit.read_settings("s3://hone/settings/handbook.yaml") == SETTINGS
        checked = settings_text.check(SETTINGS)
        client.put_object(Bucket="hone", Key="handbook/a.md", Body=b"one")
        client.put_object(Bucket="hone", Key="handbook-old/a.md", Body=b"old")
        before = submit.reads.look(checked)
        assert before.unseen == ("/models/student",)
        client.put_object(Bucket="hone", Key="handbook-old/a.md", Body=b"older")
        assert submit.reads.look(checked) == before, "a neighbour is not what is read"
        client.put_object(Bucket="hone", Key="handbook/a.md", Body=b"two")
        assert submit.reads.look(checked) != replace(before)
    finally:
        server.stop()


def test_all_domains_of_a_folder_are_one_run_and_each_is_told_apart(
    served: kfp_server.Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, store = tmp_path / "domains", LocalStore(tmp_path / "store")
    folder.mkdir()
    (folder / "base.yaml").write_text("preset: cpu\nstudent: {model: /models/student}\ngeneral: {}\n", "utf-8")
    for name in ("handbook", "support"):
        (folder / f"{name}.yaml").write_text(f"prepare: {{corpus: s3://hone/{name}}}\n", "utf-8")
    decide = deciding(tmp_path, "promote", published=True)

    def begin(run: dict[str, Any]) -> None:
        first, second = run["runtime_config"]["parameters"]["domains"]
        decide({"run_id": "elsewhere"})
        for note in attempts.notes(store, "elsewhere"):
            with attempts.noting(store, run["run_id"], note.task, "", first) as copied:
                copied.prefix = note.prefix
        with pytest.raises(UserError), attempts.noting(store, run["run_id"], "prepare", "", second):
            raise UserError("the corpus of support is empty")

    served.begins, served.ends = begin, "FAILED"
    ended = submit_many.main(
        platform.connect(served.address), load("dev-cpu"), folder, store.uri, submit.Place(),
        submit.Following(pause=0, report=tmp_path / "reports"),
    )  # fmt: skip
    assert [(one.domain, one.outcome, one.version, one.error) for one in ended.domains] == [
        ("handbook", "published", "abc", ""), ("support", "failed", "", "prepare: the corpus of support is empty"),
    ]  # fmt: skip
    assert ended.exit_code == UserError.exit_code
    assert "the general student that base.yaml asks for is no part of this run" in capsys.readouterr().out
    assert submit_many.summary(ended).splitlines()[1] == "support: failed: prepare: the corpus of support is empty"
    assert (tmp_path / "reports/handbook/report.md").is_file()
    [run] = served.held["runs"]
    texts = [settings_text.fetch(address) for address in run["runtime_config"]["parameters"]["domains"]]
    assert [settings_text.check(text).name for text in texts] == ["handbook", "support"]
    assert json.loads(submit_many.as_json(ended))["domains"][0]["verdict"] == "promote"
    with pytest.raises(UserError, match="is not a folder"):
        submit_many.main(
            platform.connect(served.address), load("dev-cpu"), folder / "base.yaml", store.uri, submit.Place(),
            submit.Following(),
        )  # fmt: skip
