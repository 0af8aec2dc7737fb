"""What in a folder is the corpus, what are queries and judgements, and what belongs to none of them.

Names decide first (`corpus`, `queries`, `qrels`, as BEIR, MS MARCO, TREC and Hugging Face call them), then the names of
the fields. A file that is taken for nothing is named with the reason.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow.parquet as pq

from hone.errors import UserError
from hone.inputs.readers import qrel_files as qrels
from hone.inputs.readers import topics
from hone.inputs.readers.files import FAULTS, File, files_below, unpacked_name
from hone.inputs.readers.foreign import FIRST_BYTES as SEEN_BYTES
from hone.inputs.readers.foreign import FOREIGN, foreign, what_it_is
from hone.inputs.readers.formats import FORMATS, Format, format_of, kind_of

Role = Literal["corpus", "queries", "qrels", "training", ""]

WORDS: tuple[tuple[Role, frozenset[str]], ...] = (
    ("qrels", frozenset({"qrel", "qrels", "judgements", "judgments", "relevance"})),
    ("queries", frozenset({"query", "queries", "topic", "topics", "question", "questions"})),
    ("training", frozenset({"triples", "top1000", "qidpidtriples", "run", "runs"})),
    ("corpus", frozenset({"corpus", "collection", "docs", "documents", "passages", "articles", "psgs"})),
)
"""What a word in a file's name says that it is."""
PAIRS = frozenset({"pos", "neg", "positive", "negative", "positive_passages", "negative_passages", "positive_ctxs"})
ASKED = frozenset({"query", "question", "anchor"})
ABOUT_DATA = re.compile(
    r"(dataset_infos?|dataset_dict|state|metadata|package(-lock)?|tsconfig|croissant|datapackage|manifest"
    r"|.*config.*|tokenizer|modules|vocab|special_tokens_map|added_tokens|.*\.index)\.json|vocab\.txt",
    re.IGNORECASE,
)
ABOUT = re.compile(r"(readme|licen[cs]e|changelog|notice|citation|contributing|authors)(\..*)?", re.IGNORECASE)
SHARD = re.compile(r"[-_.]?\d{3,6}[-_]of[-_]\d{3,6}|[-_.]part[-_.]?\d+")
JUDGEMENT_SUFFIXES = ("", ".txt", ".qrels", ".qrel", ".trec", ".tsv", ".csv", ".jsonl", ".json", ".parquet", ".test")
NO_SPLIT = frozenset({"qrels", "qrel", "judgements", "judgments", "relevance", "data", "default", "tsv", "txt", "trec"})
FIRST_BYTES = 1 << 16
NO_FORMAT = "not in a format that Hone reads"
MARKUP = (".md", ".markdown", ".mdx", ".rst")
HTML = (".html", ".htm", ".xhtml")
MANY_PAGES = 5
"""So many pages are a corpus of pages, if the tables beside them are fewer than half as many."""
NAMED = 3
"""So many names of files are listed, then how many there are."""


@dataclass(frozen=True)
class Layout:
    """What was taken for what. `qrels` holds the files of each split."""

    root: Path
    format: Format
    corpus: tuple[File, ...]
    queries: tuple[File, ...] = ()
    qrels: Mapping[str, tuple[File, ...]] = ()  # type: ignore[assignment]
    left_out: tuple[tuple[File, str], ...] = ()

    @property
    def files(self) -> list[File]:
        """All that is read."""
        return [*self.corpus, *self.queries, *(file for split in self.qrels for file in self.qrels[split])]

    def facts(self) -> dict[str, str]:
        """What was taken for what, in words."""
        facts = {"corpus": f"{_names(self.corpus)} ({self.format})"}
        if self.queries:
            facts["queries"] = _names(self.queries)
        if self.qrels:
            facts["judgements"] = "; ".join(f"{split}: {_names(files)}" for split, files in self.qrels.items())
        reasons = dict.fromkeys(why for _, why in self.left_out)
        for why in reasons:
            names = _names([file for file, own in self.left_out if own == why])
            facts["not read"] = "; ".join(filter(None, (facts.get("not read", ""), f"{names} ({why})")))
        return facts


