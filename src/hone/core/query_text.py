"""The text of queries: when two of them read alike."""

import re
import unicodedata


def comparable(text: str) -> str:
    """Lower case, without accents and punctuation, single spaces: queries that read alike become equal."""
    if text.isascii():
        bare = text  # the common case, in which the next line changes nothing
    else:
        bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return " ".join(re.findall(r"[^\W_]+", bare.casefold()))
