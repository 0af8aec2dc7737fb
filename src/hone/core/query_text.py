"""The text of queries: when two of them read alike."""

import re

from hone.core.segmentation import MARKS, spelt, without_accents

_WORDS = re.compile(f"(?:[^\\W_]|[{MARKS}])+")


def comparable(text: str) -> str:
    """Lower case, without accents and punctuation, single spaces: queries that read alike become equal.

    Vowel signs are not accents and stay; letters of scripts without spaces stand apart, each as a word.
    """
    if text.isascii():
        return " ".join(re.findall(r"[^\W_]+", text.casefold()))
    bare = without_accents(text).casefold()
    return " ".join(_WORDS.findall(spelt(bare)))