def layout(path: Path, format: Format = "auto") -> Layout:
    """What a corpus consists of. Raises UserError if it holds no documents, or of which files is not clear."""
    files = list(files_below(path))
    if path.is_file() and len(files) == 1:
        given = format not in ("auto", "beir")
        return Layout(path, format if given else _format_of_one(files[0], alone=True), tuple(files), qrels={})
    left: list[tuple[File, str]] = []
    roles: dict[Role, list[File]] = {"corpus": [], "queries": [], "qrels": [], "training": [], "": []}
    texts: list[File] = []
    asked: list[File] = []
    for file in files:
        kind = format_of(file.suffix)
        role = _role_of_name(file.name)
        if role == "qrels" and file.suffix in JUDGEMENT_SUFFIXES:
            roles["qrels"].append(file)
        elif role == "queries" and file.suffix in topics.SUFFIXES:
            asked.append(file)
        elif (kind := kind_of(file)) == "trec":
            roles[role or "corpus"].append(file)
        elif ABOUT_DATA.fullmatch(_last(file)):
            left.append((file, "describes the data"))
        elif kind == "text":
            texts.append(file)
        elif kind:
            roles[role or _role_of_fields(file)].append(file)
        elif not ABOUT.fullmatch(_last(file)):
            left.append((file, _why_not(file).partition(";")[0]))
    if roles["qrels"] and not roles["queries"]:
        roles["queries"] = asked
    else:
        texts += [file for file in asked if file.suffix == ".txt"]
        left += [(file, "queries without judgements") for file in asked if file.suffix != ".txt"]
    tables = [*roles["corpus"], *roles[""]]
    pages = sum(not ABOUT.fullmatch(_last(file)) for file in texts)
    named = any(_role_of_name(_last(file)) == "corpus" for file in tables)
    if format in ("auto", "beir") and not named and pages >= MANY_PAGES and pages > 2 * len(tables):
        left += [(file, "tables beside many more pages") for file in tables]
        roles["corpus"], roles[""] = [], []
    corpus = _corpus(path, format, roles, texts, left)
    chosen = set(corpus)
    left += [(file, "not the corpus, by name") for file in roles[""] if file not in chosen]
    left += [(file, "for training, or results") for file in roles["training"] if file not in chosen]
    left += [(file, "text beside tables") for file in texts if file not in chosen and not ABOUT.fullmatch(_last(file))]
    by_split: dict[str, list[File]] = {}
    for file in roles["qrels"]:
        if file not in chosen:
            by_split.setdefault(split_of(file), []).append(file)
    return Layout(
        root=path,
        format=_format_of_all(path, corpus, format),
        corpus=tuple(corpus),
        queries=tuple(file for file in roles["queries"] if file not in chosen),
        qrels={split: tuple(by_split[split]) for split in sorted(by_split)},
        left_out=tuple(left),
    )


def _corpus(
    path: Path, format: Format, roles: Mapping[Role, list[File]], texts: list[File], left: list[tuple[File, str]]
) -> list[File]:
    """The files with documents: those named so, else all tables, else texts, else whatever tables there are."""
    pages = [file for file in texts if not ABOUT.fullmatch(_last(file))]
    if format != "text" and any(file.suffix in MARKUP for file in pages):
        left += [(file, "HTML beside Markdown") for file in pages if file.suffix in HTML]
        pages = [file for file in pages if file.suffix not in HTML]
        texts[:] = [file for file in texts if file.suffix not in HTML]
    order = (roles["corpus"], roles[""], pages, texts, roles["queries"], roles["training"])
    if format == "text":
        order = (texts,)
    elif format not in ("auto", "beir"):
        wanted = [[file for file in files if kind_of(file) == format] for files in order]
        order = tuple(wanted)
    corpus = next((files for files in order if files), [])
    if corpus:
        return corpus
    known = ", ".join(suffix for row in FORMATS.values() for suffix in row.suffixes)
    if format not in ("auto", "beir"):
        wanted = " or ".join(FORMATS[format].suffixes)
        raise UserError(f"{path} holds no {wanted} file; correct prepare.corpus or prepare.format")
    if other := next((file for file, why in left if why in FOREIGN), None):
        raise UserError(f"{path} holds no corpus that Hone reads: {other.name} is {_why_not(other)}")
    raise UserError(f"{path} holds no corpus: no file is one of {known}; correct prepare.corpus")


