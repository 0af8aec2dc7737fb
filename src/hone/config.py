"""What a setting is: the base of everything a user sets, and the marks that say what a setting means.

The settings file is read in `hone.settings`; what a stage can be set to is in its module.
"""

import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from hone.errors import UserError

Checked = TypeVar("Checked", bound=BaseModel)


class Settings(BaseModel):
    """The base of everything a user sets: immutable, unknown keys refused, a docstring under each field, no
    number that is not finite. What a number may be is said where it is declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads `on`, `off`, `yes` and `no` as true and false, and pydantic would read those as 1 and 0."""
        if _holds_truth(value):
            kinds = [*_kinds(cls.model_fields[cast(str, info.field_name)].annotation)]
            if not any(kind in kinds for kind in (bool, object, Any)) and (int in kinds or float in kinds):
                raise PydanticKnownError("float_type" if float in kinds else "int_type")
        return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """An annotation, and all that it is of."""
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _holds_truth(value: object) -> bool:
    """Whether a value, or one within it, is true or false."""
    if isinstance(value, Mapping):
        value = list(cast(Mapping[object, object], value).values())
    if isinstance(value, (list, tuple)):
        return any(map(_holds_truth, cast(list[object], value)))
    return isinstance(value, bool)


def checked(model: type[Checked], data: object, origin: str, *above: str) -> Checked:
    """`data` as settings. Raises UserError naming `origin`, such as the file, and the key, whose section is `above`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        where = ".".join(map(str, (*above, *error.errors()[0]["loc"])))
        raise UserError(f"{origin}: {where}: {flaw(error)}") from error


_SAID = {
    "missing": "has to be set",
    "model_type": "a section of settings belongs here",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of `key: value` lines",
    "string_type": "must be text",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
}
"""What is said of a kind of error instead of pydantic's own words."""


def flaw(error: ValidationError) -> str:
    """The first thing that is wrong, with the value that is there unless that is a whole section."""
    first = error.errors()[0]
    whole = first["type"] == "missing" or isinstance(first["input"], (dict, BaseModel))
    got = "" if whole else f", not {reprlib.repr(first['input'])}"
    said = _SAID.get(first["type"], first["msg"]).removeprefix("Value error, ")
    return said.replace("Input should be", "must be", 1) + got


def section(annotation: Any) -> type[BaseModel] | None:
    """The settings that an annotation is of: itself, what may also be None, or each item of a sequence."""
    return next((kind for kind in _kinds(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


class StageConfig(Settings):
    """The settings of one stage."""

    sharded: ClassVar[bool] = False
    without_training: ClassVar[tuple[str, ...]] = ()
    """Tables that the stage reads and that are not there where a model is taken as it is: they read as empty."""
    reads_history: ClassVar[bool] = False
    """Whether the stage reads what earlier stages say of themselves (facts, costs, settings), not only their tables:
    then all of that is part of its fingerprint."""
    together: ClassVar[bool] = False
    """Several processes of one launch (`torchrun`) work on the stage together."""

    def reading(self, reads: tuple[str, ...]) -> tuple[str, ...]:
        """What the stage reads with these settings, instead of its READS; `RUN/TABLE` is a table of another run."""
        return reads

    def filled_in(self, before: "StageConfig") -> Self:
        """With what a run fills in from the store, as it was in an earlier result."""
        return self


class Resource:
    """Marks a setting that says how or where to run: it shapes no result and enters no fingerprint."""


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if text and not (parts.scheme in ("http", "https") and parts.hostname):
        raise ValueError("an address begins with http:// or https:// and names a host")
    return text


Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What chance is drawn from, as NumPy and torch both take it."""

Address = Annotated[str, Resource(), AfterValidator(_web_address)]
"""Where a server listens, empty for none."""


class Backend:
    """Marks a setting that names a backend of one kind, or several."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


def chosen_backends(value: object, notes: tuple[object, ...] = ()) -> Iterator[tuple[str, str]]:
    """(kind, name) of every backend that settings name, however deeply nested."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from chosen_backends(getattr(value, name), tuple(field.metadata))
    elif isinstance(value, (tuple, list)):
        for item in cast(tuple[object, ...], value):
            yield from chosen_backends(item, notes)
    elif isinstance(value, str):
        yield from ((note.kind, value) for note in notes if isinstance(note, Backend))


def marked(value: object, mark: type, notes: tuple[object, ...] = ()) -> Iterator[str]:
    """The non-empty settings that carry a mark, however deeply nested."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from marked(getattr(value, name), mark, tuple(field.metadata))
    elif isinstance(value, (tuple, list)):
        for item in cast(tuple[object, ...], value):
            yield from marked(item, mark, notes)
    elif value and any(isinstance(note, mark) for note in notes):
        yield cast(str, value)


def identity(value: object, digests: Mapping[str, str], notes: tuple[object, ...] = ()) -> Any:
    """The settings that shape a result: resources left out, outside data by its content."""
    if isinstance(value, BaseModel):
        fields = ((name, tuple(field.metadata)) for name, field in type(value).model_fields.items())
        kept = ((name, marks) for name, marks in fields if not any(isinstance(mark, Resource) for mark in marks))
        return {name: identity(getattr(value, name), digests, marks) for name, marks in kept}
    if isinstance(value, (tuple, list)):
        return [identity(item, digests, notes) for item in cast(tuple[object, ...], value)]
    marked = value and any(isinstance(note, SourceMark) for note in notes)
    return digests[cast(str, value)] if marked else value


class SourceMark:
    """Marks a setting that refers to outside data: its content, not its name, enters the fingerprint."""


class CorpusMark(SourceMark):
    """Marks a setting that refers to a corpus: of its folder only what is read enters the fingerprint."""


class ModelMark(SourceMark):
    """Marks a setting that refers to a model folder."""


def beside_the_settings_file(reference: str, info: ValidationInfo) -> str:
    """A relative path is meant from where the settings file lies."""
    base = (info.context or {}).get("base")
    if not reference or ":" in reference or base is None:
        return reference
    return str((Path(base) / Path(reference).expanduser()).resolve())


Source = Annotated[str, SourceMark(), AfterValidator(beside_the_settings_file)]

CorpusSource = Annotated[str, CorpusMark(), AfterValidator(beside_the_settings_file)]

ModelSource = Annotated[str, ModelMark(), AfterValidator(beside_the_settings_file)]
