"""Styles, examples, layouts and templates: what a document is asked."""

import re
from typing import Any

import pytest

from hone.errors import UserError
from hone.stages.generate import styles
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.prompts import Request
from hone.stages.generate.requests import Prompts


def test_every_style_with_examples_has_a_pool_that_keeps_its_own_rules() -> None:
    pools = {name: row for name, row in styles.STYLES.items() if row.examples}
    assert set(styles.STYLES) - set(pools) == {"free search"}
    for row in pools.values():
        assert len(set(row.examples)) == len(row.examples) >= 15
        assert all(len(example.split()) <= row.max_words for example in row.examples)


def asked(doc_id: str, doc: str = "The mach wedge.", seed: int = 17, **llm: Any) -> list[Request]:
    return [request for _, request in Prompts(LanguageModel(**llm), seed).requests(doc_id, doc)]


def test_a_document_is_asked_for_every_style_in_one_guide_that_it_shares_with_others() -> None:
    prompts = [request.prompt("The mach") for request in asked("d1", layout="guide")]
    assert [prompt.rpartition("Now write: ")[2] for prompt in prompts] == list(styles.STYLES)
    assert len({prompt.rpartition("Now write: ")[0] for prompt in prompts}) == 1
    guides = {asked(f"d{n}", layout="guide")[0].prompt("").partition("Document:")[0] for n in range(300)}
    assert len(guides) == 16
    assert prompts[0].partition("Document:\nThe mach\n")[0] in guides


@pytest.mark.parametrize(("layout", "start"), [("document", "Document:\nThe mach\n"), ("examples", "Write one claim.")])
def test_other_layouts_begin_with_what_they_are_named_for(layout: str, start: str) -> None:
    defined = {"claim": {"instruction": "Write one claim.", "examples": ("a b", "c d", "e f")}}
    (request,) = asked("d1", layout=layout, styles={"claim": 1}, define=defined)
    prompt = request.prompt("The mach")
    assert prompt.startswith(start)
    assert all(f"\n- {example}\n" in f"{prompt}\n" for example in ("a b", "c d", "e f"))


def test_examples_depend_on_document_and_seed_and_a_zero_shot_style_shows_none() -> None:
    claim = {"styles": {"claim": 1}, "example_sets": 0}
    drawn = {asked(doc_id, seed=seed, **claim)[0].style.examples for seed in (1, 2) for doc_id in "ab"}
    assert len(drawn) == 4
    assert all(len(set(examples)) == 3 for examples in drawn)
    assert "Examples" not in asked("d", layout="examples", styles={"free search": 1})[0].prompt("text")


@pytest.mark.parametrize("layout", ["document", "examples", "guide"])
@pytest.mark.parametrize("shown", [0, 1, 5])
def test_a_prompt_shows_as_many_examples_as_the_settings_say(layout: str, shown: int) -> None:
    for request in asked("d", layout=layout, examples=shown):
        prompt = request.prompt("text")
        of_style = [example for example in styles.STYLES[request.style.name].examples if f"\n- {example}" in prompt]
        assert len(of_style) == (0 if request.style.name == "free search" else shown)
        said = (shown > 0 and (bool(of_style) or layout == "guide")) and min(shown, 2)
        assert ("An example of the form, about another subject:" in prompt) == (said == 1)
        assert ("Examples of the form, about other subjects:" in prompt) == (said == 2)
    longest = max(
        len(request.prompt("")) for request in Prompts(LanguageModel(layout=layout, examples=shown), 17).probes()
    )
    assert all(len(request.prompt("")) <= longest for request in asked("d", layout=layout, examples=shown))


def test_examples_that_a_user_writes_are_shown_whatever_the_preset_says() -> None:
    defined = {"ticket": {"instruction": "Write a ticket.", "examples": ("a b", "c d", "e f", "g h")}}
    ticket, claim = asked("d", examples=0, styles={"ticket": 1, "claim": 1}, define=defined)
    assert (len(ticket.style.examples), claim.style.examples) == (3, ())
    assert "- a b" in ticket.prompt("text") or "- c d" in ticket.prompt("text")


def test_a_style_whose_examples_may_not_be_seen_can_be_asked_for_without_any() -> None:
    every = frozenset(styles.STYLES["claim"].examples)
    with pytest.raises(UserError, match="every example of 'claim' stands in a test query"):
        Prompts(LanguageModel(styles={"claim": 1}), 17, left_out=every)
    (request,) = Prompts(LanguageModel(styles={"claim": 1}, examples=0), 17, left_out=every).requests("d", "text")
    assert request[1].style.examples == ()


def test_a_share_of_a_style_asks_that_share_of_the_documents() -> None:
    counts = [len(asked(f"d{n}", styles={"claim": 0.25, "title": 1.5, "question": 0})) for n in range(2_000)]
    assert 1.65 < sum(counts) / len(counts) < 1.85


def test_a_template_of_the_users_is_filled_and_cannot_leave_its_sandbox() -> None:
    template = "{{ document }}|{{ style.name }}|{{ styles | length }}|{{ language }}"
    (request,) = asked("d", styles={"claim": 1}, template=template, language="de")
    assert request.prompt("{{ 7 * 7 }}") == "{{ 7 * 7 }}|claim|1|the language with the ISO code de"


@pytest.mark.parametrize(
    ("llm", "problem"),
    [
        ({"template": "{{ document }} {{ styl }}"}, "unknown placeholder styl; the placeholders are document"),
        ({"template": "{{ document }}"}, "needs {{ document }} and something of style"),
        ({"template": "{{ document }} {{ style.words }}"}, "a style has no attribute 'words'; a style has name"),
        ({"template": "{{ document }}\n{% if style.name %}"}, "line 2"),
        ({"template": "{{ document }} {{ style.__class__.__mro__ }}"}, "is unsafe"),
        ({"define": {"mine": {"instruction": "Ask."}}, "styles": {"mine": 1}}, "at least 3 different examples"),
        ({"styles": {"mine": 1}}, "of question, claim"),
        ({"language": "German"}, "the two letters of ISO 639-1"),
        ({"endpoint": {"url": "localhost:8000/v1"}}, "begins with http:// or https://"),
        ({"endpoint": {"url": "http:///v1"}}, "names a host"),
    ],
)
def test_settings_that_make_no_prompt_are_refused_when_they_are_read(llm: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        LanguageModel(**llm)
