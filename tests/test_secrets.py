"""No key that a run is given appears in anything it writes, says or is started with."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import chain
import openai_server as endpoint
import planted
from fake_s3 import s3_with
from hone import settings
from hone.engine.schema import schema_json
from hone.errors import UserError
from hone.secrets import SECRET_NAME, secret, without_secrets
from hone.stages.generate.prompts import checked_template
from hone.storage.addresses import open_store

pytestmark = pytest.mark.slow

ENVIRONMENT = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OPENAI_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD",
    "RERANKER_KEY", "HONE_WEBHOOK_SECRET", "HTTPS_PROXY_PASSWORD", "KF_PIPELINES_TOKEN", "PIP_INDEX_TOKEN",
    "GITHUB_TOKEN", "WANDB_API_KEY", "MODEL_REGISTRY_TOKEN", "COHERE_API_KEY",
)  # fmt: skip
PLANTED = {name: f"planted/{name.lower()}+{number:04x}==" for number, name in enumerate(ENVIRONMENT, 40_000)}


def forms(key: str) -> set[bytes]:
    """A key as it is, in an address, in JSON and in base64."""
    return {key.encode(), quote(key, safe="").encode(), json.dumps(key)[1:-1].encode(), base64.b64encode(key.encode())}


class Watch:
    """What a command says and writes, and how every process beside it was started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen, self.said = folder, set[bytes](), b""

    def call(self, *arguments: str) -> int:
        environment = {**os.environ, **PLANTED, "HONE_LOG": "json", "TMPDIR": str(self.folder / "tmp")}
        command = [sys.executable, "-m", "hone", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as running:
            with self._processes():
                self.said += running.communicate()[0]
            return running.returncode

    @contextmanager
    def _processes(self) -> Iterator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.05):
                for path in Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        self.seen.add(path.read_bytes())
                    except OSError:
                        continue

        watching = threading.Thread(target=look)
        watching.start()
        yield
        over.set()
        watching.join()

    def leaks(self, keys: Mapping[str, str], *own: Path) -> list[str]:
        """Where a key was found, outside the files that are there to hold it."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path not in own]
        places = {str(path): path.read_bytes() for path in files}
        places |= {"what it said": self.said, "process arguments": b"\n".join(self.seen)}
        return [f"{name} in {place}" for place, data in places.items() for name, key in keys.items()
                if any(form in data for form in forms(key))]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return chain.home(tmp_path, docs=24)


class Echo(endpoint.Handler):
    """A server that tells in its refusal what it was sent."""

    def reply(self, body: dict[str, Any]) -> None:
        self.send(400, {"error": {"message": f"bad header Authorization: {self.headers['Authorization']}"}})


@pytest.mark.long
def test_no_key_is_found_in_a_whole_run_over_s3(home: Path, aws: pytest.MonkeyPatch) -> None:
    key_file = home / "mounted-key"
    key_file.write_text(f"{endpoint.KEY}\n")
    watch, store = Watch(home), "s3://runs/own"
    with endpoint.serving() as server, s3_with("runs") as address:
        aws.setenv("AWS_ENDPOINT_URL", address)
        aws.setenv("AWS_ACCESS_KEY_ID", "an-id")
        aws.setenv("AWS_SECRET_ACCESS_KEY", PLANTED["AWS_SECRET_ACCESS_KEY"])
        path = chain.settings_file(home, generate=endpoint.sections(server, key_file=str(key_file)))
        assert watch.call("run", str(path), "--store", store) == 0, watch.said[-2_000:]
        assert watch.call("gate", "tiny", "--store", store) == 0
        ir = home / "specialize.yaml"
        assert watch.call("compile", "specialize", "--profile", "dev-cpu", "--out", str(ir)) == 0, watch.said[-2_000:]
        _render_the_chart(home / "chart.yaml", watch)
        assert watch.call("store", "verify", "--store", store) == 0
        stored = [open_store(store).fetch(one.key, home / "stored").path for one in open_store(store).objects()]
    assert {"manifest.json", "report.html", "tiny.json"} <= {path.name for path in stored}
    assert any(path.suffix == ".jsonl" for path in stored)
    assert b"chat.completion" not in watch.said
    assert any(b"hone" in line for line in watch.seen)
    assert sum(server.answered.values()) > 0
    assert len(PLANTED) + 1 == 15
    assert ir.stat().st_size > 5_000
    assert watch.leaks({**PLANTED, "the mounted key": endpoint.KEY}, key_file) == []


def _render_the_chart(out: Path, watch: Watch) -> None:
    """The chart with the values of an example, by a process that knows every key."""
    root = Path(__file__).parents[1]
    work = (
        "import sys, yaml, helm_python as helm; from pathlib import Path\n"
        "with helm.Chart.load(sys.argv[1]) as chart:\n"
        "    found = chart.render(yaml.safe_load(Path(sys.argv[2]).read_text()), name='hone', namespace='search')\n"
        "Path(sys.argv[3]).write_text('\\n---\\n'.join(found.values()))"
    )
    command = [sys.executable, "-c", work, str(root / "helm/hone"), str(root / "tests/charts/dev.yaml"), str(out)]
    watch.said += subprocess.check_output(command, env={**os.environ, **PLANTED}, stderr=subprocess.STDOUT)
    assert out.stat().st_size > 5_000


def test_no_key_is_told_when_a_server_sends_it_back(home: Path) -> None:
    key_file = home / "mounted-key"
    key_file.write_text("planted-in-a-file")
    watch = Watch(home)
    with endpoint.serving() as server:
        server.RequestHandlerClass = Echo
        path = chain.settings_file(home, generate=endpoint.sections(server, key_file=str(key_file)))
        assert watch.call("run", str(path), "--store", str(home / "store")) == 2, watch.said[-2_000:]
    assert b"bad header Authorization: Bearer ***" in watch.said
    assert watch.leaks({**PLANTED, "the mounted key": "planted-in-a-file"}, key_file) == []


def test_an_image_is_given_no_key() -> None:
    """Neither what is fixed in it nor what is asked for when it is built."""
    images = Path(__file__).parents[1] / "images"
    recipe = (images / "Dockerfile").read_text("utf-8")
    names = re.findall(r"^(?:ARG|ENV) (\w+)|^ {4}(\w+)=", recipe, re.MULTILINE)
    asked = {name for pair in names for name in pair if name}
    handed = set(re.findall(r"--build-arg \"?(\w+)", (images / "images.sh").read_text("utf-8")))
    assert {"BASE_IMAGE", "HOME", "REVISION"} <= asked
    assert handed <= asked
    assert [name for name in asked if SECRET_NAME.search(name)] == []
    assert not re.search(r"type=(secret|ssh)", recipe)


def test_the_search_for_leaks_finds_them(tmp_path: Path) -> None:
    for number, form in enumerate(sorted(forms(PLANTED["HF_TOKEN"]))):
        (tmp_path / f"{number}.bin").write_bytes(b"\0\0" + form + b"\0")
    assert len(Watch(tmp_path).leaks(PLANTED)) == len(forms(PLANTED["HF_TOKEN"])) > 2


def test_what_is_known_as_a_secret_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "abcdefgh")
    secret("abcdefghijkl")
    assert without_secrets("abcdefghijkl abcdefgh") == "*** ***"


def test_an_address_with_a_password_is_refused_and_not_repeated(home: Path) -> None:
    with endpoint.serving() as server:
        changes = endpoint.sections(server, url="http://me:hunter2hunter2@127.0.0.1/v1")
    with pytest.raises(UserError, match=r"url: http://\.\.\. holds a password") as refused:
        settings.load(chain.settings_file(home, generate=changes))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot reach http://tok3n-abcdef@host/v1", "cannot reach http://host/v1"),
        ("GET https://me:pa55w0rd@host:8443/a?x=1 failed", "GET https://host:8443/a?*** failed"),
        ("https://b.s3.aws/k?X-Amz-Signature=deadbeef00&X-Amz-Credential=abc", "https://b.s3.aws/k?***"),
        ("bad header Authorization: Basic bWU6aHVudGVyMg==", "bad header Authorization: Basic ***"),
        ('{"x-api-key": "abcdef123456"}', '{"x-api-key": "***"}'),
        ("sent Bearer abc123def456.x", "sent Bearer ***"),
        ("password=hunter2hunter2 refused", "password=*** refused"),
        ('{"error": "api_key: 12ab34cd56"}', '{"error": "api_key: ***"}'),
        ("key AKIAIOSFODNN7EXAMPLE is unknown", "key *** is unknown"),
        ("token sk-zyxwvutsrqponmlkji was revoked", "token *** was revoked"),
        ("basic information about 1,024 tokens", "basic information about 1,024 tokens"),
        ('{"cost": {"tokens": 4876}, "max_tokens": 640000}', '{"cost": {"tokens": 4876}, "max_tokens": 640000}'),
        ("http://127.0.0.1:8080/ (judgements go to x; Ctrl-C ends)",
         "http://127.0.0.1:8080/ (judgements go to x; Ctrl-C ends)"),
        ("s3://bucket/prefix/model is missing", "s3://bucket/prefix/model is missing"),
    ],
)  # fmt: skip
def test_what_is_said_is_cleaned_by_form_and_nothing_else_is_changed(text: str, kept: str) -> None:
    assert without_secrets(text) == kept


PLACES: list[dict[str, Any]] = [
    {"endpoint": {"url": "http://tok3n-abcdef@host/v1"}},
    {"endpoint": {"url": "http://me:hunter2@host/v1"}},
    {"endpoint": {"url": "http://host/v1?api_key=hunter2hunter2"}},
    {"endpoint": {"url": "https://b.host/v1?X-Amz-Signature=hunter2hunter2"}},
    {"endpoint": {"extra_body": {"api_key": "hunter2hunter2"}}},
    {"endpoint": {"extra_body": {"headers": {"Authorization": "Bearer hunter2hunter2"}}}},
    {"endpoint": {"model": "sk-hunter2hunter2hunter2"}},
    {"endpoint": {"extra_body": {"note": "AKIAIOSFODNN7EXAMPLE"}}},
]


@pytest.mark.parametrize("place", PLACES)
def test_settings_that_hold_a_secret_are_refused_without_repeating_it(place: dict[str, Any]) -> None:
    data = {"name": "x", "generate": {"llm": place}}
    with pytest.raises(UserError, match="keys come from the environment or a mounted file") as refused:
        settings.check(data, "x.yaml", Path("/"))
    assert "generate.llm.endpoint" in str(refused.value)
    for mark in ("hunter2", "tok3n", "AKIA"):
        assert mark not in str(refused.value)


def test_no_place_of_the_settings_that_takes_a_text_takes_a_secret() -> None:
    found = planted.places(json.loads(schema_json()))
    assert len(found) > 80
    for path in found:
        for form, text in planted.FORMS.items():
            for value in (text, {text: "x"}, [text]):
                with pytest.raises(UserError, match="keys come from the environment or a mounted file") as refused:
                    settings.check({"name": "x", **planted.nested(path, value)}, "x.yaml", Path("/"))
                assert not [mark for mark in planted.MARKS if mark in str(refused.value)], (path, form)


def test_one_stage_by_itself_refuses_a_secret_too() -> None:
    with pytest.raises(UserError, match="holds a user name or token"):
        settings.stage_config("prepare", {"corpus": "http://tok3n-abcdef@host/x"}, "--config", Path("/"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: 2024-02-30", r"line 1 is not valid YAML: a value cannot be what it looks like"),
        (f"seed: {'9' * 5_000}", "line 1 is not valid YAML: a value cannot be what it looks like"),
        ("a: &a {x: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}' if n else '*a'] * 8)}]}}\n"
                                     for n in range(9)), "merges"),
    ],
)  # fmt: skip
def test_a_value_that_yaml_cannot_make_is_one_sentence_at_once(text: str, sentence: str) -> None:
    started = time.process_time()
    with pytest.raises(UserError, match=sentence):
        settings.parse_yaml(text, "x.yaml")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "part",
    ["{{ 1/0 }}", "{% include 'x' %}", "{% for a in styles %}{% for b in styles %}{% endfor %}{% endfor %}",
     "{{ 'a' * 10**10 }}", "{{ 'a'|center(10**9) }}", "{% for a in range(10**9) %}x{% endfor %}",
     "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ 'x'|replace('x', 'xx') }}", "{{ document.__class__ }}",
     "{% set x = [1] %}{% for i in x recursive %}{{ loop(x) }}{% endfor %}"],
)  # fmt: skip
def test_a_template_only_puts_texts_together(part: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError):  # noqa: PT011 - any sentence will do
        checked_template("{{ document }} {{ style.instruction }} " + part)
    assert time.process_time() - started < 2


def test_a_template_with_conditions_filters_and_a_loop_over_styles_is_accepted() -> None:
    checked_template(
        "{{ document|trim }}{% if language %} in {{ language|lower }}{% endif %}"
        "{% for one in styles %}{{ loop.index }}. {{ one.instruction }}{% endfor %} {{ style.instruction }}"
    )
