"""A guess at the language of texts, for people: by script, and by the commonest words where the script is Latin.

It needs no library, so that `hone init` answers at once; what is dropped for its language is judged by `languages`.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable

SCRIPTS = {
    "CYRILLIC": "Cyrillic", "GREEK": "Greek", "ARABIC": "Arabic", "HEBREW": "Hebrew", "DEVANAGARI": "Devanagari",
    "THAI": "Thai", "HANGUL": "Korean", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "CJK": "Chinese",
}  # fmt: skip
COMMON = {
    "English": "the of and to in is that for it with as be are this",
    "German": "der die und das ist nicht ein eine zu den mit von auf für",
    "French": "le la les des et est une du dans que pour qui pas sur",
    "Spanish": "el los las y es una que del por con para se como su",
    "Italian": "il di che è una per non sono del della con gli nel anche",
    "Portuguese": "o os uma que não do da em para com por mais são ao",
    "Dutch": "het een van en is dat niet op te zijn voor met aan de",
}
WORDS = {language: frozenset(words.split()) for language, words in COMMON.items()}
LEAST_SHARE = 0.05
"""Fewer words than this share are common ones: code, tables or a language that is not listed."""


def guess(texts: Iterable[str]) -> str:
    """The likeliest language, or the script where it has several, or "unknown"."""
    whole = " ".join(texts)
    scripts = Counter(unicodedata.name(char, "").split(" ")[0] for char in whole if char.isalpha())
    if not scripts:
        return "unknown"
    # Japanese is written with Chinese characters too.
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > scripts.total() / 10:
        return "Japanese"
    script = scripts.most_common(1)[0][0]
    if script != "LATIN":
        return SCRIPTS.get(script.partition("-")[0], "unknown")
    words = whole.lower().split()
    counts = {language: sum(word in common for word in words) for language, common in WORDS.items()}
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] >= LEAST_SHARE * len(words) else "unknown"
