"""Pages of sites: cut at their headings, read as their readers see them, under ids that stay."""

from pathlib import Path

import pytest

from hone.core.text import Chunking
from hone.inputs import readers


def pages(root: Path, words: int = 200) -> list[tuple[str, str, str]]:
    chunking = Chunking(words=words, overlap=0, chars=2_048)
    documents = readers.Corpus(readers.layout(root), chunking=chunking).documents()
    return [readers.document(where, row, readers.Fields()) for where, row in documents]


def page(root: Path, text: str, name: str = "page.md", words: int = 200) -> list[tuple[str, str]]:
    root.mkdir(exist_ok=True)
    (root / name).write_text(text)
    return [(title, body) for _, title, body in pages(root / name, words)]


def test_markdown_is_cut_at_its_headings_and_titled_by_their_path(tmp_path: Path) -> None:
    text = "intro words\n# Wing\n## Lift ##\nup it goes\n```\n# no heading\n```\n## Drag\nback\n# Tail\nend\n"
    assert page(tmp_path / "a", text, "doc.md") == [
        ("doc", "intro words"),
        ("Wing > Lift", "up it goes # no heading"),
        ("Wing > Drag", "back"),
        ("Tail", "end"),
    ]
    assert page(tmp_path / "b", "# this is not a heading\nbody", "plain.txt") == [
        ("plain", "# this is not a heading body")
    ]


def test_underlined_headings_long_fences_and_headings_inside_quotes(tmp_path: Path) -> None:
    fenced = "`````md\n```\n# not this\n```\n`````\n\n> # nor this\n\n~~~\n## nor that\n~~~\n"
    text = f"Wing\n====\n\nup\n\nLift\n----\n\n{fenced}"
    assert page(tmp_path / "a", text) == [
        ("Wing", "up"),
        ("Wing > Lift", "``` # not this ``` nor this ## nor that"),
    ]


@pytest.mark.parametrize(
    "head",
    [
        "---\ntitle: Fix a pump\ntags: [pumps, repair]\ndescription: For beginners\nweight: 30\n---\n",
        "+++\ntitle = 'Fix a pump'\ntags = ['pumps', 'repair']\ndescription = 'For beginners'\nweight = 30\n+++\n",
        '{\n"title": "Fix a pump",\n"tags": ["pumps", "repair"],\n"description": "For beginners",\n"weight": 30\n}\n',
        "---\r\ntitle: Fix a pump\r\ntags: pumps, repair\r\ndescription: For beginners\r\nweight: 30\r\n---\r\n",
        "---\ntitle: Fix a pump\ntags: pumps, repair\ndescription: For beginners\nbroken: a: b: c\n...\n",
    ],
)
def test_front_matter_of_every_kind_is_read_as_fields(tmp_path: Path, head: str) -> None:
    text = head + "\nOpen it first.\n\n## Seals\n\nChange them.\n"
    assert page(tmp_path / "a", text) == [
        ("Fix a pump", "For beginners Tags: pumps, repair Open it first."),
        ("Fix a pump > Seals", "Change them."),
    ]


def test_a_heading_that_says_the_title_again_is_the_title(tmp_path: Path) -> None:
    assert page(tmp_path / "a", "---\ntitle: Pumps\n---\n# Pumps\n\nbody\n") == [("Pumps", "body")]


def test_text_between_two_rules_is_no_front_matter(tmp_path: Path) -> None:
    assert page(tmp_path / "a", "---\nJust words here\n\n---\n\nand more\n")[0][1].startswith("Just words")


def test_only_what_readers_see_is_read(tmp_path: Path) -> None:
    text = (
        "# A\n\n<!--\n# hidden\n-->\n\nSee [the guide](https://x.example/long?a=b) and ![a pump](p.png) <b>now</b>"
        "<!-- not this -->.\n\n<div class='x'>\n  <p>Shown</p><script>no()</script>\n</div>\n\n"
        "| part | size |\n|---|---|\n| seal | 3 |\n\n[ref]: https://x.example/unseen\n"
    )
    assert page(tmp_path / "a", text) == [("A", "See the guide and a pump now. Shown part size seal 3")]


def test_mdx_is_read_without_its_imports(tmp_path: Path) -> None:
    text = "import Tabs from '@theme/Tabs';\nexport const x = 1;\n\n# A\n\n<Tabs>\n\nInside words\n\n</Tabs>\n"
    assert page(tmp_path / "a", text, "a.mdx") == [("A", "Inside words")]


def test_restructured_text_is_cut_at_its_underlined_headings(tmp_path: Path) -> None:
    text = (
        "Wing\n====\n\n.. a remark that nobody sees\n\nUp it goes.\n\nLift\n----\n\nUse :func:`fly` like *this*::\n\n"
        "    make lift\n\n.. toctree::\n   other\n\n.. include:: /etc/passwd\n\nDrag\n----\n\nBack.\n"
    )
    found = page(tmp_path / "a", text, "a.rst")
    assert [title for title, _ in found] == ["Wing", "Wing > Lift", "Wing > Drag"]
    assert found[0][1] == "Up it goes."
    assert "make lift" in found[1][1]
    assert "root:" not in str(found)
    assert "remark" not in str(found)


def test_a_page_that_is_a_title_alone_is_a_document(tmp_path: Path) -> None:
    assert page(tmp_path / "a", "---\ntitle: Coming soon\n---\n") == [("Coming soon", "")]
    assert page(tmp_path / "b", "# Coming soon\n") == [("Coming soon", "")]
    assert page(tmp_path / "c", "") == []


def test_a_chunk_keeps_its_id_when_something_is_written_above_or_in_other_files(tmp_path: Path) -> None:
    body = "## Lift\n\nup it goes\n\n## Drag\n\nback it goes\n\n## Lift\n\nup it goes\n"
    (tmp_path / "a.md").write_text(f"# Wing\n\n{body}")
    before = {doc_id: text for doc_id, _, text in pages(tmp_path)}
    (tmp_path / "a.md").write_text(f"# Wing\n\nNew words.\n\n## New\n\nsection\n\n{body}")
    (tmp_path / "0.md").write_text("another file")
    after = {doc_id: text for doc_id, _, text in pages(tmp_path)}
    assert before.items() <= after.items()
    assert len(before) == 3
    assert all(doc_id.startswith(("a.md#lift-", "a.md#drag-")) for doc_id in before)


def test_long_names_and_names_that_are_not_utf8_become_ids_that_can_be_written(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(4):
        deep = deep / ("ordner-ü" * 20)
    deep.mkdir(parents=True)
    (deep / "a.md").write_text("# A\n\nb\n")
    (deep / "b.md").write_text("# A\n\nb\n")
    with open(bytes(tmp_path) + b"/gr\xf6sse.md", "w") as file:
        file.write("# Size\n\nlarge\n")
    ids = [doc_id for doc_id, _, _ in pages(tmp_path)]
    assert len(set(ids)) == 3
    assert all(readers.id_of(doc_id, "here") == doc_id for doc_id in ids)
    assert any(doc_id.startswith("gr\\xf6sse.md#size-") for doc_id in ids)
