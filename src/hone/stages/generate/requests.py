"""Which prompts each document is asked with: its styles, and the examples drawn for them."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from heapq import nlargest
from random import Random

from hone.core.hashing import drawn
from hone.errors import UserError
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.prompts import LAYOUTS, SAME_LANGUAGE, Request, Shown
from hone.stages.generate.styles import Style, numbered


@dataclass(frozen=True)
class Prompts:
    """What each document is asked: `share` of the queries that the settings want. Examples in `left_out` are shown to
    no model. Raises UserError if a style that is asked for has no example left."""

    llm: LanguageModel
    seed: int
    share: float = 1.0
    left_out: Set[str] = frozenset()
    rows: Mapping[str, Style] = field(init=False)

    def __post_init__(self) -> None:
        known = self.llm.known_styles
        object.__setattr__(self, "rows", {name: known[name] for name, count in self.llm.styles.items() if count})
        for name, row in self.rows.items():
            if self.llm.shows(name) and not row.zero_shot and not set(row.examples) - self.left_out:
                everywhere = f"every example of {name!r} stands in a test query or a judged document"
                raise UserError(f"{everywhere}; write others in generate.llm.define")

    @property
    def question_style(self) -> str:
        """The style asked for whose answers are questions; empty if there is none."""
        return next((name for name, row in self.rows.items() if row.form == "question"), "")

    def requests(self, doc_id: str, doc: str) -> Iterator[tuple[int, Request]]:
        """The requests for a document, those that share a beginning side by side; numbers tell equal ones apart."""
        styles = self._shown(self._draw(doc_id))
        by_name = {style.name: style for style in styles}
        counts = {name: count * self.share for name, count in self.llm.styles.items()}
        for style, number in numbered(counts, self.seed, doc_id):
            yield number, self._request(doc, by_name[style], styles)

    def probes(self) -> list[Request]:
        """Prompts without a document, as long as any can be."""
        longest = tuple(
            Shown(name, row.instruction, row.max_words, tuple(nlargest(self.llm.shows(name), row.examples, key=len)))
            for name, row in self.rows.items()
        )
        return [self._request("", style, longest) for style in longest]

    def _request(self, doc: str, style: Shown, styles: tuple[Shown, ...]) -> Request:
        template = self.llm.template or LAYOUTS[self.llm.layout]
        language = f"the language with the ISO code {self.llm.language}" if self.llm.language else SAME_LANGUAGE
        return Request(doc, style, styles, template, language)

    def _draw(self, doc_id: str) -> str:
        sets = self.llm.example_sets
        return str(int(drawn(self.seed, "examples", doc_id) * sets)) if sets else doc_id

    def _shown(self, draw: str) -> tuple[Shown, ...]:
        return tuple(
            Shown(name, row.instruction, row.max_words, self._examples(name, row, draw))
            for name, row in self.rows.items()
        )

    def _examples(self, name: str, row: Style, draw: str) -> tuple[str, ...]:
        pool = [example for example in row.examples if example not in self.left_out]
        return tuple(Random(f"{self.seed}\0{name}\0{draw}").sample(pool, min(self.llm.shows(name), len(pool))))
