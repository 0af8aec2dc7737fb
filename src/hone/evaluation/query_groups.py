"""Queries by what they are like: a gain that comes from one kind of query alone should show."""

from collections.abc import Callable, Mapping, Sequence

from hone.core.segmentation import count_words

_QUESTION_WORDS = """
    who whom whose what which when where why how is are was were do does did can could should would will may
"""
QUESTION_WORDS = frozenset(_QUESTION_WORDS.split())
LENGTHS = ((3, "1 to 3 words"), (7, "4 to 7 words"), (15, "8 to 15 words"))
LONGEST = "16 words or more"


def style_of(text: str) -> str:
    """question, sentence (8 words or more) or keywords: what a query looks like, whoever wrote it."""
    words = text.lower().split()
    if text.rstrip().endswith("?") or (words and words[0] in QUESTION_WORDS):
        return "question"
    return "sentence" if len(words) >= 8 else "keywords"


def length_of(text: str) -> str:
    """The row of LENGTHS that a query's number of words falls in."""
    count = count_words(text)
    return next((name for most, name in LENGTHS if count <= most), LONGEST)


GROUPINGS: Mapping[str, Callable[[str], str]] = {"style": style_of, "length": length_of}


def grouped(texts: Sequence[str], by: str) -> dict[str, list[int]]:
    """Group to the positions of its queries, groups in alphabetical order, lengths by number."""
    groups: dict[str, list[int]] = {}
    for at, text in enumerate(texts):
        groups.setdefault(GROUPINGS[by](text), []).append(at)
    order = [name for _, name in LENGTHS] + [LONGEST]
    return dict(sorted(groups.items(), key=lambda item: order.index(item[0]) if item[0] in order else item[0]))
