"""What of an answer is kept as a query, and every reason for dropping it."""

import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drafting import SENTENCES, WORDS, corpus, generated, log, prepared, rows
from hone.backends.generators.answers import is_complete
from hone.core.near_duplicates import NearDuplicates, NearTexts, shingles, similarity
from hone.core.query_text import comparable
from hone.core.rejection import Rejection
from hone.stages.generate.cleaning import Cleaner, Draft, Rules, answered, copied_words
from hone.storage.local import LocalStore

RULES = Rules(2, 64, 8, check_language=True)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@given(SENTENCES, st.lists(st.sampled_from([*WORDS, "new"]), max_size=12))
def test_copied_words_are_those_of_the_slow_count(parts: list[list[str]], query: list[str]) -> None:
    doc = [word for words in parts for word in words]
    runs = [query[i:j] for i in range(len(query)) for j in range(i + 1, len(query) + 1)]
    inside = [run for run in runs if any(doc[at : at + len(run)] == run for at in range(len(doc)))]
    assert copied_words(" ".join(query), " ".join(doc)) == max(map(len, inside), default=0)


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_texts_that_read_alike_become_equal_whatever_letters_they_have(text: str) -> None:
    bare = [char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)]
    words = "".join(char if char.isalnum() else " " for char in "".join(bare).casefold()).split()
    assert comparable(text) == comparable(unicodedata.normalize("NFD", text)) == " ".join(words)


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ('"What is flutter?"', "What is flutter?"),
        ("“mach waves”\nI chose this because", "mach waves"),
        ("<think>\nA question is wanted.\n</think>\n\nwhat is flutter", "what is flutter"),
        ("<think>\nA question is", ""),
        ("Query: 'swept  wing stall'", "swept wing stall"),
        ("**Stall of Swept Wings**", "Stall of Swept Wings"),
        ("- heat shield ablation", "heat shield ablation"),
        ('"lift" and "drag"', '"lift" and "drag"'),
        ("", ""),
    ],
)
def test_of_an_answer_only_the_query_is_left(answer: str, query: str) -> None:
    assert answered(answer) == query


def test_an_answer_is_complete_with_its_first_line_after_any_reasoning() -> None:
    growing = ["\n\n", "\n\nmach", "<think>\na\nb", "<think>a</think>\n\n", "<think>a</think>\n\nmach"]
    assert not any(map(is_complete, growing))
    assert is_complete("\nmach waves\n")
    assert is_complete("<think>a</think>\nmach waves\nmore")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("?!", "empty"),
        ("Here is a question about flutter", "preamble"),
        ("I cannot help with that request", "refused"),
        ("I'm sorry, but that is unsafe", "refused"),
        ("What does the passage say about flutter?", "refers to the passage"),
        ("Does the paper involve a method for flutter?", "refers to the passage"),
        ("The paper accurately describes the flutter of blades.", "refers to the passage"),
        ("The paper demonstrates a system of equations for shells.", "refers to the passage"),
        ("The paper is intended to set forth calculations of shocks.", "refers to the passage"),
        ("What do the authors conclude about flutter?", "refers to the passage"),
        ("This study shows that blades flutter.", "refers to the passage"),
        ("Document examines excrescences in laminar layers", "refers to the passage"),
        ("flutter " * 21, "too long"),
        ("the flow over a flat plate with heat transfer is studied", "copies a long span"),
        ("Flutter of blades", "duplicate"),
        ("mach, wedge", "test query"),
    ],
)
def test_a_faulty_answer_is_dropped_with_its_reason(text: str, reason: str) -> None:
    cleaner = Cleaner({"mach wedge"}, RULES)
    doc = "Here the flow over a flat plate with heat transfer is studied."
    draft = Draft("transformers", "question", "d", "flutter of blades", doc, 20, by_model=True)
    assert cleaner.check(draft) is None
    fault = cleaner.check(Draft("transformers", "question", "d", text, doc, 20, by_model=True))
    assert fault is not None
    assert fault.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "how long the authors of a report keep its rights",
        "The paper in a printer jams when it is damp.",
        "the report must be filed within ten days",
        "Which studies show that blades flutter?",
        "document review of supplier contracts",
    ],
)
def test_a_query_about_papers_and_authors_does_not_refer_to_the_passage(text: str) -> None:
    draft = Draft("transformers", "question", "d", text, "The flow over blades.", 20, by_model=True)
    assert Cleaner(set(), RULES).check(draft) is None


