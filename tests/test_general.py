"""One student for several domains: trained on the lists of all, judged in each, never promoted where it is worse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import chain
import corpora
from hone.commands import domains as shown
from hone.commands import run as running
from hone.engine import domains, general, record, runner
from hone.errors import UserError
from hone.report.general import Standing, finding, html, markdown, rows
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.settings import check
from hone.stages import gate, publish
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

NAMES = ("apps", "billing", "careers")


def folder(home: Path, general: Any = None, **own: Any) -> Path:
    """Three domains, each with a corpus of its own, and one student for all."""
    found = home / "domains"
    found.mkdir()
    base = {**chain.SETTINGS, "student": {"model": "../student"}, "general": general}
    (found / "base.yaml").write_text(json.dumps(base), "utf-8")
    for number, name in enumerate(NAMES):
        rows = [json.loads(line) for line in (home / "corpus/corpus.jsonl").read_text("utf-8").splitlines()]
        mine = [{**row, "text": f"{row['text']} {name}"} for row in rows[number:]]
        asked = {f"q{n}": " ".join(mine[n]["text"].split()[3:8]) for n in range(12)}
        qrels = {
            split: [(f"q{n}", mine[n]["_id"], 1) for n in range(at, 12, 2)] for at, split in enumerate(("dev", "test"))
        }
        corpora.beir(home / name, mine, asked, **qrels)
        settings = {"prepare": {"corpus": f"../{name}"}, **own.get(name, {})}
        (found / f"{name}.yaml").write_text(json.dumps(settings), "utf-8")
    return found


def of(found: Path) -> general.Course:
    course = general.course(found, domains.load(found))
    assert course
    return course


@pytest.mark.long
def test_three_domains_end_with_a_table_of_their_own_students_and_the_general_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = folder(
        chain.home(tmp_path),
        {"weights": {"apps": 2, "billing": 1, "careers": 1}, "distill": {"max_steps": 8, "patience": 9}},
    )
    store = LocalStore(tmp_path / "store")
    running.run(found, str(store.root), at_once=2)
    printed = capsys.readouterr().out
    assert printed.index("general: done") < printed.index("apps-general: begun")
    assert "One student for several domains" in printed
    assert "The general student gains in" in printed
    runs = {name: record.results(store, f"{name}-general") for name in NAMES}
    assert len({done["distill"].prefix for done in runs.values()}) == 1, "one student, trained once"
    for name, done in runs.items():
        own = record.results(store, name)
        assert own["distill"].prefix != done["distill"].prefix
        same = ("prepare", "generate", "mine", "score", "curate")
        assert [own[stage].prefix for stage in same] == [done[stage].prefix for stage in same]
    facts = runs["apps"]["distill"].facts
    assert sum(facts["domains"][name]["steps"] for name in NAMES) == facts["steps"] == 8
    assert all(facts["domains"][name]["train_lists"] > 0 for name in NAMES)
    report = record.results(store, "apps-general")["report"]
    with scratch_folder() as scratch:
        said = (fetch_folder(store, report, "report", scratch) / "report.md").read_text("utf-8")
    assert "One student for several domains, each step on lists of one of them: apps (" in said
    standings = general.status(of(found), store, {})
    assert [one.domain for one in standings] == list(NAMES)
    for one in standings:
        assert None not in (one.base, one.own, one.general, one.interval, one.p_value, one.p_holm)
        assert one.verdict in ("promote", "hold", "reject")
        assert one.gain is not None
        assert one.gain >= 0 or one.verdict != "promote"
    shown.domains(found, str(store.root), tmp_path / "out")
    for file in ("domains.html", "domains.md"):
        assert "One student for several domains" in (tmp_path / "out" / file).read_text("utf-8")
    others = general.trained_on(of(found).members, store)
    again = runner.run(of(found).settings_of(of(found).members[0]), store, others=others)
    assert {name: one.prefix for name, one in again.items()} == {name: one.prefix for name, one in runs["apps"].items()}


def test_a_general_student_of_one_domain_has_the_bytes_of_that_domains_own(tmp_path: Path) -> None:
    found, store = folder(chain.home(tmp_path), {"weights": {"billing": 3}}), LocalStore(tmp_path / "store")
    course = of(found)
    (member,) = course.members
    own = runner.run(member.checked(), store)
    others = general.trained_on(course.members, store)
    together = runner.run(course.settings_of(member), store, others=others)
    weights = [
        {part.path.partition("/")[2]: part.sha256 for part in done["distill"].outputs["model"].parts}
        for done in (own, together)
    ]
    assert own["distill"].prefix != together["distill"].prefix
    assert weights[0] == weights[1]


@pytest.mark.parametrize("train", ["layers", "head", "lora"])
def test_every_kind_of_training_takes_several_domains_and_repeats_its_bytes(tmp_path: Path, train: str) -> None:
    found = folder(chain.home(tmp_path), {"distill": {"train": train, "max_steps": 6, "dev_lists": 6}})
    course, digests = of(found), set[str]()
    for name in ("one", "two"):
        store = LocalStore(tmp_path / name)
        for member in course.members:
            runner.run(member.checked(), store, last="curate")
        first = course.members[0]
        done = runner.run(
            course.settings_of(first), store, last="distill", others=general.trained_on(course.members, store)
        )
        digests.add(done["distill"].outputs["model"].digest)
        assert sum(done["distill"].facts["domains"][name]["steps"] for name in NAMES) == done["distill"].facts["steps"]
    assert len(digests) == 1


def test_lists_that_show_what_another_domain_is_tested_on_are_not_trained_on(tmp_path: Path) -> None:
    """billing has a document and a training query of what apps is tested on."""
    home = chain.home(tmp_path)
    found, store = folder(home), LocalStore(tmp_path / "store")
    corpus = home / "billing/corpus.jsonl"
    tested = json.loads((home / "apps/corpus.jsonl").read_text("utf-8").splitlines()[1])
    corpora.jsonl(corpus, [*map(json.loads, corpus.read_text("utf-8").splitlines()), {**tested, "_id": "copied"}])
    course = of(found)
    before = runner.run(course.members[1].checked(), store, last="curate")
    assert before["curate"].outputs["lists"].rows
    for member in course.members:
        runner.run(member.checked(), store, last="curate")
    others = general.trained_on(course.members, store)
    done = runner.run(course.settings_of(course.members[1]), store, last="distill", others=others)
    facts = done["distill"].facts["domains"]
    lists = others["billing/lists"].outputs["lists"].rows
    counted = facts["billing"]
    assert counted["left_out"] > 0
    assert counted["left_out"] + counted["train_lists"] + counted["dev_lists"] == lists


def test_the_general_student_is_published_apart_and_never_where_it_is_worse(tmp_path: Path) -> None:
    found = folder(chain.home(tmp_path), apps={"gate": {"min_gain": -0.5}}, careers={"publish": {"domain": ""}})
    course = of(found)
    stages = {member.name: course.settings_of(member) for member in course.members}
    assert [one.name for one in stages.values()] == [f"{name}-general" for name in NAMES]
    domain = {
        name: publish.Config.model_validate(one.stages["publish"].model_dump()).domain for name, one in stages.items()
    }
    assert domain == {"apps": "apps-general", "billing": "billing-general", "careers": ""}
    least = {name: gate.Config.model_validate(one.stages["gate"].model_dump()).min_gain for name, one in stages.items()}
    assert least == {"apps": 0.0, "billing": 0.005, "careers": 0.005}


def test_a_domain_without_lists_leaves_the_general_student_untrained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, store = folder(chain.home(tmp_path)), LocalStore(tmp_path / "store")
    monkeypatch.setattr(domains, "run", lambda *_: {"billing": "its corpus is gone"})
    for name in ("apps", "careers"):
        member = next(one for one in of(found).members if one.name == name)
        runner.run(member.checked(), store, last="curate")
    with pytest.raises(UserError, match=r"^billing, general failed; the lines above say why"):
        running.run(found, str(store.root))
    printed = " ".join(capsys.readouterr().out.split())
    assert "general: failed: billing has no result of prepare yet; run it first: its lists are trained on" in printed
    assert not list(store.objects("distill"))


@pytest.mark.parametrize(
    ("section", "own", "said"),
    [
        (
            {"weights": {"app": 1}},
            {},
            r"general.weights: there is no domain app; the domains are apps, billing, careers",
        ),
        ({"weights": {"apps": 0}}, {}, r"base.yaml: general.weights.apps: .*greater than 0"),
        ({"wieghts": {}}, {}, r"base.yaml: general.wieghts: "),
        ({"distill": {"max_stpes": 3}}, {}, r"distill.max_stpes: unknown setting; did you mean max_steps"),
        ({"distill": {"domains": {"apps": 1}}}, {}, r"distill.domains is filled in by `hone run FOLDER`"),
        (None, {"student": {"pooling": "cls"}}, r"billing.yaml: student differs from the one of .*base.yaml"),
        (None, {"distill": {"adopt": "../student"}}, r"billing.yaml: distill.adopt leaves no lists to train on"),
    ],
)
def test_what_cannot_be_one_student_is_refused_before_anything_runs(
    tmp_path: Path, section: Any, own: dict[str, Any], said: str
) -> None:
    found = folder(chain.home(tmp_path), section, billing=own)
    with pytest.raises(UserError, match=said):
        running.run(found, str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_a_domain_called_like_anothers_general_run_is_refused(tmp_path: Path) -> None:
    found = folder(chain.home(tmp_path))
    (found / "apps-general.yaml").write_text("prepare: {corpus: ../apps}\n", "utf-8")
    with pytest.raises(UserError, match="apps-general is what apps with the general student is called; rename it"):
        of(found)


def test_weights_cannot_be_given_to_one_run(tmp_path: Path) -> None:
    data = {"name": "x", **chain.SETTINGS, "distill": {"domains": {"apps": 1}}}
    with pytest.raises(UserError, match=r"x.yaml: distill.domains is filled in by `hone run FOLDER`; write `general:"):
        check(data, "x.yaml", tmp_path)


def test_the_table_says_where_the_general_student_is_worse_and_where_the_own_one_is_ahead() -> None:
    better = Standing("a<b", 2.0, 0.4, 0.45, 0.43, (0.01, 0.05), 0.01, 0.02, "promote")
    worse = Standing("hr", 1.0, 0.5, 0.49, 0.48, (-0.04, 0.0), 0.04, 0.04, "reject")
    new = Standing("new", 1.0, fault="no corpus")
    assert rows([better, new]) == [
        ("a<b", "2", "0.400", "0.450", "0.430", "+3.0", "+1.0 to +5.0", "0.010", "0.020", "promote"),
        ("new", "1", "–", "–", "–", "–", "–", "–", "–", "failed"),
    ]
    assert finding([better, worse, new]) == (
        "The general student gains in 1 of 3 domains; it is worse than the base in hr (−2.0 points), where it is not "
        "promoted; the domain's own student is ahead in a<b (+2.0), hr (+1.0)."
    )
    assert finding([new]) == "The general student was not measured yet."
    assert finding([replace(better, own=None)]) == "The general student gains in 1 of 1 domains."
    assert "a&lt;b" in str(html([better]))
    assert "- new: no corpus" in markdown([better, new])
