"""Whether a corpus changed enough to train again: counted by id and text, and what a run would pay."""

import json
from pathlib import Path
from typing import Any

import pytest

import chain
from hone import settings
from hone.commands import diff_corpus
from hone.engine import runner
from hone.engine.corpus_diff import compare
from hone.errors import UserError
from hone.storage.local import LocalStore


def rewritten(home: Path, *changes: tuple[int, str | None]) -> None:
    """Changes the text of the n-th document, or takes it away; a number beyond the last adds one."""
    path = home / "corpus/corpus.jsonl"
    rows: list[dict[str, Any] | None] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for at, text in changes:
        if at >= len(rows):
            rows.append({"_id": f"d{at}", "title": "", "text": text})
        elif text is None:
            rows[at] = None
        else:
            rows[at] = {**(rows[at] or {}), "text": text}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row), "utf-8")


def test_new_changed_and_gone_documents_are_counted_and_the_policy_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, store = chain.home(tmp_path), LocalStore(tmp_path / "store")
    first = compare(chain.checked(home), store, "tiny")
    assert (first.run, first.new, first.share, first.retrain) == ("", 40, 1.0, True)
    runner.run(chain.checked(home), store, last="prepare")
    assert not compare(chain.checked(home), store, "tiny").retrain, "nothing changed, duplicates that were dropped too"
    rewritten(home, (3, "an entirely other text about reefs"), (5, None), (40, "a new text about noise of engines"))
    found = compare(chain.checked(home), store, "tiny")
    assert (found.new, found.changed, found.gone, found.same) == (1, 1, 1, 38)
    assert found.share == pytest.approx(3 / 40)
    assert found.retrain
    path = chain.settings_file(home, retrain={"min_changed": 0.1})
    diff_corpus.diff_corpus(path, str(store.root), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["retrain"], told["changed"], told["min_changed"]) == (False, 1, 0.1)
    diff_corpus.diff_corpus(path, str(store.root))
    assert "7.50% of the documents; retrain.min_changed is 10.00%: nothing to retrain" in capsys.readouterr().out


def test_a_policy_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    home = chain.home(tmp_path)
    for given, words in (
        ({"min_changed": 2}, "retrain.min_changed: must be less"),
        ([], "retrain: a section of settings belongs here"),
    ):
        with pytest.raises(UserError, match=words):
            settings.load(chain.settings_file(home, retrain=given))
