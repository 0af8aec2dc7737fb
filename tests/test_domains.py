"""Many domains: one folder, one table; a failing domain never stops the others."""

import json
from pathlib import Path

import pytest

import chain
from hone.commands import domains as shown
from hone.commands import run as running
from hone.engine import domains
from hone.errors import UserError
from hone.evaluation.statistics import holm
from hone.report.domains import Domain, markdown, page, rows
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow


def folder(home: Path) -> Path:
    """Three domains of one company on one corpus, each with its own seed; the second has lost its corpus."""
    found = home / "domains"
    found.mkdir()
    base = {**chain.SETTINGS, "student": {"model": "../student"}, "prepare": {"corpus": "../corpus"}}
    (found / "base.yaml").write_text(json.dumps(base), "utf-8")
    for name, own in (("apps", {}), ("billing", {"prepare": {"corpus": "../gone"}}), ("careers", {"seed": 3})):
        (found / f"{name}.yaml").write_text(json.dumps(own or {"seed": 1}), "utf-8")
    return found


def test_a_failing_domain_stops_no_other_and_all_end_in_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = chain.home(tmp_path)
    found, store = folder(home), LocalStore(tmp_path / "store")
    with pytest.raises(UserError, match=r"^billing failed; the lines above say why, and all other domains have ended$"):
        running.run(found, str(store.root))
    printed = capsys.readouterr().out
    assert f"billing: failed: {home}/gone does not exist; correct the path in the settings" in printed
    assert [line for line in printed.splitlines() if line.endswith(": done")] == ["apps: done", "careers: done"]
    apps, billing, careers = domains.status(domains.load(found), store, {})
    assert apps.documents == careers.documents > 30
    assert billing == Domain("billing")
    assert apps.p_value is not None
    assert careers.p_value is not None
    assert [apps.p_holm, careers.p_holm] == holm([apps.p_value, careers.p_value])
    assert apps.verdict in ("hold", "reject", "promote")
    prefixes = {one.key.split("/")[1] for one in store.objects("prepare")}
    assert len(prefixes) == 1, "what domains have in common is done once"
    shown.domains(found, str(store.root), tmp_path / "out")
    assert "careers" in (tmp_path / "out/domains.html").read_text("utf-8")
    assert "| billing | – |" in (tmp_path / "out/domains.md").read_text("utf-8")


def test_settings_that_cannot_be_meant_stop_all_before_anything_runs(tmp_path: Path) -> None:
    found = folder(chain.home(tmp_path))
    (found / "billing.yaml").write_text("prepare: {corpsu: x}\n", "utf-8")
    with pytest.raises(UserError, match=r"billing.yaml: prepare.corpsu: unknown setting; did you mean corpus"):
        domains.run(domains.load(found), str(tmp_path / "store"), 1, 1, lambda name, what: None)
    (found / "Two words.yaml").write_text("seed: 1\n", "utf-8")
    with pytest.raises(UserError, match="a domain is named by its file"):
        domains.load(found)
    with pytest.raises(UserError, match="holds no domains; write one YAML file for each"):
        domains.load(tmp_path)
    assert not (tmp_path / "store").exists()


def test_domains_lie_in_the_store_that_their_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = folder(chain.home(tmp_path))
    (found / "billing.yaml").unlink()
    base = json.loads((found / "base.yaml").read_text("utf-8"))
    (found / "base.yaml").write_text(json.dumps({**base, "store": str(tmp_path / "shared")}), "utf-8")
    opened: list[str] = []
    monkeypatch.setattr(domains, "_ran", lambda member, store, shards, tell: opened.append(store) or "")
    running.run(found)
    assert opened == [str(tmp_path / "shared")] * 2
    running.run(found, str(tmp_path / "named"))
    assert opened[2:] == [str(tmp_path / "named")] * 2
    (found / "careers.yaml").write_text("store: elsewhere", "utf-8")
    with pytest.raises(
        UserError, match=r"apps.yaml and .*careers.yaml name different stores \(.*; domains of a folder share"
    ):
        shown.domains(found)


def test_each_domain_is_published_under_its_own_name_unless_its_settings_say_otherwise(tmp_path: Path) -> None:
    found = folder(chain.home(tmp_path))
    (found / "careers.yaml").write_text("name: people\npublish: {domain: jobs}\n", "utf-8")
    members = {one.name: one.checked() for one in domains.load(found)}
    assert [members[name].name for name in ("apps", "careers")] == ["apps", "people"]
    assert [members[name].stages["publish"].model_dump()["domain"] for name in ("apps", "careers")] == ["apps", "jobs"]


def test_the_table_says_what_is_known_and_the_page_escapes_it() -> None:
    one = Domain("a<b", 1_200, 40, 0.051, (0.01, 0.09), 0.004, 0.008, "promote", "Tuned & better", 7_300, 1_000.0)
    two = Domain("new", fault="no corpus", versions=("v2", "v1"))
    assert rows([one, two], now=1_000 + 3 * 86_400) == [
        ("a<b", "1,200", "+5.1", "+1.0 to +9.0", "0.004", "0.008", "promote", "2 h", "3 d"),
        ("new", "–", "–", "–", "–", "–", "failed", "–", "never"),
    ]
    whole = page([one, two])
    assert "a&lt;b" in whole
    assert "a<b" not in whole
    assert "v2 (current)" in whole
    assert "no corpus" in markdown([one, two])
