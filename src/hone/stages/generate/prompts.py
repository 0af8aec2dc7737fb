"""How a language model is asked: layouts of the prompt as Jinja templates, and the examples that are shown.

Servers compute a prompt's beginning once if prompts share it. The layout `guide` shares most: the kinds of query with
their examples come first and are the same for many documents, then the document, which its styles share, and last a
line that names the style. `benchmarks/prompt_layout.py` counts what each layout costs.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cache, lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

from hone.errors import UserError
from hone.stages.generate.styles import EXAMPLES_SHOWN, Style, drawn, numbered

if TYPE_CHECKING:
    from hone.stages.generate.language_model import LanguageModel

RULES = """\
Write in {{ language }}. A query must make sense to a reader who does not see the document, so do not mention the \
document, and do not copy long passages from it. Answer with the query alone, on one line."""

EXAMPLES = """\
{% if style.examples %}
Examples of the form, about other subjects:
{% for example in style.examples %}
- {{ example }}
{% endfor %}
{% endif %}"""

GUIDE = f"""\
You write search queries for documents. There are these kinds:
{{% for style in styles %}}

{{{{ style.name }}}}: {{{{ style.instruction }}}} At most {{{{ style.max_words }}}} words.
{EXAMPLES}
{{% endfor %}}

{RULES}

Document:
{{{{ document }}}}

Now write: {{{{ style.name }}}}"""

ONE_STYLE = f"""\
{{{{ style.instruction }}}} At most {{{{ style.max_words }}}} words. {RULES}
{EXAMPLES}"""

LAYOUTS = {
    "guide": GUIDE,
    "examples": f"{ONE_STYLE}\n\nDocument:\n{{{{ document }}}}",
    "document": f"Document:\n{{{{ document }}}}\n\n{ONE_STYLE}",
}
PLACEHOLDERS = ("document", "style", "styles", "language")
SAME_LANGUAGE = "the language of the document"


@dataclass(frozen=True)
class Shown:
    """A style as a template sees it: with the examples drawn for this prompt."""

    name: str
    instruction: str
    max_words: int
    examples: tuple[str, ...] = ()


EXAMPLE = Shown("name", "instruction", 20, ("example",))


@dataclass(frozen=True)
class Request:
    """One question to a language model about `doc`."""

    doc: str
    style: Shown
    styles: tuple[Shown, ...] = ()
    template: str = GUIDE
    language: str = SAME_LANGUAGE

    def prompt(self, doc: str) -> str:
        """The user's turn of the chat; `doc` is the document as far as it fits."""
        template = _compiled(self.template)
        return template.render(document=doc, style=self.style, styles=self.styles, language=self.language).strip()


@dataclass(frozen=True)
class Prompts:
    """What each document is asked: `share` of the queries that the settings want. Examples in `left_out` are shown to
    no model. Raises UserError if a style that is asked for has no example left."""

    llm: "LanguageModel"
    seed: int
    share: float = 1.0
    left_out: Set[str] = frozenset()
    rows: Mapping[str, Style] = field(init=False)

    def __post_init__(self) -> None:
        known = self.llm.known_styles
        object.__setattr__(self, "rows", {name: known[name] for name, count in self.llm.styles.items() if count})
        for name, row in self.rows.items():
            if not row.zero_shot and not set(row.examples) - self.left_out:
                everywhere = f"every example of {name!r} stands in a test query or a judged document"
                raise UserError(f"{everywhere}; write others in generate.llm.define")

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
            Shown(name, row.instruction, row.max_words, tuple(sorted(row.examples, key=len)[-EXAMPLES_SHOWN:]))
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
        return tuple(Random(f"{self.seed}\0{name}\0{draw}").sample(pool, min(EXAMPLES_SHOWN, len(pool))))


def checked_template(text: str) -> str:
    """A template of the user's. Raises ValueError on bad syntax, an unknown or a missing placeholder."""
    from jinja2 import TemplateSyntaxError, UndefinedError, meta
    from jinja2.exceptions import SecurityError

    try:
        found = meta.find_undeclared_variables(_environment().parse(text))
        if unknown := sorted(found - set(PLACEHOLDERS)):
            raise ValueError(f"unknown placeholder {unknown[0]}; the placeholders are {', '.join(PLACEHOLDERS)}")
        if not {"document", "style"} <= found:
            raise ValueError("a template needs {{ document }} and something of style, such as {{ style.instruction }}")
        Request("", EXAMPLE, (EXAMPLE,), text).prompt("document")
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.message}") from error
    except (UndefinedError, SecurityError) as error:
        said = str(error.message).replace(f"'{Shown.__module__}.{Shown.__name__} object'", "a style")
        raise ValueError(f"{said}; a style has {', '.join(vars(EXAMPLE))}") from error
    return text


@cache
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@lru_cache(16)
def _compiled(template: str) -> Any:
    return _environment().from_string(template)
