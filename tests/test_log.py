"""Events: one line each, with what they belong to, and no secrets."""

import json
from pathlib import Path

import pytest

from hone.log import about, kept, log


@pytest.fixture(autouse=True)
def _json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_LOG", "json")


def test_an_event_is_one_line_with_what_it_belongs_to(capsys: pytest.CaptureFixture[str]) -> None:
    with about(run="r"), kept(stage="score", shard="1/4") as lines:
        log.warning("two\nlines", rows=3)
    said = capsys.readouterr().err
    assert said.splitlines() == lines
    event = json.loads(lines[0])
    assert event.pop("time").endswith("Z")
    assert event == {"event": "two\nlines", "level": "warning", "run": "r", "stage": "score", "shard": "1/4", "rows": 3}


def test_events_after_a_block_belong_to_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with kept(stage="score") as lines:
        pass
    log.info("later")
    assert not lines
    assert "stage" not in json.loads(capsys.readouterr().err)


def test_people_get_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HONE_LOG", "text")
    with about(run="r"):
        log.warning("store fault", fault="SlowDown")
    assert capsys.readouterr().err[8:] == " r: warning: store fault  fault=SlowDown\n"


def test_without_asking_only_what_went_wrong_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HONE_LOG")
    with kept() as lines:
        log.info("started", fingerprint="1f0c")
        log.warning("out of memory", tokens_at_once=4096)
    assert capsys.readouterr().err[8:] == " hone: warning: out of memory  tokens_at_once=4096\n"
    assert len(lines) == 2


def test_a_log_file_holds_every_event(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HONE_LOG", "off")
    monkeypatch.setenv("HONE_LOG_FILE", str(tmp_path / "log.jsonl"))
    log.info("one")
    log.warning("two")
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    assert [event["event"] for event in events] == ["one", "two"]


def test_events_are_kept_even_when_nothing_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HONE_LOG", "off")
    with kept() as lines:
        log.info("quiet")
    assert capsys.readouterr().err == ""
    assert json.loads(lines[0])["event"] == "quiet"


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_the_environment_holds_as_a_secret_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    monkeypatch.setenv("HONE_LOG", form)
    monkeypatch.setenv("SOME_API_KEY", "planted-secret")
    with kept() as lines:
        log.info("said planted-secret", detail={"deep": "x planted-secret y"})
    assert "planted" not in capsys.readouterr().err + lines[0]
