"""Which language model writes queries, how it is sampled, and what it is asked for."""

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from hone.backends.generators.settings import Sampling
from hone.stages.generate.prompts import checked_template
from hone.stages.generate.styles import FEWEST_EXAMPLES, STYLES, Counts, Style, counts_of


class LanguageModel(Sampling):
    """Which language model writes queries, how it is sampled, and what it is asked for."""

    define: dict[str, Style] = Field(default={})
    """Styles of your own by name, or another instruction and examples for those that come with Hone."""
    styles: Counts = dict.fromkeys(STYLES, 1.0)
    """How many queries of each style a document is asked for; 0.25 asks every fourth document."""
    layout: Literal["guide", "examples", "document"] = "document"
    """What comes first in a prompt: a guide to all styles, the examples of the one style, or the document."""
    examples: int = Field(default=3, ge=0, le=10)
    """How many examples of its style a prompt shows; of a style that you define three at least. Models of less than a
    billion parameters give them back, or mix them into their answers, and do better with none."""
    example_sets: int = Field(default=16, ge=0)
    """Into how many sets the examples are drawn; a document's hash picks one, so that many documents share the
    beginning of their prompts. 0 draws for every document anew."""
    template: str = ""
    """A Jinja template of your own in place of the layout, with document, style (name, instruction, max_words,
    examples), styles (all of them) and language."""
    language: str = ""
    """ISO 639-1 code of the language to write in, such as de; empty for that of the document."""
    max_copied_words: int = Field(default=10, ge=1)
    """Longer runs of words copied from the document are dropped."""

    @field_validator("styles")
    @classmethod
    def _known(cls, value: Counts, info: ValidationInfo) -> Counts:
        return counts_of({**STYLES, **info.data.get("define", {})}, value)

    @field_validator("language")
    @classmethod
    def _two_letters(cls, value: str) -> str:
        if value and not re.fullmatch("[a-z]{2}", value):
            raise ValueError("give the two letters of ISO 639-1, such as de, or nothing for the document's language")
        return value

    @field_validator("template")
    @classmethod
    def _usable(cls, value: str) -> str:
        return checked_template(value) if value else value

    def shows(self, style: str) -> int:
        """How many examples a prompt of this style shows: whoever writes examples wants them seen."""
        return max(self.examples, FEWEST_EXAMPLES) if style in self.define else self.examples

    @property
    def known_styles(self) -> dict[str, Style]:
        """Hone's styles and the user's."""
        return {**STYLES, **self.define}
