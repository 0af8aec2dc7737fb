"""What every reader of texts gives: the sections of a page, each with the headings above it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from hone.core.text import Chunking, flat, windows, words_of
from hone.inputs.readers.files import File
from hone.inputs.readers.table import Row
from hone.inputs.readers.values import LONGEST_ID

LONGEST_SLUG = 40


@dataclass(frozen=True)
class Section:
    """Texts that stand under the same headings, from the outermost to the innermost."""

    headings: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass
class Page:
    """A text file that has been opened."""

    sections: Iterator[Section]
    facts: dict[str, str] = field(default_factory=dict[str, str])


def documents_of(file: File, page: Page, chunking: Chunking) -> Iterator[Row]:
    """The chunks of a page as documents with _id, title and text.

    The title is the heading path, or the file's name where there is none. The id is the file's name, `#`, the innermost
    heading, and a hash over heading path and text: a chunk keeps it whatever is written above or below.
    """
    given: dict[str, int] = {}
    for number, section in enumerate(page.sections):
        path = " > ".join(filter(None, map(flat, section.headings)))
        heading = next((flat(name) for name in reversed(section.headings) if flat(name)), "")
        chunks = list(windows(words_of(section.texts, chunking.chars), chunking))
        for chunk in chunks or ([""] if path and not section.texts else []):
            key = _key(file.name, heading, path, chunk)
            given[key] = given.get(key, 0) + 1
            doc_id = key if given[key] == 1 else f"{key}-{given[key]}"
            yield f"{file}, section {number + 1}", {"_id": doc_id, "title": path or file.stem, "text": chunk}


def _key(name: str, heading: str, path: str, chunk: str) -> str:
    slug = "-".join("".join(char if char.isalnum() else " " for char in heading.lower()).split())[:LONGEST_SLUG]
    digest = blake2b(f"{path}\0{chunk}".encode(), digest_size=5).hexdigest()
    tail = f"#{slug}-{digest}" if slug else f"#{digest}"
    room = LONGEST_ID - len(tail.encode()) - 8
    if len(name.encode()) > room:
        cut = blake2b(name.encode(), digest_size=5).hexdigest()
        name = f"{cut}-{name.encode()[-(room - len(cut) - 1) :].decode('utf-8', 'ignore')}"
    return "".join(char if char.isprintable() else "\ufffd" for char in name) + tail
