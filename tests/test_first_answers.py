"""The first answers of a language model: shown as they come, and a reason to stop if nearly all fall."""

import io

import pytest

from hone.core.borrowed import Seen
from hone.errors import UserError
from hone.progress import Task
from hone.stages.generate.cleaning import Cleaner, Draft, Rules
from hone.stages.generate.first_answers import LOOKED_AT, SHOWN, FirstAnswers


def draft(text: str) -> Draft:
    seen = Seen("Write a claim.", ("Tickets are refunded within a week.",), ("claim",))
    return Draft("vllm", "claim", "d", text, "wings", by_model=True, form="statement", seen=seen)


def looked_at(texts: list[str], most_dropped: float) -> tuple[FirstAnswers, list[str]]:
    shown = io.StringIO()
    progress = Task("generate", 0, "drafts", shown)
    first = FirstAnswers("vllm", Cleaner(set(), Rules(2, 64, 8)), most_dropped)
    for text in texts:
        if not first.settled:
            first.see(draft(text), progress)
    return first, shown.getvalue().splitlines()


def test_the_first_ten_kept_and_dropped_are_shown_with_their_reasons() -> None:
    texts = [text for n in range(30) for text in (f"Wings stall {n} times.", f"Do wings stall {n} times?")]
    first, shown = looked_at(texts, 1.0)
    assert not first.settled
    assert len(shown) == 2 * SHOWN
    assert shown[:2] == [
        "kept     claim: Wings stall 0 times.",
        "dropped  claim: Do wings stall 0 times? (wrong form)",
    ]


def test_a_run_of_which_nearly_all_is_dropped_stops_after_200_answers_with_the_reasons() -> None:
    bad = [f"Do wings stall {n} times?" for n in range(LOOKED_AT)]
    first, _ = looked_at(bad[: LOOKED_AT - 1], 0.8)
    with pytest.raises(UserError, match=r"200 of the first 200 answers of vllm .*200 wrong form.*most_dropped"):
        looked_at(bad, 0.8)
    assert looked_at(bad, 1.0)[0].settled
    with pytest.raises(UserError, match=r"not about the document .*; take a larger model, show it no examples"):
        looked_at(["Tickets are refunded within a week."] * LOOKED_AT, 0.8)
    half = [f"Wings stall {n} times." if n % 2 else text for n, text in enumerate(bad)]
    assert looked_at(half, 0.8)[0].settled
    assert not first.settled
