"""Coverage-guided fuzzing of what reads settings, corpora, judgements, manifests and page headers.

    python tests/fuzzing.py -max_total_time=600 [FOLDER OF INPUTS THAT GROWS]

The first byte of an input chooses its reader, which may raise nothing but UserError. Options are libFuzzer's.
"""

import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris
import pyarrow as pa
import pyarrow.parquet as pq

with atheris.instrument_imports(include=["hone"]):
    from hone import settings
    from hone.core.text import Chunking
    from hone.errors import UserError
    from hone.inputs import parquet_guard, readers
    from hone.results import manifest
    from hone.storage.local import LocalStore

SETTINGS = b"""name: r
preset: cpu
student: {model: student, pooling: mean}
prepare: {corpus: corpus, max_chars: 100}
mine: {top_k: 10}
"""
MANIFEST = b"""{"stage": "mine", "fingerprint": "0", "code": "", "version": "", "config": {}, "sources": {},
"inputs": {}, "input_digests": {}, "outputs": {"docs": {"digest": "", "rows": 1, "parts": [
{"path": "docs/x", "rows": 1, "bytes": 1, "sha256": ""}]}}, "facts": {}, "cost": {}, "seconds": 1}"""
Reader = Callable[[bytes], object]


def corpus(suffix: str, folder: Path) -> Reader:
    path = folder / f"corpus{suffix}"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for place, row in readers.Corpus(readers.layout(path), chunking=Chunking(20, 5, 200)).documents():
            readers.document(place, row, readers.Fields())

    return read


def read_settings(data: bytes) -> None:
    settings.check(settings.parse_yaml(data.decode("utf-8", "replace"), "s.yaml"), "s.yaml", Path())


def read_manifest(data: bytes, folder: Path) -> None:
    store = LocalStore(folder)
    store.replace("mine/0/manifest.json", data)
    manifest.load_manifest(store, "mine/0/manifest.json")


def read_qrels(data: bytes, folder: Path) -> None:
    (folder / "test.tsv").write_bytes(data)
    for _ in readers.qrels(folder / "test.tsv"):
        pass


def read_pages(data: bytes) -> None:
    with suppress(ValueError):
        assert parquet_guard.unpacked_bytes(data, 0, len(data)) >= 0


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"_id": ["a", "b"], "text": ["a wing", "a sea"]}), sink)
    return sink.getvalue().to_pybytes()


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="hone-fuzzing-") as name:
        folder = Path(name)
        whole = parquet()
        known: list[tuple[Reader, bytes]] = [
            (read_settings, SETTINGS),
            (lambda data: read_manifest(data, folder), MANIFEST),
            (lambda data: read_qrels(data, folder), b"query-id\tcorpus-id\tscore\nq1\td1\t1\n"),
            (corpus(".jsonl", folder), b'{"_id": "a", "text": "b"}\n'),
            (corpus(".csv", folder), b'_id,text\na,"b ""c"""\n'),
            (corpus(".json", folder), b'[{"_id": "a", "text": "b"},\n {"_id": "c", "text": null}]\n'),
            (corpus(".tsv", folder), b'1\tthe first text\n2\t"the second\n'),
            (corpus(".md", folder), b"# A\n\nb\n\n## C\n\nd\n"),
            (corpus(".parquet", folder), whole),
            (read_pages, whole[4:]),
        ]
        seeds = folder / "seeds"
        seeds.mkdir()
        for number, (_, seed) in enumerate(known):
            (seeds / str(number)).write_bytes(bytes([number]) + seed)

        def one(data: bytes) -> None:
            with suppress(UserError):
                known[data[0] % len(known) if data else 0][0](data[1:])

        atheris.Setup([*arguments, str(seeds)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
