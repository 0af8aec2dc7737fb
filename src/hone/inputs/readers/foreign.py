"""Files that are not read: what each one is, known by its first bytes or its name, and what to do about it."""

import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath

from hone.errors import UserError
from hone.inputs.readers.files import FAULTS, File, unpacked_name

FIRST_BYTES = 1 << 12
AS_TABLE = "save the sheet as CSV in UTF-8"
AS_TEXT = "save its text as Markdown, HTML or plain text"
UNPACK = "unpack it and name the folder"
EXPORT = "export its rows as Parquet, CSV or JSON lines"

SIGNS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs.github.com/", "a Git LFS pointer, not the data", "run `git lfs pull`"),
    (0, b"PK\x03\x04", "a zip archive", "give it the suffix .zip, or unpack it"),
    (257, b"ustar", "a tar archive", f"{UNPACK} (tar -xf)"),
    (0, b"%PDF-", "a PDF document", AS_TEXT),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an older Microsoft Office document", f"{AS_TABLE}, or its text"),
    (0, b"SQLite format 3\0", "an SQLite database", EXPORT),
    (0, b"PAR1", "a Parquet file", "give it the suffix .parquet"),
    (0, b"PARE", "an encrypted Parquet file", "write it without encryption"),
    (0, b"ARROW1", "an Arrow file", "give it the suffix .arrow"),
    (0, b"Obj\x01", "an Avro file", EXPORT),
    (0, b"ORC", "an ORC file", EXPORT),
    (0, b"\x89HDF\r\n", "an HDF5 file", EXPORT),
    (0, b"\x93NUMPY", "a NumPy array", EXPORT),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (0, b"\x04\x22\x4d\x18", "packed by LZ4", "unpack it, or pack it by gzip or zstd"),
    (0, b"\xff\x06\x00\x00sNaPpY", "packed by Snappy", "unpack it, or pack it by gzip or zstd"),
    (0, b"\x1f\x9d", "packed by compress", "unpack it, or pack it by gzip or zstd"),
    (0, b"\x1f\x8b", "packed twice", "unpack it once"),
    (0, b"\x28\xb5\x2f\xfd", "packed twice", "unpack it once"),
)  # fmt: skip
"""Where the bytes stand, what they are, what the file is, and what to do."""

WORDS = (b"PAR1", b"PARE", b"ARROW1", b"ORC")
"""Text may begin so: only binary files have bytes of 0."""
KINDS: dict[tuple[str, ...], tuple[str, str]] = {
    (".xlsx", ".xlsm", ".xls", ".ods", ".numbers"): ("a spreadsheet", AS_TABLE),
    (".docx", ".doc", ".odt", ".rtf", ".pptx", ".ppt", ".odp", ".pages", ".epub"): ("an office document", AS_TEXT),
    (".pdf", ".ps", ".djvu"): ("a document for printing", AS_TEXT),
    (".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar"): ("an archive", UNPACK),
    (".lz4", ".snappy", ".br", ".z"): (
        "compressed in a way that Hone does not read",
        "unpack it, or pack it by gzip or zstd",
    ),
    (".avro", ".orc", ".h5", ".hdf5", ".npy", ".npz", ".db", ".sqlite", ".sqlite3", ".duckdb", ".sql", ".lance"): (
        "a database or a binary table",
        EXPORT,
    ),
    (".pkl", ".pickle", ".pt", ".joblib"): ("a pickle, which may run code when it is opened", EXPORT),
    (".xml", ".xsd", ".rss", ".atom"): ("XML of an unknown schema", EXPORT),
    (".eml", ".mbox", ".msg"): ("e-mail", "export the messages as JSON lines, each with an id, a subject and a text"),
    (".adoc", ".asciidoc", ".org", ".tex", ".textile", ".wiki", ".pod"): (
        "markup that Hone does not read",
        "convert it to Markdown, for example with pandoc",
    ),
    (".ipynb",): ("a notebook", "convert it to Markdown (jupyter nbconvert --to markdown)"),
    (".yaml", ".yml", ".toml"): ("a settings file", "write documents as JSON lines"),
}
"""Kinds of files by their suffixes, where the bytes do not tell."""
FOREIGN = frozenset((*(what for _, _, what, _ in SIGNS), *(what for what, _ in KINDS.values())))
PARTS = {
    "xl/": ("an Excel spreadsheet", AS_TABLE),
    "word/": ("a Word document", AS_TEXT),
    "ppt/": ("PowerPoint slides", AS_TEXT),
}
"""Kinds of office documents by a folder inside them."""


def foreign(file: File, start: bytes) -> str:
    """What a file is that begins with these bytes, and what to do about it; empty if neither bytes nor name tell."""
    by_name = _by_name(file)
    if by_name:
        return by_name
    return _by_bytes(file, start)


def refuse_binary(file: File, start: bytes) -> None:
    """Raises UserError if what should be text is a known kind of something else."""
    if what := _by_bytes(file, start):
        raise UserError(f"{file} is {what}")


def refuse_pages(file: File, first: str, wanted: str) -> None:
    """Raises UserError if the first line of a table is that of a page."""
    opening = first.lstrip("\ufeff \t").lower()
    if opening.startswith(("<!doctype html", "<html")):
        raise UserError(
            f"{file} is an HTML page and not {wanted}; a server may have sent it instead: download it again"
        )
    if opening.startswith("<?xml"):
        raise UserError(f"{file} is XML and not {wanted}; {EXPORT}")


def _by_bytes(file: File, start: bytes) -> str:
    for at, sign, what, hint in SIGNS:
        if start[at : at + len(sign)] == sign and (sign not in WORDS or b"\0" in start[:FIRST_BYTES]):
            return _office(file) or f"{what}; {hint}"
    return ""


def _by_name(file: File) -> str:
    suffixes = {PurePosixPath(file.name).suffix.lower(), file.suffix}
    if ".tar." in file.name.lower() or unpacked_name(file.name).lower().endswith(".tar"):
        suffixes.add(".tar")
    return next((f"{what}; {hint}" for known, (what, hint) in KINDS.items() if suffixes & set(known)), "")


def _office(file: File) -> str:
    """What an archive holds that is a document of an office program."""
    if file.member:
        return ""
    try:
        with zipfile.ZipFile(file.path) as archive:
            names = archive.namelist()
    except (*FAULTS, ValueError):
        return ""
    return next(
        (f"{what}; {hint}" for part, (what, hint) in PARTS.items() if any(name.startswith(part) for name in names)), ""
    )


def what_it_is(file: File, wanted: Callable[[], str]) -> UserError:
    """The refusal of a file that no format fits."""
    with file.open() as stream:
        what = foreign(file, stream.read(FIRST_BYTES))
    return UserError(f"{file} is {what}" if what else f"{file} {wanted()}")