NEAR = st.lists(st.lists(st.sampled_from(WORDS), min_size=3, max_size=9).map(" ".join), min_size=2, max_size=40)


@given(NEAR)
def test_hashing_finds_the_near_duplicates_that_comparing_all_finds(queries: list[str]) -> None:
    found, slow, least = NearDuplicates(0.8), list[str](), 0.8
    for text in dict.fromkeys(queries):
        near = [one for one in slow if similarity(shingles(text), shingles(one)) >= least]
        assert found.find(text) == min(near, default="")
        slow.append(text)
        found.add(text)


@pytest.mark.parametrize(
    ("text", "language", "kept"),
    [
        ("Was verursacht das Flattern der Schaufeln?", "", False),
        ("What causes the blades to flutter?", "", True),
        ("zebrafish heart regeneration", "", True),
        ("Was verursacht das Flattern der Schaufeln?", "de", True),
        ("What causes the blades to flutter?", "de", False),
    ],
)
def test_a_model_must_write_in_the_language_asked_for_or_the_documents(text: str, language: str, kept: bool) -> None:
    rules = Rules(2, 64, 8, check_language=True, language=language)
    doc = "The flow over the blades of a compressor was studied in order to find what causes them to flutter."
    fault = Cleaner(set(), rules).check(Draft("vllm", "question", "d", text, doc, by_model=True))
    assert (fault is None) == kept
    assert kept or (fault and fault.reason == "wrong language")


def test_a_model_that_ran_out_of_tokens_or_refused_is_told_by_its_reason() -> None:
    cleaner = Cleaner(set(), RULES)
    cut = Draft("vllm", "claim", "d", "The flow over a", by_model=True, cut=True)
    refusal = Draft("vllm", "claim", "d", "I can't assist with creating content about this", by_model=True, cut=True)
    reasoning = Draft("vllm", "claim", "d", answered("<think>\nThe user wants a"), by_model=True, cut=True)
    faults = [cleaner.check(draft) for draft in (cut, refusal, reasoning)]
    assert [fault and fault.reason for fault in faults] == ["truncated", "refused", "truncated"]
    assert cleaner.check(Draft("log", "log", "", "I cannot log in")) is None


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("who is jane.doe@example.org", True),
        ("call +44 20 7946 0958 refund", True),
        ("card 4111 1111 1111 1111 declined", True),
        ("transfer from DE89 3704 0044 0532 0130 00", True),
        ("sales between 2019 and 2024", False),
        ("boeing 747 400 range in km", False),
        ("error 0x80070057 windows", False),
        ("ring (555) - 123 4567 today", True),
        ("phone: 555-0199", True),
        ("+49 (0)30 / 1234\u201356 78", True),
        ("mail jane (at) example (dot) org", True),
        ("see https://example.org/?to=jane%40example.org", True),
        ("iban gb82 west 1234 5698 7654 32", True),
        ("see https://example.org/123456789012", False),
        ("log of 2026-11-28 13 hours", False),
        ("section 1234 of act 56", False),
    ],
)
def test_personal_data_is_dropped_on_request_and_not_repeated(text: str, private: bool) -> None:
    assert Cleaner(set(), RULES).check(Draft("log", "log", "", text)) is None
    fault = Cleaner(set(), Rules(2, 64, 8, personal_data=True)).check(Draft("log", "log", "", text))
    assert (fault is not None) == private
    assert fault is None or text not in fault.detail


