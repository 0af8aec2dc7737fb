"""How a language model is asked: layouts of the prompt as Jinja templates, and the examples that are shown.

Servers compute a prompt's beginning once if prompts share it. The layout `guide` shares most: the kinds of query with
their examples come first and are the same for many documents, then the document, which its styles share, and last a
line that names the style. `benchmarks/prompt_layout.py` counts what each layout costs, and `benchmarks/prompts.py` what
models make of it.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

RULES = """\
Write in {{ language }}. A query must make sense to a reader who does not see the document, so do not mention the \
document, and do not copy long passages from it. Answer with the query alone, on one line."""

EXAMPLES = """\
{% if style.examples %}
{% if style.examples|length == 1 %}
An example of the form, about another subject:
{% else %}
Examples of the form, about other subjects:
{% endif %}
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
LONGEST_TEMPLATE = 20_000
FILTERS = (
    "capitalize", "default", "first", "int", "join", "last", "length", "list", "lower", "reverse", "safe", "sort",
    "title", "tojson", "trim", "truncate", "upper",
)  # fmt: skip
LOOPS = (("", "styles"), ("", "examples"), ("styles", "examples"))
"""What a loop may go over, with what the loop around it goes over."""
PARTS = (
    "Output", "TemplateData", "Name", "NSRef", "Getattr", "Getitem", "Filter", "Test", "If", "For", "Const", "Compare",
    "Operand", "And", "Or", "Not", "CondExpr", "Concat", "Assign", "AssignBlock", "Tuple", "List", "Keyword", "Slice",
)  # fmt: skip
"""What a template may hold: no arithmetic, no calls, nothing from elsewhere."""


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


def checked_template(text: str) -> str:
    """A template of the user's. Raises ValueError on bad syntax, an unknown or a missing placeholder."""
    from jinja2 import TemplateSyntaxError, UndefinedError, meta
    from jinja2.exceptions import FilterArgumentError, SecurityError

    if len(text) > LONGEST_TEMPLATE:
        raise ValueError(f"a template has {LONGEST_TEMPLATE:,} characters at most")
    try:
        parsed = _environment().parse(text)
        _check_parts(parsed)
        variables = meta.find_undeclared_variables(parsed)
        if unknown := sorted(variables - set(PLACEHOLDERS)):
            raise ValueError(f"unknown placeholder {unknown[0]}; the placeholders are {', '.join(PLACEHOLDERS)}")
        if not {"document", "style"} <= variables:
            raise ValueError("a template needs {{ document }} and something of style, such as {{ style.instruction }}")
        Request("", EXAMPLE, (EXAMPLE,), text).prompt("document")
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.message}") from error
    except (TypeError, FilterArgumentError) as error:
        raise ValueError(f"it cannot be filled in: {error}") from error
    except (UndefinedError, SecurityError) as error:
        said = str(error.message).replace(f"'{Shown.__module__}.{Shown.__name__} object'", "a style")
        raise ValueError(f"{said}; a style has {', '.join(vars(EXAMPLE))}") from error
    return text


def _check_parts(parsed: Any, around: str = "") -> None:
    """A template only puts texts together: it fills in quickly and stays small. Raises ValueError."""
    from jinja2 import nodes

    for node in parsed.iter_child_nodes():
        kind, within = type(node).__name__, around
        if isinstance(node, nodes.For):
            within = "examples" if getattr(node.iter, "attr", "") == "examples" else getattr(node.iter, "name", "")
            if node.recursive or (around, within) not in LOOPS:
                raise ValueError(f"line {node.lineno}: loops go over styles, and over the examples of a style")
        if kind not in PARTS:
            raise ValueError(f"line {node.lineno}: {kind} is not for templates, which hold placeholders, filters, "
                             "conditions and loops")  # fmt: skip
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            raise ValueError(f"line {node.lineno}: the filters are {', '.join(FILTERS)}, not {node.name}")
        if isinstance(node, nodes.Const) and isinstance(node.value, int | float) and abs(node.value) > LONGEST_TEMPLATE:
            raise ValueError(f"line {node.lineno}: {node.value} is too large a number")
        _check_parts(node, within)


@cache
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@lru_cache(16)
def _compiled(template: str) -> Any:
    return _environment().from_string(template)