def _why_not(file: File) -> str:
    """Why a file of no format is not read: what it is, as far as that is known."""
    try:
        with file.open() as stream:
            return foreign(file, stream.read(SEEN_BYTES)) or NO_FORMAT
    except UserError:
        return NO_FORMAT


def _format_of_one(file: File, *, alone: bool = False) -> Format:
    kind = kind_of(file, alone=alone)
    if not kind:
        known = ", ".join(suffix for row in FORMATS.values() for suffix in row.suffixes)
        raise what_it_is(file, lambda: f"is not one of {known}; set prepare.format to how it is written")
    return kind


def _format_of_all(path: Path, corpus: Iterable[File], format: Format) -> Format:
    if format not in ("auto", "beir"):
        return format
    formats: list[Format] = list(dict.fromkeys(_format_of_one(file) for file in corpus))
    if len(formats) > 1:
        raise UserError(
            f"{path} holds {' and '.join(sorted(formats))} files; set prepare.format to the one that is the corpus"
        )
    return formats[0]


def _last(file: File) -> str:
    return PurePosixPath(unpacked_name(file.name)).name


def _role_of_name(name: str) -> Role:
    """What a file's own name says, else what those of the folders around it say."""
    *folders, _ = parts = unpacked_name(name).split("/")
    if set(map(str.lower, folders)) & WORDS[0][1]:
        return "qrels"  # whatever its splits are called
    for part in reversed(parts):
        words = set(re.split(r"[\W_]+", SHARD.sub("", part.lower())))
        for role, known in WORDS:
            if words & known or (role == "qrels" and "qrel" in part.lower()):
                return role
    return ""


def _role_of_fields(file: File) -> Role:
    """What the names of a table's fields say, of a file whose name says nothing."""
    names = _first_names(file)
    plain = {name.strip().lower() for name in names}
    if qrels.named(names) and not plain & {"text", "body", "content", "contents", "passage", "title", "abstract"}:
        return "qrels"
    return "training" if plain & ASKED and plain & PAIRS else ""


def _first_names(file: File) -> Sequence[str]:
    """The names in the first line of a table, as far as they are found at a glance."""
    if file.suffix == ".parquet":
        try:
            return [] if file.member else pq.read_schema(file.path).names
        except (*FAULTS, ValueError):
            return []  # whoever reads it says what is wrong with it
    with file.open() as stream:
        first = stream.readline(FIRST_BYTES).decode("utf-8-sig", "replace").strip()
    if first.startswith("{"):
        try:
            return list(json.loads(first))
        except (ValueError, RecursionError):
            return []
    between = max("\t,;|", key=first.count)
    return next(csv.reader([first], delimiter=between), []) if between in first else first.split()


def split_of(file: File) -> str:
    """The name of the judgements in a file: what its name says beside that they are judgements, else `test`."""
    parts = [part for part in SHARD.sub("", file.stem).split(".") if part.lower() not in NO_SPLIT]
    if parts:
        name = ".".join(parts)
        return re.sub(r"^(qrels?)[-_]|[-_](qrels?)$", "", name, flags=re.IGNORECASE)
    return "test"


def _names(files: Sequence[File]) -> str:
    names = [file.name for file in files[:NAMED]]
    more = len(files) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")