@pytest.mark.parametrize("secret", ["jane.doe@example.org", "+44 20 7946 0958", "4111 1111 1111 1111"])
def test_whatever_a_draft_is_dropped_for_its_personal_data_is_not_repeated(secret: str) -> None:
    known = comparable(f"the number of the office is {secret}")
    tests = frozenset({known})
    rules = Rules(6, 9, 8, personal_data=True)
    cleaner = Cleaner(tests, rules, NearTexts(tests, 0.5))
    asked_rarely = Rejection("asked too rarely", f"1 of 2 times: who is {secret}")
    drafts = [
        Draft("log", "log", "", f"who {secret}"),
        Draft("log", "log", "", f"who is it that has {secret} and why is that so of all things"),
        Draft("log", "log", "", f"write to the office at {secret} now", fault=asked_rarely),
        Draft("openai", "question", "", f"I cannot help with {secret}", by_model=True),
    ]
    faults = [cleaner.check(draft) for draft in drafts]
    assert all(fault is not None and secret not in fault.detail and secret[-4:] not in fault.detail for fault in faults)
    assert [fault.reason for fault in faults if fault] != ["personal data"] * 4


def test_blocked_words_are_found_as_whole_words(store: LocalStore, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("Dämn\nmach wave\n\n", "utf-8")
    path = log(tmp_path, "damn rotor", "damned rotor", "what is a Mach-wave", "mach waves")
    sections = {"sources": ("log",), "query_log": path, "clean": {"blocked_words": str(words)}}
    manifest = generated(store, prepared(store, corpus(10)), **sections)
    assert [row["text"] for row in rows(store, manifest)] == ["damned rotor", "mach waves"]


def test_what_people_type_about_documents_is_kept() -> None:
    cleaner = Cleaner(set(), RULES)
    assert cleaner.check(Draft("log", "log", "", "who signed this document")) is None


class Counting(NearTexts):
    """Knows what it was asked."""

    def __init__(self, texts: set[str], least: float) -> None:
        super().__init__(texts, least)
        self.asked = list[str]()

    def find(self, text: str) -> str:
        self.asked.append(text)
        return super().find(text)


def slowly(logged: list[str], tests: set[str]) -> list[Rejection | None]:
    """Every query of a log with all test queries and with all that were kept before it."""
    kept, found = list[str](), list[Rejection | None]()
    for text in logged:
        plain = comparable(text)
        near = [test for test in tests if similarity(shingles(plain), shingles(test)) >= 0.8]
        if not plain:
            found.append(Rejection("empty", text))
        elif len(text.split()) < RULES.min_words:
            found.append(Rejection("too short", f"{len(text.split())} words: {text}"))
        elif plain in tests:
            found.append(Rejection("test query", text))
        elif near:
            found.append(Rejection("near duplicate of a test query", f"{text} | {min(near)}"))
        else:
            found.append(Rejection("duplicate", text) if plain in kept else None)
            kept.append(plain)
    return found


LOGGED = st.lists(st.lists(st.sampled_from([*WORDS, "Mach", "-"]), max_size=5).map(" ".join), max_size=12)


@example(["- -"], [], random.Random(0))
@given(LOGGED, LOGGED, st.randoms(use_true_random=False))
def test_queries_that_come_again_are_judged_as_if_each_were_looked_at_by_itself(
    distinct: list[str], tests: list[str], draw: random.Random
) -> None:
    logged = draw.choices(distinct, k=3 * len(distinct)) if distinct else []
    plain = {comparable(text) for text in tests}
    near = Counting(plain, 0.8)
    cleaner = Cleaner(plain, RULES, near)
    assert [cleaner.check(Draft("log", "log", "", text)) for text in logged] == slowly(logged, plain)
    assert len(near.asked) == len(set(near.asked))


def test_the_drafts_of_a_log_are_those_of_its_rows_whatever_is_remembered(store: LocalStore, tmp_path: Path) -> None:
    rows_of_log = ["mach  waves", "stall flutter", "Mach waves", "mach  waves", "stall flutter", "heat"]
    inputs = prepared(store, corpus(4))
    sections: dict[str, Any] = {"sources": ("log",), "query_log": log(tmp_path, *rows_of_log), "log": {"min_count": 2}}
    manifest = generated(store, inputs, **sections)
    assert [row["text"] for row in rows(store, manifest)] == ["mach waves", "stall flutter"]
    lost = rows(store, manifest, "dropped_by_generate")
    assert [(row["reason"], row["detail"]) for row in lost] == [
        ("duplicate", "Mach waves"),
        ("duplicate", "mach waves"),
        ("duplicate", "stall flutter"),
        ("asked too rarely", "1 of 2 times: heat"),
    ]
    assert lost[1]["id"] == rows(store, manifest)[0]["query_id"]
