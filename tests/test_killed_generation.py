"""Generation that is killed at any moment: what is finished is never asked again, and the end is the same."""

import random
from pathlib import Path
from typing import Any

import pytest

import tiny
from drafting import corpus, generated, prepared
from generating import kill
from hone.storage.local import LocalStore
from openai_server import KEY, sections, serving

pytestmark = pytest.mark.long

KILLS = 20


def test_twenty_kills_cost_at_most_what_was_under_way_and_change_no_row(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    store, whole, docs = LocalStore(tmp_path / "store"), LocalStore(tmp_path / "whole"), corpus(300)
    draw, concurrency, inputs = random.Random(11), 4, prepared(store, docs)
    with serving() as server:
        chosen = sections(server, concurrency=concurrency)
        expected = generated(whole, prepared(whole, docs), **chosen)
        prompts = set(server.answered)
        server.answered.clear()
        for _ in range(KILLS):
            before = server.answered.copy()
            kill((store.root, inputs, chosen, KEY, tmp_path / "none"), server.answered.total, draw, most=30)
            again = (server.answered - before).keys() & before.keys()
            assert len(again) <= concurrency
        assert 0 < len(server.answered) < len(prompts)
        found = generated(store, inputs, **chosen)
    assert found.outputs == expected.outputs
    assert set(server.answered) == prompts
    assert server.answered.total() <= len(prompts) + KILLS * concurrency
    assert found.facts["answers"]["openai"]["title"]["answers"] == 240


def test_kills_amid_a_model_in_the_process_cost_at_most_a_batch_each(tmp_path: Path) -> None:
    llm = {"model": str(tiny.llama(tmp_path / "llama")), "max_new_tokens": 3, "max_doc_tokens": 40}
    llm |= {"styles": {"free search": 1}, "layout": "document", "token_budget": 2_000}
    chosen = {"sources": ("transformers",), "llm": llm, "min_words": 1}
    store, whole, docs = LocalStore(tmp_path / "store"), LocalStore(tmp_path / "whole"), corpus(150)
    draw, inputs, batches = random.Random(12), prepared(store, docs), tmp_path / "batches"
    batches.touch()
    expected = generated(whole, prepared(whole, docs), **chosen)
    for _ in range(KILLS):
        kill((store.root, inputs, chosen, "", batches), lambda: len(batches.read_text().splitlines()), draw, most=2)
    begun = sum(map(int, batches.read_text().split()))
    found = generated(store, inputs, **chosen)
    assert found.outputs == expected.outputs
    left = found.cost["prompt_tokens"] / expected.cost["prompt_tokens"] * 120
    assert left > 0
    largest = max(map(int, batches.read_text().split()))
    assert begun + left <= 120 * 1.02 + KILLS * largest
