"""The demo corpus: the documentation of the standard library of the Python that runs this code.

Nothing is downloaded. Every public module, class, function and method with a docstring of some length
becomes one document, under the name that a programmer would import it by.
"""

import importlib
import inspect
import pkgutil
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypedDict, cast

MIN_WORDS = 8
"""Docstrings shorter than this say too little to be searched for."""

# Importing these acts (opens a browser, prints, hooks the prompt), or needs what many machines lack.
_NOT_IMPORTED = frozenset(
    [
        *("antigravity", "idlelib", "rlcompleter", "test", "this", "turtledemo"),
        *("distutils", "ensurepip", "lib2to3", "macholib", "pydoc_data", "tkinter", "turtle"),
    ]
)
# These stand behind a public module (`posixpath` behind `os.path`) or hold nothing to look up (`encodings`).
_BEHIND_OTHERS = frozenset(
    [
        *("genericpath", "nt", "ntpath", "nturl2path", "posix", "posixpath", "pyexpat"),
        *("encodings", "opcode", "sre_compile", "sre_constants", "sre_parse"),
        *("xxlimited", "xxlimited_35", "xxsubtype"),
    ]
)


class Document(TypedDict):
    """One line of a BEIR `corpus.jsonl`."""

    _id: str
    title: str
    text: str


@dataclass(frozen=True)
class _Symbol:
    """A documented object under one of its public names."""

    name: str
    value: object
    is_home: bool


def standard_library_documents() -> list[Document]:
    """Read the documentation of the running Python, in the order of the names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is deprecated is documented all the same
        symbols = _canonical(_module_level())
        seen = {id(_unwrapped(symbol.value)) for symbol in symbols}
        members = [
            member
            for symbol in symbols
            if isinstance(symbol.value, type)
            for member in _own_members(symbol.name, symbol.value)
            if id(_unwrapped(member.value)) not in seen
        ]
        return _documents([*symbols, *members])


def _documents(symbols: list[_Symbol]) -> list[Document]:
    kept: dict[tuple[str, str], Document] = {}
    for symbol in sorted(symbols, key=lambda symbol: (len(symbol.name), symbol.name)):
        text = _docstring(symbol.value)
        if len(text.split()) >= MIN_WORDS:
            # `bytearray.zfill` repeats `bytes.zfill` word for word: once is enough.
            key = symbol.name.rpartition(".")[2], text
            kept.setdefault(key, Document(_id=symbol.name, title=_title(symbol), text=text))
    return sorted(kept.values(), key=lambda document: document["_id"])


def _modules() -> Iterator[types.ModuleType]:
    """Import every public module of the standard library that can be imported quietly."""
    skipped = _NOT_IMPORTED | _BEHIND_OTHERS
    waiting = sorted(n for n in sys.stdlib_module_names if not n.startswith("_") and n not in skipped)
    while waiting:
        name = waiting.pop(0)
        try:
            module = importlib.import_module(name)
        except ImportError:  # meant for another platform, or left out of this installation
            continue
        yield module
        if name == "os":
            waiting.append("os.path")
        for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
            if not found.name.startswith("_") and found.name not in _NOT_IMPORTED:
                waiting.append(f"{name}.{found.name}")


def _module_level() -> Iterator[_Symbol]:
    """Give every public module and everything it offers, once per name it is offered under."""
    for module in list(_modules()):  # all at once: importing a submodule can hide a function of its name
        # `os.path` is the one module that does not know its own name.
        path = "os.path" if module.__name__ == "posixpath" else module.__name__
        yield _Symbol(path, module, is_home=True)
        exported = cast("list[str] | None", getattr(module, "__all__", None))
        for name, value in sorted(vars(module).items()):
            if name.startswith("_") or not (inspect.isclass(value) or inspect.isroutine(value)):
                continue
            home = cast("object", getattr(value, "__module__", None)) or path
            is_home = home == module.__name__
            is_hidden = str(home).startswith("_") or home in _BEHIND_OTHERS
            if path == "builtins":
                yield _Symbol(name, value, is_home=True)
            elif is_home or (name in exported if exported is not None else is_hidden):
                yield _Symbol(f"{path}.{name}", value, is_home)


def _canonical(symbols: Iterator[_Symbol]) -> list[_Symbol]:
    """Keep one name per object: the built-in one, else the shortest path that people import it by."""
    best: dict[int, _Symbol] = {}
    for symbol in symbols:
        key = id(_unwrapped(symbol.value))
        if key not in best or _preference(symbol) < _preference(best[key]):
            best[key] = symbol
    return list(best.values())


def _preference(symbol: _Symbol) -> tuple[bool, int, bool, str]:
    own_name = cast("object", getattr(symbol.value, "__name__", None))
    is_alias = not isinstance(symbol.value, types.ModuleType) and own_name != symbol.name.rpartition(".")[2]
    return is_alias, symbol.name.count("."), not symbol.is_home, symbol.name


def _own_members(path: str, owner: type) -> Iterator[_Symbol]:
    """Give the public methods that a class defines and documents itself."""
    for name, value in sorted(vars(owner).items()):
        if name.startswith("_") or not inspect.isroutine(value):
            continue
        inherited = (vars(base).get(name) for base in owner.__mro__[1:])
        if all(_docstring(value) != _docstring(other) for other in inherited):
            yield _Symbol(f"{path}.{name}", value, is_home=True)


def _unwrapped(value: object) -> object:
    """Give the function behind a bound or decorated one, so that `random.choice` is `random.Random.choice`."""
    if isinstance(value, (staticmethod, classmethod, types.MethodType)):
        return cast("types.MethodType", value).__func__
    return value


def _title(symbol: _Symbol) -> str:
    if isinstance(symbol.value, types.ModuleType):
        return f"module {symbol.name}"
    if isinstance(symbol.value, type):
        return f"class {symbol.name}"
    return symbol.name + _parameters(symbol.value)


def _parameters(value: object) -> str:
    """Give the names of the parameters; defaults are left out, because some differ from run to run."""
    try:
        signature = inspect.signature(cast("Callable[..., object]", _unwrapped(value)))
    except (ValueError, TypeError, AttributeError):  # compiled code may not say, or name a default that is not there
        return ""
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    names = [marks.get(p.kind, "") + p.name for p in signature.parameters.values()]
    # The caller does not write the owner; compiled class methods call it `type`.
    if names[:1] in (["self"], ["cls"]) or isinstance(value, types.ClassMethodDescriptorType):
        del names[:1]
    return f"({', '.join(names)})"


def _docstring(value: object) -> str:
    # A static method around compiled code answers with the documentation of `staticmethod` itself.
    text = cast("object", getattr(_unwrapped(value), "__doc__", None))
    return inspect.cleandoc(text).strip() if isinstance(text, str) else ""
