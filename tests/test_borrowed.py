"""Queries that a model took from its prompt instead of the document, and those that only look like it."""

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from drafting import SENTENCES
from hone.core.borrowed import COMMON, borrowed, runs
from hone.core.query_text import comparable
from hone.stages.generate.from_model import shown_by
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.prompts import Request
from hone.stages.generate.requests import Prompts
from hone.stages.generate.styles import STYLES

GUIDE = LanguageModel(layout="guide")
REQUESTS: list[Request] = [next(Prompts(GUIDE, 17).requests(f"d{n}", ""))[1] for n in range(40)]
SEEN = [shown_by(request) for request in REQUESTS]
SETS = st.sampled_from(SEEN)
DOC = "The heat of a shock wave at the inlet of an engine."


def texts(parts: list[list[str]]) -> str:
    return ". ".join(" ".join(words) for words in parts)


@given(st.data())
def test_an_example_that_comes_back_is_found_verbatim_near_contained_and_shuffled(data: st.DataObject) -> None:
    seen = data.draw(SETS)
    example = data.draw(st.sampled_from(seen.examples))
    words = example.split()
    changed = data.draw(st.integers(0, len(words) - 1))
    shuffled = random.Random(changed).sample(words, len(words))
    assume(len([word for word in comparable(example).split() if word not in COMMON]) > 1)
    for text in (
        example,
        example.upper(),
        f"{example.rstrip('?.')} today",
        f"so, {example}",
        " ".join(shuffled),
        " ".join(words[:changed] + words[changed + 1 :]) if len(words) > 4 else example,
    ):
        assert borrowed(text, "Nothing of it stands here.", seen), text


@given(st.data())
def test_pieces_of_several_examples_are_found(data: st.DataObject) -> None:
    seen = data.draw(SETS)
    chosen = data.draw(st.lists(st.sampled_from(seen.examples), min_size=2, max_size=4, unique=True))
    telling = [[word for word in comparable(text).split() if word not in COMMON] for text in chosen]
    pieces = [word for words in telling for word in data.draw(st.permutations(words))[:2]]
    assume(len(set(pieces)) > 2)
    assert borrowed(", ".join(pieces), "Nothing of it stands here.", seen)


@given(SENTENCES, st.data())
def test_a_query_of_the_documents_own_words_is_kept(parts: list[list[str]], data: st.DataObject) -> None:
    seen = data.draw(SETS)
    words = [word for sentence in parts for word in sentence]
    query = data.draw(st.lists(st.sampled_from([*words, "what", "is", "the", "of"]), min_size=2, max_size=12))
    assume(comparable(" ".join(query)) not in map(comparable, seen.examples))
    assert not borrowed(" ".join(query), texts(parts), seen)


@pytest.mark.parametrize(
    "text",
    [
        "free search",
        "Web search",
        "write web search",
        "about short, plain, often lower case",
        "About other subjects",
        "Write a claim about the shock wave",
        "Write one question that a person without the document would ask, and that the document answers.",
        "What is heat<|im_end|>",
        "what is heat.Assistant: it is",
        "[INST] what is heat",
        *(style.instruction for style in STYLES.values()),
        *STYLES,
    ],
)
def test_the_instruction_the_names_of_styles_and_marks_of_the_template_are_found(text: str) -> None:
    assert all(borrowed(text, DOC, seen) for seen in SEEN)


@pytest.mark.parametrize(
    ("query", "doc"),
    [
        ("how do I write a title tag", "In HTML a title tag is written in the head of a document."),
        ("which keywords find this web search engine", "A web search engine finds pages by keywords."),
        ("how is goodwill tested every year", "Goodwill is tested for impairment once a year."),
        ("what causes stall flutter", "Stall flutter of compressor blades has several causes."),
        ("can I delete my account", "You can delete your account at any time."),
        ("python sort dictionary by value", "def sort(items): sorts a dictionary by its values"),
        ("flutter of thin panels", "Panels in a stream."),
        ("what is it", "A wing."),
    ],
)
def test_a_query_about_a_document_that_shares_a_subject_with_an_example_is_kept(query: str, doc: str) -> None:
    assert not any(borrowed(query, doc, seen) for seen in SEEN)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=12))
def test_runs_are_the_longest_that_stand_in_the_text(words: list[str], text: list[str]) -> None:
    plain = f" {' '.join(text)} "
    inside = {
        (at, end)
        for at in range(len(words))
        for end in range(at + 1, len(words) + 1)
        if f" {' '.join(words[at:end])} " in plain
    }
    longest = [
        (at, end)
        for at, end in sorted(inside, key=lambda pair: pair[1])
        if not any((a <= at and end <= e) and (a, e) != (at, end) for a, e in inside)
    ]
    assert runs(words, plain) == [words[at:end] for at, end in longest]
