"""What of an answer is put right, and what form is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.core.forms import Form, keywords, wrong_form
from hone.core.query_text import comparable
from hone.stages.generate.cleaning import Cleaner, Draft, Rules, answered

DOC = "The three-dimensional flow in an optimal nozzle. def readLine(file): read one line"


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ("**Question:** What is flutter?", "What is flutter?"),
        ("# The Stall of Wings", "The Stall of Wings"),
        ('Search for "heat transfer in pipes".', "heat transfer in pipes"),
        ("what is flutter? Answer: an oscillation", "what is flutter?"),
        ("what is flutter (3 words)", "what is flutter"),
        ("what is flutter (This query is short)", "what is flutter"),
        ("what is flutter<|im_end|>\nHuman: next", "what is flutter"),
        ("Search query: **mach waves**", "mach waves"),
        ("1. Claim: Wings stall.", "Wings stall."),
        ("*Wings*", "Wings"),
        ("lift (drag) ratio", "lift (drag) ratio"),
        ("a note on stall", "a note on stall"),
        ("search for missing values", "search for missing values"),
        ('search "heat transfer in pipes"', "heat transfer in pipes"),
        ("Search for articles discussing the stall of wings", "the stall of wings"),
        ("find papers by Prandtl", "find papers by Prandtl"),
        ("about other subjects: turbulence, mean velocity", "turbulence, mean velocity"),
        ("about other subjects about nozzle flow", "nozzle flow"),
        ("about nozzle flow", "nozzle flow"),
        ("About Face: the Masks of Venice", "About Face: the Masks of Venice"),
        ("about", "about"),
        ('"Thick shells have one stable form.', "Thick shells have one stable form."),
        ('a 5" pipe and a 6" pipe', 'a 5" pipe and a 6" pipe'),
        ("buckling of conical shells,\nand more", "buckling of conical shells"),
        ('Document search query: "roughness elements"', "roughness elements"),
    ],
)
def test_what_stands_around_a_query_is_taken_off(answer: str, query: str) -> None:
    assert answered(answer) == query


@pytest.mark.parametrize(
    ("answer", "cut", "expected"),
    [
        ("stall, flutter, stall, wing", False, ("stall flutter wing", False)),
        ("stall; flutter | wing.", False, ("stall flutter wing", False)),
        ("a, b, c, d, e, f", False, ("a b c d e", False)),
        ("stall of wings, flutter of thin panels in streams of air, heat", False, ("stall of wings heat", False)),
        ("stall, flutter, vis", True, ("stall flutter", False)),
        ("stall flutter vis", True, ("stall flutter vis", True)),
        ("stall flutter", False, ("stall flutter", False)),
    ],
)  # fmt: skip
def test_keywords_are_words_without_commas_and_the_first_five(
    answer: str, cut: bool, expected: tuple[str, bool]
) -> None:
    assert keywords(answer, 8, cut=cut) == expected


@given(st.text(alphabet="ab ,;.-|", max_size=60), st.booleans())
def test_keywords_hold_no_word_that_was_not_there(text: str, cut: bool) -> None:
    found, still = keywords(text, 12, cut=cut)
    assert set(comparable(found).split()) <= set(comparable(text).split())
    assert cut or not still


@pytest.mark.parametrize(
    ("text", "form", "wrong"),
    [
        ("Does flow separate?", "statement", True),
        ("what do wings need", "statement", True),
        ("What matters in a nozzle is its throat.", "statement", False),
        ("Flow separates.", "statement", False),
        ("Explain the link between flow and flutter.", "statement", True),
        ("Search engines share what the user looks for.", "statement", False),
        ("Why Wings Stall?", "title", True),
        ("Why Wings Stall", "title", False),
        ("does flow separate?", "any", False),
        ("最优 nozzle shape", "any", True),
        ("сверхзвуковой nozzle", "any", True),
        ("decay of μ and β in a nozzle", "any", False),
        ("naïve Übergang", "any", False),
        ("three-dimensiHuman: what does", "any", True),
        ("what does readLine return", "any", False),
        ("what does readFile return", "any", False),
        ("lift and drag lift and drag lift and drag", "any", True),
        ("very very fast", "any", False),
        ("bad \ufffd letter", "any", True),
    ],
)
def test_a_wrong_form_is_seen(text: str, form: Form, wrong: bool) -> None:
    assert bool(wrong_form(text, form, DOC)) == wrong


def test_a_second_script_that_the_document_has_too_is_right() -> None:
    assert not wrong_form("最优 nozzle shape", "any", "最优 nozzle")
    assert not wrong_form("東京の nozzle", "any", "東京タワー and a nozzle")


def test_a_wrong_form_is_a_reason_for_a_model_and_none_for_people() -> None:
    cleaner = Cleaner(set(), Rules(2, 64, 8))
    found = cleaner.check(Draft("vllm", "claim", "d", "Do wings stall?", "wings", by_model=True, form="statement"))
    assert found is not None
    assert found.reason == "wrong form"
    assert cleaner.check(Draft("log", "log", "", "最优 nozzle shape")) is None
