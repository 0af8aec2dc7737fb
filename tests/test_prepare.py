"""prepare: what is kept, what is dropped and why, and what is held out."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpora
import given as given_
from hone.core.text import contained, dedup_key
from hone.errors import UserError
from hone.storage.local import LocalStore

LONG = "the lift of a swept wing in supersonic flow"
Dropped = dict[str, tuple[str, str]]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def outcome(store: LocalStore, corpus: Path, **settings: object) -> tuple[list[str], Dropped]:
    """The ids kept, and id to (reason, detail) of what was dropped."""
    manifest = corpora.prepared(store, corpus, **settings)
    kept = [row["doc_id"] for row in given_.rows(store, manifest, "docs")]
    lost = given_.rows(store, manifest, "dropped_by_prepare")
    assert {row["stage"] for row in lost} <= {"prepare"}
    assert manifest.facts["docs"] == len(kept)
    assert manifest.facts["dropped"] == len(lost)
    return kept, {row["id"]: (row["reason"], row["detail"]) for row in lost}


def test_every_dropped_document_has_its_reason(store: LocalStore, tmp_path: Path) -> None:
    texts = [LONG, "", "-- . --", "wing 7", f"{LONG}, measured", f"On {LONG}", "Lift? The lift of 2 swept WINGS"]
    corpus = corpora.jsonl(tmp_path / "c.jsonl", corpora.docs(*texts))
    kept, lost = outcome(store, corpus, min_chars=7)
    assert kept == ["d4", "d5", "d6"]
    assert lost == {
        "d0": ("contained in another document", "d5"),
        "d1": ("empty text", ""),
        "d2": ("empty text", ""),
        "d3": ("too short", "wing 7"),
    }
    assert corpora.prepared(store, corpus, min_chars=7).facts["left_out"] == {
        "contained in another document": {"count": 1, "examples": ["d0: d5"]},
        "empty text": {"count": 2, "examples": ["d1", "d2"]},
        "too short": {"count": 1, "examples": ["d3: wing 7"]},
    }


DIFFERENT = [
    ["Part 4: the fee is 200 pounds.", "Part 5: the fee is 200 pounds.", "Part 5: the fee is 20 pounds."],
    ["Pump X-200 leaks", "Pump X-20 leaks", "Pump X-2 leaks"],
    ["a < b for all n", "a > b for all n", "a = b for all n", "a + b for all n"],
    ["ls -la", "ls -l", "ls la", "rm -rf /tmp", "rm -rf /"],
    ["C", "C++", "C#", "E = mc^2", "A4", "B12", "$5", "5%", "5 %", "EACCES"],
    ["3.14 is near", "314 is near", "3,14 is near"],
    ["f(x) = 2", "f[x] = 2", "x!=2", "x=2"],
    ["退款需要三天", "退款需要五天", "退款需要3天", "退款需要30天"],
    ["บ้านเก่า", "บานเก่า", "บ้าน 2", "บ้าน 3"],
    ["काला", "कीला", "कला"],
]


@pytest.mark.parametrize("texts", DIFFERENT)
def test_texts_that_differ_in_a_number_or_a_symbol_all_stay_however_short(
    store: LocalStore, tmp_path: Path, texts: list[str]
) -> None:
    kept, lost = outcome(store, corpora.jsonl(tmp_path / "c.jsonl", corpora.docs(*texts)))
    assert (len(kept), lost) == (len(texts), {})


def test_equal_texts_under_other_titles_are_other_documents(store: LocalStore, tmp_path: Path) -> None:
    titled = [("Lift", LONG), ("Drag", LONG), ("DRAG ", LONG), ("", LONG), ("Lift", f"{LONG} of all kinds")]
    rows = [{"_id": f"d{at}", "title": title, "text": text} for at, (title, text) in enumerate(titled)]
    kept, lost = outcome(store, corpora.jsonl(tmp_path / "c.jsonl", rows))
    assert kept == ["d1", "d4"]
    assert {doc_id: reason for doc_id, (reason, _) in lost.items()} == dict.fromkeys(
        ["d0", "d2", "d3"], "contained in another document"
    )


def test_digits_and_titles_are_left_aside_on_request(store: LocalStore, tmp_path: Path) -> None:
    rows = [{"_id": f"d{at}", "title": f"Part {at}", "text": f"{LONG} for {at} pounds"} for at in range(3)]
    corpus = corpora.jsonl(tmp_path / "c.jsonl", rows)
    assert outcome(store, corpus)[0] == ["d0", "d1", "d2"]
    assert outcome(store, corpus, dedupe_letters_only=True)[0] == ["d0"]


def test_the_same_words_in_other_letters_spaces_and_marks_are_one_document(store: LocalStore, tmp_path: Path) -> None:
    texts = ["The wing, as it is swept: gives lift.", "the  WING as it is swept gives “lift”", "The wing as it is"]
    assert outcome(store, corpora.jsonl(tmp_path / "c.jsonl", corpora.docs(*texts)))[0] == ["d0"]


def test_prepare_says_how_words_are_found(store: LocalStore, tmp_path: Path) -> None:
    plain = corpora.prepared(store, corpora.jsonl(tmp_path / "a.jsonl", corpora.docs(LONG)))
    assert plain.facts["analyser"] == "words between spaces, English stems"
    mixed = corpora.prepared(store, corpora.jsonl(tmp_path / "b.jsonl", corpora.docs(LONG, "東京タワー", "ภาษา")))
    scripts = "Chinese characters, Japanese syllables, Thai"
    assert mixed.facts["analyser"] == f"words between spaces, English stems; pairs of letters in {scripts}"


def test_without_deduplication_equal_texts_stay(store: LocalStore, tmp_path: Path) -> None:
    corpus = corpora.jsonl(tmp_path / "c.jsonl", corpora.docs(LONG, LONG))
    assert outcome(store, corpus) == (["d0"], {"d1": ("contained in another document", "d0")})
    assert outcome(store, corpus, deduplicate=False) == (["d0", "d1"], {})


def test_texts_are_flattened_and_cut_and_numbers_may_be_ids(store: LocalStore, tmp_path: Path) -> None:
    row = {"key": 7, "head": "Lift\n of wings", "body": f" a\t{'swept ' * 40}\u2028wing"}
    corpus = corpora.jsonl(tmp_path / "c.jsonl", [row])
    fields = {"id_field": "key", "title_field": "head", "text_field": "body"}
    (doc,) = given_.rows(store, corpora.prepared(store, corpus, **fields, max_chars=20), "docs")
    expected = {"doc_id": "7", "title": "Lift of wings", "text": "a swept swept swept "[:20], "held_out": False}
    assert doc == expected


def judged(folder: Path) -> Path:
    texts = ["the flutter of thin blades", LONG, f"{LONG}, measured", LONG, "a heat shield that ablates", "stall"]
    queries = {"t": "swept wing", "t2": "heat", "d": "flutter", "unused": "x"}
    test = [("t", "d1", 1), ("t2", "d4", 0), ("t2", "d5", 2)]
    return corpora.beir(folder, corpora.docs(*texts), queries, dev=[("d", "d0", 1)], test=test)


def test_documents_relevant_for_test_queries_are_held_out_and_judged_ones_are_never_duplicates(
    store: LocalStore, tmp_path: Path
) -> None:
    manifest = corpora.prepared(store, judged(tmp_path / "beir"))
    docs = {row["doc_id"]: row["held_out"] for row in given_.rows(store, manifest, "docs")}
    assert docs == {"d0": False, "d1": True, "d2": False, "d4": False, "d5": True}
    assert [(row["id"], row["detail"]) for row in given_.rows(store, manifest, "dropped_by_prepare")] == [("d3", "d1")]
    assert given_.rows(store, manifest, "judged_queries") == [
        {"query_id": "d", "text": "flutter", "split": "dev"},
        {"query_id": "t", "text": "swept wing", "split": "test"},
        {"query_id": "t2", "text": "heat", "split": "test"},
    ]
    qrels = [tuple(row.values()) for row in given_.rows(store, manifest, "qrels")]
    assert qrels == [("d", "d0", 1), ("t", "d1", 1), ("t2", "d4", 0), ("t2", "d5", 2)]
    facts = {
        "docs": 5,
        "dropped": 1,
        "held_out": 2,
        "dev_queries": 1,
        "test_queries": 2,
        "judged_docs": 4,
        "judged_docs_dropped": 0,
    }
    assert facts.items() <= manifest.facts.items()


def test_a_document_with_a_title_and_no_text_is_a_document(store: LocalStore, tmp_path: Path) -> None:
    rows = [{"_id": "d0", "title": "Flutter of thin blades", "text": ""}, {"_id": "d1", "title": "", "text": ""}]
    rows += [{"_id": "d2", "title": "RFC 2119", "text": ""}, {"_id": "d3", "title": "Lift", "text": LONG}]
    corpus = corpora.beir(tmp_path / "b", rows, {"q": "flutter"}, test=[("q", "d0", 1), ("q", "d1", 1)])
    assert outcome(store, corpus) == (["d0", "d2", "d3"], {"d1": ("empty text", "")})
    manifest = corpora.prepared(store, corpus)
    # A dropped document that is judged relevant stays in the qrels: measuring counts it.
    assert {row["doc_id"] for row in given_.rows(store, manifest, "qrels")} == {"d0", "d1"}
    assert (manifest.facts["judged_docs"], manifest.facts["judged_docs_dropped"]) == (2, 1)


@pytest.mark.parametrize(("judged_docs", "held_out"), [(8, 8), (9, 0)])
def test_where_nearly_all_documents_are_judged_only_the_test_queries_are_held_out(
    judged_docs: int, held_out: int, store: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [
        f"{word} is the subject of this text"
        for word in ["lift", "drag", "thrust", "stall", "wing", "flap", "slat", "fin", "rudder", "spar"]
    ]
    test = [("q", f"d{number}", 1) for number in range(judged_docs)]
    corpus = corpora.beir(tmp_path / "b", corpora.docs(*texts), {"q": "wing"}, test=test)
    manifest = corpora.prepared(store, corpus)
    assert manifest.facts["held_out"] == held_out
    assert ("only the test queries are kept out" in capsys.readouterr().err) is not bool(held_out)


def test_the_hold_out_is_a_setting(store: LocalStore, tmp_path: Path) -> None:
    corpus = judged(tmp_path / "beir")
    for changed in ({"exclude_judged": False}, {"test_split": ""}):
        manifest = corpora.prepared(store, corpus, **changed)
        assert not any(row["held_out"] for row in given_.rows(store, manifest, "docs"))


def test_a_judged_copy_stays_and_the_others_go(store: LocalStore, tmp_path: Path) -> None:
    corpus = corpora.beir(tmp_path / "b", corpora.docs(LONG, LONG, LONG), {"q": "wing"}, test=[("q", "d1", 1)])
    kept, lost = outcome(store, corpus)
    assert kept == ["d1"]
    assert {detail for _, detail in lost.values()} == {"d1"}


def slow_contained(texts: list[str], window: int) -> set[tuple[int, int]]:
    """(part, whole) by the definition: all pairs of distinct texts at most `window` apart in the sorted list."""
    distinct = sorted(set(texts))
    first = {text: texts.index(text) for text in distinct}
    pairs = {(at, first[text]) for at, text in enumerate(texts) if at != first[text]}
    near = ((a, b) for i, a in enumerate(distinct) for j, b in enumerate(distinct) if 0 < abs(i - j) <= window)
    return pairs | {(first[a], first[b]) for a, b in near if f" {a} " in f" {b} "}


LONGER = st.lists(st.sampled_from(["aaaa", "bbbb", "abab"]), min_size=3, max_size=9).map(" ".join)


@given(st.lists(st.text("ab ", min_size=1, max_size=6) | LONGER, max_size=25), st.integers(1, 4))
def test_containment_equals_its_slow_definition(texts: list[str], window: int) -> None:
    ordered = sorted((text, "", at) for at, text in enumerate(texts))
    found = list(contained(ordered, window))
    assert len(found) == len(set(found))
    assert set(found) == slow_contained(texts, window)


@settings(max_examples=40)
@given(st.lists(st.text("ab \u00e4\u0663.1", max_size=14), min_size=1, max_size=12), st.integers(1, 3))
def test_what_is_dropped_says_no_more_than_something_that_was_there(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], window: int
) -> None:
    folder = tmp_path_factory.mktemp("c")
    rows = corpora.docs("something that always stays", *texts)
    kept, lost = outcome(LocalStore(folder / "store"), corpora.jsonl(folder / "c.jsonl", rows), dedupe_window=window)
    norms = {row["_id"]: dedup_key(row["text"]) for row in rows}
    assert sorted([*kept, *lost]) == sorted(norms)
    assert Counter(norms[doc_id] for doc_id in kept).most_common(1)[0][1] == 1
    for doc_id, (reason, detail) in lost.items():
        if reason == "contained in another document":
            assert norms[doc_id] in norms[detail]
        else:
            assert (reason, norms[doc_id]) == ("empty text", "")
    assert all(norms[doc_id] for doc_id in kept)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Ångström, 3 µm!", "angstrom 3 μm"),
        ("ﬁne—print", "fine-print"),
        ("  a \u00a0b\n", "a b"),
        ("42", "42"),
        ("翼3", "翼 3"),
    ],
)
def test_texts_that_read_alike_have_one_normal_form(text: str, plain: str) -> None:
    assert dedup_key(text) == plain


@given(st.text("ab1-.,;:!?'\"` \t\n\x0b\x1c\u00e4\u2003", max_size=24))
def test_a_normal_form_is_that_of_its_words_one_by_one(text: str) -> None:
    plain = re.sub("[\"'`]", "", text).replace("\u00e4", "a")
    words = (word.rstrip(".,;:!?") for word in plain.split())
    assert dedup_key(text) == (" ".join(filter(None, words)) if re.search("[ab1]", plain) else "")


def test_a_title_alone_is_a_document(store: LocalStore, tmp_path: Path) -> None:
    rows = [{"_id": 0, "title": "Compressor stall"}, {"_id": 1, "title": "", "text": LONG}, {"_id": 2, "title": None}]
    kept, lost = outcome(store, corpora.jsonl(tmp_path / "c.jsonl", rows))
    assert kept == ["0", "1"]
    assert lost == {"2": ("empty text", "")}


def test_judged_documents_and_queries_that_are_absent_are_counted(store: LocalStore, tmp_path: Path) -> None:
    test = [("q", "d0", 1), ("q", "gone", 2), ("nobody", "d1", 1)]
    corpus = corpora.beir(tmp_path / "b", corpora.docs(LONG, "the flutter of thin blades"), {"q": "wing"}, test=test)
    manifest = corpora.prepared(store, corpus)
    qrels = [tuple(row.values()) for row in given_.rows(store, manifest, "qrels")]
    assert qrels == [("q", "d0", 1), ("q", "gone", 2)]
    assert manifest.facts["absent of test"] == {"queries": 1, "docs": 1, "such as": "nobody, gone"}


def test_judgements_that_fit_nothing_are_refused(store: LocalStore, tmp_path: Path) -> None:
    for name, row, fault in (("a", ("q", "1", 1), "unknown document '1'"), ("b", ("7", "d0", 1), "unknown query '7'")):
        corpus = corpora.beir(tmp_path / name, corpora.docs(LONG), {"q": "wing"}, test=[row])
        with pytest.raises(UserError, match=rf"test\.tsv, line 2: {fault}, and no other one is in"):
            corpora.prepared(store, corpus)


def test_ids_that_look_alike_are_two_and_told(store: LocalStore, tmp_path: Path) -> None:
    rows = [{"_id": name, "text": f"{LONG} {name}"} for name in ("caf\u00e9", "cafe\u0301", "t\u00fcr")]
    manifest = corpora.prepared(store, corpora.jsonl(tmp_path / "c.jsonl", rows), deduplicate=False)
    assert [row["doc_id"] for row in given_.rows(store, manifest, "docs")] == [row["_id"] for row in rows]
    assert manifest.facts["alike ids"] == 1


def test_an_id_used_twice_is_named_with_both_places(store: LocalStore, tmp_path: Path) -> None:
    rows = [{"_id": f"d{at % 5_000}", "text": f"{LONG} {at}"} for at in range(5_001)]
    with pytest.raises(UserError, match=r"line 5001: id 'd0' was used before \(.*line 1\)"):
        corpora.prepared(store, corpora.jsonl(tmp_path / "c.jsonl", rows))


def test_what_was_understood_of_the_files_is_in_the_manifest(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "collection.tsv").write_text("1\tthe lift of a swept wing\n2\tthe drag of a blunt body\n")
    (tmp_path / "c" / "queries.tsv").write_text("q\tlift of wings\n")
    (tmp_path / "c" / "qrels.tsv").write_text("q\t0\t1\t1\n")
    facts = corpora.prepared(store, tmp_path / "c").facts
    assert facts["inputs"] == {
        "corpus": "collection.tsv (tsv)",
        "queries": "queries.tsv",
        "judgements": "test: qrels.tsv",
        "judgements of test": "qrels.tsv: query, iteration, document, relevance (TREC), tab between",
    }
    (read,) = facts["read"]
    assert (read["files"], read["first"], read["rows"]) == (1, "collection.tsv", 2)
    assert read["how"] == {
        "fields": "tab between fields, quotation marks are text",
        "names": "no line of names, columns taken as _id, text",
        "encoding": "utf-8",
    }


def test_only_what_is_read_of_a_corpus_shapes_the_result(store: LocalStore, tmp_path: Path) -> None:
    folder = judged(tmp_path / "beir")
    before = corpora.prepared(LocalStore(folder / "store"), folder).fingerprint
    for name, text in ((".git/HEAD", "x"), ("notes.txt", "x"), ("README.md", "# words"), ("other.jsonl", "{}")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        assert corpora.prepared(LocalStore(folder / "store"), folder).fingerprint == before
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert corpora.prepared(store, folder).fingerprint != before
    (folder / "README.md").unlink()
    with (folder / "queries.jsonl").open("a") as file:
        file.write('{"_id": "more", "text": "x"}\n')
    assert corpora.prepared(store, folder).fingerprint != before
