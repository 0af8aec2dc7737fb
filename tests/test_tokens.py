"""Token ids are kept in files, give back what was written, and are paid for once by all stages."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import given as known
import tiny
import twin
from hone import tables
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.encoders.tokens import IDS, DocTokenizer, Tokens
from hone.backends.encoders.vectors import encode_docs
from hone.backends.training.embedders import TopLayers, WholeModel, embed_all
from hone.context import Job, Plan, Shard
from hone.stages.mine import Config
from hone.storage.local import LocalStore

ROWS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=6)


def encoder(folder: Path, **how: object) -> Encoder:
    return Encoder(folder, Student.model_validate({"model": str(folder), **how}))


@settings(max_examples=60)
@given(st.lists(ROWS, max_size=4), st.data())
def test_a_file_of_tokens_gives_back_what_was_written_in_whatever_pieces(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[list[int]]], data: st.DataObject
) -> None:
    written = [row for piece in pieces for row in piece]
    tokens = Tokens(tmp_path_factory.mktemp("tokens"), (pa.array(piece, IDS) for piece in pieces))
    assert list(tokens) == written
    assert (len(tokens), tokens.lengths.tolist()) == (len(written), [len(row) for row in written])
    if written:
        span = data.draw(st.slices(len(written)))
        assert tokens[span] == written[span]
        places = data.draw(st.lists(st.integers(0, len(written) - 1)))
        assert tokens.at(places) == tokens.at(np.array(places)) == [written[place] for place in places]


def test_training_reads_tokens_from_a_file_as_it_does_from_memory(tmp_path: Path) -> None:
    folder = tiny.student(tmp_path / "student", vocab_texts=twin.WORDS)
    held = encoder(folder).tokenize_docs(twin.texts(40))
    filed = Tokens(tmp_path, [pa.array(held[:7], IDS), pa.array(held[7:], IDS)])
    for make in (WholeModel, lambda student, tokens: TopLayers(student, tokens, 1, 1e9, tmp_path)):
        first, second = (embed_all(make(encoder(folder), tokens), range(40), 100) for tokens in (held, filed))
        assert first.equal(second)


def texts_job(home: Path, texts: list[str], student: Student) -> Job:
    """A job of mine over these documents."""
    ids = [f"d{number}" for number in range(len(texts))]
    docs = tables.DOCS.of(ids, [""] * len(ids), texts, [False] * len(ids))
    store = LocalStore(home / "store")
    (home / "scratch").mkdir(exist_ok=True)
    todo = Plan("mine", Config(student=student), known.results(store, docs=docs), {}, "f" * 16)
    return Job(todo, store, home / "scratch", Shard())


def test_a_text_is_tokenised_once_for_all_students_that_read_it_alike(tmp_path: Path) -> None:
    texts, folder = twin.texts(20), tiny.student(tmp_path / "student", vocab_texts=twin.WORDS)
    job = texts_job(tmp_path, texts, Student(model=str(folder)))
    encode_docs(job, Student(model=str(folder)), folder, "encode")
    alike, tuned = encoder(folder, pooling="cls"), encoder(folder)
    next(tuned.model.parameters()).data.mul_(2.0)
    expected = alike.tokenize_docs(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoder, "tokenize_docs", lambda *_: pytest.fail("tokenised again"))
        for other in (alike, tuned):
            assert DocTokenizer(job, other).ids(texts).to_pylist() == expected
    for differing, limit in ((encoder(folder), 4), (encoder(folder, doc_prefix="heat "), 0)):
        found = DocTokenizer(job, differing, limit).ids(texts).to_pylist()
        assert found == differing.tokenize_docs(texts, limit) != expected


def test_what_mine_tokenised_distill_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, student = twin.texts(12), {"model": str(tiny.student(tmp_path / "student", vocab_texts=twin.WORDS))}
    ids = [f"d{number}" for number in range(12)]
    tokenised: list[str] = []
    tokenize = Encoder.tokenize_docs

    def counting(self: Encoder, texts: list[str], limit: int = 0) -> list[list[int]]:
        tokenised.extend(texts)
        return tokenize(self, texts, limit)

    monkeypatch.setattr(Encoder, "tokenize_docs", counting)
    store = LocalStore(tmp_path / "store")
    docs = tables.DOCS.of(ids, [""] * 12, texts, [False] * 12)
    queries = tables.QUERIES.of(ids, texts, [""] * 12, ["log"] * 12, ["log"] * 12)
    lists = tables.LISTS.of(ids, texts, ["log"] * 12, [""] * 12, ["train"] * 12,
                            [[name, "d0"] for name in ids], [[1.0, 0.5]] * 12, [[]] * 12)  # fmt: skip
    inputs = known.results(store, docs=docs) | known.results(store, "generate", queries=queries)
    known.run(store, "mine", inputs, student=student)
    inputs |= known.results(store, "curate", lists=lists)
    known.run(store, "distill", inputs, student=student, max_epochs=1)
    assert sorted(tokenised) == sorted(texts)
    known.run(store, "distill", inputs, student=student, max_epochs=1, max_doc_tokens=4)
    assert len(tokenised) == 24
